"""Where the sections of a reStructuredText document begin, and what it refers to. Nothing is included or carried out.

Why not docutils: it reads nested text by nested calls and looks for the end of each mark in all of the paragraph, so
200 nested lists end in a ``RecursionError`` and 24 KB of asterisks take seconds. This reads each line a bounded number
of times and knows of the language only what titles, labels and references need. The tests compare its sections with
those of docutils. ``include`` and ``raw`` are lines like any other.

Guaranteed: time in proportion to the text; the same text gives the same outline. A title is what docutils takes for
one: a line of text under (or between) lines of one repeated sign, at the left edge, whose style fits the levels so far.
Not guaranteed: titles inside of directives, roles that name objects of a program (``:func:``), substitutions.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from itertools import accumulate
from typing import Final

from weftos.ecc.passages.model import Label, Reference
from weftos.ecc.passages.outlines import Outline, nested_parts
from weftos.limits import PASSAGE_DEPTH

__all__ = ["restructured_outline"]

_RULE: Final = re.compile(r"([!-/:-@\[-`{-~])\1* *\Z")
#: A line that begins with one of these opens a list, a field, a table or markup, so it is no title.
_OPENS: Final = re.compile(
    r"[-+*\u2022\u2023\u2043](?: |\Z)|:(?![: ])(?:[^:\\]|\\.|:(?!(?:[ `]|\Z)))*(?<! ):(?: |\Z)|\| |\|\Z|"
    r"\+-[-+]+-\+ *\Z|=+(?: +=+)+ *\Z|>>>(?: |\Z)|"
    r"\.\.(?: |\Z)|__(?: |\Z)|(?:--?|/)[A-Za-z][^ ]*(?:  |\Z)"
)
#: Of those, the ones that last until the next blank line even where the lines are not indented.
_BLOCK: Final = re.compile(r"\+-[-+]+-\+ *\Z|=+(?: +=+)+ *\Z|>>>(?: |\Z)")
_DIRECTIVE: Final = re.compile(r" *\.\. +(?:\|[^|]{1,200}\| +)?([A-Za-z][\w.+:-]{0,80})::(?: +(.*))?\Z")
_LABEL: Final = re.compile(r" *\.\. +_(`[^`]{1,500}`|[^:`\\]{1,500}):(?: +(.*))?\Z")
#: Directives whose content is no text.
_VERBATIM: Final = frozenset(
    """code code-block sourcecode literalinclude highlight raw math parsed-literal csv-table doctest testcode testoutput
    productionlist graphviz mermaid include""".split()  # noqa: SIM905
)
#: Directives whose argument is the path of a file.
_OF_FILES: Final = frozenset("image figure include literalinclude".split())  # noqa: SIM905
_PATH_ROLES: Final = frozenset({"doc", "download"})
_LABEL_ROLES: Final = frozenset({"ref", "numref"})
_LITERAL: Final = re.compile(r"``[^`\n](?:[^`\n]|`(?!`))*``")
# Each alternative is bounded or stops at a sign that it begins with, so the whole is linear.
_INLINE: Final = re.compile(
    r":(?P<role>[A-Za-z][\w.+-]{0,40}(?::[A-Za-z][\w.+-]{0,40})?):`(?P<asked>[^`]{1,1000})`"
    r"|`(?P<phrase>[^`]{1,1000})`(?P<named>__?)(?!\w)"
    r"|(?P<address>\bhttps?://[^\s<>`\"')\]]{1,2000})"
    r"|(?<![\w`:./-])(?P<word>[A-Za-z0-9](?:[\w.+:-]{0,80}[A-Za-z0-9])?)_(?![\w`])"
)
_EMBEDDED: Final = re.compile(r"(?:[^<]*\s)?<([^<>]+)>\Z", re.DOTALL)
_Title = tuple[int, int, str]


def restructured_outline(text: str, lines: int) -> Outline:
    """Read the titles, labels and references of a reStructuredText document.

    Args:
        text: with single newlines between lines.
        lines: how many it has.

    Returns:
        A section from each title to the next of its level or above; labels; references.
    """
    rows = text.split("\n")[:lines]
    rows = [row.expandtabs(8) for row in rows]
    titles, verbatim = _titles(rows)
    prose, labels, addresses, references = _markup(rows, verbatim)
    # A title is found by the label in front of it and by its own words.
    own = {_name(title) for _, _, title in titles}
    references += _inline(prose, own | {label.name for label in labels}, addresses)
    references.sort(key=lambda reference: reference.line)
    return Outline(nested_parts(titles, lines), references, labels)


def _titles(rows: list[str]) -> tuple[list[_Title], list[bool]]:
    """Level, line and words of each title, and which lines are literal text."""
    found: list[_Title] = []
    verbatim = [False] * len(rows)
    styles: list[str] = []
    level, at = 0, 0
    while at < len(rows):
        row = rows[at]
        if not row.strip() or row[0] == " ":
            at += 1
            continue
        style, title, length = _title_at(rows, at)
        if style:
            known = styles.index(style) + 1 if style in styles else len(styles) + 1
            if known <= min(level + 1, PASSAGE_DEPTH):
                # Beyond the deepest level that is told apart, a title belongs to the section before it.
                if known > len(styles):
                    styles.append(style)
                level = known
                found.append((level, at + 1, title))
            at += length
        else:
            at = _block(rows, at, length, verbatim)
    return found, verbatim


def _title_at(rows: list[str], at: int) -> tuple[str, str, int]:
    """Style, words and lines of the title at a line; without a style the lines to pass over, 0 for a block of text."""
    row = rows[at].rstrip()
    below = rows[at + 1].rstrip() if at + 1 < len(rows) else ""
    if _RULE.match(row) and not _OPENS.match(row):
        if not below:
            return "", "", 1 if len(row) >= 4 else 0
        third = rows[at + 2].rstrip() if at + 2 < len(rows) else ""
        if _RULE.match(below):
            short = len(row) < 4 and len(row) <= len(below)
            return (below[0], row, 2) if short else ("", "", 2 if len(row) >= 4 else 0)
        if third == row and (len(row) >= 4 or _width(below) <= len(row)):
            return row[0] * 2, below.strip(), 3
        return "", "", min(3, len(rows) - at) if len(row) >= 4 else 0
    if below and _RULE.match(below) and not _OPENS.match(row) and (len(below) >= 4 or _width(row) <= len(below)):
        return below[0], row, 2
    return "", "", 0


def _block(rows: list[str], at: int, length: int, verbatim: list[bool]) -> int:
    """Pass over what is no title; return the line after it."""
    if length:
        return at + length
    row = rows[at]
    block = bool(_BLOCK.match(row))
    opens = bool(_OPENS.match(row))
    first = at
    at += 1
    if opens and not block:
        return at
    while at < len(rows) and rows[at].strip() and (block or rows[at][0] != " "):
        at += 1
    if not block and rows[at - 1].rstrip().endswith("::") and not rows[first].startswith(".. "):
        below = at
        while below < len(rows) and not rows[below].strip():
            below += 1
        if below < len(rows) and _RULE.match(rows[below][0]):
            # Literal text may be quoted by a sign in front of each line instead of being indented.
            sign = rows[below][0]
            while below < len(rows) and rows[below].startswith(sign):
                verbatim[below] = True
                below += 1
            return below
    return at


def _markup(rows: list[str], verbatim: list[bool]) -> tuple[list[str], list[Label], dict[str, str], list[Reference]]:
    """Lines of text, labels, the addresses that names stand for, and the references that directives make."""
    prose, labels, addresses, references = [], [], {}, []
    literal, listing = -1, -1
    for number, row in enumerate(rows, 1):
        indent = len(row) - len(row.lstrip(" "))
        if row.strip():
            if indent <= literal:
                literal = -1
            if indent <= listing:
                listing = -1
        keep = ""
        directive, label = _DIRECTIVE.match(row), _LABEL.match(row)
        if literal >= 0 or verbatim[number - 1] or not row.strip():
            pass
        elif listing >= 0:
            references += _entry(row.strip(), number)
        elif directive:
            name, argument = directive[1], (directive[2] or "").strip()
            literal = indent if name in _VERBATIM else -1
            listing = indent if name == "toctree" else -1
            if name in _OF_FILES and argument:
                references.append(Reference("links", argument, number))
            keep = argument if literal < 0 else ""
        elif label:
            name, target = _name(label[1]), (label[2] or "").strip()
            if not target:
                labels.append(Label(name, number))
            elif not target.endswith("_"):
                addresses[name] = target
        elif row.lstrip().startswith(".. ") and not row.lstrip().startswith((".. [", ".. |")):
            # A comment, with all that is indented under it.
            literal = indent
        else:
            keep = _LITERAL.sub("", row)
            if row.rstrip().endswith("::"):
                literal = indent
        prose.append(keep)
    return prose, labels, addresses, references


def _entry(row: str, number: int) -> list[Reference]:
    """The document that a line of a table of contents names."""
    if row.startswith(":") or any(sign in row for sign in "*?[") or row == "self":
        return []
    found = _EMBEDDED.match(row)
    return [Reference("documents", found[1] if found else row, number)]


def _inline(prose: list[str], names: set[str], addresses: dict[str, str]) -> list[Reference]:
    starts = list(accumulate((len(row) + 1 for row in prose), initial=0))
    found = []
    for match in _INLINE.finditer("\n".join(prose)):
        line = bisect.bisect_right(starts, match.start())
        reference = _referred(match, line, names, addresses)
        if reference:
            found.append(reference)
    return found


def _referred(match: re.Match[str], line: int, names: set[str], addresses: dict[str, str]) -> Reference | None:
    if match["address"]:
        return Reference("links", match["address"].rstrip(".,;:!?*"), line)
    if match["role"]:
        role = match["role"].rpartition(":")[2]
        embedded = _EMBEDDED.match(match["asked"])
        asked = (embedded[1] if embedded else match["asked"]).strip()
        if role in _LABEL_ROLES:
            return Reference("labels", _name(asked), line)
        if role in _PATH_ROLES:
            return Reference("documents" if role == "doc" else "links", asked, line)
        return None
    if match["phrase"]:
        embedded = _EMBEDDED.match(match["phrase"])
        if embedded:
            target = "".join(embedded[1].split())
            if not target.endswith("_"):
                return Reference("links", target, line)
            return _named(_name(embedded[1].rstrip("_")), line, names, addresses, known=False)
        if match["named"] == "__":
            return None
        return _named(_name(match["phrase"]), line, names, addresses, known=False)
    return _named(_name(match["word"]), line, names, addresses, known=True)


def _named(name: str, line: int, names: set[str], addresses: dict[str, str], *, known: bool) -> Reference | None:
    """What a name stands for; a bare word with an underscore is a reference only if it is a known name."""
    if name in addresses:
        return Reference("links", addresses[name], line)
    if name in names or not known:
        return Reference("labels", name, line)
    return None


def _name(text: str) -> str:
    """A name as names are compared: without quotes, in lower case, one blank between words."""
    return " ".join(text.strip("`").replace("\\", "").lower().split())


def _width(text: str) -> int:
    """Columns that a text takes: wide signs two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )

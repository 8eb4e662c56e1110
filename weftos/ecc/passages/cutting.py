"""Cutting a document into passages, and telling which passages a change added and removed. No file is opened here.

A passage never crosses the border of a section, has at most ``PASSAGE_LINES`` lines and ``PASSAGE_CHARS`` characters
(one longer line stays whole), and ends, when it is full, at the best place in its second
half: before what begins at the left edge after a blank line, at a blank line, before what looks like a definition.

Guaranteed: every line is in exactly one passage or in ``skipped``; the same text under the same name gives the same
document anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

import blake3
import msgspec

from weftos.ecc.passages.model import Document, Form, Passage, Section, Skipped, universal_id
from weftos.ecc.passages.outlines import Outline, Part, markdown_outline, python_outline
from weftos.ecc.passages.restructured import restructured_outline
from weftos.errors import PassageRefused
from weftos.limits import PASSAGE_CHARS, PASSAGE_FILE_BYTES, PASSAGE_LINE_CHARS, PASSAGE_LINES

__all__ = ["Change", "change_between", "cut"]

_FORMS: Final[dict[str, Form]] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "restructuredtext",
    ".rest": "restructuredtext",
    ".py": "python",
    ".pyi": "python",
}
_READERS: Final[dict[Form, Callable[[str, int], Outline | None]]] = {
    "markdown": markdown_outline,
    "restructuredtext": restructured_outline,
    "python": python_outline,
}
#: How a line begins, or ends, that opens a definition in many a language.
_DEFINES: Final = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|pub(?:\([a-z ]+\))?|static|abstract|final|async|unsafe|"
    r"extern|inline|override|open|data|sealed|partial) +)*"
    r"(?:class|def|defmodule|enum|extension|fn|fun|func|function|impl|interface|"
    r"macro_rules!|mod|module|namespace|object|package|proc|protocol|record|struct|sub|trait|type|typedef|union)\b"
    r"|(?:create|alter|drop) +(?:table|view|index|function|procedure|trigger)\b"
    r"|\w[^;=]{0,200}\)[^;=]{0,60}\{\s*\Z|[\w-]+\(\) *\{",
    re.IGNORECASE,
)
#: Comments and attributes, which belong to what follows.
_LEADS: Final = re.compile(r"\s*(?://|#|--|/?\*|@|;|\[)")


class Change(msgspec.Struct, frozen=True):
    """What became of passages between two versions of one document.

    Attributes:
        added: passages of the new version only.
        removed: passages of the old version only.
        kept: passages of both, as the new version has them: their lines may be others.
    """

    added: tuple[Passage, ...]
    removed: tuple[Passage, ...]
    kept: tuple[Passage, ...]


def cut(file: str, text: str) -> Document:
    """Cut a document.

    Args:
        file: path relative to the folder; its ending says how the text is read.
        text: the content.

    Returns:
        Sections, passages and references; of the form ``lines`` when it cannot be read as its name says.

    Raises:
        PassageRefused: it has more than ``PASSAGE_FILE_BYTES`` characters.
    """
    if len(text) > PASSAGE_FILE_BYTES:
        raise PassageRefused(f"{file} has {len(text)} characters, at most {PASSAGE_FILE_BYTES} are cut; leave it out")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    rows = text.split("\n")
    if not rows[-1]:
        rows.pop()
    form, outline = _outline(file, text, rows)
    whole = universal_id("document", file)
    sections = _sections(file, outline.parts, len(rows))
    owners = _owners(sections, len(rows))
    passages: list[Passage] = []
    skipped: list[Skipped] = []
    seen: Counter[bytes] = Counter()
    first = 0
    while first < len(rows):
        why: Literal["blank", "long"] | None = _why(rows[first])
        end = first + 1
        if why:
            while end < len(rows) and _why(rows[end]) == why:
                end += 1
            skipped.append(Skipped(first + 1, end, why))
        else:
            end = _end(rows, owners, first)
            passages.append(_passage(file, sections[owners[first]], "\n".join(rows[first:end]), first, seen))
        first = end
    references, labels = tuple(outline.references), tuple(outline.labels)
    return Document(whole, file, form, len(rows), tuple(sections), tuple(passages), tuple(skipped), references, labels)


def change_between(old: Document, new: Document) -> Change:
    """Tell which passages a change of a document added and removed.

    Args:
        old: the earlier version.
        new: the later version of the same file.

    Raises:
        PassageRefused: these are two files.
    """
    if old.id != new.id:
        raise PassageRefused(f"{old.file} and {new.file} are two documents; compare versions of one")
    before, after = ({passage.id for passage in document.passages} for document in (old, new))
    return Change(
        tuple(passage for passage in new.passages if passage.id not in before),
        tuple(passage for passage in old.passages if passage.id not in after),
        tuple(passage for passage in new.passages if passage.id in before),
    )


def _outline(file: str, text: str, rows: list[str]) -> tuple[Form, Outline]:
    form = next((form for ending, form in _FORMS.items() if file.lower().endswith(ending)), None)
    # A very long line is no prose and no program, and parsers take long for it.
    if form and not any(len(row) > PASSAGE_LINE_CHARS for row in rows):
        found = _READERS[form](text, len(rows))
        if found:
            return form, found
    return "lines", Outline([], [])


def _sections(file: str, parts: list[Part], lines: int) -> list[Section]:
    seen: Counter[tuple[str, ...]] = Counter()
    sections = []
    for part in (Part((), 1, lines), *parts):
        # Headings may repeat; which of the equal ones it is tells them apart.
        own = universal_id("section", file, str(seen[part.path]), *part.path)
        seen[part.path] += 1
        sections.append(Section(own, part.path, part.first, part.last))
    return sections


def _owners(sections: list[Section], lines: int) -> list[int]:
    """For each line the place of its innermost section: a later one lies within or after an earlier one."""
    owners = [0] * lines
    for number, section in enumerate(sections):
        owners[section.first - 1 : section.last] = [number] * (section.last - section.first + 1)
    return owners


def _why(row: str) -> Literal["blank", "long"] | None:
    if not row.strip():
        return "blank"
    return "long" if len(row) > PASSAGE_LINE_CHARS else None


def _end(rows: list[str], owners: list[int], first: int) -> int:
    """Where the passage ends that begins at a line: after its last line that is not blank."""
    end, size = first, 0
    while (
        end < len(rows) and owners[end] == owners[first] and _why(rows[end]) != "long" and end - first < PASSAGE_LINES
    ):
        size += len(rows[end]) + 1
        if size > PASSAGE_CHARS and end > first:
            break
        end += 1
    if end < len(rows) and owners[end] == owners[first]:
        end = _break(rows, first + (end - first) // 2, end)
    while not rows[end - 1].strip():
        end -= 1
    return end


def _break(rows: list[str], middle: int, end: int) -> int:
    """The best place to end a passage that is full: the last one of the best kind in its second half.

    Before what begins at the left edge after a blank line; at a blank line; before a line at the left edge that looks
    like a definition, with the comments in front of it; where it is full.
    """
    blanks = [row for row in range(end, middle, -1) if not rows[row - 1].strip()]
    outer = next((row for row in blanks if rows[row][:1].strip()), None)
    if outer is not None or blanks:
        return outer or blanks[0]
    defines = next((row for row in range(end, middle, -1) if _DEFINES.match(rows[row])), end)
    while middle + 1 < defines < end and _LEADS.match(rows[defines - 1]):
        defines -= 1
    return defines


def _passage(file: str, section: Section, text: str, first: int, seen: Counter[bytes]) -> Passage:
    data = text.encode("utf-8", "surrogatepass")
    digest = blake3.blake3(data).digest()
    # By the headings rather than the section's id: an equal heading that is added above must not rename these.
    base = universal_id("passage", file, digest, *section.path)
    own = universal_id("passage", base, str(seen[base]))
    seen[base] += 1
    return Passage(own, section.id, section.path, first + 1, first + 1 + text.count("\n"), digest, text)

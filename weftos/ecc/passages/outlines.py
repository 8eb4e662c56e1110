"""Where the sections of a document begin and what it refers to: Markdown by headings, Python by definitions.

The one for reStructuredText is in ``restructured``.
"""

from __future__ import annotations

import ast
import warnings
from typing import Final

import msgspec
from markdown_it import MarkdownIt

from weftos.ecc.passages.model import Label, Reference
from weftos.limits import PASSAGE_DEPTH

__all__ = ["Outline", "Part", "markdown_outline", "nested_parts", "python_outline"]

_DEFINITIONS: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Part(msgspec.Struct, frozen=True):
    """A section: headings down to its own, first and last line."""

    path: tuple[str, ...]
    first: int
    last: int


class Outline(msgspec.Struct, frozen=True):
    """Sections, properly nested and in the order in which they begin, references, and labels."""

    parts: list[Part]
    references: list[Reference]
    labels: list[Label] = msgspec.field(default_factory=list)


def markdown_outline(text: str, lines: int) -> Outline:
    """Read the headings and links of a Markdown document.

    Args:
        text: with single newlines between lines.
        lines: how many it has.

    Returns:
        A section from each heading to the next of its level or above.
    """
    headings: list[tuple[int, int, str]] = []
    references = []
    tokens = MarkdownIt("commonmark").parse(text)
    for number, token in enumerate(tokens):
        # Only headings of the document itself: one in a list or a quotation ends with that.
        if token.type == "heading_open" and token.level == 0 and token.map:
            headings.append((int(token.tag[1:]), token.map[0] + 1, tokens[number + 1].content.strip()))
        for child in token.children or ():
            target = child.attrGet("href")
            if child.type == "link_open" and isinstance(target, str) and target and token.map:
                references.append(Reference("links", target, token.map[0] + 1))
    return Outline(nested_parts(headings, lines), references)


def nested_parts(headings: list[tuple[int, int, str]], lines: int) -> list[Part]:
    """Make sections from headings.

    Args:
        headings: level from 1 to ``PASSAGE_DEPTH``, first line and words of each, in the order of lines.
        lines: how many the document has.

    Returns:
        A section from each heading to the next of its level or above.
    """
    # From the end: where the next heading of each level begins is then known.
    lasts, next_of = [], [lines + 1] * (PASSAGE_DEPTH + 1)
    for level, first, _ in reversed(headings):
        lasts.append(min(next_of[: level + 1]) - 1)
        next_of[level] = first
    parts = []
    around: list[tuple[int, str]] = []
    for (level, first, title), last in zip(headings, reversed(lasts), strict=True):
        while around and around[-1][0] >= level:
            around.pop()
        around.append((level, title))
        parts.append(Part(tuple(name for _, name in around), first, last))
    return parts


def python_outline(text: str, lines: int) -> Outline | None:
    """Read the classes, functions and imports of a Python module.

    Args:
        text: with single newlines between lines.
        lines: how many it has.

    Returns:
        A section for each definition, decorators included; ``None`` when this is no Python.
    """
    try:
        with warnings.catch_warnings():
            # What a compiler would say about a foreign module is not our output.
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    parts = []
    # A stack of our own: definitions may nest deeper than calls can.
    waiting: list[tuple[ast.stmt, tuple[str, ...]]] = [(node, ()) for node in reversed(module.body)]
    while waiting:
        node, path = waiting.pop()
        if not isinstance(node, _DEFINITIONS) or len(path) >= PASSAGE_DEPTH:
            continue
        own = (*path, node.name)
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        parts.append(Part(own, first, min(node.end_lineno or node.lineno, lines)))
        waiting += [(child, own) for child in reversed(node.body)]
    references = []
    for found in ast.walk(module):
        if isinstance(found, ast.Import):
            references += [Reference("imports", name.name, found.lineno) for name in found.names]
        elif isinstance(found, ast.ImportFrom):
            target = "." * found.level + (found.module or "")
            references.append(Reference("imports", target, found.lineno, tuple(name.name for name in found.names)))
    return Outline(parts, sorted(references, key=lambda reference: reference.line))

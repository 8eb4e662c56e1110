"""What a document is cut into: sections, passages, skipped lines, and what it refers to. Lines count from 1."""

from __future__ import annotations

from typing import Literal

import blake3
import msgspec

__all__ = ["Document", "Form", "Label", "Passage", "Reference", "Section", "Skipped", "headed", "universal_id"]

Form = Literal["markdown", "restructuredtext", "python", "lines"]


class Section(msgspec.Struct, frozen=True):
    """A part of a document under one heading, or one definition. Sections nest.

    Attributes:
        id: universal id: 32 bytes.
        path: headings from the outermost to its own; empty for the document as a whole.
        first: first line.
        last: last line.
    """

    id: bytes
    path: tuple[str, ...]
    first: int
    last: int


class Passage(msgspec.Struct, frozen=True):
    """Lines that are found and shown together.

    Attributes:
        id: universal id, 32 bytes, of file, headings, content and which of equal passages it is. Lines are not part of
            it, so an edit elsewhere leaves it as it is.
        section: id of the innermost section that it is in.
        path: headings of that section.
        first: first line.
        last: last line.
        digest: BLAKE3 of the text in UTF-8, 32 bytes.
        text: the lines, joined by newlines.
    """

    id: bytes
    section: bytes
    path: tuple[str, ...]
    first: int
    last: int
    digest: bytes
    text: str


class Skipped(msgspec.Struct, frozen=True):
    """Lines that are in no passage: ``blank``, or ``long`` (a line beyond what is read)."""

    first: int
    last: int
    why: Literal["blank", "long"]


class Reference(msgspec.Struct, frozen=True):
    """What a line refers to, as it is written there.

    Attributes:
        kind: ``imports`` (a module of Python), ``links`` (a path or address), ``documents`` (a path without its ending,
            as ``:doc:`` has it) or ``labels`` (a name that some document gives to a place, as ``:ref:`` has it).
        target: dotted name with leading dots for relative ones; or path, with ``#heading``; or label.
        line: where.
        names: what is imported from the module; empty for a whole module.
    """

    kind: Literal["imports", "links", "documents", "labels"]
    target: str
    line: int
    names: tuple[str, ...] = ()


class Label(msgspec.Struct, frozen=True):
    """A name that a document gives to a place in it, in lower case with one blank between words, and its line."""

    name: str
    line: int


class Document(msgspec.Struct, frozen=True):
    """A document, cut.

    Attributes:
        id: universal id, 32 bytes, of the file.
        file: path relative to the folder, ``/`` between its parts.
        form: how it was read; ``lines`` also when it could not be read as its name says.
        lines: how many it has.
        sections: the whole document first, then as they begin.
        passages: in the order of lines.
        skipped: in the order of lines. Every line is in exactly one of these or of the passages.
        references: in the order of lines.
        labels: in the order of lines.
    """

    id: bytes
    file: str
    form: Form
    lines: int
    sections: tuple[Section, ...]
    passages: tuple[Passage, ...]
    skipped: tuple[Skipped, ...]
    references: tuple[Reference, ...]
    labels: tuple[Label, ...] = ()


def headed(path: tuple[str, ...], text: str) -> str:
    """A text with its headings in front, as it is embedded: they say what it is about, and often the text does not."""
    return f"{' > '.join(path)}\n{text}" if path else text


def universal_id(kind: str, *fields: str | bytes) -> bytes:
    """The id of a thing: BLAKE3 of its kind and fields, each with its length before it.

    Args:
        kind: what it is: ``document``, ``section`` or ``passage``.
        fields: what tells it from others of its kind.

    Returns:
        32 bytes.
    """
    digest = blake3.blake3()
    for field in (kind, *fields):
        # A lone surrogate comes from the name of a file that is not UTF-8.
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()

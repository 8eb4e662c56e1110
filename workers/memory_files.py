"""What the agents of `weaver run memory` tell each other about files, and what stands in memory of each passage.

Memory itself says what was read: each passage carries the BLAKE3 of its file's content and how many passages that
content has. A file whose passages are all there, under one content alone, is read; anything else is read again. So
there is no list beside memory that could say something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import blake3
import msgspec

from weftos.ecc.passages.model import Document, Passage
from weftos.ecc.vectors.filters import Value

__all__ = [
    "FIELDS",
    "Asked",
    "Known",
    "Result",
    "Status",
    "content_digest",
    "document_of",
    "known_files",
    "metadata_of",
    "outline_of",
    "passage_id",
    "source_of",
]

#: How files are cut, embedded and described; a change of it makes every file read again.
_READING: Final = 1
#: Of a passage: what tells whether its file is read.
FIELDS: Final = ("file", "source", "passages", "reading")
#: Characters of the headings that are kept with a passage; a document may have a novel for a heading.
_HEADING_CHARS: Final = 1000

#: ``read``: its passages are written; ``unchanged``; ``empty``: there is nothing to remember in it; ``left out`` and
#: ``failed``: with a reason.
Status = Literal["read", "unchanged", "empty", "left out", "failed"]
#: Of files that left their memory as it was, because nobody knows what they hold now.
KEPT: Final = ("unreadable",)


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """A file that a reader is given.

    Attributes:
        file: path relative to the folder.
        source: of the content that is in memory, whole; empty if none is.
        there: whether memory holds any passage of the file.
    """

    file: str
    source: str = ""
    there: bool = False


class Result(msgspec.Struct, array_like=True, frozen=True):
    """What became of a file.

    Attributes:
        file: path relative to the folder.
        status: see ``Status``.
        reason: why it was left out, or failed.
        source: BLAKE3 of its content, 32 hexadecimal digits; empty if it could not be read.
        size: of its content, in bytes.
        passages: how many it has.
        removed: passages of an earlier version that were taken out.
        outline: the document without its texts, MessagePack; empty if it was not cut.
    """

    file: str
    status: Status
    reason: str = ""
    source: str = ""
    size: int = 0
    passages: int = 0
    removed: int = 0
    outline: bytes = b""


class Known(msgspec.Struct, frozen=True):
    """What memory holds of a file: its content if all of it is there, and how many passages in all."""

    source: str
    passages: int


def known_files(rows: Iterable[tuple[tuple[Any, ...], int]]) -> dict[str, Known]:
    """Tell from the values of ``FIELDS`` and their counts what memory holds of each file, by the path that is shown."""
    found: dict[str, list[tuple[str, bool, int]]] = {}
    for (file, source, passages, reading), count in rows:
        if isinstance(file, str):
            whole = passages == count and reading == _READING and isinstance(source, str)
            found.setdefault(file, []).append((str(source), whole, count))
    return {
        file: Known(parts[0][0] if len(parts) == 1 and parts[0][1] else "", sum(count for *_, count in parts))
        for file, parts in found.items()
    }


def source_of(data: bytes) -> str:
    """BLAKE3 of a content, 16 bytes in hexadecimal: the beginning of what b3sum shows."""
    return blake3.blake3(data).hexdigest(16)


def content_digest(sources: Iterable[tuple[str, str]]) -> str:
    """BLAKE3 over the paths and contents of all files in memory, in the order of paths; hexadecimal."""
    digest = blake3.blake3(derive_key_context="weftos memory content v1")
    for parts in sorted(sources):
        for part in parts:
            data = part.encode("utf-8")
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def passage_id(passage: Passage) -> str:
    """The id under which memory holds a passage."""
    return passage.id.hex()[:32]


def metadata_of(document: Document, passage: Passage, root: str, source: str) -> dict[str, Value]:
    """The fields of a passage in memory."""
    heading = " > ".join(passage.path)
    return {
        "root": root,
        "file": document.file,
        "first": passage.first,
        "last": passage.last,
        "heading": heading if len(heading) <= _HEADING_CHARS else heading[: _HEADING_CHARS - 1] + "…",
        "form": document.form,
        "source": source,
        "passages": len(document.passages),
        "reading": _READING,
    }


def outline_of(document: Document) -> bytes:
    """A document without its texts, for whoever links it."""
    bare = tuple(msgspec.structs.replace(passage, text="") for passage in document.passages)
    return msgspec.msgpack.encode(msgspec.structs.replace(document, passages=bare))


def document_of(outline: bytes) -> Document:
    """Inverse of ``outline_of``."""
    return msgspec.msgpack.decode(outline, type=Document)

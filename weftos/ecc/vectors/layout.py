"""The file of a segment: sections, then a head that says where they are, then a tail that says where the head is.

Why it is as it is: a segment is written once, front to back, while its parts are computed, so what describes them comes
last. Every section but the records has a digest that is checked when it is read; a record has its own, because it is
read alone. Format in docs/formats/vectors.md.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from weftos.disk.files import Files, ReadFile, write_all
from weftos.ecc.vectors.model import Metric
from weftos.errors import VectorsDamaged

__all__ = [
    "RECORD_HEAD_BYTES",
    "Field",
    "Head",
    "Section",
    "SegmentWriter",
    "pack_record",
    "read_array",
    "read_segment_head",
    "unpack_record",
]

_MAGIC: Final = b"WEFTVSG1"
_ALIGN: Final = 64
#: bytes of the head, its BLAKE3, magic.
_TAIL: Final = struct.Struct("<Q32s8s")
#: bytes of metadata, digest of metadata, digest of the document.
_RECORD: Final = struct.Struct("<I16s16s")
RECORD_HEAD_BYTES: Final = _RECORD.size


class Section(msgspec.Struct, frozen=True, array_like=True):
    """A part of the file: where it begins, its bytes, its BLAKE3 (empty for the records)."""

    offset: int
    size: int
    digest: bytes


class Field(msgspec.Struct, frozen=True, array_like=True):
    """A field of the metadata: its name, one code for each row, and its values."""

    name: str
    codes: Section
    values: Section


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a segment is."""

    uid: int
    file: str
    dimension: int
    metric: Metric
    rows: int
    ef: int
    recall: float
    sections: dict[str, Section]
    fields: list[Field]


def _bytes_of(content: Any) -> memoryview:
    flat = content if isinstance(content, bytes) else np.ascontiguousarray(content).data
    return memoryview(flat).cast("B")


def _record_digest(op: int, part: bytes, content: bytes) -> bytes:
    return blake3(op.to_bytes(8, "little") + part + content).digest(16)


def pack_record(op: int, raw: bytes, document: bytes) -> bytes:
    """Return the record of a row; empty if it has neither metadata nor document."""
    if not raw and not document:
        return b""
    head = _RECORD.pack(len(raw), _record_digest(op, b"m", raw), _record_digest(op, b"d", document))
    return b"".join((head, raw, document))


def unpack_record(op: int, content: bytes, path: str, *, whole: bool) -> tuple[bytes, bytes]:
    """Return metadata and document from a record, or from its beginning if it is not ``whole``.

    Raises:
        VectorsDamaged: it is not the record of this row.
    """
    if not content:
        return b"", b""
    size, first, second = _RECORD.unpack_from(content)
    raw = content[RECORD_HEAD_BYTES : RECORD_HEAD_BYTES + size]
    document = content[RECORD_HEAD_BYTES + size :] if whole else b""
    if _record_digest(op, b"m", raw) != first or (whole and _record_digest(op, b"d", document) != second):
        raise VectorsDamaged(f"{path}: the record of mutation {op} was altered; restore the file from a copy")
    return raw, document


class SegmentWriter:
    """Writes a segment under a temporary name, and renames it when it is whole and on disk.

    Args:
        fs: the calls on files.
        path: what it will be named.

    Raises:
        OSError: a call failed.
    """

    def __init__(self, fs: Files, path: str) -> None:
        self._fs, self._path, self._temporary = fs, path, f"{path}.tmp"
        if os.path.lexists(self._temporary):
            fs.unlink(self._temporary)
        self._fd = fs.create(self._temporary)
        self._size = 0

    def begin(self) -> None:
        """Write what each segment begins with."""
        self._write(_MAGIC)

    def section(self, content: NDArray[Any] | bytes) -> Section:
        """Write a section with a digest."""
        view = _bytes_of(content)
        self._pad()
        begin = self._size
        if len(view):
            self._write(view)
        return Section(begin, len(view), blake3(view).digest())

    def records(self, contents: Iterable[bytes]) -> Section:
        """Write records one behind the other; each brings its own digests."""
        self._pad()
        begin = self._size
        gathered = bytearray()
        for content in contents:
            gathered += content
            if len(gathered) >= 1 << 20:
                self._write(gathered)
                gathered = bytearray()
        if gathered:
            self._write(gathered)
        return Section(begin, self._size - begin, b"")

    def finish(self, head: Head) -> tuple[bytes, int]:
        """Write the head, bring the file onto the disk and give it its name.

        Returns:
            Digest of the head, and bytes of the file.
        """
        raw = msgspec.msgpack.encode(head)
        digest = blake3(raw).digest()
        self._write(raw + _TAIL.pack(len(raw), digest, _MAGIC))
        self._fs.sync_file(self._fd)
        self._fs.close(self._fd)
        self._fd = -1
        self._fs.rename(self._temporary, self._path)
        self._fs.sync_dir(os.path.dirname(self._path))
        return digest, self._size

    def abandon(self) -> None:
        """Close and remove what was written, after a failure."""
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1
        if os.path.lexists(self._temporary):
            self._fs.unlink(self._temporary)

    def _pad(self) -> None:
        if self._size % _ALIGN:
            self._write(bytes(-self._size % _ALIGN))

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        write_all(self._fs, self._fd, data)
        self._size += len(data)


def read_segment_head(file: ReadFile, digest: bytes) -> Head:
    """Read the head of a segment.

    Args:
        file: the segment.
        digest: what the head must have.

    Raises:
        VectorsDamaged: it is not that segment, or was cut.
    """
    size = file.size
    tail = file.read(max(0, size - _TAIL.size), _TAIL.size)
    if len(tail) < _TAIL.size or file.read(0, len(_MAGIC)) != _MAGIC:
        raise VectorsDamaged(f"{file.path} is no segment; restore it from a copy")
    count, own, magic = _TAIL.unpack(tail)
    begin = size - _TAIL.size - count
    raw = file.read(begin, count) if begin > 0 else b""
    if magic != _MAGIC or own != digest or blake3(raw).digest() != digest:
        raise VectorsDamaged(f"{file.path} is not the segment that was built, or not all of it; restore it from a copy")
    try:
        head = msgspec.msgpack.decode(raw, type=Head)
    except msgspec.MsgspecError as error:
        raise VectorsDamaged(f"{file.path}: the head cannot be understood: {error}") from error
    return head


def read_array(file: ReadFile, section: Section, into: NDArray[Any]) -> None:
    """Read a section into an array of its size.

    Raises:
        VectorsDamaged: the section has another size, or was altered.
    """
    if into.nbytes != section.size:
        raise VectorsDamaged(f"{file.path}: a section of {section.size} bytes should have {into.nbytes}")
    if not into.nbytes:
        return
    assert into.flags.c_contiguous, "what is read has to arrive in the array itself"
    view = _bytes_of(into)
    hasher = blake3()
    for at in range(0, len(view), 1 << 22):
        piece = view[at : at + (1 << 22)]
        if file.read_into(section.offset + at, piece) < len(piece):
            raise VectorsDamaged(f"{file.path} was cut; restore it from a copy")
        hasher.update(piece)
    if hasher.digest() != section.digest:
        raise VectorsDamaged(f"{file.path}: the section at byte {section.offset} was altered; restore it from a copy")

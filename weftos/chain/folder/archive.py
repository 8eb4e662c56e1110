"""The archive: a folder of packed segments, each whole or not there.

Why it is as it is: an archived segment must be readable in twenty years with tools that everybody has, so it is the
segment itself in a gzip file. It is read through a file without a name on the local disk, so that whoever reads it
needs no more memory for a large segment than for a small one, and can jump about in it.

    NNNNNNNN.log.gz      a segment; its record ``chain.archived`` is on the log
    NNNNNNNN.log.gz.tmp  left over by a crash; without meaning

The folder belongs to one log. Guaranteed: a file under its final name has its whole content on the disk, and was read
back and compared. Not guaranteed: that a disk keeps what it once gave back; ``verify`` with the archive tells.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Self

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.chain.folder.segments import archive_path
from weftos.chain.records.frames import SegmentHeader, decode_segment_header, read_frame_at
from weftos.disk.files import Files, ReadFile, write_all
from weftos.errors import ArchiveFailed, ChainCorrupted

__all__ = [
    "Archived",
    "ArchivedFile",
    "Digests",
    "Packed",
    "RoomFile",
    "archived_header",
    "archived_numbers",
    "content_digests",
    "erase_old",
    "file_digests",
    "find_in_archive",
    "open_segment",
    "pack",
]

#: zlib's number for "with the header and trailer of gzip".
_GZIP: Final = 16 + zlib.MAX_WBITS
#: Higher levels take longer than they gain: half of a record are hashes and salts, which cannot be packed.
_LEVEL: Final = 6
_NAME: Final = re.compile(r"([0-9]{8})\.log\.gz")
_STEP: Final = 1024 * 1024
#: Bytes in which the header of a segment lies, packed or not.
_FIRST: Final = 4096


class Digests(msgspec.Struct, frozen=True):
    """Two hashes of a file, 32 bytes each, and its size in bytes."""

    blake3: bytes
    sha256: bytes
    size: int


class Packed(msgspec.Struct, frozen=True):
    """A segment as it was packed.

    Attributes:
        file: of the archive's file.
        content: of the segment in it.
    """

    file: Digests
    content: Digests


class Archived(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Payload of ``chain.archived``.

    Attributes:
        segment: its number.
        first_seq: number of its first record.
        count: records in it.
        size: of the file in the archive, in bytes.
        blake3, sha256: of that file, 32 bytes each.
        content_size: of the segment in it, in bytes.
        content_blake3: of that, 32 bytes.
        where: folder of the archive.
    """

    segment: int
    first_seq: int
    count: int
    size: int
    blake3: bytes
    sha256: bytes
    content_size: int
    content_blake3: bytes
    where: str

    def to_payload(self) -> dict[str, Any]:
        """Return the payload as a record takes it."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Read a payload.

        Raises:
            ChainCorrupted: it does not have the form.
        """
        try:
            return msgspec.convert(dict(payload), cls)
        except msgspec.ValidationError as error:
            raise ChainCorrupted(f"the record of an archived segment is malformed: {error}") from error


class _Hashing:
    """Hashes what passes in both ways."""

    def __init__(self) -> None:
        self._blake3, self._sha256, self._size = blake3(), sha256(), 0

    def update(self, data: bytes) -> None:
        self._blake3.update(data)
        self._sha256.update(data)
        self._size += len(data)

    def digests(self) -> Digests:
        return Digests(self._blake3.digest(), self._sha256.digest(), self._size)


class RoomFile(ReadFile):
    """A file without a name on the local disk, for reading by offset. A context manager.

    Args:
        path: what errors call it.
        pieces: its content.

    Raises:
        OSError: there is no room for it.
    """

    def __init__(self, path: str, pieces: Iterable[bytes]) -> None:
        self.path = path
        with tempfile.TemporaryFile() as room:
            for data in pieces:
                room.write(data)
            room.flush()
            self._fd = os.dup(room.fileno())


class ArchivedFile(RoomFile):
    """A segment of an archive, opened for reading by offset as if it were not packed. A context manager.

    Args:
        path: of the archive's file.

    Raises:
        OSError: it cannot be read, or there is no room for the unpacked segment.
        ChainCorrupted: it is no whole gzip file, or larger than any segment.
    """

    def __init__(self, path: str) -> None:
        with ReadFile(path) as source:
            super().__init__(path, _unpacked(source))


def open_segment(path: str) -> ReadFile:
    """Open a segment for reading, packed or not; errors as for ``ReadFile`` and ``ArchivedFile``."""
    return ArchivedFile(path) if path.endswith(".gz") else ReadFile(path)


def file_digests(path: str) -> Digests:
    """Return the digests of a file as it is.

    Raises:
        OSError: it cannot be read.
    """
    hashing = _Hashing()
    with ReadFile(path) as file:
        for data in _pieces(file):
            hashing.update(data)
    return hashing.digests()


def content_digests(path: str) -> Digests:
    """Return the digests of the segment in an archive's file; errors as for ``ArchivedFile``."""
    hashing = _Hashing()
    with ReadFile(path) as file:
        for data in _unpacked(file):
            hashing.update(data)
    return hashing.digests()


def archived_numbers(folder: str) -> list[int]:
    """Return the numbers of the segments in an archive, ascending; none if there is no such folder.

    Raises:
        OSError: it cannot be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def archived_header(path: str) -> SegmentHeader:
    """Return the header of an archived segment, of which little is unpacked.

    Raises:
        OSError: the file cannot be read.
        ChainCorrupted: there is none.
    """
    with ReadFile(path) as file:
        packed = file.read(0, _FIRST)
    try:
        body = read_frame_at(zlib.decompressobj(_GZIP).decompress(packed, _FIRST), 0)
        if body is None:
            raise msgspec.DecodeError("the file does not begin with a good segment header")
        return decode_segment_header(body)
    except (msgspec.DecodeError, zlib.error) as error:
        raise ChainCorrupted(f"{path}: {error}", path=path) from error


def pack(
    fs: Files, source: ReadFile, path: str, go_on: Callable[[], None] = lambda: None, level: int = _LEVEL
) -> Packed:
    """Write a segment as an archive's file, bring it onto the disk, and read it back.

    Args:
        fs: file calls.
        source: the segment.
        path: of the file to be made; one that lies there is a leftover.
        go_on: called now and then; may raise to stop.
        level: of zlib.

    Raises:
        OSError: it cannot be written.
        ArchiveFailed: what was read back is something else.
    """
    whole, packed = _Hashing(), _Hashing()
    if os.path.lexists(path):
        fs.unlink(path)
    fd = fs.create(path)
    try:
        packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

        def put(data: bytes) -> None:
            if data:
                packed.update(data)
                write_all(fs, fd, data)

        for data in _pieces(source):
            go_on()
            whole.update(data)
            put(packer.compress(data))
        put(packer.flush())
        fs.sync_file(fd)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # so that the disk is asked, and not the memory
    finally:
        fs.close(fd)
    made = Packed(packed.digests(), whole.digests())
    go_on()
    try:
        same = file_digests(path) == made.file and content_digests(path) == made.content
    except ChainCorrupted:
        same = False
    if not same:
        raise ArchiveFailed(f"{path} was written and reads back as something else; is its disk in order?")
    return made


def erase_old(fs: Files, path: str, target: str) -> None:
    """Put a new file in the place of an old one, and overwrite what the old one held.

    Raises:
        OSError: a call failed; the old file is still there, or already the new one.
    """
    old = fs.open_overwrite(target)
    try:
        fs.rename(path, target)
        fs.sync_dir(os.path.dirname(target))
        left = os.fstat(old).st_size
        while left > 0:
            write_all(fs, old, bytes(min(left, _STEP)))
            left -= _STEP
        fs.sync_file(old)
    finally:
        fs.close(old)


def _pieces(file: ReadFile) -> Iterator[bytes]:
    at = 0
    while data := file.read(at, _STEP):
        yield data
        at += len(data)


def _unpacked(file: ReadFile) -> Iterator[bytes]:
    """Yield the content of a gzip file in pieces."""
    unpacker, total = zlib.decompressobj(_GZIP), 0
    try:
        for piece in _pieces(file):
            if unpacker.eof:
                raise zlib.error("something lies behind its end")
            data = unpacker.decompress(piece, _STEP)
            while data:
                total += len(data)
                if total > limits.CHAIN_ARCHIVE_BYTES:
                    raise ChainCorrupted(f"{file.path} unpacks to more than any segment has", path=file.path)
                yield data
                data = unpacker.decompress(unpacker.unconsumed_tail, _STEP)
    except zlib.error as error:
        raise ChainCorrupted(f"{file.path} cannot be unpacked: {error}", path=file.path) from error
    if not unpacker.eof or unpacker.unused_data:
        raise ChainCorrupted(f"{file.path} cannot be unpacked: it is not one whole gzip file", path=file.path)


def find_in_archive(folder: str, number: int, log_id: bytes) -> str | None:
    """Return the path of a segment in an archive; ``None`` if it is not there.

    Raises:
        OSError: the folder cannot be read.
        ArchiveFailed: the file is of another log, or another segment.
        ChainCorrupted: it is damaged.
    """
    path = archive_path(folder, number)
    if not os.path.lexists(path):
        return None
    header = archived_header(path)
    if (header.log_id, header.number) != (log_id, number):
        raise ArchiveFailed(
            f"{path} holds segment {header.number} of log {header.log_id.hex()}: give each log an archive of its own"
        )
    return path

"""A whole copy of a log, from what is left of it and from its archive.

Why it is as it is: a log that runs is not to be stitched together behind its writer's back. So what was pruned is never
put back into the log's own folder. A copy is made elsewhere, from the first record on, with segments, checkpoint, tiles
and entries; every command reads it as it reads any log, and if the original is lost the copy can take its place.

Guaranteed: the copy is the log that the checkpoint was signed for; otherwise there is no copy. It ends with the newest
record that was whole when it was made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import msgspec

from weftos import limits
from weftos.chain.folder.archive import open_segment
from weftos.chain.folder.reader import list_segments
from weftos.chain.folder.segments import CHECKPOINT_NAME, segment_path
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FrameReader, decode_segment_header
from weftos.chain.records.record import ZERO_HASH
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.note import parse_note
from weftos.chain.tiles.tile_store import TileStore
from weftos.disk.files import ReadFile, RealFiles, replace_file, write_all
from weftos.errors import ArchiveFailed, ChainCorrupted, ChainError, StorageFailed

__all__ = ["Restored", "restore"]

_STEP = 1024 * 1024


class Restored(msgspec.Struct, frozen=True):
    """What was restored.

    Attributes:
        directory: of the copy.
        records: in it.
        segments: files of it.
        archived: how many of them came from the archive.
        bytes: size of these files.
    """

    directory: str
    records: int
    segments: int
    archived: int
    bytes: int


def restore(directory: str | os.PathLike[str], archive: str | os.PathLike[str], target: str) -> Restored:
    """Make a whole copy of a log.

    Args:
        directory: of the log; its writer may go on.
        archive: folder with the archived segments.
        target: folder for the copy; missing or empty.

    Raises:
        ArchiveFailed: a segment is in neither place.
        ChainCorrupted: what is there is not what was signed for.
        ChainError: the log or the archive cannot be read, or the log was never signed.
        StorageFailed: the copy cannot be written.
    """
    path, folder = os.path.abspath(directory), os.path.abspath(archive)
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise ArchiveFailed(f"{target} is not empty: the copy needs a folder of its own")
    try:
        with ReadFile(os.path.join(path, CHECKPOINT_NAME)) as file:
            note = file.read(0, limits.NOTE_BYTES + 1)
    except OSError as error:
        raise ChainError(f"the checkpoint of the log in {path} cannot be read: {error.strerror or error}") from error
    listing = list_segments(path)
    first_live = listing.first_number
    if listing.pruned is not None:
        listing = listing.with_archive(folder)
    if listing.missing:
        raise ArchiveFailed(f"segment {listing.missing[0]:08d} is neither in {path} nor in {folder}")
    made = not os.path.lexists(target)
    try:
        os.makedirs(target, mode=0o700, exist_ok=True)
        archived = sum(1 for number in listing.segments if number < first_live)
        return _Copy(target, note).run(listing.segments, listing.path, archived)
    except OSError as error:
        _remove(target, made=made)
        raise StorageFailed(f"the copy cannot be made: {error}") from error
    except BaseException:
        _remove(target, made=made)
        raise


def _remove(target: str, *, made: bool) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if not made:
        os.makedirs(target, mode=0o700, exist_ok=True)


class _Copy:
    """Copies segments in order, and makes the tree of their records on the way."""

    def __init__(self, target: str, note: bytes) -> None:
        self._target = target
        self._note = note
        self._signed = parse_text(parse_note(note).text)
        self._fs = RealFiles()
        self._tiles = TileStore(self._fs, target)
        self._cursor = Cursor(None, 0, ZERO_HASH)
        self._bytes = 0

    def run(self, numbers: list[int], path_of: Callable[[int], str], archived: int) -> Restored:
        for number in numbers:
            self._segment(number, path_of(number), last=number == numbers[-1])
        if self._tiles.size < self._signed.size:
            raise ChainCorrupted(
                f"the log has {self._tiles.size} records, and {self._signed.size} were signed for", path=self._target
            )
        self._tiles.publish()
        replace_file(self._fs, os.path.join(self._target, CHECKPOINT_NAME), self._note)
        return Restored(self._target, self._tiles.size, len(numbers), archived, self._bytes)

    def _segment(self, number: int, path: str, *, last: bool) -> None:
        with open_segment(path) as file:
            end = self._checked(number, file, last=last)
            fd = self._fs.create(segment_path(self._target, number))
            try:
                at = 0
                while at < end:
                    data = file.read(at, min(_STEP, end - at))
                    write_all(self._fs, fd, data)
                    at += len(data)
                self._fs.sync_file(fd)
            finally:
                self._fs.close(fd)
        self._bytes += end

    def _checked(self, number: int, file: ReadFile, *, last: bool) -> int:
        """Read a segment, and return the offset behind its last whole record."""
        cursor, reader = self._cursor, FrameReader(file)
        try:
            header = decode_segment_header(next(iter(reader), b""))
        except msgspec.DecodeError as error:
            raise ChainCorrupted(f"{file.path}: {error}", path=file.path) from error
        if cursor.log_id is None:
            cursor.log_id = header.log_id
        place = (header.log_id, header.number, header.first_seq, header.prev_hash)
        if place != (cursor.log_id, number, cursor.seq, cursor.prev_hash):
            raise ChainCorrupted(f"{file.path} does not follow record {cursor.seq - 1} of this log", path=file.path)
        scanner = Scanner(file, reader.offset, cursor, kinds=frozenset())
        for found in scanner:
            if isinstance(found, Batch):
                self._extend(found.entries, file.path)
                continue
            record = cursor.take(found.body)
            if record is None or cursor.findings:
                what = "{}: {}".format(*cursor.findings[0])
                raise ChainCorrupted(f"{file.path}, offset {found.offset}: {what}", path=file.path, offset=found.offset)
            self._extend([record.header_bytes], file.path)
        if scanner.problem and not last:
            raise ChainCorrupted(f"{file.path}, offset {scanner.offset}: {scanner.problem}", path=file.path)
        return scanner.offset

    def _extend(self, entries: list[bytes], path: str) -> None:
        tiles, short = self._tiles, self._signed.size - self._tiles.size
        if 0 < short <= len(entries):
            tiles.extend(entries[:short])
            if tiles.tree.root() != self._signed.root:
                raise ChainCorrupted(f"{path}: rewritten: the records are not those that were signed for", path=path)
            tiles.publish()  # others may verify from this checkpoint
            entries = entries[short:]
        tiles.extend(entries)

"""Copying a closed segment to the archive, and taking a payload out of one that is there.

The order makes a crash harmless. The packed segment is on the disk and read back first, under a name without meaning;
then the record ``chain.archived`` says what it is; then it gets its name. So what has a name in the archive is on the
log, and a crash in between costs a second packing and a second record, of which the newest counts.

An erasure must not be defeated by an archive: the payload is taken out of the archived segment in the same way, and a
new ``chain.archived`` says the new hashes. If the archive is not there, an erasure is refused before anything is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from weftos.chain.folder.archive import (
    Archived,
    ArchivedFile,
    Packed,
    RoomFile,
    erase_old,
    find_in_archive,
    pack,
)
from weftos.chain.folder.closed import Closed, Span, closed_segments
from weftos.chain.folder.locate import archived_record, record_at
from weftos.chain.folder.reader import list_segments
from weftos.chain.folder.segments import ARCHIVED_NAME, Listing, archive_path
from weftos.chain.records.frames import FRAME_OVERHEAD
from weftos.chain.records.record import Ack, NewEvent, Record
from weftos.chain.records.redaction import check_redactable, find_payload, without_payload
from weftos.chain.retention.steps import Stopping
from weftos.disk.files import Files, ReadFile, replace_file
from weftos.errors import AppendRefused, ArchiveFailed, ChainCorrupted, ChainError, RecordPruned

if TYPE_CHECKING:
    from weftos.chain.writing.writer import ChainWriter

__all__ = [
    "ARCHIVED_KIND",
    "Archiving",
    "Erasure",
    "archived_marks",
    "erase_archived",
    "is_erased",
    "prepare_erasure",
    "record_anywhere",
]

ARCHIVED_KIND: Final = "chain.archived"
_STEP: Final = 1024 * 1024


class Archiving:
    """Archiving of one segment; see ``steps``.

    Args:
        writer: of the log, signed; with an archive.
        segment: closed, covered by its newest checkpoint.

    Raises:
        ChainError: the tiles over it are damaged, or there is no archive.
        OSError: the archive's folder cannot be read or made.
    """

    needs_checkpoint: Final = False

    def __init__(self, writer: ChainWriter, segment: Closed) -> None:
        self.stopping = Stopping()
        self.segment = segment
        self._writer = writer
        self._fs = writer.fs
        self._folder = archive_folder(writer)
        make_folder(writer)
        find_in_archive(self._folder, segment.number, segment.log_id)  # refuses the archive of another log
        self._path = archive_path(self._folder, segment.number)
        assert writer.checkpoints is not None, "the log is signed"
        assert writer.checkpoints.newest is not None, "and covered"
        listing = list_segments(writer.directory)
        self._source = listing.path(segment.number)
        self._span = Span(listing, [segment], writer.checkpoints.newest)
        self.packed: Packed | None = None

    def prepare(self) -> None:
        """Check the segment, pack it, and read it back."""
        for _ in self._span.walk(go_on=self.stopping.look):
            pass
        with ReadFile(self._source) as source:
            self.packed = pack(self._fs, source, f"{self._path}.tmp", self.stopping.look)

    def announce(self) -> Ack:
        """Append ``chain.archived``."""
        assert self.packed is not None, "it was prepared"
        return _say(self._writer, self.segment.number, self.segment.first_seq, self.segment.next_seq, self.packed)

    def finish(self) -> None:
        """Give the file its name; first note that there is one, for a time when the archive is out of reach."""
        _mark(self._fs, self._writer.directory, self.segment.number)
        self._fs.rename(f"{self._path}.tmp", self._path)
        self._fs.sync_dir(self._folder)

    def end(self) -> None:
        """Nothing to note: the file's name says it."""

    def give_up(self) -> None:
        """Remove what was packed."""
        if os.path.lexists(f"{self._path}.tmp"):
            self._fs.unlink(f"{self._path}.tmp")


def _say(writer: ChainWriter, number: int, first_seq: int, next_seq: int, packed: Packed) -> Ack:
    archived = Archived(
        segment=number,
        first_seq=first_seq,
        count=next_seq - first_seq,
        size=packed.file.size,
        blake3=packed.file.blake3,
        sha256=packed.file.sha256,
        content_size=packed.content.size,
        content_blake3=packed.content.blake3,
        where=writer.archive,
    )
    ack = writer.append(NewEvent("chain", ARCHIVED_KIND, archived.to_payload()))
    writer.commit()
    return ack


def archive_folder(writer: ChainWriter) -> str:
    """Return the folder of the archive.

    Raises:
        ArchiveFailed: there is none for this log.
    """
    if not writer.archive:
        raise ArchiveFailed("this log has no archive; [chain] archive_dir says where it is to be")
    return writer.archive


def make_folder(writer: ChainWriter) -> None:
    """Make the archive's folder if it is missing. The folder that it lies in must be there: a disk may not be mounted.

    Raises:
        OSError: it cannot be made.
    """
    if not os.path.isdir(writer.archive):
        writer.fs.make_dir(writer.archive)
        writer.fs.sync_dir(os.path.dirname(writer.archive))


# --- erasing ----------------------------------------------------------------------------------------------------------


def record_anywhere(writer: ChainWriter, seq: int) -> Record:
    """Return a record from the log's folder, or from the archive if it was pruned.

    Raises:
        RecordPruned: it was pruned and is not in the archive.
        ArchiveFailed: the archive is not there.
        ChainError: there is no such record, or it is damaged.
    """
    listing = list_segments(writer.directory)
    if seq <= writer.head.seq:
        _archived_copy(writer, listing, seq)  # an archive out of reach must show before the erasure is announced
    if seq >= listing.first_seq:
        return record_at(writer.directory, seq)
    return archived_record(writer.directory, writer.archive, seq)


def announced_to_erase(writer: ChainWriter, announced: Iterable[int]) -> list[int]:
    """Return the records whose payload was announced as gone and is still there, in the log or in its archive.

    No checkpoint covers these announcements, so somebody who can write the files can forge one. The writer itself
    never announces what the log needs; all are looked at before the first payload goes.

    Args:
        writer: of the log; it was just opened.
        announced: numbers of records, from announcements that no checkpoint covers.

    Raises:
        ChainCorrupted: the log needs one of these payloads, or what lies in its place is damaged.
        ArchiveFailed: the archive is not there.
        ChainError: there is no such record, or the log cannot be read.
    """
    unfinished: list[int] = []
    for seq in sorted(set(announced)):
        if is_erased(writer, seq):
            continue
        record = record_anywhere(writer, seq)
        try:
            if not record.withheld:  # else the archive alone still has it
                check_redactable(record)
        except AppendRefused as error:
            raise ChainCorrupted(
                f"{writer.directory}: a chain.redacted record behind the newest checkpoint announces that the payload "
                f"of record {seq} is gone, which no writer does: {error}; nothing was erased"
            ) from error
        unfinished.append(seq)
    return unfinished


def is_erased(writer: ChainWriter, seq: int) -> bool:
    """Whether the payload of a record is gone wherever it was."""
    listing = list_segments(writer.directory)
    if seq >= listing.first_seq and not record_at(writer.directory, seq).withheld:
        return False
    try:
        path = _archived_copy(writer, listing, seq)
    except RecordPruned:
        return True  # it was pruned without being archived
    if path is None:
        return True
    with _opened(path) as file:
        return find_payload(file, seq) is None


class Erasure(msgspec.Struct, frozen=True):
    """An archived segment without a payload, packed beside the one that is to go.

    Attributes:
        path: of the one that is to go.
        packed: the new one.
        number: of the segment.
        first_seq: number of its first record.
        next_seq: number of the first record behind it.
    """

    path: str
    packed: Packed
    number: int
    first_seq: int
    next_seq: int


def prepare_erasure(writer: ChainWriter, seq: int) -> Erasure | None:
    """Pack the archived segment of a record anew, without its payload; ``None`` if there is none with the payload.

    Nothing has changed yet: what can go wrong with an archive goes wrong here, before an erasure is announced.

    Raises:
        ArchiveFailed: the archive is not there, damaged, or cannot be written.
    """
    listing = list_segments(writer.directory)
    path = _archived_copy(writer, listing, seq)
    if path is None:
        return None
    try:
        with _opened(path) as file:
            place = find_payload(file, seq)
            if place is None:
                return None
            pieces = _spliced(file, place[0], len(place[1]) + FRAME_OVERHEAD, without_payload(place[1]))
            with RoomFile(path, pieces) as source:
                packed = pack(writer.fs, source, f"{path}.tmp", level=1)  # quickly: everybody waits for it
    except OSError as error:
        raise ArchiveFailed(f"{path} cannot be written anew, so nothing is erased: {error}") from error
    return Erasure(path, packed, *_place(listing, seq))


def erase_archived(writer: ChainWriter, erasure: Erasure) -> None:
    """Put the new file in the place of the old one, and overwrite that.

    Raises:
        OSError: a call failed; the old file is still there, or already the new one.
        StorageFailed: the log has failed.
    """
    _say(writer, erasure.number, erasure.first_seq, erasure.next_seq, erasure.packed)
    erase_old(writer.fs, f"{erasure.path}.tmp", erasure.path)


def _archived_copy(writer: ChainWriter, listing: Listing, seq: int) -> str | None:
    """Return the path of the archived segment of a record; ``None`` if that is not archived."""
    if seq < listing.first_seq:
        assert listing.pruned is not None, "something was pruned"
        number, act = listing.pruned.segment_of(seq)
        if not act.archived:
            raise RecordPruned(f"record {seq} was pruned and never archived: its payload is gone already")
        path = find_in_archive(writer.archive, number, writer.log_id) if writer.archive else None
        if path is None:
            raise ArchiveFailed(
                f"record {seq} was pruned; its segment {number:08d} was archived to {act.where}, and is not in "
                f"{writer.archive or 'an archive that is configured'}: make the archive reachable, and repeat"
            )
        return path
    number = _place(listing, seq)[0]
    if writer.archive and os.path.lexists(temporary := f"{archive_path(writer.archive, number)}.tmp"):
        writer.fs.unlink(temporary)  # left over by a crash, with the payload in it
    path = find_in_archive(writer.archive, number, writer.log_id) if writer.archive else None
    if path is None and number in archived_marks(writer.directory):
        raise ArchiveFailed(
            f"segment {number:08d} with record {seq} was archived, and is not in "
            f"{writer.archive or 'an archive that is configured'}: make the archive reachable, and repeat"
        )
    return path


def archived_marks(directory: str) -> list[int]:
    """Return the numbers of the archived segments that were not pruned yet, as far as that was noted.

    Raises:
        ChainCorrupted: the note is malformed.
        OSError: it cannot be read.
    """
    try:
        with ReadFile(os.path.join(directory, ARCHIVED_NAME)) as file:
            return [int(line) for line in file.read(0, file.size).split()]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ChainCorrupted(
            f"{ARCHIVED_NAME} in {directory} is no list of segments: {error}; if it is removed, erasures do not notice "
            "an archive that is out of reach",
            path=directory,
        ) from error


def _mark(fs: Files, directory: str, number: int) -> None:
    first = list_segments(directory).first_number
    numbers = sorted({one for one in archived_marks(directory) if one >= first} | {number})
    replace_file(fs, os.path.join(directory, ARCHIVED_NAME), b"".join(b"%08d\n" % one for one in numbers))


def _place(listing: Listing, seq: int) -> tuple[int, int, int]:
    """Return the number of a record's segment, of its first record and of the first record behind it."""
    if listing.pruned is not None and seq < listing.pruned.size:
        number, act = listing.pruned.segment_of(seq)
        starts = [*act.first_seqs, act.size]
        at = number - act.first_segment
        return number, starts[at], starts[at + 1]
    for one in closed_segments(listing):
        if one.first_seq <= seq < one.next_seq:
            return one.number, one.first_seq, one.next_seq
    return listing.segments[-1], seq, seq + 1  # the open one, which is never archived


def _opened(path: str) -> ArchivedFile:
    try:
        return ArchivedFile(path)
    except ChainError as error:
        raise ArchiveFailed(f"the archive is damaged: {error}") from error


def _spliced(file: ReadFile, at: int, size: int, instead: bytes) -> Iterator[bytes]:
    for begin, end in ((0, at), (at + size, file.size)):
        place = begin
        while place < end:
            data = file.read(place, min(end - place, _STEP))
            yield data
            place += len(data)
        if end == at:
            yield instead

"""Pages of a log for somebody who copies it: raw records in a row, from any number, as they lie in the files.

Why it is as it is: a replica trusts nobody, so it gets what is hashed and signed, byte for byte, and checks it itself;
here nothing is verified but that a record is the one that was asked for. A page must cost what it holds and not where
it lies: a record that the newest checkpoint covers is found by halving and known by its entry in the tiles; from there,
or from the place where the last page ended, the files are read on.

Guaranteed: the records of a page are those from ``seq`` on without a gap; an empty page means that the log ends there.
Not guaranteed: that they are genuine, see ``replica``. Single-threaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from weftos import limits
from weftos.chain.folder.locate import frame_offset
from weftos.chain.folder.reader import check_present, list_segments, segment_header, segment_of
from weftos.chain.folder.segments import CHECKPOINT_NAME, segment_path
from weftos.chain.records.cursor import parse
from weftos.chain.records.frames import FrameReader
from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.note import parse_note
from weftos.chain.tiles.tile_tree import TileTree
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted, ChainError

__all__ = ["FileSource", "Page", "Pages", "RawRecord", "read_checkpoint"]

#: Bytes that a record takes in a page besides its own, at most.
_AROUND: Final = 16


class RawRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record as it is stored.

    Attributes:
        header: its header part.
        salted: salt and payload; empty if the payload was taken away.
    """

    header: bytes
    salted: bytes


class Page(msgspec.Struct, frozen=True):
    """Records in a row, and what was signed when they were read.

    Attributes:
        first_seq: number of the first.
        records: from that number on without a gap; none if the log ends before it.
        note: the newest signed checkpoint; empty if there is none, or no room for it.
    """

    first_seq: int
    records: list[RawRecord]
    note: bytes = b""


class _Place(NamedTuple):
    """Where the record of a number begins, in a file that is still the same."""

    seq: int
    number: int
    inode: int
    offset: int


class Pages:
    """Reads pages of one log, best one behind the other.

    Args:
        directory: of the log.
    """

    def __init__(self, directory: str) -> None:
        self._directory = os.path.abspath(directory)
        self._next: _Place | None = None

    def read(self, seq: int, max_records: int, max_bytes: int, covered: int) -> list[RawRecord]:
        """Return records from a number on.

        Args:
            seq: of the first.
            max_records: at most.
            max_bytes: of records, at most; one at least is returned, however large.
            covered: records that the newest checkpoint covers.

        Raises:
            ChainCorrupted: what lies there is damaged.
            RecordPruned: the first was pruned.
            ChainError: there is no log, or it cannot be read.
        """
        records: list[RawRecord] = []
        room = max_bytes
        try:
            for place, raw in self._from(seq, covered):
                room -= len(raw.header) + len(raw.salted) + _AROUND
                if records and (room < 0 or len(records) >= max_records):
                    self._next = place
                    break
                records.append(raw)
        except OSError as error:
            raise ChainError(f"the log cannot be read: {error}") from error
        return records

    def _from(self, seq: int, covered: int) -> Iterator[tuple[_Place, RawRecord]]:
        """Yield every record from a number on, with its place."""
        number, offset = self._start(seq, covered)
        expected: int | None = None
        while os.path.exists(path := segment_path(self._directory, number)):
            with ReadFile(path) as file:
                # Before the frames: when the next file has its name, this one is complete.
                complete = os.path.exists(segment_path(self._directory, number + 1))
                inode = os.stat(path).st_ino
                reader = FrameReader(file, offset)
                begin = reader.offset
                for body in reader:
                    if begin:
                        try:
                            header, raw, salted = parse(body)
                        except msgspec.DecodeError as error:
                            raise ChainCorrupted(f"{path}, offset {begin}: {error}", path=path, offset=begin) from error
                        if expected is not None and header.seq != expected:
                            detail = f"record {header.seq} where {expected} is expected"
                            raise ChainCorrupted(f"{path}, offset {begin}: {detail}", path=path, offset=begin)
                        expected = header.seq + 1
                        if header.seq >= seq:
                            yield _Place(header.seq, number, inode, begin), RawRecord(raw, salted)
                    begin = reader.offset
                if not complete:
                    return
                if reader.problem:
                    raise ChainCorrupted(f"{path}, offset {begin}: {reader.problem}", path=path, offset=begin)
            number, offset = number + 1, 0

    def _start(self, seq: int, covered: int) -> tuple[int, int]:
        """Return the segment and the offset of a frame from which the record is near."""
        known = self._next
        if known is not None and known.seq == seq:
            path = segment_path(self._directory, known.number)
            # A file whose payload was erased is another file.
            if os.path.exists(path) and os.stat(path).st_ino == known.inode:
                return known.number, known.offset
        listing = list_segments(self._directory)
        check_present(listing, seq)
        number = segment_of(listing, seq)
        with ReadFile(listing.path(number)) as file:
            header = segment_header(file)
            anchor = min(seq, covered - 1)
            if anchor < header.first_seq:
                return number, 0
            entry = TileTree(self._directory, covered).entry(anchor)
            found = frame_offset(file, header.log_id, anchor, entry)
        return number, found or 0


class FileSource:
    """Pages from the files of a log, for a replica on the same machine or on a mounted disk.

    Args:
        directory: of the log.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.path.abspath(directory)
        self._pages = Pages(self._directory)

    def page(self, seq: int, max_records: int, max_bytes: int) -> Page:
        """Return a page; see ``replica.Source``.

        Raises:
            ChainError: the log cannot be read, or is damaged where the page is.
        """
        note = read_checkpoint(self._directory)
        covered = parse_text(parse_note(note).text).size if note else 0
        return Page(seq, self._pages.read(seq, max_records, max_bytes, covered), note)


def read_checkpoint(directory: str) -> bytes:
    """Return the signed checkpoint of a log; empty if it has none.

    Raises:
        ChainError: it cannot be read.
    """
    try:
        with ReadFile(os.path.join(directory, CHECKPOINT_NAME)) as file:
            return file.read(0, limits.NOTE_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ChainError(f"the checkpoint cannot be read: {error}") from error


assert limits.CHAIN_PAGE_BYTES > limits.CHAIN_PAYLOAD_BYTES, "a page holds any record"

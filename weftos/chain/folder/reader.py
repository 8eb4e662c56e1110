"""Reading a log: from anywhere, in order, while it is being written, in constant memory.

Why it is as it is: readers take no lock and ask nobody, so that a log can be read when its writer is dead, and a slow
reader holds up no one. The price is that the end of the last file may be a write in progress: a reader stops there.

Guaranteed: every record that is yielded was checked (checksum, hashes, place in the chain), and none is left out.
A reader that has come to the end may be asked again from there. Not guaranteed: that the newest record is on the disk
yet; nor signatures, see ``verify``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from weftos.chain.folder.segments import Listing, corrupted, list_log, segment_path
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import (
    FRAME_OVERHEAD,
    LENGTH,
    MAX_FRAME,
    FrameReader,
    SegmentHeader,
    decode_segment_header,
    read_frame_at,
)
from weftos.chain.records.record import Record
from weftos.disk.files import ReadFile
from weftos.errors import ChainError, RecordPruned

__all__ = ["check_present", "kept_records", "list_segments", "read", "read_whole", "segment_of", "tail"]


def read(directory: str | os.PathLike[str], *, start: int = 0, stop: int | None = None) -> Iterator[Record]:
    """Yield records in order.

    Args:
        directory: of the log.
        start: number of the first record wanted; 0 for the oldest that was not pruned.
        stop: number of the first record not wanted; ``None`` for all.

    Raises:
        RecordPruned: the first record wanted was pruned, or the next one was while this was reading.
        ChainCorrupted: the log is damaged; the records before were good.
        ChainError: there is no log, or it cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    if start > 0:
        check_present(listing, start)
    try:
        yield from _read(path, listing, max(start, 0), stop)
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error


def read_whole(directory: str | os.PathLike[str], *, stop: int | None = None) -> Iterator[Record]:
    """Yield records in order, from the very first; for who adds up the log and must not miss any.

    Args:
        directory: of the log.
        stop: number of the first record not wanted; ``None`` for all.

    Raises:
        RecordPruned: the beginning was pruned, before this or while it was reading.
        ChainCorrupted, ChainError: as for ``read``.
    """
    seen = False
    for record in read(directory, stop=stop):
        if not seen and record.seq:
            raise RecordPruned(
                f"this needs the log from its first record on, and the records before {record.seq} were pruned; "
                "`weaver chain restore` makes a whole copy from the archive"
            )
        seen = True
        yield record


def check_present(listing: Listing, seq: int) -> None:
    """Refuse a record that was pruned.

    Raises:
        RecordPruned: it was.
    """
    if seq >= listing.first_seq:
        return
    assert listing.pruned is not None, "something was pruned"
    number, act = listing.pruned.segment_of(seq)
    where = f"to {act.where}; give that with --archive" if act.archived else "nowhere: its content is gone"
    raise RecordPruned(
        f"record {seq} was pruned: the log begins with record {listing.first_seq}. Its segment {number:08d} was "
        f"archived {where}"
    )


def kept_records(directory: str | os.PathLike[str]) -> list[Record]:
    """Return the records that were kept of the pruned ones: keys and their changes, and grants of rings.

    They are not verified against the log; see ``verify``.

    Raises:
        ChainCorrupted: they are damaged.
        ChainError: there is no log, or it cannot be read.
    """
    pruned = list_segments(os.path.abspath(directory)).pruned
    return [] if pruned is None else pruned.records()


def list_segments(directory: str) -> Listing:
    """Return what lies in the directory of a log that has segments.

    Raises:
        ChainError: there is no log, or it cannot be read.
        ChainCorrupted: there are traces of a log, but no log.
    """
    try:
        listing = list_log(directory)
    except FileNotFoundError as error:
        raise ChainError(f"there is no log: {directory} does not exist") from error
    listing.check_present()
    if not listing.segments:
        raise ChainError(f"there is no log in {directory}: the directory is empty")
    return listing


def _read(directory: str, listing: Listing, start: int, stop: int | None) -> Iterator[Record]:
    number = segment_of(listing, start)
    cursor: Cursor | None = None
    while os.path.exists(path := segment_path(directory, number)):
        with ReadFile(path) as file:
            header = segment_header(file)
            if cursor is None:
                cursor = Cursor(header.log_id, header.first_seq, header.prev_hash, header.t_ns)
                base = listing.pruned
                if number == listing.first_number and base is not None and base.head_hash != header.prev_hash:
                    corrupted(path, 0, f"the segment does not follow record {base.size - 1}, the last that was pruned")
            elif (header.first_seq, header.prev_hash, header.log_id) != (cursor.seq, cursor.prev_hash, cursor.log_id):
                corrupted(path, 0, f"the segment does not follow record {cursor.seq - 1}")
            for record in _segment(file, cursor, segment_path(directory, number + 1)):
                if stop is not None and record.seq >= stop:
                    return
                if record.seq >= start:
                    yield record
        number += 1
    if (now := list_segments(directory)).first_number > number:
        check_present(now, cursor.seq if cursor is not None else start)


def segment_of(listing: Listing, seq: int) -> int:
    """Return the number of the segment in which a record lies: the last that does not begin behind it."""
    low, high = 0, len(listing.segments) - 1
    while low < high:
        middle = (low + high + 1) // 2
        with ReadFile(listing.path(listing.segments[middle])) as file:
            if segment_header(file).first_seq <= seq:
                low = middle
            else:
                high = middle - 1
    return listing.segments[low]


def segment_header(file: ReadFile) -> SegmentHeader:
    """Return the header of a segment file.

    Raises:
        ChainCorrupted: there is none.
    """
    data = file.read(0, 4096)
    body = read_frame_at(data, 0)
    if body is None:
        corrupted(file.path, 0, "the file does not begin with a good segment header")
    try:
        return decode_segment_header(body)
    except msgspec.DecodeError as error:
        corrupted(file.path, 0, str(error))


def _segment(file: ReadFile, cursor: Cursor, following: str) -> Iterator[Record]:
    """Yield the records of one segment, up to where its writer has come."""
    offset = -1
    complete = False
    while True:
        reader = FrameReader(file, max(offset, 0))
        frames = iter(reader)
        if offset < 0:
            next(frames)
        before = reader.offset
        for body in frames:
            record = cursor.take(body)
            if record is None or cursor.findings:
                corrupted(file.path, before, "{}: {}".format(*cursor.findings[0]))
            yield record
            before = reader.offset
        grown = reader.offset > offset
        offset = reader.offset
        if not grown and complete:
            break
        # A segment is complete before the next one has a name. So what is read after that name was seen is all.
        complete = os.path.exists(following)
        if not complete and not grown:
            break
    if reader.problem:
        rest = file.read(offset, max(file.size - offset, 0))
        if complete or (read_frame_at(rest, 0) is None and cursor.find_next(rest, 1) is not None):
            corrupted(file.path, offset, f"{reader.problem} inside the log")


def tail(directory: str | os.PathLike[str], count: int) -> list[Record]:
    """Return the newest ``count`` records, oldest first, reading little else.

    Raises:
        ChainCorrupted: the end of the log is damaged.
        ChainError: there is no log, or it cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    if count <= 0:
        return []
    bodies: list[bytes] = []
    try:
        for number in reversed(listing.segments):
            with ReadFile(listing.path(number)) as file:
                log_id = segment_header(file).log_id
                bodies += _newest(file, log_id, count - len(bodies), last=number == listing.segments[-1])
            if len(bodies) >= count:
                break
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error
    cursor = Cursor(log_id, 0, b"")
    cursor.lost = True
    records = []
    for body in reversed(bodies):
        record = cursor.take(body)
        if record is None or cursor.findings:
            corrupted(path, 0, "{}: {}".format(*cursor.findings[0]))
        records.append(record)
    return records


def _newest(file: ReadFile, log_id: bytes, count: int, *, last: bool) -> list[bytes]:
    """Return the bodies of the newest ``count`` records of a segment, newest first; all if it has fewer."""
    end = file.size
    window = 64 * 1024
    while True:
        window = min(window, end)
        base = end - window
        data = file.read(base, window)
        bodies, reached = _backwards(data, base, count)
        if len(bodies) == count or reached == 0:
            return bodies
        if window == end or reached > base + MAX_FRAME:
            break  # not stopped by the edge of the window: what lies there is no frame
        window *= 4
    # The end of the file is a write in progress, or damaged: look from the front where the good part ends.
    reader = FrameReader(file)
    for _ in reader:
        pass
    rest = file.read(reader.offset, max(file.size - reader.offset, 0))
    if not last or reader.offset == end or Cursor(log_id, 0, b"").find_next(rest, 0) is not None:
        corrupted(file.path, reader.offset, f"{reader.problem or 'bad_frame'} inside the log")
    return _backwards(file.read(0, reader.offset), 0, count)[0]


def _backwards(data: bytes, base: int, count: int) -> tuple[list[bytes], int]:
    """Walk back over whole frames at the end of ``data``.

    Returns:
        Their bodies, newest first, without the segment's header; and the offset in the file that was reached.
    """
    bodies: list[bytes] = []
    at = len(data)
    while len(bodies) < count and at >= FRAME_OVERHEAD:
        start = at - FRAME_OVERHEAD - int(LENGTH.unpack_from(data, at - LENGTH.size)[0])
        body = read_frame_at(data, start)
        if body is None:
            break
        at = start
        if base + start == 0:
            break
        bodies.append(body)
    return bodies, base + at

"""Finding one record by its number without reading the segment that it is in.

Why it is as it is: records have no index, but their numbers grow with their place. So the place is found by halving:
look at the middle, find the next whole frame, compare. A window of two frames at most holds one whole.

What is found that way may be a frame that somebody put into a payload. So it counts only if it is the very record that
the caller knows from the Merkle tree; otherwise the segment is read from its beginning, where frames cannot be faked.
"""

from __future__ import annotations

import os

import msgspec

from weftos.chain.cursor import Cursor, parse
from weftos.chain.files import ReadFile
from weftos.chain.frames import MAX_FRAME, FrameReader, find_frame, read_frame_at
from weftos.chain.reader import list_segments, read, segment_header, segment_of
from weftos.chain.record import Record, record_hash
from weftos.errors import ChainCorrupted, ChainError

__all__ = ["frame_offset", "known_record", "record_at"]

#: Below this many bytes walking is faster than halving.
_NEAR = 8 * 1024
#: Bytes that are looked at first.
_SMALL_WINDOW = 4 * 1024


def record_at(directory: str | os.PathLike[str], seq: int, entry: bytes | None = None) -> Record:
    """Return a record.

    Args:
        directory: of the log.
        seq: its number.
        entry: its header part, if it is known; the record is found fast then.

    Raises:
        ChainCorrupted: what lies in its place is damaged.
        ChainError: there is no such record, or the log cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    try:
        with ReadFile(listing.path(segment_of(listing, seq))) as file:
            header = segment_header(file)
            body = None
            if entry is not None:
                body = _walk(file, _near(file, header.log_id, seq), seq)
                if body is not None and parse(body)[1] != entry:
                    body = None
            if body is None:
                return _read_through(path, seq)
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error
    cursor = Cursor(header.log_id, seq, b"")
    cursor.lost = True
    record = cursor.take(body)
    if record is None or cursor.findings:
        raise ChainCorrupted(
            "{}: record {}: {}: {}".format(file.path, seq, *cursor.findings[0]), path=file.path, offset=0
        )
    return record


def known_record(directory: str | os.PathLike[str], seq: int, digest: bytes) -> Record | None:
    """Return the record that has this number and this hash; ``None`` if the log has no such record.

    Args:
        directory: of the log.
        seq: its number.
        digest: hash of the record, 32 bytes; what is found counts only if it has this one.

    Raises:
        ChainError: there is no log, or it cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    try:
        with ReadFile(listing.path(segment_of(listing, seq))) as file:
            body = _walk(file, _near(file, segment_header(file).log_id, seq), seq)
        if body is not None and record_hash(parse(body)[1]) == digest:
            return record_at(path, seq, parse(body)[1])
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error
    found = next(iter(read(path, start=seq, stop=seq + 1)), None)
    return found if found is not None and found.hash == digest else None


def frame_offset(file: ReadFile, log_id: bytes, seq: int, entry: bytes) -> int | None:
    """Return where the frame of a record begins; ``None`` if halving does not find it.

    Args:
        file: the segment that it is in.
        log_id: of the log, 16 bytes.
        seq: its number.
        entry: its header part, as the tree has it; what is found counts only if it has this one.

    Raises:
        OSError: the file cannot be read.
    """
    reader = FrameReader(file, _near(file, log_id, seq))
    begin = reader.offset
    for body in reader:
        try:
            header, raw, _ = parse(body)
        except msgspec.DecodeError:
            begin = reader.offset
            continue  # the segment's header
        if header.seq >= seq:
            return begin if raw == entry else None
        begin = reader.offset
    return None


def _read_through(directory: str, seq: int) -> Record:
    record = next(iter(read(directory, start=seq, stop=seq + 1)), None)
    if record is None:
        raise ChainError(f"record {seq} is not in the log's files; it may not be there yet, or have been archived")
    return record


def _near(file: ReadFile, log_id: bytes, seq: int) -> int:
    """Return the offset of a frame at or before that of the record, and not far from it."""
    low, high = 0, file.size
    while high - low > _NEAR:
        middle = (low + high) // 2
        # A record is small as a rule; only for a large one the window must hold two of the largest.
        found = _next(file.read(middle, _SMALL_WINDOW), log_id) or _next(file.read(middle, 2 * MAX_FRAME), log_id)
        if found is None or found[1] > seq:
            high = middle
        else:
            low = middle + found[0]
    return low


def _next(data: bytes, log_id: bytes) -> tuple[int, int] | None:
    """Return offset and number of the first record of a log in some bytes."""
    at = find_frame(data, 0)
    while at is not None:
        body = read_frame_at(data, at)
        assert body is not None, "find_frame returns good frames only"
        try:
            header = parse(body)[0]
        except msgspec.DecodeError:
            header = None
        if header is not None and header.log_id == log_id:
            return at, header.seq
        # Content of a payload that looks like a frame.
        at = find_frame(data, at + 1)
    return None


def _walk(file: ReadFile, offset: int, seq: int) -> bytes | None:
    for body in FrameReader(file, offset):
        try:
            header = parse(body)[0]
        except msgspec.DecodeError:
            continue  # the segment's header
        if header.seq >= seq:
            return body if header.seq == seq else None
    return None

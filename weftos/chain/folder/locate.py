"""Finding one record by its number without reading the segment that it is in.

Why it is as it is: records have no index, but their numbers grow with their place. So the place is guessed as in a
telephone book, from the numbers known on both sides: look there, find the next whole frame, compare. Records of very
different sizes can make guesses bad, so after a few of them the rest is found by halving. A window of two frames at
most holds one whole.

What is found that way may be a frame that somebody put into a payload. So it counts only if it is the very record that
the caller knows from the Merkle tree; otherwise the segment is read from its beginning, where frames cannot be faked.
"""

from __future__ import annotations

import os

import msgspec

from weftos import limits
from weftos.chain.folder.archive import open_segment
from weftos.chain.folder.reader import check_present, list_segments, read, segment_header, segment_of
from weftos.chain.folder.segments import archive_path
from weftos.chain.records.cursor import Cursor, parse
from weftos.chain.records.frames import MAX_FRAME, FrameReader, find_frame, read_frame_at
from weftos.chain.records.record import Record, record_hash
from weftos.chain.tiles.tile_tree import TileTree
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted, ChainError, RecordPruned
from weftos.merkle.frontier import leaf_hash

__all__ = ["archived_record", "frame_offset", "known_record", "record_at"]

#: Below this many bytes walking is faster than halving.
_NEAR = 8 * 1024
#: So many records are walked over rather than looked for.
_FEW = 12
#: Guesses before halving.
_GUESSES = 6
#: Bytes that are looked at first.
_SMALL_WINDOW = 4 * 1024
#: Bytes that are read at once where the record is near: what halving leaves, and a few records of the usual size.
_WALK_CHUNK = 2 * _NEAR


def record_at(
    directory: str | os.PathLike[str], seq: int, entry: bytes | None = None, size: int | None = None
) -> Record:
    """Return a record.

    Args:
        directory: of the log.
        seq: its number.
        entry: its header part, if it is known; the record is found fast then.
        size: how many records the log has, if it is known; it is found faster still then.

    Raises:
        ChainCorrupted: what lies in its place is damaged.
        RecordPruned: it was pruned.
        ChainError: there is no such record, or the log cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    check_present(listing, seq)
    try:
        number = segment_of(listing, seq)
        with ReadFile(listing.path(number)) as file:
            header = segment_header(file)
            body = None
            if entry is not None:
                end = size if number == listing.segments[-1] else None
                body = _walk(file, _near(file, header.log_id, seq, header.first_seq, end), seq, _WALK_CHUNK)
                if body is not None and parse(body)[1] != entry:
                    body = None
            if body is None:
                return _read_through(path, seq)
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error
    return _checked(file.path, header.log_id, seq, body)


def _checked(path: str, log_id: bytes, seq: int, body: bytes) -> Record:
    cursor = Cursor(log_id, seq, b"")
    cursor.lost = True
    record = cursor.take(body)
    if record is None or cursor.findings:
        raise ChainCorrupted("{}: record {}: {}: {}".format(path, seq, *cursor.findings[0]), path=path, offset=0)
    return record


def archived_record(directory: str | os.PathLike[str], archive: str, seq: int) -> Record:
    """Return a pruned record from the archive, as the log's tree knows it.

    Args:
        directory: of the log.
        archive: folder with the archived segments.
        seq: number of the record; it was pruned.

    Raises:
        RecordPruned: its segment is not in this archive.
        ChainCorrupted: what lies there is damaged, or another record.
        ChainError: the archive or the log cannot be read.
    """
    path = os.path.abspath(directory)
    listing = list_segments(path)
    pruned = listing.pruned
    assert pruned is not None, "something was pruned"
    number, act = pruned.segment_of(seq)
    file_path = archive_path(archive, number)
    try:
        with open_segment(file_path) as file:
            body = _walk(file, 0, seq)
            if body is None:
                raise ChainCorrupted(f"{file_path} does not hold record {seq}", path=file_path)
            record = _checked(file_path, pruned.log_id, seq, body)
    except FileNotFoundError as error:
        where = f"its segment was archived to {act.where}" if act.archived else "its segment was not archived"
        raise RecordPruned(
            f"record {seq} was pruned; {where}, and {os.path.basename(file_path)} is not in {archive or 'any archive'}"
        ) from error
    except OSError as error:
        raise ChainError(f"the archive cannot be read: {error}") from error
    if leaf_hash(record.header_bytes) != TileTree(path, pruned.size).node(0, seq):
        raise ChainCorrupted(f"{file_path} holds another record {seq} than the log had", path=file_path)
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
            header = segment_header(file)
            body = _walk(file, _near(file, header.log_id, seq, header.first_seq, None), seq, _WALK_CHUNK)
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
    reader = FrameReader(file, _near(file, log_id, seq, segment_header(file).first_seq, None), _WALK_CHUNK)
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
        raise ChainError(f"record {seq} is not in the log's files; it may not be there yet")
    return record


def _near(file: ReadFile, log_id: bytes, seq: int, first: int, end: int | None) -> int:
    """Return the offset of a frame at or before that of the record, and not far from it.

    Args:
        file: the segment.
        log_id: of the log.
        seq: number of the record.
        first: number of the first record of the segment.
        end: number of the record that comes after its last, if that is known; it may be wrong.
    """
    low, low_seq, high, high_seq = 0, first, file.size, end
    guesses = _GUESSES
    while high - low > _NEAR and seq - low_seq > _FEW:
        at = (low + high) // 2
        if guesses and high_seq is not None and high_seq > seq:
            guesses -= 1
            # A little before the place, since what is found must not lie behind it.
            at = low + (high - low) * (seq - low_seq) // (high_seq - low_seq) - _NEAR // 4
            at = min(max(at, low + 1), high - 1)
        # A record is small as a rule; only for a large one the window must hold two of the largest.
        found = _next(file.read(at, _SMALL_WINDOW), log_id) or _next(file.read(at, 2 * MAX_FRAME), log_id)
        if found is None:
            high, high_seq = at, None
        elif found[1] > seq:
            high, high_seq = at, found[1]
        else:
            low, low_seq = at + found[0], found[1]
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


def _walk(file: ReadFile, offset: int, seq: int, chunk: int = limits.CHAIN_READ_BYTES) -> bytes | None:
    for body in FrameReader(file, offset, chunk):
        try:
            header = parse(body)[0]
        except msgspec.DecodeError:
            continue  # the segment's header
        if header.seq >= seq:
            return body if header.seq == seq else None
    return None

"""Frames: how records lie in a segment file, and how a reader finds its way through good and damaged ones.

    u32 len | u32 crc | body: u8 type, u8 flags, u16 header length, header, rest | u32 len        (little-endian)

Why it is as it is: the checksum finds accidents (a torn write, a flipped bit) at once and without keys; the hashes in
the records find intent. It starts from the length, so that a wrong length cannot borrow a right checksum. The length
stands at the end again, so that the newest records are found from the end of a file without reading the rest.

Guaranteed: ``FrameReader`` yields only frames whose two lengths and checksum agree, reads each byte of the file once
and holds a window of it; at the first frame that does not agree it stops and says where and why. Not guaranteed: that
the content makes sense; that is for the caller.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias
from zlib import crc32

import msgspec

from weftos import limits
from weftos.chain.records.record import SALT_BYTES
from weftos.disk.files import ReadFile

__all__ = [
    "RECORD",
    "SEGMENT",
    "WITHHELD",
    "FrameReader",
    "SegmentHeader",
    "encode_segment_header",
    "find_frame",
    "frame_problem",
    "read_frame_at",
]

#: Types of frames.
SEGMENT: Final = 1
RECORD: Final = 2
#: Flag of a record whose payload was taken away; nothing stands behind its header part.
WITHHELD: Final = 1

PROLOGUE: Final = struct.Struct("<II")
BODY: Final = struct.Struct("<BBH")
LENGTH: Final = struct.Struct("<I")
#: Prologue and the beginning of a body, read at once.
FRAME_HEAD: Final = struct.Struct("<IIBBH")
#: Bytes of a frame that are not its body.
FRAME_OVERHEAD: Final = PROLOGUE.size + LENGTH.size
MIN_BODY: Final = BODY.size
MAX_BODY: Final = BODY.size + limits.CHAIN_HEADER_BYTES + SALT_BYTES + limits.CHAIN_PAYLOAD_BYTES
MAX_FRAME: Final = MAX_BODY + FRAME_OVERHEAD

_MAGIC: Final = "exo/segment"
_Bin16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bin32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Content of the first frame of a segment file: a msgpack array of these fields in this order.

    Attributes:
        magic: ``exo/segment``.
        version: of the file format, 1.
        log_id: 16 bytes that name the log.
        number: of this file, from 1.
        first_seq: sequence number of its first record.
        prev_hash: hash of the record before that one, 32 bytes; zeros in the first file.
        t_ns: when it was begun, wall clock in nanoseconds since 1970 UTC.
    """

    magic: str
    version: int
    log_id: _Bin16
    number: _Natural
    first_seq: _Natural
    prev_hash: _Bin32
    t_ns: _Natural


_decode_segment_header = msgspec.msgpack.Decoder(SegmentHeader).decode
_encode = msgspec.msgpack.Encoder().encode


def encode_frame(kind: int, header: bytes, rest: bytes, flags: int = 0) -> bytes:
    """Return a whole frame of the given type. The writer has the same inline, for its records."""
    body = BODY.pack(kind, flags, len(header)) + header + rest
    size = len(body)
    return PROLOGUE.pack(size, crc32(body, size)) + body + LENGTH.pack(size)


def encode_segment_header(log_id: bytes, number: int, first_seq: int, prev_hash: bytes, t_ns: int) -> bytes:
    """Return the first frame of a segment file; arguments as in ``SegmentHeader``."""
    header = SegmentHeader(_MAGIC, 1, log_id, number, first_seq, prev_hash, t_ns)
    return encode_frame(SEGMENT, _encode(header), b"")


def decode_segment_header(body: bytes) -> SegmentHeader:
    """Decode the body of a segment's first frame.

    Raises:
        msgspec.DecodeError: it is none, or of a version that is not known here.
    """
    if len(body) < BODY.size or BODY.unpack_from(body) != (SEGMENT, 0, len(body) - BODY.size):
        raise msgspec.DecodeError("the file does not begin with a segment header")
    try:
        header = _decode_segment_header(body[BODY.size :])
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError(f"a text in the segment header is not UTF-8: {error}") from error
    if header.magic != _MAGIC:
        raise msgspec.DecodeError("the file is no segment of a chain")
    if header.version != 1:
        raise msgspec.DecodeError(f"the file has format version {header.version}, known is 1")
    return header


class FrameReader:
    """Walks through the frames of one file.

    Args:
        file: what to read from.
        start: offset of the first frame.
        chunk: bytes that are read at once; few if only a few frames will be asked for.

    Attributes:
        offset: of the frame that follows the last one yielded; at the end, of the first byte that is no whole frame.
        end: bytes of the file as far as it was seen.
        problem: after the walk, ``""`` if it ended at the end of the file; otherwise ``bad_frame`` or ``bad_crc``.
    """

    def __init__(self, file: ReadFile, start: int = 0, chunk: int = limits.CHAIN_READ_BYTES) -> None:
        self._file = file
        self._chunk = chunk
        self.offset = start
        self.end = start
        self.problem = ""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body of each good frame."""
        base, data, at, have = self.offset, b"", 0, 0
        unpack, smallest, largest = PROLOGUE.unpack_from, MIN_BODY, MAX_BODY
        while True:
            # A prologue is read where at least one more length follows it; with nothing there, as if it were too large.
            size, crc = unpack(data, at) if have - at >= FRAME_OVERHEAD else (have, 0)
            start = at + 8
            stop = start + size
            if stop + 4 > have:
                base, at, data = base + at, 0, data[at:]
                more = self._file.read(base + len(data), self._chunk)
                data += more
                have = len(data)
                self.end = max(self.end, base + have)
                if not more or not smallest <= self._length(data) <= largest:
                    self.problem = "bad_frame" if data else ""
                    return
                continue
            # The length behind the body is compared as bytes with the one in front, which spares taking it apart.
            if not smallest <= size <= largest or data[at : at + 4] != data[stop : stop + 4]:
                self.problem = "bad_frame"
                return
            body = data[start:stop]
            if crc32(body, size) != crc:
                self.problem = "bad_crc"
                return
            at = stop + 4
            self.offset = base + at
            yield body

    @staticmethod
    def _length(data: bytes) -> int:
        """Return the length at the front of ``data``; something possible if it is not complete."""
        return int(LENGTH.unpack_from(data)[0]) if len(data) >= LENGTH.size else MIN_BODY


def read_frame_at(data: bytes, at: int) -> bytes | None:
    """Return the body of the frame that lies at ``at`` in ``data``, or ``None`` if there is no good one."""
    if at < 0 or at + FRAME_OVERHEAD + MIN_BODY > len(data):
        return None
    size, crc = PROLOGUE.unpack_from(data, at)
    stop = at + PROLOGUE.size + size
    if not MIN_BODY <= size <= MAX_BODY or stop + LENGTH.size > len(data):
        return None
    if LENGTH.unpack_from(data, stop)[0] != size:
        return None
    body = data[at + PROLOGUE.size : stop]
    return body if crc32(body, size) == crc else None


def frame_problem(data: bytes, at: int) -> str:
    """Say why there is no good frame at ``at``, as ``FrameReader`` would.

    Args:
        data: bytes of a file, up to its end or to ``MAX_FRAME`` bytes behind ``at``.
        at: where a frame should begin.

    Returns:
        ``bad_frame`` or ``bad_crc``; ``""`` if nothing is there, or the frame is good.
    """
    if at >= len(data):
        return ""
    if at + FRAME_OVERHEAD + MIN_BODY > len(data):
        return "bad_frame"
    size, crc = PROLOGUE.unpack_from(data, at)
    stop = at + PROLOGUE.size + size
    if not MIN_BODY <= size <= MAX_BODY or data[at : at + 4] != data[stop : stop + 4]:
        return "bad_frame"
    return "" if crc32(data[at + PROLOGUE.size : stop], size) == crc else "bad_crc"


def find_frame(data: bytes, at: int) -> int | None:
    """Return the offset of the first good record frame at or after ``at``, or ``None``.

    Looks for the constant bytes of a record's body first, so that long stretches of anything else pass quickly.
    """
    plain = _find_marked(data, at, len(data), bytes((RECORD, 0)))
    # One without a payload is rare: it is only looked for in front of what was found.
    end = len(data) if plain is None else plain + PROLOGUE.size
    withheld = _find_marked(data, at, end, bytes((RECORD, WITHHELD)))
    return plain if withheld is None else withheld


def _find_marked(data: bytes, at: int, end: int, mark: bytes) -> int | None:
    found = data.find(mark, at + PROLOGUE.size, end)
    while found >= 0:
        if read_frame_at(data, found - PROLOGUE.size) is not None:
            return found - PROLOGUE.size
        found = data.find(mark, found + 1, end)
    return None

"""Byte layout of a ring: where each word lies, what a record looks like, and who may write what.

Why it is as it is: a word that one side writes often never shares a cache line with a word that the other side writes
often, so a message costs one line transfer per direction at most. Positions are offsets in an endless byte stream and
only grow; ``capacity`` is a power of two, so the place of a position is a mask away; the overhang behind the data lets
every record that starts inside lie in one piece. The full description with worked examples is ``docs/formats/ring.md``;
``tests/shm/test_ring_vectors.py`` holds both to the same bytes.

Guaranteed: ``read_geometry`` returns only numbers that were checked against each other and against the size of the
mapping. Not guaranteed: anything about the words outside the static header. Both ends can write them, so each reader
checks what it reads.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from weftos import limits
from weftos.errors import ResourceLimitExceeded, SegmentInvalid
from weftos.shm.segment import Segment

__all__ = ["Geometry", "create_ring", "read_geometry"]

MAGIC: Final = b"WEFTRING"
VERSION: Final = 1
HEADER_BYTES: Final = 4096
#: Index of the first data word in a view of the whole segment as u64.
DATA_WORD: Final = HEADER_BYTES // 8

# Static header, written once at creation: magic, version, header bytes, capacity, max record, ring id, generation,
# CRC-32.
STATIC: Final = struct.Struct("<8sIIQQQI")
CRC_OFFSET: Final = STATIC.size

# Indices of u64 words. Comment: who writes.
HEAD: Final = 64 // 8  # producer: position after the last published record
PUT_COUNT: Final = 128 // 8  # producer: messages published
PUT_WAITS: Final = 136 // 8  # producer: times it had to wait for room
PUT_MARKS: Final = 144 // 8  # producer: two pairs (position, messages before it), see ``counting``
TAIL: Final = 192 // 8  # consumer: space before it may be overwritten
COMMIT: Final = 256 // 8  # consumer: everything before it is done
SUB: Final = 264 // 8  # consumer: messages done within the batch record at COMMIT
CURRENT: Final = 272 // 8  # consumer: id of the message in its handler plus 1, 0 for none; what lies before it is done
GET_COUNT: Final = 320 // 8  # consumer: messages handed out (published with TAIL)
DROP_COUNT: Final = 328 // 8  # consumer: incomplete fragmented messages dropped
GET_MARKS: Final = 336 // 8  # consumer: as PUT_MARKS
SPACE_WANTED: Final = 384 // 8  # producer sets a position, consumer resets it: "tell me when TAIL gets there"
STATE: Final = 448 // 8  # kernel: 0 open, 1 closed
PRODUCER_EPOCH: Final = 512 // 8  # kernel: producers that came before the present one
CONSUMER_EPOCH: Final = 520 // 8  # kernel: consumers that came before the present one
EPOCH_COMMIT: Final = 528 // 8  # kernel: COMMIT when CONSUMER_EPOCH was last raised
REDELIVERY_POSITION: Final = 576 // 8  # kernel: message that is being delivered again
REDELIVERY_ATTEMPTS: Final = 584 // 8  # kernel: how often it has been handed out before; 0 means none

#: Value of SPACE_WANTED when nobody waits: no position ever reaches it.
NOBODY: Final = (1 << 64) - 1
OPEN: Final = 0
CLOSED: Final = 1

# Record word: length in bits 0..31, kind in 32..39, flags in 40..63. BYTES is kind 0 without flags, so that one
# comparison (word <= largest payload) recognises the common case and checks its length at once.
BYTES: Final = 0
BATCH_UNIFORM: Final = 1
BATCH_TABLE: Final = 2
FRAGMENT: Final = 3
ARRAY: Final = 4
RECORDS: Final = 5
FRAG_FIRST: Final = 1
FRAG_LAST: Final = 2
#: A fragment's flags carry the kind of the whole message from this bit on.
FRAG_KIND_SHIFT: Final = 8
RECORD_WORD_BYTES: Final = 8
ALIGN: Final = 64


class Geometry(msgspec.Struct, frozen=True):
    """The static header of a ring, checked.

    Attributes:
        capacity: bytes of the stream that may be in flight; a power of two.
        max_record: largest record in bytes, its record word included; also the size of the overhang.
        ring_id: the ring's number within one boot.
        generation: number given at creation.
    """

    capacity: int
    max_record: int
    ring_id: int
    generation: int

    @property
    def mask(self) -> int:
        """``position & mask`` is the offset of a position in the data area."""
        return self.capacity - 1

    @property
    def max_payload(self) -> int:
        """Largest payload of one record in bytes."""
        return self.max_record - RECORD_WORD_BYTES

    @property
    def audit_window(self) -> int:
        """Bytes after which an audit window closes; they divide the capacity, so no window goes round its end."""
        return min(limits.AUDIT_WINDOW_BYTES, self.capacity // 4)


def record_bytes(payload: int) -> int:
    """Return the size of a record with ``payload`` bytes: the word, the payload, padding to 8."""
    return (payload + 15) & -8


def create_ring(
    capacity: int = limits.DEFAULT_RING_BYTES,
    *,
    max_record: int | None = None,
    ring_id: int = 0,
    generation: int = 1,
    start: int = 0,
) -> Segment:
    """Make a segment that holds an empty, open ring.

    Args:
        capacity: bytes in flight at most; a power of two from ``limits.MIN_RING_BYTES`` to ``limits.MAX_RING_BYTES``.
        max_record: largest record in bytes, a multiple of 64, at most half the capacity; a quarter of it by default.
            What is larger travels in fragments, which costs a rendezvous.
        ring_id: number of the ring within one boot, 0 to 2**64 - 1.
        generation: number of the ring among those that served the same purpose, 0 to 2**32 - 1.
        start: position of the first record, a multiple of 8; other than 0 only to test wrapping.

    Returns:
        The segment; its descriptor is the capability to both ends.

    Raises:
        ResourceLimitExceeded: a size is out of range.
        SharedMemoryError: the system has no memory or descriptor left.
    """
    if capacity & (capacity - 1) or not limits.MIN_RING_BYTES <= capacity <= limits.MAX_RING_BYTES:
        raise ResourceLimitExceeded(
            f"ring capacity must be a power of two from {limits.MIN_RING_BYTES} to {limits.MAX_RING_BYTES} bytes, "
            f"not {capacity}"
        )
    record = capacity // 4 if max_record is None else max_record
    if record % ALIGN or not ALIGN <= record <= capacity // 2:
        raise ResourceLimitExceeded(
            f"largest record must be a multiple of 64 from 64 to {capacity // 2} bytes, not {record}"
        )
    assert start % 8 == 0, "positions are multiples of 8"
    segment = Segment.create(HEADER_BYTES + capacity + record, label=f"weftos-ring-{ring_id}")
    static = STATIC.pack(MAGIC, VERSION, HEADER_BYTES, capacity, record, ring_id, generation)
    segment.map[: STATIC.size] = static
    segment.map[CRC_OFFSET : CRC_OFFSET + 4] = zlib.crc32(static).to_bytes(4, "little")
    words = segment.words
    for word in (HEAD, TAIL, COMMIT, EPOCH_COMMIT, PUT_MARKS, PUT_MARKS + 2, GET_MARKS, GET_MARKS + 2):
        words[word] = start
    words[SPACE_WANTED] = NOBODY
    return segment


def read_geometry(segment: Segment) -> Geometry:
    """Check the static header of a ring and return what it says.

    Raises:
        SegmentInvalid: wrong magic, version, checksum or sizes; the message names which.
    """
    if segment.size < HEADER_BYTES + limits.MIN_RING_BYTES:
        raise SegmentInvalid(f"a segment of {segment.size} bytes is too small for a ring")
    raw = bytes(segment.map[: CRC_OFFSET + 4])
    magic, version, header, capacity, record, ring_id, generation = STATIC.unpack_from(raw)
    if magic != MAGIC:
        raise SegmentInvalid("the segment holds no ring: wrong magic")
    if version != VERSION or header != HEADER_BYTES:
        raise SegmentInvalid(
            f"ring format {version} with a header of {header} bytes is not understood; this is format {VERSION}"
        )
    if int.from_bytes(raw[CRC_OFFSET:], "little") != zlib.crc32(raw[:CRC_OFFSET]):
        raise SegmentInvalid("the ring's static header does not match its checksum")
    if capacity & (capacity - 1) or not limits.MIN_RING_BYTES <= capacity <= limits.MAX_RING_BYTES:
        raise SegmentInvalid(f"ring capacity {capacity} is not acceptable")
    if record % ALIGN or not ALIGN <= record <= capacity // 2:
        raise SegmentInvalid(f"largest record {record} is not acceptable for a capacity of {capacity}")
    if segment.size < HEADER_BYTES + capacity + record:
        raise SegmentInvalid(f"a segment of {segment.size} bytes cannot hold a ring of {capacity} + {record}")
    return Geometry(capacity, record, ring_id, generation)

"""Many small messages in one record: packed by the producer, unpacked by the consumer in one sweep.

Why it is as it is: per message, the interpreter costs more than the copy. A batch pays for the record, the publication
and the wake-up once. Messages of one length need no table: ``length u32, count u32, data``. Others carry one: ``count
u32, 0 u32, count x length u32, data``. Record sizes always exceed the number of messages, so position + index names
each message uniquely; that is why empty messages never make a uniform batch.

Guaranteed: ``unpack_batch`` accepts exactly what ``pack_batch`` makes, and raises ``RingCorrupted`` for everything
else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final

from weftos.errors import RingCorrupted
from weftos.shm.layout import BATCH_TABLE, BATCH_UNIFORM

__all__ = ["pack_batch", "split_batches", "unpack_batch"]

_HEAD: Final = struct.Struct("<II")
_HEAD_BYTES: Final = _HEAD.size
#: Messages up to which a format is compiled and kept: 32 bytes each, times 32 formats, is 2 MiB at most.
_COMPILED_MOST: Final = 2048


@lru_cache(maxsize=32)
def _compiled(size: int, count: int) -> struct.Struct:
    """Compile the format of a uniform batch; a stream of equal batches then unpacks twice as fast."""
    return struct.Struct(f"{size}s" * count)


def split_batches(messages: Sequence[bytes], max_payload: int) -> Iterator[tuple[Sequence[bytes], int]]:
    """Cut a sequence into groups that each fit one record. A group of one may be larger than a record.

    Yields:
        Each group with the size that all its messages have, 0 if they differ or are empty.
    """
    if not messages:
        return
    size = len(messages[0])
    if size and len(set(map(len, messages))) == 1:
        step = max((max_payload - _HEAD_BYTES) // size, 1)
        for start in range(0, len(messages), step):
            yield messages[start : start + step], size
        return
    start, used = 0, _HEAD_BYTES
    for i, message in enumerate(messages):
        need = len(message) + 4
        if used + need > max_payload and i > start:
            yield messages[start:i], 0
            start, used = i, _HEAD_BYTES
        used += need
    yield messages[start:], 0


def pack_batch(messages: Sequence[bytes], size: int) -> tuple[int, bytes]:
    """Return kind and payload of one batch record.

    Args:
        messages: at least one, together within the limit that ``split_batches`` observed.
        size: the size of each, or 0 if they differ.
    """
    if size:
        return BATCH_UNIFORM, b"".join((_HEAD.pack(size, len(messages)), *messages))
    lengths = list(map(len, messages))
    return BATCH_TABLE, b"".join((struct.pack(f"<II{len(lengths)}I", len(lengths), 0, *lengths), *messages))


def unpack_batch(kind: int, payload: bytes) -> list[bytes]:
    """Take a batch apart.

    Args:
        kind: ``BATCH_UNIFORM`` or ``BATCH_TABLE``.
        payload: a private copy of the record's payload.

    Raises:
        RingCorrupted: counts and lengths do not add up to the payload exactly.
    """
    total = len(payload)
    if total < _HEAD_BYTES:
        raise RingCorrupted("a batch shorter than its head")
    first, second = _HEAD.unpack_from(payload)
    if kind == BATCH_UNIFORM:
        if first == 0 or second == 0 or first * second != total - _HEAD_BYTES:
            raise RingCorrupted(f"a batch of {second} messages of {first} bytes in a payload of {total}")
        if second <= _COMPILED_MOST:
            return list(_compiled(first, second).unpack_from(payload, _HEAD_BYTES))
        return [message for (message,) in struct.iter_unpack(f"{first}s", memoryview(payload)[_HEAD_BYTES:])]
    start = _HEAD_BYTES + 4 * first
    if first == 0 or second != 0 or start > total:
        raise RingCorrupted(f"a batch whose table of {first} lengths does not fit a payload of {total}")
    ends = list(accumulate(struct.unpack_from(f"<{first}I", payload, _HEAD_BYTES), initial=start))
    if ends[-1] != total:
        raise RingCorrupted("a batch whose lengths do not add up to its payload")
    return [payload[a:b] for a, b in pairwise(ends)]

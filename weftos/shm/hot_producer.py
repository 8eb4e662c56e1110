"""The hot path of the writing end: ``put`` for plain messages, and doors to its variables for the slow path.

Why apart from ``producer``: a native core replaces exactly this file and its counterpart ``hot_consumer``.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import NamedTuple

from weftos.shm import fence, layout
from weftos.shm.mailbox import Notifier
from weftos.shm.segment import Segment

__all__ = ["Buffer", "HotProducer", "build_hot_producer"]

#: Both ends can write the counter; half of its range leaves room to count on, whatever was in it.
_COUNT_MASK = layout.NOBODY >> 1

Buffer = bytes | bytearray | memoryview


class HotProducer(NamedTuple):
    """The closures.

    Attributes:
        put: publish one message.
        load: (head, messages published).
        publish: set HEAD, add messages, set the limit, wake the reader.
        set_limit: set the position up to which ``put`` goes without asking.
    """

    put: Callable[..., int]
    load: Callable[[], tuple[int, int]]
    publish: Callable[[int, int, int], None]
    set_limit: Callable[[int], None]


def build_hot_producer(
    segment: Segment,
    geometry: layout.Geometry,
    head: int,
    wake: Callable[[], None] | None,
    slow: Callable[[Buffer, float | None], int],
) -> HotProducer:
    """Build the hot path and the three functions through which the slow path shares its variables."""
    buffer, words = segment.map, segment.words
    mask, max_payload = geometry.mask, geometry.max_payload
    data_byte, data_words = layout.HEADER_BYTES + layout.RECORD_WORD_BYTES, segment.words_from(layout.HEADER_BYTES)
    head_word, count_word, state_word = layout.HEAD, layout.PUT_COUNT, layout.STATE
    barrier = fence.publish_fence
    # What ``Notifier`` does, without a call for a reader that is awake. Others are called each time: the word that says
    # so is never 0.
    page: mmap.mmap | bytearray = wake.page if isinstance(wake, Notifier) else bytearray(1)
    ready, sleep = (wake.at, wake.sleep) if isinstance(wake, Notifier) else (0, 0)
    asleep: memoryview | tuple[int] = wake.words if isinstance(wake, Notifier) else (int(wake is not None),)
    wake_up = wake if wake is not None else bool
    limit = head
    count = words[layout.PUT_COUNT] & _COUNT_MASK

    def put(data: Buffer, timeout: float | None = 0.0) -> int:
        nonlocal head, count
        n = len(data)
        position = head
        end = position + ((n + 15) & -8)
        if end > limit or n > max_payload or words[state_word]:
            return slow(data, timeout)
        at = position & mask
        start = at + data_byte
        try:
            buffer[start : start + n] = data
        except IndexError:
            return slow(data, timeout)  # not bytes but a view of wider items, whose length is not its size
        data_words[at >> 3] = n
        if barrier is not None:
            barrier()
        words[head_word] = head = end
        words[count_word] = count = count + 1
        if barrier is not None:
            barrier()
        page[ready] = 1
        if asleep[sleep]:
            wake_up()
        return position

    def load() -> tuple[int, int]:
        return head, count

    def publish(position: int, messages: int, new_limit: int) -> None:
        nonlocal head, count, limit
        if barrier is not None:
            barrier()
        words[head_word] = head = position
        words[count_word] = count = (count + messages) & layout.NOBODY
        limit = new_limit
        if wake is not None:
            wake()

    def set_limit(new_limit: int) -> None:
        nonlocal limit
        limit = new_limit

    return HotProducer(put, load, publish, set_limit)

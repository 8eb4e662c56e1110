"""The hot path of the reading end: closures for plain messages, and doors to their variables for the slow path.

Why apart from ``consumer``: a native core replaces exactly this file and its counterpart ``hot_producer``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from weftos.errors import RingCorrupted
from weftos.shm import layout
from weftos.shm.segment import Segment

__all__ = ["HotConsumer", "SlowPath", "build_hot_consumer"]

Taken = list[tuple[int, Any]]


class SlowPath(Protocol):
    """What the hot path calls when it meets anything but a plain message that it knows to be there."""

    _batches: deque[Any]

    def _next(self) -> Any: ...
    def _look(self) -> bool | None: ...
    def _next_block(self, limit: int, /) -> Taken: ...
    def _commit_slow(self) -> None: ...
    def _publish(self) -> None: ...


class HotConsumer(NamedTuple):
    """The closures.

    Attributes:
        get: next item or None.
        take: up to n (id, item) pairs.
        commit: everything handed out is done.
        load: (cursor, head seen, last id, messages handed out, committed).
        store: cursor, stop, head seen, last id, messages to add.
        settle: set committed and the position at which TAIL is published next.
    """

    get: Callable[[], Any]
    take: Callable[[int], Taken]
    commit: Callable[[], None]
    load: Callable[[], tuple[int, int, int, int, int]]
    store: Callable[[int, int, int, int, int], None]
    settle: Callable[[int, int], None]


def _build_scan(segment: Segment, geometry: layout.Geometry) -> Callable[[Taken, int, int, int], int]:
    """Build the loop that appends plain messages to a list until it meets another kind, the ceiling or the limit."""
    buffer, mask, max_payload = segment.map, geometry.mask, geometry.max_payload
    data_byte, data_words = layout.HEADER_BYTES + layout.RECORD_WORD_BYTES, segment.words_from(layout.HEADER_BYTES)

    def scan(taken: Taken, position: int, ceiling: int, limit: int) -> int:
        append = taken.append
        for _ in range(limit):
            if position >= ceiling:
                break
            at = position & mask
            n = data_words[at >> 3]
            if n > max_payload:
                break
            at += data_byte
            append((position, buffer[at : at + n]))
            position += (n + 15) & -8
        return position

    return scan


def build_hot_consumer(  # noqa: C901, PLR0915  the closures must share one scope: that is what makes them fast
    segment: Segment, geometry: layout.Geometry, start: int, count: int, auto: bool, slow: SlowPath
) -> HotConsumer:
    """Build the closures: reading from ``start``, after ``count`` messages; ``auto`` commits as it hands out."""
    buffer, words = segment.map, segment.words
    mask, max_payload = geometry.mask, geometry.max_payload
    data_byte, data_words = layout.HEADER_BYTES + layout.RECORD_WORD_BYTES, segment.words_from(layout.HEADER_BYTES)
    commit_word, wanted_word = layout.COMMIT, layout.SPACE_WANTED
    slow_next, slow_commit, publish, open_batches = slow._next, slow._commit_slow, slow._publish, slow._batches
    look = slow._look
    scan = _build_scan(segment, geometry)
    cursor = stop = head = last = committed = publish_at = start

    def get() -> Any:
        nonlocal cursor, last, count
        if cursor < stop:
            at = cursor & mask
            n = data_words[at >> 3]
            if n <= max_payload:
                end = cursor + ((n + 15) & -8)
                if end > head:
                    raise RingCorrupted(f"ring {geometry.ring_id}: the record at {cursor} reaches past HEAD {head}")
                last = cursor
                cursor = end
                count += 1
                at += data_byte
                item: Any = buffer[at : at + n]
                if auto:
                    commit()
                return item
        item = slow_next()
        if auto and item is not None:
            commit()
        return item

    def take(limit: int) -> Taken:
        nonlocal cursor, last, count
        taken: Taken = []
        come: bool | None = None
        while (before := len(taken)) < limit:
            end = scan(taken, cursor, stop, limit - before)
            if end > head:
                raise RingCorrupted(f"ring {geometry.ring_id}: a record before {end} reaches past HEAD {head}")
            if end > cursor:
                cursor, last = end, taken[-1][0]
                count += len(taken) - before
                if come and cursor >= head:
                    break  # whoever publishes more meanwhile says so
                continue
            try:
                come = look()
                block = slow._next_block(limit - before) if come is None else []
            except RingCorrupted:
                if taken:
                    break  # what came before is good; the next call raises
                raise
            if not (come or block):
                break
            taken += block
        if auto and taken:
            commit()
        return taken

    def commit() -> None:
        nonlocal committed
        if open_batches:
            slow_commit()
            return
        words[commit_word] = committed = cursor
        if cursor >= publish_at or cursor >= words[wanted_word]:
            publish()

    def load() -> tuple[int, int, int, int, int]:
        return cursor, head, last, count, committed

    def store(new_cursor: int, new_stop: int, new_head: int, new_last: int, messages: int) -> None:
        nonlocal cursor, stop, head, last, count
        cursor, stop, head, last = new_cursor, new_stop, new_head, new_last
        count += messages

    def settle(new_committed: int, new_publish_at: int) -> None:
        nonlocal committed, publish_at
        committed, publish_at = new_committed, new_publish_at

    return HotConsumer(get, take, commit, load, store, settle)

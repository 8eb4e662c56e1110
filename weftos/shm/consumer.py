"""The reading end of a ring.

Three positions, because "handed out", "done" and "may be overwritten" are three things:

    cursor   private    next record to hand out
    COMMIT   shared     everything before it is done; a successor starts here, so only what was in a handler is
    delivered again TAIL     shared     space before it may be reused; follows COMMIT lazily, every eighth of the
    capacity, because each publication
                        costs the producer a cache miss

Why it is as it is: ``get``, ``take`` and ``commit`` are closures over local variables, built once per ring, for the
common message (bytes in a record of its own). Everything else is in methods beside them. Nothing that was read from the
ring is used before it was checked, and nothing that was checked is read from the ring again: contents are copied once,
and the copy is taken apart.

Guaranteed: whatever the producer writes, the reader returns valid items or raises ``RingCorrupted``; it does not crash,
hang or read outside the ring. Each message is handed out again after a crash until it was committed. Not guaranteed:
exactly-once delivery. One consumer per ring, one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from weftos import limits
from weftos.errors import ChannelClosed
from weftos.shm import layout
from weftos.shm.arrays import AnyArray, ArrayRecord, ArrayView
from weftos.shm.audit import Window
from weftos.shm.consumer_core import ConsumerCore
from weftos.shm.spin import Pauses

__all__ = ["ConsumerStatistics", "Item", "RingConsumer"]

#: What a reader gets: a message, an array with its metadata, or a block of records.
Item = bytes | ArrayRecord | AnyArray


class ConsumerStatistics(msgspec.Struct, frozen=True):
    """Counters of a reading end.

    Attributes:
        messages: messages handed out since the ring was made.
        position: the cursor, where the next record starts.
        committed: COMMIT, before which everything is done.
        depth_bytes: bytes published and not committed.
        capacity: bytes the ring holds.
        dropped: incomplete fragmented messages thrown away, by all consumers so far.
    """

    messages: int
    position: int
    committed: int
    depth_bytes: int
    capacity: int
    dropped: int


class RingConsumer(ConsumerCore):
    """The one reader of a ring. Starts at COMMIT, where its predecessor left off.

    Args:
        segment: made by ``create_ring``; stays open as long as this object is used.
        space_bell: rung when the producer waits for room and there is some, e.g. ``Doorbell.post``.
        waiter: what ``get_wait`` sleeps on: ``wait(timeout_s, has_work) -> bool``, e.g. a ``Mailbox``; without it, it
            polls.
        autocommit: commit each item as it is handed out (at most once instead of at least once).
        fragments: whether messages above the size of a record are expected; if not, one of them is corruption.
        audit: hash the stream in windows and keep them in ``audit``.
        leaves: with ``audit``: takes each record that passes, for windows with a Merkle root.

    Attributes:
        get: ``get() -> Item | None`` hands out the next item, or None when there is none.
        take: ``take(limit) -> list[(id, Item)]`` hands out what is there, at most ``limit`` items, each with its
            message id.
        commit: ``commit()`` declares everything handed out done.

    All of them raise RingCorrupted when the ring's content contradicts the format. A message in fragments is received
    while ``get`` is called; it needs the messages before it to be committed, because its fragments are freed as they
    are copied.

    Raises:
        SegmentInvalid: the segment holds no ring.
        RingCorrupted: the positions that a predecessor left contradict each other.
    """

    __slots__ = ()

    # --- other ways to read -------------------------------------------------------------------------------------------

    def get_with_id(self) -> tuple[int, Any] | None:
        """Hand out the next item together with its message id."""
        item = self.get()
        return None if item is None else (self._load()[2], item)

    def get_many(self, limit: int) -> list[Any]:
        """Hand out what is there, at most ``limit`` items."""
        get = self.get
        items: list[Any] = []
        while len(items) < limit:
            item = get()
            if item is None:
                break
            items.append(item)
            if self._pending:
                # The rest of a batch, without going through its ids.
                items += self._from_batch_bare(limit - len(items))
        if self._auto and items:
            self.commit()
        return items

    def get_wait(self, timeout: float | None) -> Any:
        """Hand out the next item, waiting for it if need be.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            The item, or None at the deadline.

        Raises:
            ChannelClosed: the ring is closed and empty.
        """
        item = self.get()
        if item is not None:
            return item
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            if self.closed and not self.has_work():
                raise ChannelClosed(f"ring {self.geometry.ring_id} is closed")
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._rest(min(left, limits.WAIT_SLICE_S * 20))
            item = self.get()
            if item is not None:
                return item

    def _rest(self, timeout: float) -> None:
        if self._waiter is not None:
            self._waiter.wait(timeout, self._has_news)
            return
        deadline = time.monotonic() + timeout
        if self._patience.spin(self.has_work, deadline):
            return
        pauses = Pauses()
        while not self.has_work() and time.monotonic() < deadline and not self.closed:
            pauses.sleep(max(deadline - time.monotonic(), 0.0))

    def _has_news(self) -> bool:
        return self._words[layout.HEAD] != self._load()[0] or bool(self._words[layout.STATE])

    def has_work(self) -> bool:
        """Whether anything was published that has not been looked at. Says nothing about whether it is whole."""
        return self._words[layout.HEAD] != self._load()[0] or bool(self._pending)

    @contextmanager
    def view(self) -> Iterator[ArrayView | Any]:
        """Hand out the next item, an array without a copy; commit everything handed out at the end.

        The array is read-only and lies in the ring: the producer can change it at any time, and after the block its
        place is reused. Keep nothing of it. If the block raises, nothing is committed.

        Yields:
            An ``ArrayView`` for an array in one record, another item as ``get`` returns it, or None when there is none.

        Raises:
            AssertionError: the array was kept beyond the block; it is about to be overwritten.
        """
        view = self._view_next()
        if view is None:
            item = self.get()
            yield item
            if item is not None:
                self.commit()
            return
        try:
            yield view
        finally:
            kept = view.release()
        self.commit()
        assert not kept, "an array from RingConsumer.view was kept beyond its block"

    def _view_next(self) -> ArrayView | None:
        """If the next record is an array, step over it and return a view of it."""
        cursor, head = self._load()[:2]
        if self._pending or (cursor >= head and self._look_at_head(cursor) == cursor):
            return None
        self._note_boundary()
        head = self._look_at_head(cursor)
        word = self.segment.words[((cursor & self.geometry.mask) >> 3) + layout.DATA_WORD]
        n, end = word & 0xFFFFFFFF, cursor + layout.record_bytes(word & 0xFFFFFFFF)
        if word >> 32 != layout.ARRAY or n > self.geometry.max_payload or end > head or self._assembly.active:
            return None
        at = (cursor & self.geometry.mask) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
        view = ArrayView(self.segment, at, n)
        self._store(end, min(head, self._grid), head, cursor, 1)
        return view

    def audit_windows(self, *, flush: bool = False, final: bool = False) -> list[Window]:
        """Return the audit windows since the last call; none when the ring is not audited.

        Args:
            flush: also commit to the open window, up to COMMIT.
            final: likewise, and say that none follows; call this when the end is given up.
        """
        if self.audit is None:
            return []
        if flush or final:
            self._publish()
            self.audit.flush(*self._counted, final=final)
        return self.audit.windows()

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Id of the message handed out last."""
        return self._load()[2]

    @property
    def closed(self) -> bool:
        """Whether the kernel has closed the ring. What is in it can still be read."""
        return self.segment.words[layout.STATE] != layout.OPEN

    def depth_bytes(self) -> int:
        """Bytes published and not committed, 0 to capacity."""
        return min(max(self.segment.words[layout.HEAD] - self._load()[4], 0), self.geometry.capacity)

    def statistics(self) -> ConsumerStatistics:
        """Return the counters."""
        cursor, _, _, count, committed = self._load()
        dropped = self.segment.words[layout.DROP_COUNT]
        return ConsumerStatistics(count, cursor, committed, self.depth_bytes(), self.geometry.capacity, dropped)

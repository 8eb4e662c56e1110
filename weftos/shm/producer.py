"""The writing end of a ring.

Why it is as it is: ``put`` is a closure over local variables, built once per ring; everything it does not need for the
common message (a ``bytes`` that fits into the room it already knows of) is in methods beside it. Room is looked up only
when the known room is used up, so the line with the consumer's position is rarely touched.

    reserve room ─▶ copy payload ─▶ write record word ─▶ publish HEAD ─▶ wake the reader if it sleeps

Guaranteed: a process killed at any instant leaves either a whole record or none; a successor goes on at HEAD. One
producer per ring, one thread at a time. Not guaranteed: anything about a consumer that lies; its TAIL is checked, so a
lie costs a ``RingCorrupted``, never a write outside of the data area.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from weftos import limits
from weftos.errors import ChannelClosed, MessageTooLarge, PayloadRefused, RingCorrupted, RingFull
from weftos.shm import arrays, fence, fragment_sender, layout
from weftos.shm.arrays import AnyArray
from weftos.shm.audit import Leaves, RingAudit, Window
from weftos.shm.batches import pack_batch, split_batches
from weftos.shm.counting import Marks, count_before
from weftos.shm.hot_producer import Buffer, build_hot_producer
from weftos.shm.segment import Segment
from weftos.shm.spin import Patience, Pauses

__all__ = ["ProducerStatistics", "RingProducer", "Waitable"]


class Waitable(Protocol):
    """Something to sleep on until the consumer has made room: a doorbell."""

    def wait(self, timeout_s: float, /) -> bool:
        """Sleep at most ``timeout_s`` seconds; True when woken."""
        ...


class ProducerStatistics(msgspec.Struct, frozen=True):
    """Counters of a writing end since the ring was made.

    Attributes:
        messages: messages published.
        position: HEAD, bytes published since the ring's first position.
        depth_bytes: bytes not yet done by the consumer.
        capacity: bytes the ring holds.
        waits: times that the producer had to wait for room.
        fragmented: messages of this end that travelled in fragments.
        restarts: fragmented messages begun again because their reader was replaced.
    """

    messages: int
    position: int
    depth_bytes: int
    capacity: int
    waits: int
    fragmented: int
    restarts: int


class RingProducer:
    """The one writer of a ring.

    Args:
        segment: made by ``create_ring``; stays open as long as this object is used.
        wake: called after each publication, e.g. ``MailboxPeer.notifier(slot)``.
        space: slept on while the ring is full, rung by the consumer; without it the producer polls with short pauses.
        audit: hash the stream in windows and keep them in ``audit``.
        leaves: with ``audit``: takes each record that passes, for windows with a Merkle root.
        on_window: with ``audit``: called when windows wait to be fetched, for an owner that does nothing but write.

    Attributes:
        put: ``put(data, timeout=0.0) -> int`` publishes one message and returns its id (its position in the stream).
            ``data`` is bytes, bytearray or a contiguous memoryview. A ``timeout`` is in seconds, None waits for ever. A
            message above ``max_payload`` travels in fragments, needs a timeout, and returns when the consumer has
            committed it.

    ``put`` raises RingFull (no room at the deadline; nothing was written), ChannelClosed, MessageTooLarge,
    RingCorrupted, and for messages in fragments WeftTimeout (the deadline passed midway; the message may still arrive).

    Raises:
        SegmentInvalid: the segment holds no ring.
        RingCorrupted: the positions that a predecessor left contradict each other.
    """

    __slots__ = (
        "_load", "_marks", "_on_window", "_patience", "_publish", "_set_limit", "_space", "_space_limit", "_wake",
        "audit", "fragmented", "geometry", "put", "restarts", "segment", "waits",
    )  # fmt: skip

    def __init__(
        self,
        segment: Segment,
        *,
        wake: Callable[[], None] | None = None,
        space: Waitable | None = None,
        audit: bool = False,
        leaves: Leaves | None = None,
        on_window: Callable[[], None] | None = None,
    ) -> None:
        fence.register()
        self.segment = segment
        self.geometry = layout.read_geometry(segment)
        words = segment.words
        head = words[layout.HEAD]
        if head & 7:
            raise RingCorrupted(f"ring {self.geometry.ring_id}: HEAD {head} is not a multiple of 8")
        self._space = space
        self._wake = wake
        self._patience = Patience()
        self.waits = words[layout.PUT_WAITS] & (layout.NOBODY >> 1)
        self.fragmented = 0
        self.restarts = 0
        self.audit: RingAudit | None = None
        self._marks = Marks(segment, layout.PUT_MARKS)
        self._on_window = on_window
        if audit:
            # Exactly, whatever the predecessor came to write.
            words[layout.PUT_COUNT] = count = count_before(segment, self.geometry, self._marks, head)
            self.audit = RingAudit(segment, self.geometry, head, count, leaves)
        self.put, self._load, self._publish, self._set_limit = build_hot_producer(
            segment, self.geometry, head, wake, self._put_slow
        )
        self._space_limit = self._look_at_tail(head) + self.geometry.capacity
        words[layout.SPACE_WANTED] = layout.NOBODY
        self._set_limit(self._hot_limit())

    # --- room ---------------------------------------------------------------------------------------------------------

    def _hot_limit(self) -> int:
        """Position up to which ``put`` may go without looking: the end of the known room or of the audit window."""
        return self._space_limit if self.audit is None else min(self._space_limit, self.audit.next_boundary - 1)

    def _look_at_tail(self, head: int) -> int:
        tail = self.segment.words[layout.TAIL]
        if not head - self.geometry.capacity <= tail <= head or tail & 7:
            raise RingCorrupted(f"ring {self.geometry.ring_id}: TAIL {tail} is impossible for HEAD {head}")
        return tail

    def _has_room(self, head: int, end: int) -> bool:
        if end <= self._space_limit:
            return True
        self._space_limit = self._look_at_tail(head) + self.geometry.capacity
        return end <= self._space_limit

    def _check_open(self) -> None:
        if self.segment.words[layout.STATE]:
            raise ChannelClosed(f"ring {self.geometry.ring_id} is closed")

    def _reserve(self, size: int, deadline: float) -> int:
        """Wait until ``size`` bytes are free behind HEAD and return HEAD.

        Raises:
            RingFull: no room at the deadline.
        """
        self._check_open()
        head = self._load()[0]
        end = head + size
        if not self._has_room(head, end):
            capacity = self.geometry.capacity
            # Wake us when a quarter of the ring is free, not for each record: one wake-up then serves many messages.
            target = min(max(end - capacity, head - capacity + capacity // 4), head)
            if not self._await(lambda: self._has_room(head, end), target, deadline):
                depth = self.depth_bytes()
                raise RingFull(
                    f"ring {self.geometry.ring_id} is full: {depth} of {capacity} bytes wait for the reader",
                    depth_bytes=depth,
                    capacity=capacity,
                )
        return head

    def _await(self, done: Callable[[], bool], target: int, deadline: float) -> bool:
        """Wait until ``done``: spin, then ask the consumer to ring at ``target``, then sleep in slices."""
        if time.monotonic() >= deadline:
            return done()
        words = self.segment.words
        self.waits += 1
        words[layout.PUT_WAITS] = self.waits
        if self._patience.spin(done, deadline):
            return True
        pauses = Pauses()
        try:
            while True:
                words[layout.SPACE_WANTED] = target
                fence.full_fence()
                if done():
                    return True
                self._check_open()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if self._space is not None:
                    self._space.wait(min(left, limits.WAIT_SLICE_S))
                else:
                    pauses.sleep(left)
        finally:
            words[layout.SPACE_WANTED] = layout.NOBODY

    # --- publishing ---------------------------------------------------------------------------------------------------

    def _finish(self, head: int, payload: int, word: int, messages: int) -> int:
        """Write the record word of a payload that lies at ``head``, and publish it."""
        words = self.segment.words
        words[((head & self.geometry.mask) >> 3) + layout.DATA_WORD] = word
        end = head + layout.record_bytes(payload)
        mark: tuple[int, int] | None = None
        if self.audit is not None and end >= self.audit.next_boundary:
            # Hash before publishing: what the reader frees may be overwritten only by us, but what it reads must
            # already be ours.
            count = self._load()[1] + messages
            self.audit.advance(end, count)
            mark = (end, count)
        self._publish(end, messages, self._hot_limit())
        if mark is not None:
            self._marks.write(*mark)
            if self._on_window is not None and self.audit is not None and self.audit.waiting >= limits.AUDIT_NUDGE:
                self._on_window()
        return head

    def _write(self, payload: Buffer, kind: int, messages: int, deadline: float) -> int:
        n = len(payload)
        head = self._reserve(layout.record_bytes(n), deadline)
        start = (head & self.geometry.mask) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
        self.segment.map[start : start + n] = payload
        return self._finish(head, n, n | kind << 32, messages)

    def _put_slow(self, data: Buffer, timeout: float | None) -> int:
        deadline = _deadline(timeout)
        flat = data if type(data) is bytes else memoryview(data).cast("B")
        if len(flat) <= self.geometry.max_payload:
            return self._write(flat, layout.BYTES, 1, deadline)
        return fragment_sender.put_fragments(self, layout.BYTES, (memoryview(flat),), deadline)

    def put_many(self, messages: Sequence[bytes], timeout: float | None = 0.0) -> int:
        """Publish messages in as few records as fit, each with one publication and one wake-up.

        Args:
            messages: any number of bytes objects, of any sizes.
            timeout: seconds to wait for room, for all together; None waits for ever.

        Returns:
            How many were published: all, or those that found room before the deadline.

        Raises:
            RingFull: not even the first found room.
            ChannelClosed: the ring is closed.
            MessageTooLarge: a message is above ``limits.MAX_MESSAGE_BYTES``.
        """
        deadline = _deadline(timeout)
        done = 0
        for group, size in split_batches(messages, self.geometry.max_payload):
            try:
                if len(group) == 1:
                    self.put(group[0], timeout if timeout is None else max(deadline - time.monotonic(), 0.0))
                else:
                    kind, payload = pack_batch(group, size)
                    self._write(payload, kind, len(group), deadline)
            except RingFull:
                done += self._put_what_fits(group)
                if done == 0:
                    raise
                return done
            done += len(group)
        return done

    def _put_what_fits(self, group: Sequence[bytes]) -> int:
        """After the deadline: publish one at a time what the remaining room takes."""
        for i, message in enumerate(group):
            if not self._has_room(self._load()[0], self._load()[0] + layout.record_bytes(len(message))):
                return i
            self.put(message)
        return len(group)

    def put_records(self, records: AnyArray, timeout: float | None = 0.0) -> int:
        """Publish a one-dimensional array whose elements are messages of their own, in slices that fill a record.

        Args:
            records: shape (n,), any type without objects, usually a structured one.
            timeout: seconds to wait for room, for all together; None waits for ever.

        Returns:
            How many elements were published; fewer than n only when the deadline passed.

        Raises:
            RingFull: not even the first slice found room.
            PayloadRefused: not one-dimensional, or of a type that cannot travel.
            MessageTooLarge: one element is larger than a record.
        """
        if records.ndim != 1:
            raise PayloadRefused(f"records come as a one-dimensional array, not {records.ndim}-dimensional")
        deadline = _deadline(timeout)
        room = self.geometry.max_payload - (arrays.describe(records[:0]).plain_bytes + 64)
        step = room // max(records.dtype.itemsize, 1)
        if step < 1:
            raise MessageTooLarge(
                f"a record of {records.dtype.itemsize} bytes does not fit",
                size=records.dtype.itemsize,
                limit=max(room, 0),
            )
        for start in range(0, len(records), step):
            part = records[start : start + step]
            try:
                self._write_array(arrays.describe(part), layout.RECORDS, len(part), deadline)
            except RingFull:
                if start == 0:
                    raise
                return start
        return len(records)

    def put_array(self, array: AnyArray, meta: bytes = b"", timeout: float | None = 0.0) -> int:
        """Publish one array as one message: one copy, straight into the ring.

        Args:
            array: any shape and memory order; it arrives in C order.
            meta: bytes that travel beside it.
            timeout: seconds to wait for room; None waits for ever. Needed if the array is above ``max_payload``.

        Returns:
            The id of the message.

        Raises:
            PayloadRefused: an object array or another type that cannot travel.
            RingFull, WeftTimeout, ChannelClosed, MessageTooLarge: as for ``put``.
        """
        deadline = _deadline(timeout)
        description = arrays.describe(array, meta)
        if description.bytes_at_most <= self.geometry.max_payload:
            return self._write_array(description, layout.ARRAY, 1, deadline)
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        return fragment_sender.put_fragments(self, layout.ARRAY, (memoryview(description.lead(0)), flat), deadline)

    def _write_array(self, description: arrays.Description, kind: int, messages: int, deadline: float) -> int:
        head = self._reserve(layout.record_bytes(description.bytes_at_most), deadline)
        start = (head & self.geometry.mask) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
        lead = description.lead(start)
        array = description.array
        buffer = self.segment.map
        data = start + len(lead)
        buffer[start:data] = lead
        if array.nbytes:
            target: AnyArray = np.frombuffer(buffer, array.dtype, array.size, data)
            target.reshape(array.shape)[...] = array
        n = len(lead) + array.nbytes
        return self._finish(head, n, n | kind << 32, messages)

    def audit_windows(self, *, flush: bool = False, final: bool = False) -> list[Window]:
        """Return the audit windows since the last call; none when the ring is not audited.

        Args:
            flush: also commit to the open window, up to HEAD.
            final: likewise, and say that none follows; call this when the end is given up.
        """
        if self.audit is None:
            return []
        if flush or final:
            self.audit.flush(*self._load(), final=final)
        return self.audit.windows()

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Position at which the next record will start."""
        return self._load()[0]

    @property
    def closed(self) -> bool:
        """Whether the kernel has closed the ring."""
        return self.segment.words[layout.STATE] != layout.OPEN

    def depth_bytes(self) -> int:
        """Bytes published and not yet committed by the consumer, 0 to capacity."""
        return min(max(self._load()[0] - self.segment.words[layout.COMMIT], 0), self.geometry.capacity)

    def statistics(self) -> ProducerStatistics:
        """Return the counters."""
        head, count = self._load()
        return ProducerStatistics(
            count, head, self.depth_bytes(), self.geometry.capacity, self.waits, self.fragmented, self.restarts
        )


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout if timeout > 0 else 0.0

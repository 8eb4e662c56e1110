"""A ring as the kernel sees it: neither writer nor reader, but the one who opens, closes, and tidies up after the dead.

Why it is as it is: the kernel is not on the message path, yet it must answer how full a ring is, take a message that
kills its readers to the dead letters, and prepare the ring for a successor of either end. It writes the words of its
own lines at any time, and the words of an end only while that end is dead; the caller knows that from its process
table.

Guaranteed: a hostile ring costs a ``RingCorrupted``. Not guaranteed: a consistent picture while both ends run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from weftos.shm import layout
from weftos.shm.consumer import RingConsumer
from weftos.shm.counting import Marks, count_before
from weftos.shm.segment import Segment

__all__ = ["Redelivery", "RingInspector", "RingStatistics"]


#: Messages taken at once when a ring is emptied.
_HANDFUL: Final = 256


class RingStatistics(msgspec.Struct, frozen=True):
    """What the words of a ring say; each was read once, none is vouched for.

    Attributes:
        ring_id: from the static header.
        capacity: bytes the ring holds.
        head: position after the last published record.
        tail: position before which space may be reused.
        commit: position before which everything is done.
        depth_bytes: head - commit, 0 to capacity.
        put: messages published.
        taken: messages handed out, as last published by the reader.
        waits: times the producer had to wait for room.
        dropped: incomplete fragmented messages thrown away.
        closed: whether the ring is closed.
        producer_epoch: producers before the present one.
        consumer_epoch: consumers before the present one.
    """

    ring_id: int
    capacity: int
    head: int
    tail: int
    commit: int
    depth_bytes: int
    put: int
    taken: int
    waits: int
    dropped: int
    closed: bool
    producer_epoch: int
    consumer_epoch: int


class Redelivery(msgspec.Struct, frozen=True):
    """A message that is being delivered again.

    Attributes:
        position: its id.
        attempts: how often it was handed out before.
    """

    position: int
    attempts: int


class _Peeker(RingConsumer):
    """A reader that leaves no trace."""

    __slots__ = ()

    def _claim(self) -> None:
        return

    def _publish(self) -> None:
        return

    def _commit_at(self, position: int) -> None:  # noqa: ARG002  the signature is the core's
        return

    def _count_drop(self) -> None:
        return


class RingInspector:
    """The kernel's end of a ring.

    Args:
        segment: made by ``create_ring``.

    Raises:
        SegmentInvalid: the segment holds no ring.
    """

    __slots__ = ("_words", "geometry", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.geometry = layout.read_geometry(segment)
        self._words = segment.words

    def statistics(self) -> RingStatistics:
        """Read all words once."""
        words = self._words
        head, commit = words[layout.HEAD], words[layout.COMMIT]
        return RingStatistics(
            ring_id=self.geometry.ring_id,
            capacity=self.geometry.capacity,
            head=head,
            tail=words[layout.TAIL],
            commit=commit,
            depth_bytes=min(max(head - commit, 0), self.geometry.capacity),
            put=words[layout.PUT_COUNT],
            taken=words[layout.GET_COUNT],
            waits=words[layout.PUT_WAITS],
            dropped=words[layout.DROP_COUNT],
            closed=words[layout.STATE] != layout.OPEN,
            producer_epoch=words[layout.PRODUCER_EPOCH],
            consumer_epoch=words[layout.CONSUMER_EPOCH],
        )

    def peek(self, limit: int) -> list[tuple[int, Any]]:
        """Return up to ``limit`` uncommitted items with their ids, checked, without taking them.

        Exact while the reader is dead or stopped. A message in fragments shows only if all of it is there.

        Raises:
            RingCorrupted: the ring's content contradicts the format.
        """
        return _Peeker(self.segment).take(limit)

    def discard_one(self) -> tuple[int, Any] | None:
        """Take the first uncommitted message out of the ring, for the dead letters. Only while the reader is dead.

        Returns:
            Its id and content, or None when there is none.

        Raises:
            RingCorrupted: the ring's content contradicts the format.
        """
        reader = RingConsumer(self.segment)
        taken = reader.take(1)
        if not taken:
            return None
        reader.commit()
        reader.release_space()
        if self._words[layout.REDELIVERY_POSITION] == taken[0][0]:
            self.clear_redelivery()
        return taken[0]

    def drain(self) -> Iterator[tuple[int, Any]]:
        """Take everything uncommitted out of the ring, for the dead letters. Only while the reader is dead.

        Yields:
            Items with their ids; each is committed when the next handful is asked for.

        Raises:
            RingCorrupted: the ring's content contradicts the format.
        """
        reader = RingConsumer(self.segment)
        while taken := reader.take(_HANDFUL):
            yield from taken
            reader.commit()
            reader.release_space()

    @property
    def current(self) -> int | None:
        """Id of the message that the reader says is in its handler, if it says so and the message is not committed."""
        mark = self._words[layout.CURRENT]
        position = mark - 1
        inside = self._words[layout.COMMIT] <= position < self._words[layout.HEAD]
        return position if mark and inside else None

    def commit_before(self, message_id: int) -> int:
        """Commit what lies before a message, on behalf of a dead reader; returns how many messages that were.

        Raises:
            RingCorrupted: the ring's content contradicts the format.
        """
        reader = RingConsumer(self.segment)
        done = 0
        last = None
        while taken := reader.take(1):
            if taken[0][0] >= message_id:
                break
            last = taken[0][0]
            done += 1
        if last is not None:
            reader.commit_to(last)
            reader.release_space()
        return done

    def clear_current(self) -> None:
        """Forget what the dead reader said was in its handler."""
        self._words[layout.CURRENT] = 0

    def close_ring(self) -> None:
        """Refuse further messages. What is in the ring can still be read."""
        self._words[layout.STATE] = layout.CLOSED

    def reopen_ring(self) -> None:
        """Allow messages again."""
        self._words[layout.STATE] = layout.OPEN

    @property
    def closed(self) -> bool:
        """Whether the ring is closed."""
        return self._words[layout.STATE] != layout.OPEN

    @property
    def redelivery(self) -> Redelivery | None:
        """The message being delivered again, if one is."""
        position, attempts = self._words[layout.REDELIVERY_POSITION], self._words[layout.REDELIVERY_ATTEMPTS]
        return Redelivery(position, attempts) if attempts else None

    def set_redelivery(self, position: int, attempts: int) -> None:
        """Leave word for the next reader that a message was handed out ``attempts`` times already."""
        self._words[layout.REDELIVERY_ATTEMPTS] = 0
        self._words[layout.REDELIVERY_POSITION] = position
        self._words[layout.REDELIVERY_ATTEMPTS] = attempts

    def clear_redelivery(self) -> None:
        """Forget what was left by ``set_redelivery``."""
        self._words[layout.REDELIVERY_ATTEMPTS] = 0
        self._words[layout.REDELIVERY_POSITION] = 0

    def retire_consumer(self) -> int:
        """Prepare for a new reader, after the old one died and before the new one starts. Returns the new epoch.

        Frees what the dead one had committed, and lets a sender that is in the middle of fragments begin again.
        """
        words = self._words
        commit = words[layout.COMMIT]
        marks = Marks(self.segment, layout.GET_MARKS)
        marks.write(commit, count_before(self.segment, self.geometry, marks, commit))
        words[layout.EPOCH_COMMIT] = commit
        words[layout.CONSUMER_EPOCH] = epoch = (words[layout.CONSUMER_EPOCH] + 1) & layout.NOBODY
        words[layout.TAIL] = commit
        return epoch

    def retire_producer(self) -> int:
        """Prepare for a new writer, after the old one died and before the new one starts. Returns the new epoch."""
        words = self._words
        words[layout.SPACE_WANTED] = layout.NOBODY
        words[layout.PRODUCER_EPOCH] = epoch = (words[layout.PRODUCER_EPOCH] + 1) & layout.NOBODY
        return epoch

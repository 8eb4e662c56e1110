"""The receiving half of an agent: many rings, one queue, and commits in the order of each ring.

A message is *committed* when its handler is done; until then its ring shows it to the next incarnation. Handlers may
finish out of order
(a reply that completes a call overtakes messages that wait), but a ring's commit position only moves over an unbroken
run of finished
messages, so nothing unhandled is ever skipped.

What a ring may carry was decided by the kernel when it was granted; anything else that a sender puts in is dropped here
and reported.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from weftos.agent.frames import Offer
from weftos.errors import DoorbellLost, ProtocolError, RingCorrupted
from weftos.ids import KERNEL_PID
from weftos.ipc.message import Message, Source, decode_message
from weftos.shm import ArrayRecord, Doorbell, RingConsumer, RingInspector, Segment

__all__ = ["Inbox", "Incoming"]

#: Messages taken from one ring before the next ring has its turn.
_TAKE: Final = 64

Report = Callable[[int, str, str], None]


class Incoming:
    """One incoming ring: its reading end, its grant, and which of its messages are handed out and not finished.

    Args:
        consumer: the reading end.
        source: identity of the sender, stamped on every message.
        offer: what the kernel granted.
    """

    __slots__ = ("after", "bell", "broadcast", "consumer", "direct", "early", "outstanding", "slot", "source", "topics")

    def __init__(self, consumer: RingConsumer, source: Source, offer: Offer, bell: Doorbell | None) -> None:
        self.consumer = consumer
        self.source = source
        self.slot = offer.slot
        self.bell = bell
        self.after = offer.after
        self.outstanding: deque[int] = deque()
        self.early: set[int] = set()
        self.direct = False
        self.broadcast = False
        self.topics: frozenset[str] = frozenset()
        self.grant(offer)

    def grant(self, offer: Offer) -> None:
        """Take over what the ring may carry now."""
        self.direct = offer.direct
        self.broadcast = offer.broadcast
        self.topics = frozenset(offer.topics)

    def permits(self, target_wire: str) -> bool:
        """Tell whether a message with this (not plain) target may come through this ring."""
        if self.source.pid == KERNEL_PID:
            return True
        kind = target_wire[:1]
        if kind == "t":
            return target_wire[1:] in self.topics
        if kind == "b":
            return self.broadcast
        return self.direct

    def finish(self, position: int) -> None:
        """A handed-out message is done: commit it, or remember it until its predecessors are done too."""
        outstanding = self.outstanding
        if outstanding and outstanding[0] == position:
            outstanding.popleft()
            early = self.early
            while early and outstanding and outstanding[0] in early:
                position = outstanding.popleft()
                early.discard(position)
            self.consumer.commit_to(position)
        else:
            self.early.add(position)

    def close(self) -> None:
        """Detach from the ring. What is not committed stays in it."""
        self.consumer.segment.close()
        if self.bell is not None:
            self.bell.close()


class _RingSource(Source):
    """A source that knows its ring, so that finishing a message finds it."""

    __slots__ = ("incoming",)

    incoming: Incoming


class Inbox:
    """All incoming rings of one agent.

    Args:
        own_pid: this agent.
        report: told of broken rings and of messages outside their grant: ring id, error code, text.
        audit: hash what is read, for the audit windows.
    """

    def __init__(self, own_pid: int, report: Report, *, audit: bool) -> None:
        self._own_pid = own_pid
        self._report = report
        self._audit = audit
        self._slots: dict[int, Incoming] = {}
        self._rings: dict[int, Incoming] = {}
        self._ready: deque[Incoming] = deque()
        self._queue: deque[Message] = deque()
        self.refused = 0

    # --- rings --------------------------------------------------------------------------------------------------------

    def offer(self, offer: Offer, fd: int | None) -> None:
        """Attach a new ring, or change the grant of a known one."""
        known = self._rings.get(offer.ring_id)
        if known is not None:
            known.grant(offer)
            known.source.pid = offer.pid
            return
        assert fd is not None, "the kernel sends a new ring with its descriptor"
        segment = Segment.attach(fd, keep_fd=False)
        try:
            bell = Doorbell.open(offer.bell) if offer.bell else None
        except DoorbellLost:
            # The sender has ended since; what it left in the ring is still worth reading.
            bell = None
        consumer = RingConsumer(segment, space_bell=bell.post if bell is not None else None, audit=self._audit)
        again = RingInspector(segment).redelivery
        suspect, attempts = (again.position, again.attempts) if again is not None else (-1, 0)
        source = _RingSource(offer.pid, offer.ring_id, self._own_pid, suspect, attempts)
        incoming = source.incoming = Incoming(consumer, source, offer, bell)
        self._slots[offer.slot] = self._rings[offer.ring_id] = incoming
        self._ready.append(incoming)

    def revoke(self, ring_id: int) -> None:
        """Detach a ring that the kernel closed. Messages that were taken from it already are still handled."""
        incoming = self._rings.pop(ring_id, None)
        if incoming is not None:
            self._slots.pop(incoming.slot, None)
            self._detach(incoming)

    def mark(self, slot: int) -> bool:
        """A ready byte was set: look at that ring. Returns whether the slot is known."""
        incoming = self._slots.get(slot)
        if incoming is None:
            return False
        if incoming not in self._ready:
            self._ready.append(incoming)
        return True

    def has_work(self) -> bool:
        """Look at every ring itself, not at hints: is there anything to read?"""
        if self._queue or self._ready:
            return True
        found = [incoming for incoming in self._rings.values() if incoming.consumer.has_work()]
        self._ready.extend(found)
        return bool(found)

    def rings(self) -> list[Incoming]:
        """All attached rings."""
        return list(self._rings.values())

    # --- messages -----------------------------------------------------------------------------------------------------

    def next(self) -> Message | None:
        """Hand out the next message, or ``None`` when every ring is drained."""
        queue = self._queue
        if queue:
            return queue.popleft()
        ready = self._ready
        while ready:
            incoming = ready[0]
            if self._take(incoming):
                ready.rotate(-1)
                if queue:
                    return queue.popleft()
            elif ready and ready[0] is incoming:
                ready.popleft()
        return None

    def put_back(self, message: Message) -> None:
        """Queue a message that is not from a ring, or that a call looked at and does not want."""
        self._queue.append(message)

    def take_ready(self, wanted: Callable[[Message], bool]) -> None:
        """Take what is there, give each message to ``wanted``; what it refuses waits in the queue."""
        ready = self._ready
        queue = self._queue
        waiting = len(queue)
        while ready:
            incoming = ready[0]
            if self._take(incoming):
                fresh = [queue.pop() for _ in range(len(queue) - waiting)]
                for message in reversed(fresh):
                    if wanted(message):
                        self.finish(message)
                    else:
                        queue.append(message)
                waiting = len(queue)
                ready.rotate(-1)
            elif ready and ready[0] is incoming:
                ready.popleft()

    @staticmethod
    def finish(message: Message) -> None:
        """The handler of a message is done."""
        source = message.source
        if isinstance(source, _RingSource):
            source.incoming.finish(message.position)

    def _take(self, incoming: Incoming) -> bool:
        if incoming.after:
            before = self._rings.get(incoming.after)
            if before is not None and before.consumer.has_work():
                # The ring that this one replaced holds older messages of the same sender.
                return self._take(before)
            incoming.after = 0
        try:
            items = incoming.consumer.take(_TAKE)
        except RingCorrupted as error:
            self._rings.pop(incoming.source.ring_id, None)
            self._slots.pop(incoming.slot, None)
            self._detach(incoming)
            self._report(incoming.source.ring_id, error.code, str(error))
            return False
        if not items:
            return False
        now = time.time_ns()
        source, outstanding, queue, direct = incoming.source, incoming.outstanding, self._queue, incoming.direct
        for position, item in items:
            outstanding.append(position)
            try:
                if type(item) is bytes:
                    message = decode_message(item)
                elif isinstance(item, ArrayRecord):
                    message = decode_message(item.meta, item.array)
                else:
                    raise ProtocolError("a block of records is no message")
                wire = message.target_wire
                if not (direct if wire is None else incoming.permits(wire)):
                    raise ProtocolError(f"a message to {wire or 'this process'} is outside this ring's grant")
            except ProtocolError as error:
                self.refused += 1
                incoming.finish(position)
                self._report(source.ring_id, error.code, str(error))
                continue
            message.source = source
            message.position = position
            message.received_ns = now
            queue.append(message)
        return True

    def _detach(self, incoming: Incoming) -> None:
        if incoming in self._ready:
            self._ready.remove(incoming)
        incoming.early.clear()
        incoming.outstanding.clear()
        incoming.close()

    def close(self) -> None:
        """Detach from all rings."""
        for incoming in list(self._rings.values()):
            incoming.close()
        self._rings.clear()
        self._slots.clear()
        self._ready.clear()

"""The receiving half of an agent: many rings, one stream of messages, and exact knowledge of what is done.

A message is done when the program asks for the next one. That must survive a ``kill -9`` and cost nearly nothing, so
two words of a ring work together: CURRENT names the message in the handler (one store for each message), and COMMIT
follows once for each handful. When the reader dies, the kernel takes everything before CURRENT as done, and CURRENT as
the message that it died on.

Order: messages of one ring are handed out in the order of the ring; a ring is left for the next one only when what was
taken from it is used up. A reply that completes a call is picked out ahead of its turn; after a crash it comes again,
matches no call, and is dropped.

What a ring may carry was decided by the kernel when it was granted; anything else that a sender puts in is dropped here
and reported.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from weftos.agent.frames import Offer
from weftos.agent.streams import Streams
from weftos.errors import DoorbellLost, ProtocolError, RingCorrupted
from weftos.ids import KERNEL_PID
from weftos.ipc.message import Arrival, Message, MessageBatch, Source, decode_message
from weftos.ipc.payloads import PayloadTag
from weftos.shm import ArrayRecord, Doorbell, Item, RingConsumer, RingInspector, Segment
from weftos.shm.layout import CURRENT

__all__ = ["Inbox", "Incoming"]

#: Messages taken from a ring at once, at most; fewer where messages are large.
_TAKE_MAX: Final = 64
_TAKE_FIRST: Final = 16

Report = Callable[[int, str, str], None]


class Incoming(Source):
    """One incoming ring: its reading end, its grant, and the messages taken from it that wait for the program.

    Args:
        consumer: the reading end.
        offer: what the kernel granted.
        receiver: pid of this agent.
        bell: the sender's doorbell, rung when it waits for room.
    """

    __slots__ = (
        "after",
        "arrival",
        "bell",
        "broadcast",
        "closed",
        "consumer",
        "direct",
        "dirty",
        "limit",
        "slot",
        "topics",
        "waiting",
        "words",
    )

    def __init__(self, consumer: RingConsumer, offer: Offer, receiver: int, bell: Doorbell | None) -> None:
        super().__init__(offer.pid, offer.ring_id, receiver)
        again = RingInspector(consumer.segment).redelivery
        if again is not None:
            self.suspect, self.attempts = again.position, again.attempts
        self.consumer = consumer
        self.slot = offer.slot
        self.bell = bell
        self.after = offer.after
        self.limit = _TAKE_FIRST
        #: The ring's words; CURRENT among them says which message is in the handler.
        self.words = consumer.segment.words
        self.closed = False
        #: Whether something was taken since the last commit.
        self.dirty = False
        #: Taken and not handed out: position and item as it came, or decoded by somebody who looked for a reply; and
        #: when.
        self.waiting: deque[tuple[int, Item | Message]] = deque()
        self.arrival = Arrival(self, 0)
        self.direct = False
        self.broadcast = False
        self.topics: frozenset[str] = frozenset()
        self.grant(offer)

    def grant(self, offer: Offer) -> None:
        """Take over what the ring may carry now."""
        self.pid = offer.pid
        self.direct = offer.direct
        self.broadcast = offer.broadcast
        self.topics = frozenset(offer.topics)

    def permits(self, target_wire: str) -> bool:
        """Tell whether a message with this target may come through this ring."""
        if self.pid == KERNEL_PID:
            return True
        kind = target_wire[:1]
        if kind == "t":
            return target_wire[1:] in self.topics
        return self.broadcast if kind == "b" else self.direct

    def take(self) -> bool:
        """Take a handful from the ring; False when it is empty. Adapts the handful to the size of messages."""
        items = self.consumer.take(self.limit)
        if not items:
            return False
        span = items[-1][0] - items[0][0]
        if span > self.consumer.geometry.capacity >> 3:
            self.limit = max(1, self.limit >> 2)
        elif len(items) == self.limit < _TAKE_MAX and span < self.consumer.geometry.capacity >> 5:
            self.limit <<= 1
        self.waiting.extend(items)
        self.arrival = Arrival(self, time.time_ns())
        self.dirty = True
        return True

    def settle(self) -> None:
        """Everything handed out is done: commit it. Only when nothing that was taken waits."""
        if self.dirty and not self.closed:
            assert not self.waiting, "what waits is not done"
            self.consumer.commit()
            self.words[CURRENT] = 0
            self.dirty = False

    def settle_part(self, position: int) -> None:
        """Commit up to one message, which is done, while others that were taken wait."""
        if not self.closed:
            self.consumer.commit_to(position)
            self.words[CURRENT] = 0

    def close(self) -> None:
        """Detach from the ring. What is not committed stays in it."""
        self.closed = True
        self.waiting.clear()
        self.consumer.segment.close()
        if self.bell is not None:
            self.bell.close()


class Inbox:
    """All incoming rings of one agent.

    Args:
        own_pid: this agent.
        report: told of broken rings and of messages outside their grant: ring id, error code, text.
        streams: told of each message to a topic, of each ring before it is detached, and of topics that end.
    """

    def __init__(self, own_pid: int, report: Report, streams: Streams) -> None:
        self._own_pid = own_pid
        self._report = report
        self._streams = streams
        self._slots: dict[int, Incoming] = {}
        self._rings: dict[int, Incoming] = {}
        self._ready: deque[Incoming] = deque()
        #: The ring that the message in the handler came from, and its position.
        self.hot: Incoming | None = None
        self.position = 0
        #: Messages to hand out before any ring is looked at: signals of the kernel, and the rest of a batch.
        self.local: deque[Message] = deque()
        self.refused = 0

    # --- rings --------------------------------------------------------------------------------------------------------

    def offer(self, offer: Offer, fd: int | None) -> None:
        """Attach a new ring, or change the grant of a known one."""
        known = self._rings.get(offer.ring_id)
        if known is not None:
            before = known.topics
            known.grant(offer)
            self._left(known.pid, before)
            return
        assert fd is not None, "the kernel sends a new ring with its descriptor"
        segment = Segment.attach(fd, keep_fd=False)
        try:
            bell = Doorbell.open(offer.bell) if offer.bell else None
        except DoorbellLost:
            # The sender has ended since; what it left in the ring is still worth reading.
            bell = None
        audit = self._streams.audit and offer.pid != KERNEL_PID
        leaves = self._streams.leaves(offer.ring_id, "consumer") if audit else None
        space_bell = bell.post if bell is not None else None
        consumer = RingConsumer(segment, space_bell=space_bell, audit=audit, leaves=leaves)
        incoming = Incoming(consumer, offer, self._own_pid, bell)
        self._slots[offer.slot] = self._rings[offer.ring_id] = incoming
        self._ready.append(incoming)

    def revoke(self, ring_id: int) -> None:
        """Detach a ring that the kernel closed."""
        incoming = self._rings.get(ring_id)
        if incoming is not None:
            self._detach(incoming)

    def mark(self, slot: int) -> bool:
        """A ready byte was set: look at that ring. Returns whether the slot is known."""
        incoming = self._slots.get(slot)
        if incoming is None:
            return False
        if incoming not in self._ready:
            self._ready.append(incoming)
        return True

    def has_news(self) -> bool:
        """Look at every ring itself: is there anything that was not taken yet, or that came through no ring?"""
        found = [incoming for incoming in self._rings.values() if incoming.consumer.has_work()]
        for incoming in found:
            if incoming not in self._ready:
                self._ready.append(incoming)
        return bool(found or self.local)

    def rings(self) -> list[Incoming]:
        """All attached rings."""
        return list(self._rings.values())

    # --- messages -----------------------------------------------------------------------------------------------------

    def next(self) -> Message | None:
        """Declare the message handed out before done, and hand out the next; ``None`` when every ring is drained."""
        if not self.local:
            unit = self._next_unit()
            if unit is None or unit.tag != PayloadTag.BATCH:
                return unit
            self.local.extend(_batch(unit))
        return self.local.popleft()

    def next_many(self) -> MessageBatch | None:
        """As ``next``, but what was sent as a batch comes as one."""
        if self.local:
            unit: Message | None = self.local.popleft()
        else:
            unit = self._next_unit()
        if unit is None:
            return None
        if unit.tag == PayloadTag.BATCH:
            return _batch(unit)
        return MessageBatch([unit.payload], unit.arrival, unit.position)

    def _next_unit(self) -> Message | None:
        hot = self.hot
        while True:
            if hot is None:
                hot = self.hot = self._next_ring()
                if hot is None:
                    return None
            waiting = hot.waiting
            while waiting:
                message = self._message(hot, *waiting.popleft())
                if message is not None:
                    if message.envelope is not None and message.envelope.trail is not None:
                        self._streams.received(message)
                    self.position = message.position
                    hot.words[CURRENT] = message.position + 1
                    return message
            hot = self._leave(hot)

    def _leave(self, hot: Incoming) -> Incoming | None:
        """What was taken from a ring is done: commit it, and take more from it or go on to the next ring."""
        if not hot.closed:
            hot.settle()
            if self._ready:
                # Others wait: this ring goes behind them.
                self._ready.append(hot)
            elif self._take(hot):
                return hot
        self.hot = None
        return None

    def _next_ring(self) -> Incoming | None:
        ready = self._ready
        while ready:
            incoming = ready.popleft()
            if not incoming.closed and (incoming.waiting or self._take(incoming)):
                before = self._before(incoming)
                if before is not None:
                    ready.append(incoming)
                    return before
                return incoming
        return None

    def _before(self, incoming: Incoming) -> Incoming | None:
        """The ring that this one replaced, as long as it holds older messages of the same sender."""
        if not incoming.after:
            return None
        before = self._rings.get(incoming.after)
        if before is not None and (before.waiting or self._take(before)):
            return before
        incoming.after = 0
        return None

    def _take(self, incoming: Incoming) -> bool:
        try:
            if incoming.take():
                return True
        except RingCorrupted as error:
            self._detach(incoming)
            self._report(incoming.ring_id, error.code, str(error))
        return False

    def _message(self, incoming: Incoming, position: int, item: Item | Message) -> Message | None:
        """Decode one message and stamp it; ``None`` when it is refused."""
        try:
            if type(item) is bytes:
                message = decode_message(item)
            elif type(item) is Message:
                return item
            elif isinstance(item, ArrayRecord):
                message = decode_message(item.meta, item.array)
            else:
                raise ProtocolError("a block of records is no message")
            wire = message.target_wire
            if not (incoming.direct if wire is None else incoming.permits(wire)):
                raise ProtocolError(f"a message to {wire or 'this process'} is outside this ring's grant")
            if wire is not None and message.number and wire[:1] == "t":
                self._streams.trail(message, wire[1:], incoming.ring_id, position, item)
        except ProtocolError as error:
            self.refused += 1
            if incoming.consumer.audit is not None:
                incoming.consumer.audit.lose(position, "refused")
            self._report(incoming.ring_id, error.code, str(error))
            return None
        message.arrival = incoming.arrival
        message.position = position
        return message

    def _left(self, pid: int, before: frozenset[str]) -> None:
        """Topics that no ring from an agent carries any more have ended as streams."""
        self._streams.left(before.difference(*(one.topics for one in self._rings.values() if one.pid == pid)), pid)

    def settle(self) -> None:
        """The message handed out last is done, and no other is asked for: commit."""
        hot = self.hot
        if hot is None or hot.closed or any(message.source is hot for message in self.local):
            # In the middle of a batch: it stays whole, and the ring says so already.
            return
        if hot.waiting:
            hot.settle_part(self.position)
        else:
            hot.settle()

    def add_local(self, message: Message) -> None:
        """Queue a message that came through no ring."""
        self.local.append(message)

    def pick(self, wanted: Callable[[Message], bool]) -> None:
        """Look at everything that has arrived, ahead of its turn: what is ``wanted`` is taken out, the rest waits."""
        for incoming in list(self._ready):
            if not incoming.closed:
                self._take(incoming)
        if self.hot is not None and not self.hot.closed:
            self._take(self.hot)
        for incoming in list(self._rings.values()):
            if incoming.waiting:
                self._pick_from(incoming, wanted)

    def _pick_from(self, incoming: Incoming, wanted: Callable[[Message], bool]) -> None:
        kept: deque[tuple[int, Item | Message]] = deque()
        for position, item in incoming.waiting:
            message = self._message(incoming, position, item)
            if message is not None and not wanted(message):
                kept.append((position, message))
        if incoming.closed:
            return
        incoming.waiting = kept
        if not kept and incoming is not self.hot:
            # Nothing of it is in a handler, so what was picked is all that was taken.
            incoming.settle()

    def _detach(self, incoming: Incoming) -> None:
        self._rings.pop(incoming.ring_id, None)
        self._slots.pop(incoming.slot, None)
        if incoming in self._ready:
            self._ready.remove(incoming)
        self._streams.collect((incoming.ring_id, "consumer", incoming.pid, incoming.consumer), final=True)
        incoming.close()
        self._left(incoming.pid, incoming.topics)

    def close(self) -> None:
        """Detach from all rings."""
        for incoming in self.rings():
            self._detach(incoming)


def _batch(unit: Message) -> MessageBatch:
    return MessageBatch(unit.payload, unit.arrival, unit.position)

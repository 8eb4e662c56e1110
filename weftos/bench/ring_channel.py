"""Our own raw rings as a channel: ``RingProducer`` and ``RingConsumer`` with mailbox and doorbells, nothing above them.

Why it is as it is: each sender has a ring of its own, as everywhere in WeftOS; several rings to one receiver share its
mailbox. Bytes travel untouched. The ring's audit is off here; the full path (``weftos``) has it on.

Guaranteed: the doorbells' names are gone as soon as they are made, so nothing is left whatever happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

from weftos.bench.channels import Channel
from weftos.bench.loops import BATCH, Load
from weftos.errors import BenchFailed
from weftos.shm import Doorbell, Mailbox, MailboxPeer, RingConsumer, RingProducer, Segment, create_mailbox, create_ring

__all__ = ["RingChannel", "SpinningRing", "ViewedRing"]

#: Small rings stay in the cache; large messages need room for several, as in ``limits.RING_MESSAGES_HINT``.
_RING_BYTES = 256 * 1024
_MESSAGES_IN_RING = 8
_PATIENCE_S = 10.0


def _doorbell() -> Doorbell:
    bell = Doorbell.create(f"/weftos-bench-{os.getpid()}-{os.urandom(4).hex()}")
    bell.unlink()
    return bell


class RingChannel(Channel):
    """The raw ring; arguments as for ``Channel``."""

    who = "weftos-ring"

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        wanted = (load.size * load.batch + 512) * _MESSAGES_IN_RING
        capacity = max(_RING_BYTES, 1 << (wanted.bit_length() - 1))
        count = max(senders, receivers)
        self._rings = [create_ring(capacity, ring_id=i) for i in range(count)]
        self._back = create_ring(_RING_BYTES)
        self._pages = [create_mailbox() for _ in range(max(receivers, 2))]
        self._bells = [_doorbell() for _ in range(max(receivers, 2))]
        self._space = [_doorbell() for _ in range(count)]

    def _producer(self, ring: int) -> RingProducer:
        owner = ring if self.receivers > 1 else 0
        wake = MailboxPeer(self._pages[owner], self._bells[owner]).notifier(ring + 1)
        return RingProducer(self._rings[ring], wake=wake, space=self._space[ring])

    def sender(self, number: int) -> Callable[[], Any]:
        """Open the sending end."""
        rings = range(self.receivers) if self.receivers > 1 else (number,)
        bodies = [self._body(self._producer(ring)) for ring in rings]
        return bodies[0] if len(bodies) == 1 else lambda: [body() for body in bodies]

    def _body(self, producer: RingProducer) -> Callable[[], Any]:
        load, turns = self.load, range(self.load.stride)
        if load.kind == "array":
            array = load.array()
            return lambda: [producer.put_array(array, b"", _PATIENCE_S) for _ in turns]
        if load.kind == "records":
            records = load.array()
            return lambda: [producer.put_records(records, _PATIENCE_S) for _ in turns]
        message = b"m" * load.size
        if load.batch > 1:
            many = load.messages()
            return lambda: [producer.put_many(many, _PATIENCE_S) for _ in turns]
        put = producer.put

        def burst() -> None:
            for _ in turns:
                put(message, _PATIENCE_S)

        return burst

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end of one ring, or of all that lead to one receiver."""
        if self.senders > 1:
            return self._many_rings()
        mailbox = Mailbox(self._pages[number], self._bells[number])
        consumer = RingConsumer(self._rings[number], space_bell=self._space[number].post, waiter=_Slot(mailbox))
        wait, turns, kind = consumer.get_wait, self.load.stride, self.load.kind
        commit, take, get_many = consumer.commit, consumer.take, consumer.get_many

        if kind in ("array", "records"):
            batch = self.load.batch

            def chunk() -> int:
                for _ in repeat(None, turns):
                    item = wait(_PATIENCE_S)
                    array = item if kind == "records" else item.array
                    array[0], array[-1]
                    commit()
                return turns * batch
        elif self.load.batch > 1:

            def chunk() -> int:
                items = get_many(2 * BATCH)
                if not items:
                    items = [wait(_PATIENCE_S)]
                commit()
                return len(items)
        else:

            def chunk() -> int:
                items = take(BATCH)
                if not items:
                    wait(_PATIENCE_S)
                commit()
                return len(items) or 1

        return chunk

    def _many_rings(self) -> Callable[[], int]:
        mailbox = Mailbox(self._pages[0], self._bells[0])
        consumers = [
            RingConsumer(ring, space_bell=bell.post) for ring, bell in zip(self._rings, self._space, strict=True)
        ]
        next_ready, mark = mailbox.next_ready, mailbox.mark

        def chunk() -> int:
            while (slot := next_ready()) is None:
                if not mailbox.wait(_PATIENCE_S):
                    raise BenchFailed("nothing came")
            consumer = consumers[slot - 1]
            items = consumer.take(BATCH)
            if items:
                consumer.commit()
                mark(slot)
            return len(items)

        return chunk

    # --- round trips --------------------------------------------------------------------------------------------------

    def _ends(self, here: int) -> tuple[RingProducer, RingConsumer, Segment]:
        there = 1 - here
        out, into = (self._rings[0], self._back) if here == 0 else (self._back, self._rings[0])
        wake = MailboxPeer(self._pages[there], self._bells[there]).notifier(1)
        waiter = _Slot(Mailbox(self._pages[here], self._bells[here], spin=False))
        return RingProducer(out, wake=wake), RingConsumer(into, waiter=waiter, autocommit=True), into

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end; it sleeps at once when there is nothing."""
        producer, consumer, _ = self._ends(0)
        put, wait = producer.put, consumer.get_wait

        def ask(data: bytes) -> bytes:
            put(data)
            return wait(_PATIENCE_S)  # type: ignore[no-any-return]

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        producer, consumer, _ = self._ends(1)
        put, wait = producer.put, consumer.get_wait

        def answer() -> None:
            put(wait(_PATIENCE_S))

        return answer

    def close(self) -> None:
        """Give the segments and doorbells back."""
        for segment in (*self._rings, self._back, *self._pages):
            segment.close()
        for bell in (*self._bells, *self._space):
            bell.close()


class ViewedRing(RingChannel):
    """The raw ring, whose receiver reads arrays in place instead of copying them."""

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        mailbox = Mailbox(self._pages[number], self._bells[number])
        consumer = RingConsumer(self._rings[number], space_bell=self._space[number].post)
        turns = self.load.stride

        def chunk() -> int:
            count = 0
            while count < turns:
                with consumer.view() as view:
                    if view is not None:
                        view.array[0], view.array[-1]
                        count += 1
                if view is None:
                    while mailbox.next_ready() is not None:
                        pass
                    mailbox.wait(_PATIENCE_S, consumer.has_work)
            return count

        return chunk


class SpinningRing(RingChannel):
    """The raw ring, whose ends look again and again instead of sleeping."""

    spins = True

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        producer, consumer, _ = self._ends(0)
        put, get = RingProducer(producer.segment).put, consumer.get
        now = time.monotonic

        def ask(data: bytes) -> bytes:
            put(data)
            until = now() + _PATIENCE_S
            while (item := get()) is None:
                if now() > until:
                    raise BenchFailed("no answer")
            return item  # type: ignore[no-any-return]

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        producer, consumer, _ = self._ends(1)
        put, get = RingProducer(producer.segment).put, consumer.get

        def answer() -> None:
            while (item := get()) is None:
                pass
            put(item)

        return answer


class _Slot:
    """A mailbox as the waiter of one ring: takes the ready byte as read before it looks."""

    __slots__ = ("_mailbox",)

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def wait(self, timeout_s: float, has_work: Callable[[], bool], /) -> bool:
        while self._mailbox.next_ready() is not None:
            pass
        return has_work() or self._mailbox.wait(timeout_s, has_work)

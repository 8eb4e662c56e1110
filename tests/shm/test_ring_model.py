"""The ring against a deque: any mix of calls, sizes and replacements hands out exactly what was put in, in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from weftos.agent.leaves import StreamLeaves
from weftos.errors import RingFull
from weftos.shm import ArrayRecord, RingConsumer, RingInspector, RingProducer, Window, create_ring, layout, reconcile

RECORD = np.dtype([("id", "<u4"), ("value", "<f8", (2,)), ("name", "S3")])


def plain(item: Any) -> Any:
    """Make items comparable."""
    if isinstance(item, ArrayRecord):
        return ("array", item.array.dtype.str, item.array.shape, item.array.tobytes(), item.meta)
    if isinstance(item, np.ndarray):
        return ("records", item.dtype.descr, item.tobytes())
    return item


class RingMachine(RuleBasedStateMachine):
    @initialize(
        capacity=st.sampled_from([4096, 8192, 32768]),
        share=st.sampled_from([2, 4, 8]),
        lap=st.integers(0, 3),
        back=st.integers(0, 40),
        audit=st.booleans(),
    )
    def start(self, capacity: int, share: int, lap: int, back: int, audit: bool) -> None:
        self.capacity = capacity
        first = max(capacity * lap - 8 * back, 0)
        self.segment = create_ring(capacity, max_record=capacity // share, start=first, ring_id=7)
        self.audit = audit
        self.producer = RingProducer(self.segment, audit=audit, leaves=self.leaves())
        self.consumer = RingConsumer(self.segment, audit=audit, leaves=self.leaves())
        self.waiting: deque[tuple[int, Any]] = deque()  # put, not handed out
        self.handed: deque[tuple[int, Any]] = deque()  # handed out, not committed
        self.left: list[Window] = []
        self.right: list[Window] = []
        self.counter = 0

    def leaves(self) -> StreamLeaves | None:
        return StreamLeaves(None) if self.audit else None

    def body(self, size: int) -> bytes:
        self.counter += 1
        return (self.counter.to_bytes(4, "little") * (size // 4 + 1))[:size]

    @rule(size=st.integers(0, 700), mutable=st.booleans())
    def put(self, size: int, mutable: bool) -> None:
        data = self.body(min(size, self.producer.geometry.max_payload))
        try:
            position = self.producer.put(bytearray(data) if mutable else data)
        except RingFull:
            return
        self.waiting.append((position, data))

    @rule(sizes=st.lists(st.integers(0, 90), min_size=1, max_size=60))
    def put_many(self, sizes: list[int]) -> None:
        self.many([self.body(n) for n in sizes])

    @rule(size=st.integers(1, 90), count=st.integers(1, 60))
    def put_uniform(self, size: int, count: int) -> None:
        self.many([self.body(size) for _ in range(count)])

    def many(self, messages: list[bytes]) -> None:
        try:
            done = self.producer.put_many(messages)
        except RingFull:
            return
        assert 0 < done <= len(messages)
        # The ids are learnt from the inspector: the producer returns a number only.
        ids = [i for i, _ in RingInspector(self.segment).peek(10_000)][-done:]
        self.waiting.extend(zip(ids, messages[:done], strict=True))

    @rule(
        shape=st.lists(st.integers(0, 4), max_size=3),
        code=st.sampled_from(["<f8", "|u1", ">i2", "|b1", "<U2", "<M8[us]"]),
    )
    def put_array(self, shape: list[int], code: str) -> None:
        count = int(np.prod(shape))
        dtype = np.dtype(code)
        array = np.frombuffer(
            b"\1" * (count * dtype.itemsize) if dtype.kind != "U" else bytes(count * dtype.itemsize), dtype
        )
        array = array.reshape(shape)
        try:
            position = self.producer.put_array(array, b"meta")
        except RingFull:
            return
        self.waiting.append((position, plain(ArrayRecord(array, b"meta"))))

    @rule(count=st.integers(1, 9))
    def put_records(self, count: int) -> None:
        self.counter += 1
        block = np.zeros(count, RECORD)
        block["id"] = self.counter
        block["name"] = b"abc"
        try:
            done = self.producer.put_records(block)
        except RingFull:
            return
        ids = [i for i, _ in RingInspector(self.segment).peek(10_000)]
        start, position = 0, len(ids) - 1
        blocks = [item for _, item in RingInspector(self.segment).peek(10_000)]
        parts: list[tuple[int, Any]] = []
        while start < done:
            parts.append((ids[position], plain(blocks[position])))
            start += len(blocks[position])
            position -= 1
        self.waiting.extend(reversed(parts))
        assert start == done

    @rule()
    def get(self) -> None:
        found = self.consumer.get_with_id()
        if found is None:
            assert not self.waiting
            return
        self.accept([found])

    @rule(limit=st.integers(1, 50))
    def take(self, limit: int) -> None:
        taken = self.consumer.take(limit)
        assert len(taken) == min(limit, len(self.waiting))
        self.accept(taken)

    def accept(self, taken: list[tuple[int, Any]]) -> None:
        for position, item in taken:
            assert (position, plain(item)) == self.waiting[0]
            self.handed.append(self.waiting.popleft())

    @rule()
    def commit(self) -> None:
        self.consumer.commit()
        self.handed.clear()

    @rule(share=st.floats(0, 1))
    def commit_to(self, share: float) -> None:
        if self.handed:
            index = int(share * (len(self.handed) - 1))
            self.consumer.commit_to(self.handed[index][0])
            for _ in range(index + 1):
                self.handed.popleft()

    @rule()
    def replace_consumer(self) -> None:
        self.right += self.consumer.audit_windows(flush=True)
        RingInspector(self.segment).retire_consumer()
        self.consumer = RingConsumer(self.segment, audit=self.audit, leaves=self.leaves())
        self.waiting.extendleft(reversed(self.handed))
        self.handed.clear()

    @rule()
    def replace_producer(self) -> None:
        self.left += self.producer.audit_windows(flush=True)
        RingInspector(self.segment).retire_producer()
        self.producer = RingProducer(self.segment, audit=self.audit, leaves=self.leaves())

    @rule()
    def kill_producer(self) -> None:
        """It dies between HEAD and the counter: its successor must count all the same."""
        words = self.segment.words
        words[layout.PUT_COUNT] = max(words[layout.PUT_COUNT] - 1, 0)
        RingInspector(self.segment).retire_producer()
        self.producer = RingProducer(self.segment, audit=self.audit, leaves=self.leaves())

    @rule(before=st.booleans())
    def kill_consumer(self, before: bool) -> None:
        """It dies with open windows, with or without the kernel tidying up after it."""
        if before:
            RingInspector(self.segment).retire_consumer()
        self.consumer = RingConsumer(self.segment, audit=self.audit, leaves=self.leaves())
        self.waiting.extendleft(reversed(self.handed))
        self.handed.clear()

    @rule()
    def discard(self) -> None:
        self.replace_consumer()
        found = RingInspector(self.segment).discard_one()
        if found is None:
            assert not self.waiting
        else:
            assert (found[0], plain(found[1])) == self.waiting.popleft()
        self.replace_consumer()

    @rule()
    def drain_makes_room(self) -> None:
        self.accept(self.consumer.take(100_000))
        self.consumer.commit()
        self.handed.clear()
        assert self.consumer.get() is None
        self.waiting.append((self.producer.put(b"room"), b"room"))

    @invariant()
    def statistics_agree(self) -> None:
        if not hasattr(self, "segment"):
            return
        inside = RingInspector(self.segment).statistics()
        assert inside.tail <= inside.commit <= inside.head <= inside.tail + self.capacity
        assert inside.head == self.producer.position
        if not self.waiting and not self.handed:
            assert inside.depth_bytes == 0

    def teardown(self) -> None:
        if hasattr(self, "segment"):
            self.accept(self.consumer.take(100_000))
            self.consumer.commit()
            self.left += self.producer.audit_windows(final=True)
            self.right += self.consumer.audit_windows(final=True)
            if self.audit:
                # Whoever was killed when: both ends have counted the same messages.
                assert self.left[-1].final
                assert self.right[-1].final
                ends = [(one.end, one.first + one.count) for one in (self.left[-1], self.right[-1])]
                assert ends[0] == ends[1]
            assert all(verdict.outcome != "differs" for verdict in reconcile(self.left, self.right))
            self.segment.close()


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)

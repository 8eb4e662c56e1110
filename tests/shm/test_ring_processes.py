"""Two processes and one ring: sustained traffic, and SIGKILL at any instant on either side."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weftos.errors import RingFull
from weftos.shm import RingConsumer, RingInspector, RingProducer, Segment, create_ring, reconcile
from weftos.shm.waiter import Waiter

HEAD = struct.Struct("<IQI")  # round, sequence, crc of the rest
Fork = Callable[[Callable[[], None]], Any]


def message(turn: int, sequence: int, size: int) -> bytes:
    rest = bytes([sequence & 255]) * size
    return HEAD.pack(turn, sequence, zlib.crc32(rest)) + rest


def opened(item: Any) -> list[tuple[int, int]]:
    """Check one item and return its (round, sequence) pairs."""
    if isinstance(item, np.ndarray):
        return [(int(r["turn"]), int(r["sequence"])) for r in item if r["check"] == r["turn"] ^ r["sequence"]]
    raw = item if isinstance(item, bytes) else item.array.tobytes()
    turn, sequence, crc = HEAD.unpack_from(raw)
    assert zlib.crc32(raw[HEAD.size :]) == crc, "a torn message"
    return [(turn, sequence)]


RECORD = np.dtype([("turn", "<u8"), ("sequence", "<u8"), ("check", "<u8")])


def produce(segment: Segment, turn: int, until: int | None, seed: int, audit: bool = False) -> RingProducer:
    """Write sequences 0, 1, 2, … of a round in every form there is."""
    rng = random.Random(seed)
    producer = RingProducer(segment, audit=audit)
    sequence = 0
    while until is None or sequence < until:
        form = rng.random()
        if form < 0.6:
            producer.put(message(turn, sequence, rng.randrange(200)), 30)
            sequence += 1
        elif form < 0.8:
            batch = [
                message(turn, sequence + i, 40 if form < 0.7 else rng.randrange(60))
                for i in range(rng.randrange(1, 30))
            ]
            assert producer.put_many(batch, 30) == len(batch)
            sequence += len(batch)
        elif form < 0.9:
            producer.put_array(np.frombuffer(message(turn, sequence, rng.randrange(2000)), np.uint8), b"m", 30)
            sequence += 1
        else:
            block = np.zeros(rng.randrange(1, 20), RECORD)
            block["turn"], block["sequence"] = turn, np.arange(sequence, sequence + len(block))
            block["check"] = block["turn"] ^ block["sequence"]
            assert producer.put_records(block, 30) == len(block)
            sequence += len(block)
    return producer


def test_soak_both_ways_of_reading_and_audit(fork: Fork) -> None:
    segment = create_ring(65536)
    read, write = os.pipe()
    total = 40_000

    def child() -> None:
        producer = produce(segment, 1, total, seed=5, audit=True)
        windows = producer.audit_windows(flush=True)
        os.write(write, b"".join(struct.pack("<QQ32s", w.start, w.end, w.digest) for w in windows))

    writer = fork(child)
    os.close(write)
    consumer = RingConsumer(segment, audit=True)
    rng = random.Random(9)
    expected = 0
    deadline = time.monotonic() + 60
    while expected < total:
        assert time.monotonic() < deadline
        if rng.random() < 0.5:
            first = consumer.get_wait(30)
            assert first is not None
            items = [first]
        else:
            items = [item for _, item in consumer.take(rng.randrange(1, 100))]
        for item in items:
            for turn, sequence in opened(item):
                assert (turn, sequence) == (1, expected)
                expected += 1
        if rng.random() < 0.7:
            consumer.commit()
    consumer.commit()
    theirs = b""
    while chunk := os.read(read, 1 << 16):
        theirs += chunk
    os.close(read)
    assert writer.wait() == 0
    ours = {(w.start, w.end, w.digest) for w in consumer.audit_windows(flush=True)}
    assert ours == set(struct.iter_unpack("<QQ32s", theirs))
    assert len(ours) > 50
    segment.close()


def kill_producers(fork: Fork, rounds: int, seed: int) -> None:
    segment = create_ring(32768)
    consumer = RingConsumer(segment)
    rng = random.Random(seed)
    for turn in range(rounds):
        victim = fork(lambda turn=turn: produce(segment, turn, None, seed=turn) and None)
        quota, expected = rng.choice([1, 50, rng.randrange(3000)]), 0
        while expected < quota:
            item = consumer.get_wait(30)
            assert item is not None, "the ring stalled"
            for pair in opened(item):
                assert pair == (turn, expected)
                expected += 1
            consumer.commit()
        for _ in range(rng.randrange(2000)):
            pass  # a different instant each time
        victim.kill()
        while (item := consumer.get()) is not None:
            for pair in opened(item):
                assert pair == (turn, expected)
                expected += 1
        consumer.commit()
        RingInspector(segment).retire_producer()
    segment.close()


def kill_consumers(fork: Fork, rounds: int, seed: int, bell_name: str) -> None:
    """The child logs each message before it commits; none may be missing, only the last may come twice."""
    rng = random.Random(seed)
    segment = create_ring(16384)
    with Waiter.create(bell_name) as waiter:
        producer = RingProducer(segment, wake=waiter.notifier())
        sent = 0
        logged = -1
        for _ in range(rounds):
            read, write = os.pipe()
            os.set_blocking(read, False)
            style = rng.choice(["get", "take"])

            def child(write: int = write, style: str = style) -> None:
                consumer = RingConsumer(segment, waiter=waiter)
                while True:
                    if style == "get":
                        item = consumer.get_wait(30)
                        assert item is not None
                        os.write(write, item[:8])
                        consumer.commit()
                    else:
                        for position, item in consumer.take(20):
                            os.write(write, item[:8])
                            consumer.commit_to(position)

            victim = fork(child)
            os.close(write)
            quota = logged + rng.randrange(1, 400)
            first = True
            deadline = time.monotonic() + 30
            killed = False
            while True:
                assert time.monotonic() < deadline, "the ring stalled"
                try:
                    chunk = os.read(read, 4096)
                except BlockingIOError:
                    chunk = None
                if chunk == b"" and killed:
                    break
                for (sequence,) in struct.iter_unpack("<Q", chunk or b""):
                    assert sequence == logged + 1 or (first and sequence == logged), (sequence, logged, first)
                    first = False
                    logged = sequence
                if logged >= quota and not killed:
                    victim.kill()
                    killed = True
                if not killed:
                    try:
                        if rng.random() < 0.5:
                            producer.put(sent.to_bytes(8, "little") + bytes(rng.randrange(100)))
                            sent += 1
                        else:
                            size = rng.randrange(8, 90)
                            batch = [
                                (sent + i).to_bytes(8, "little").ljust(size, b".") for i in range(rng.randrange(1, 20))
                            ]
                            sent += producer.put_many(batch)
                    except RingFull:
                        continue
            os.close(read)
            RingInspector(segment).retire_consumer()
        consumer = RingConsumer(segment)
        rest = [int.from_bytes(item[:8], "little") for _, item in consumer.take(100_000)]
        assert rest in (list(range(logged + 1, sent)), list(range(logged, sent)))
    segment.close()


def test_killed_producers_leave_whole_messages(fork: Fork) -> None:
    kill_producers(fork, 20, seed=1)


def test_killed_consumers_lose_nothing(fork: Fork, bell_name: str) -> None:
    kill_consumers(fork, 20, seed=2, bell_name=bell_name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_many_killed_producers(fork: Fork, seed: int) -> None:
    kill_producers(fork, 100, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22, 23])
def test_many_killed_consumers(fork: Fork, seed: int, bell_name: str) -> None:
    kill_consumers(fork, 100, seed, bell_name)


def test_reconcile_names_what_one_end_did_not_see() -> None:
    segment = create_ring(8192)
    producer, consumer = RingProducer(segment, audit=True), RingConsumer(segment, audit=True)
    for _ in range(100):
        producer.put(b"m" * 100)
        consumer.get()
        consumer.commit()
    ours, theirs = producer.audit_windows(), consumer.audit_windows(flush=True)
    verdicts = reconcile(ours, theirs)
    assert [v.outcome for v in verdicts] == ["agreed"] * len(ours) + ["unmatched"]
    segment.close()


def test_a_changed_byte_shows_in_the_audit() -> None:
    segment = create_ring(8192)
    producer, consumer = RingProducer(segment, audit=True), RingConsumer(segment, audit=True)
    for i in range(40):
        position = producer.put(b"m" * 100)
        if i == 25:
            segment.map[4096 + (position & 8191) + 50] ^= 1
        consumer.get()
        consumer.commit()
    verdicts = reconcile(producer.audit_windows(flush=True), consumer.audit_windows(flush=True))
    # The change came before either hashed, so both saw it: what the audit proves is that both ends saw the same bytes.
    assert {v.outcome for v in verdicts} == {"agreed"}
    position = producer.put(b"m" * 100)
    left = producer.audit_windows(flush=True)
    segment.map[4096 + (position & 8191) + 50] ^= 1
    consumer.get()
    consumer.commit()
    assert "differs" in {v.outcome for v in reconcile(left, consumer.audit_windows(flush=True))}
    segment.close()

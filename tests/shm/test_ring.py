"""The ring's contract, one promise per test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weftos import limits
from weftos.errors import ChannelClosed, MessageTooLarge, ResourceLimitExceeded, RingCorrupted, RingFull, WeftTimeout
from weftos.shm import ArrayView, Doorbell, RingConsumer, RingInspector, RingProducer, Segment, create_ring, layout

Fork = Callable[[Callable[[], None]], Any]


def ends(capacity: int = 4096, **options: Any) -> tuple[Segment, RingProducer, RingConsumer]:
    segment = create_ring(capacity, **options)
    return segment, RingProducer(segment), RingConsumer(segment)


def test_sizes_are_checked() -> None:
    for capacity in (0, 2048, 5000, limits.MAX_RING_BYTES * 2):
        with pytest.raises(ResourceLimitExceeded):
            create_ring(capacity)
    for record in (0, 100, 4096):
        with pytest.raises(ResourceLimitExceeded):
            create_ring(4096, max_record=record)


def fill(producer: RingProducer, size: int) -> None:
    while True:
        producer.put(b"x" * size)


def test_a_full_ring_says_so_at_once_and_at_the_deadline() -> None:
    segment, producer, _ = ends()
    with pytest.raises(RingFull) as full:
        fill(producer, 490)
    assert full.value.depth_bytes == producer.position == 4032
    assert full.value.capacity == 4096
    started = time.monotonic()
    with pytest.raises(RingFull):
        producer.put(b"x" * 500, 0.1)
    assert 0.1 <= time.monotonic() - started < 2
    before = producer.position
    with pytest.raises(RingFull):
        producer.put_many([b"x" * 500], 0.02)
    with pytest.raises(RingFull):
        producer.put_array(np.zeros(60))
    with pytest.raises(RingFull):
        producer.put_records(np.zeros(60))
    assert producer.position == before
    assert producer.put(b"y" * 24) == before  # what fits still goes
    segment.close()


def test_put_many_reports_what_it_placed() -> None:
    segment, producer, consumer = ends()
    done = producer.put_many([b"x" * 100] * 100)
    assert 30 < done <= 40
    assert consumer.get_many(1000) == [b"x" * 100] * done
    consumer.commit()
    assert consumer.get() is None
    done = producer.put_many([b"x" * (i % 50) for i in range(1000)])
    assert [len(m) for m in consumer.get_many(1000)] == [i % 50 for i in range(done)]
    assert producer.put_many([]) == 0
    segment.close()


def test_a_waiting_producer_is_woken_by_its_doorbell(fork: Fork, bell_name: str) -> None:
    segment = create_ring(4096)
    bell = Doorbell.create(bell_name)
    try:

        def child() -> None:
            producer = RingProducer(segment, space=bell)
            for i in range(3000):
                producer.put(i.to_bytes(4, "little") * 20, 30)

        writer = fork(child)
        consumer = RingConsumer(segment, space_bell=bell.post)
        for i in range(3000):
            assert consumer.get_wait(30) == i.to_bytes(4, "little") * 20
            consumer.commit()
        assert writer.wait() == 0
        assert RingInspector(segment).statistics().put == 3000
    finally:
        bell.close()
        bell.unlink()
        segment.close()


def test_a_closed_ring_refuses_and_still_reads() -> None:
    segment, producer, consumer = ends()
    kernel = RingInspector(segment)
    producer.put(b"before")
    kernel.close_ring()
    with pytest.raises(ChannelClosed):
        producer.put(b"after")
    with pytest.raises(ChannelClosed):
        producer.put_many([b"a", b"b"])
    assert producer.closed
    assert consumer.closed
    assert kernel.closed
    assert consumer.get_wait(1) == b"before"
    with pytest.raises(ChannelClosed):
        consumer.get_wait(1)
    kernel.reopen_ring()
    producer.put(b"again")
    segment.close()


def test_closing_ends_a_wait_for_room() -> None:
    segment, producer, _ = ends()
    with pytest.raises(RingFull):
        fill(producer, 500)
    closer = threading.Timer(0.05, RingInspector(segment).close_ring)
    closer.start()
    with pytest.raises(ChannelClosed):
        producer.put(b"x" * 500, 30)
    closer.join()
    segment.close()


def test_get_wait_gives_up_at_the_deadline() -> None:
    segment, _, consumer = ends()
    started = time.monotonic()
    assert consumer.get_wait(0.05) is None
    assert 0.05 <= time.monotonic() - started < 2
    segment.close()


def test_autocommit_commits_as_it_hands_out() -> None:
    segment = create_ring(4096)
    producer, consumer = RingProducer(segment), RingConsumer(segment, autocommit=True)
    for i in range(500):
        producer.put(b"%d" % i)
        if i % 2:
            producer.put_many([b"a", b"b"])
        assert consumer.get() == b"%d" % i
        if i % 2:
            assert consumer.take(5) != []
        assert consumer.depth_bytes() == 0
    segment.close()


def test_array_view_is_in_place_aligned_and_read_only() -> None:
    segment, producer, consumer = ends(65536)
    array = np.arange(1000, dtype="<f8").reshape(10, 100)
    for filler in range(20):
        producer.put(b"x" * filler)
        producer.put_array(array.T, b"meta")
        producer.put_array(np.zeros((0, 3)))
        with consumer.view() as item:
            assert item == b"x" * filler
        with consumer.view() as view:
            assert isinstance(view, ArrayView)
            np.testing.assert_array_equal(view.array, array.T)
            assert view.meta == b"meta"
            assert view.array.ctypes.data % 64 == 0
            assert not view.array.flags.writeable
        with consumer.view() as view:
            assert view.array.shape == (0, 3)
        with consumer.view() as nothing:
            assert nothing is None
        assert consumer.depth_bytes() == 0
    segment.close()


def test_a_view_is_not_committed_when_its_block_fails_nor_kept_beyond_it() -> None:
    segment, producer, consumer = ends()
    producer.put_array(np.arange(5))
    with pytest.raises(KeyError), consumer.view():
        raise KeyError
    assert consumer.depth_bytes() > 0
    consumer = RingConsumer(segment)
    with pytest.raises(AssertionError, match="kept"), consumer.view() as view:
        kept = view.array
    del kept
    segment.close()


@pytest.mark.parametrize(("size", "capacity"), [(5_000, 4096), (1_000_000, 65536), (8 << 20, 1 << 20)])
def test_messages_larger_than_a_record_travel_in_fragments(fork: Fork, size: int, capacity: int) -> None:
    segment = create_ring(capacity)
    whole = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)

    def child() -> None:
        producer = RingProducer(segment)
        producer.put(b"before")
        last = producer.put(whole.tobytes(), 30)
        assert segment.words[layout.COMMIT] > last
        producer.put_array(whole[::-1], b"meta", 30)
        producer.put(b"after")
        assert producer.statistics().fragmented == 2

    writer = fork(child)
    consumer = RingConsumer(segment)
    assert consumer.get_wait(30) == b"before"
    consumer.commit()
    assert consumer.get_wait(30) == whole.tobytes()
    consumer.commit()
    record = consumer.get_wait(30)
    np.testing.assert_array_equal(record.array, whole[::-1])
    assert record.meta == b"meta"
    consumer.commit()
    assert consumer.get_wait(30) == b"after"
    assert writer.wait() == 0
    segment.close()


def test_a_large_message_needs_time_and_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    segment, producer, _ = ends()
    with pytest.raises(RingFull):
        producer.put(bytes(5000))
    assert producer.position == 0
    monkeypatch.setattr(limits, "MAX_MESSAGE_BYTES", 100_000)
    with pytest.raises(MessageTooLarge) as error:
        producer.put(bytes(100_001), 5)
    assert error.value.size == 100_001
    assert producer.position == 0
    with pytest.raises(WeftTimeout):
        producer.put(bytes(5000), 0.05)
    segment.close()


def test_a_new_reader_gets_a_large_message_from_its_beginning(fork: Fork) -> None:
    segment = create_ring(4096)
    whole = bytes(range(256)) * 100

    def child() -> None:
        producer = RingProducer(segment)
        producer.put(whole, 30)
        assert producer.restarts == 2
        producer.put(b"after")

    writer = fork(child)
    for given_up_at in (2000, layout.NOBODY):
        victim = RingConsumer(segment)
        deadline = time.monotonic() + 20
        item = None
        while victim.statistics().position < given_up_at and item is None:
            item = victim.get()
            assert time.monotonic() < deadline
        # It dies before it commits: half way, then with the whole in its handler.
        RingInspector(segment).retire_consumer()
    consumer = RingConsumer(segment)
    assert consumer.get_wait(20) == whole
    consumer.commit()
    assert consumer.get_wait(20) == b"after"
    assert consumer.statistics().dropped >= 1
    assert writer.wait() == 0
    segment.close()


def test_a_new_writer_after_half_a_large_message() -> None:
    segment, producer, consumer = ends()
    with pytest.raises(WeftTimeout):
        producer.put(bytes(100_000), 0.02)
    assert consumer.get() is None
    RingInspector(segment).retire_producer()
    RingProducer(segment).put(b"small")
    assert consumer.get_wait(5) == b"small"
    assert consumer.statistics().dropped == 1
    segment.close()


def test_commit_within_a_batch_is_exact() -> None:
    segment, producer, consumer = ends()
    producer.put_many([b"%02d" % i for i in range(10)])
    taken = consumer.take(10)
    consumer.commit_to(taken[6][0])
    assert [m for _, m in RingInspector(segment).peek(99)] == [b"07", b"08", b"09"]
    consumer.commit_to(taken[3][0])  # what is done stays done
    consumer = RingConsumer(segment)
    assert consumer.get_with_id() == taken[7]
    consumer.commit()
    assert RingConsumer(segment).get_many(9) == [b"08", b"09"]
    segment.close()


def test_dead_letters_take_one_message_at_a_time() -> None:
    segment, producer, _ = ends()
    producer.put_many([b"a", b"b"])
    producer.put(b"c")
    kernel = RingInspector(segment)
    poison = kernel.peek(1)[0][0]
    kernel.set_redelivery(poison, 2)
    assert kernel.redelivery is not None
    assert kernel.redelivery.attempts == 2
    assert kernel.discard_one() == (poison, b"a")
    assert kernel.redelivery is None
    assert [m for _, m in kernel.peek(9)] == [b"b", b"c"]
    assert kernel.discard_one() == (poison + 1, b"b")
    assert kernel.discard_one() is not None
    assert kernel.discard_one() is None
    assert kernel.statistics().depth_bytes == 0
    segment.close()


def test_the_kernel_commits_for_a_dead_reader_what_lies_before_its_current_message() -> None:
    segment, producer, consumer = ends()
    producer.put(b"a")
    producer.put_many([b"b", b"c", b"d"])
    taken = consumer.take(9)
    kernel = RingInspector(segment)
    assert kernel.current is None
    segment.words[layout.CURRENT] = taken[2][0] + 1
    assert kernel.current == taken[2][0]
    assert kernel.commit_before(taken[2][0]) == 2
    assert kernel.peek(9) == taken[2:]
    kernel.clear_current()
    assert kernel.current is None
    segment.words[layout.CURRENT] = 10_000  # a liar's word is no message
    assert kernel.current is None
    segment.close()


def test_a_reader_may_refuse_fragments() -> None:
    segment = create_ring(4096)
    producer, consumer = RingProducer(segment), RingConsumer(segment, fragments=False)
    with pytest.raises(WeftTimeout):
        producer.put(bytes(5000), 0.02)
    with pytest.raises(RingCorrupted):
        consumer.get()
    segment.close()


def test_an_endless_stream_of_fragments_does_not_keep_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liar that publishes middles for ever: each call looks at one ring's worth at most."""
    segment, _, consumer = ends()
    words = segment.words
    record = 9 | layout.FRAGMENT << 32
    for at in range(0, 4096 + 1024, 24):
        words[layout.DATA_WORD + at // 8] = record
    look = consumer._look_at_head  # the stream goes on whenever the reader looks
    calls = 0

    def endless(cursor: int) -> int:
        nonlocal calls
        calls += 1
        for at in range(0, 4096, 8):
            words[layout.DATA_WORD + at // 8] = record
        words[layout.HEAD] = cursor + 2400
        return look(cursor)

    monkeypatch.setattr(RingConsumer, "_look_at_head", lambda _, cursor: endless(cursor))
    assert consumer.get() is None
    assert calls < 6
    segment.close()

"""Doorbells and mailboxes: no wake-up is lost, no sender can do more than waste a look."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from weftos import limits
from weftos.errors import ChannelClosed, DoorbellLost, SegmentInvalid, SharedMemoryError
from weftos.shm import (
    AsyncMailbox,
    Doorbell,
    Mailbox,
    MailboxPeer,
    RingConsumer,
    RingInspector,
    RingProducer,
    Segment,
    Waiter,
    create_mailbox,
    create_ring,
    fence,
    mailbox,
    sweep,
)

Fork = Callable[[Callable[[], None]], Any]


@pytest.fixture
def bell(bell_name: str) -> Iterator[Doorbell]:
    with Doorbell.create(bell_name) as made:
        yield made
        made.unlink()


def test_doorbell_counts_and_times_out(bell: Doorbell) -> None:
    assert not bell.wait(0)
    bell.post()
    bell.post()
    with Doorbell.open(bell.name) as other:
        other.post()
    assert bell.wait(0)
    assert bell.drain() == 2
    started = time.monotonic()
    assert not bell.wait(0.05)
    assert 0.04 <= time.monotonic() - started < 2
    assert os.stat(f"/dev/shm/sem.{bell.name[1:]}").st_mode & 0o777 == 0o600


def test_doorbell_names_and_losses(bell: Doorbell, bell_name: str) -> None:
    with pytest.raises(SharedMemoryError):
        Doorbell.create(bell_name)
    with pytest.raises(DoorbellLost):
        Doorbell.open(bell_name + "x")
    with pytest.raises(SharedMemoryError):
        Doorbell.create("/" + "x" * 300)
    other = Doorbell.open(bell_name)
    other.close()
    other.close()
    for call in (other.post, lambda: other.wait(0), other.drain):
        with pytest.raises(DoorbellLost):
            call()


def test_a_bell_rung_to_the_limit_stays_usable(bell: Doorbell) -> None:
    import posix_ipc

    name = bell.name + "-full"
    full = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=posix_ipc.SEMAPHORE_VALUE_MAX)
    try:
        with Doorbell.open(name) as other:
            other.post()
            assert other.drain() == 4096
    finally:
        full.close()
        posix_ipc.unlink_semaphore(name)


def test_a_system_without_timed_waits_polls(bell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    import posix_ipc

    monkeypatch.setattr(posix_ipc, "SEMAPHORE_TIMEOUT_SUPPORTED", False)
    started = time.monotonic()
    assert not bell.wait(0.03)
    assert 0.03 <= time.monotonic() - started < 2
    ringer = threading.Timer(0.02, bell.post)
    ringer.start()
    assert bell.wait(5)
    ringer.join()


def test_a_signal_does_not_end_the_wait(bell: Doorbell) -> None:
    hits = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        started = time.monotonic()
        assert not bell.wait(0.1)
        assert time.monotonic() - started >= 0.09
        assert hits == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_sweep_removes_only_its_prefix() -> None:
    tag = f"/weftos-{os.urandom(4).hex()}-"
    for i in range(3):
        Doorbell.create(f"{tag}{i}").close()
    with Doorbell.create(f"/weftos-{os.urandom(4).hex()}-0") as other:
        assert sweep(tag) == [f"{tag}{i}" for i in range(3)]
        assert sweep(tag) == []
        Doorbell.open(other.name).close()
        other.unlink()
    with pytest.raises(AssertionError):
        sweep("/weftos-")


def test_ready_bytes_are_found_lowest_first_and_cleared(bell: Doorbell) -> None:
    with create_mailbox(owner_pid=7, generation=3) as page:
        owner, peer = Mailbox(page, bell), MailboxPeer(page, bell)
        assert (owner.owner_pid, owner.generation, peer.owner_pid, peer.generation) == (7, 3, 7, 3)
        assert owner.next_ready() is None
        for slot in (3071, 5, 0):
            peer.notifier(slot)()
        owner.mark(9)
        assert [owner.next_ready() for _ in range(5)] == [0, 5, 9, 3071, None]
        assert bell.drain() == 0, "an owner that is awake is not rung"
        owner.arm()
        assert peer.asleep
        peer.notifier(5)()
        peer.notifier(6)()
        assert bell.drain() == 1, "the first sender rings, once"
        for slot in (-1, limits.MAILBOX_SLOTS):
            with pytest.raises(AssertionError):
                peer.notifier(slot)
        owner.beat()
        owner.beat()
        assert peer.liveness == 2
        assert peer.handling is None
        owner.handling(1)
        assert peer.handling == 0
        assert Mailbox(page, bell).statistics().liveness == 2


def test_a_page_full_of_rubbish_costs_looks_only(bell: Doorbell) -> None:
    with create_mailbox() as page:
        owner = Mailbox(page, bell)
        page.map[64:4096] = random.Random(1).randbytes(4032)
        looks = 0
        while owner.next_ready() is not None:
            looks += 1
        assert looks < limits.MAILBOX_SLOTS
        assert not owner.wait(0.02)
        page.map[0] ^= 1
        with pytest.raises(SegmentInvalid):
            Mailbox(page, bell)
        page.map[0] ^= 1
        page.map[20] ^= 1
        with pytest.raises(SegmentInvalid, match="checksum"):
            MailboxPeer(page, bell)


def test_wait_ends_for_work_that_no_byte_announces(bell: Doorbell) -> None:
    with create_mailbox() as page:
        owner = Mailbox(page, bell)
        assert owner.wait(1, lambda: True)
        started = time.monotonic()
        assert owner.wait(10, lambda: time.monotonic() - started > 0.03)
        assert time.monotonic() - started < 5
        assert page.words[mailbox.SLEEP] == 0
        assert owner.statistics().sleeps == 1


@pytest.mark.parametrize("fenced", [True, False])
def test_no_wake_up_is_lost(fork: Fork, bell: Doorbell, monkeypatch: pytest.MonkeyPatch, fenced: bool) -> None:
    """Ping-pong through sleeping owners: with a fence, and without one within the backstop."""
    if not fenced:
        monkeypatch.setattr(mailbox.fence, "full_fence", lambda: None)
    elif fence.mode() != "membarrier":
        pytest.skip("this system has no membarrier")
    rounds = 4000
    with Doorbell.create(bell.name + "-b") as back:
        back.unlink()
        pages = [create_mailbox(), create_mailbox()]
        rings = [create_ring(4096), create_ring(4096)]

        def play(mine: int, own: Doorbell, other: Doorbell, serve: bool) -> float:
            owner = Mailbox(pages[mine], own, spin=False)
            ring = RingConsumer(rings[mine])
            answer = RingProducer(rings[1 - mine], wake=MailboxPeer(pages[1 - mine], other).notifier(1))
            longest = 0.0
            if serve:
                answer.put(b"0")
            for _ in range(rounds):
                started = time.monotonic()
                while (item := ring.get()) is None:
                    if not owner.wait(10):
                        raise TimeoutError
                    while owner.next_ready() is not None:
                        continue
                longest = max(longest, time.monotonic() - started)
                ring.commit()
                answer.put(item)
            return longest

        child = fork(lambda: play(0, bell, back, False) and None)
        started = time.monotonic()
        play(1, back, bell, True)
        spent = time.monotonic() - started
        assert child.wait() == 0
        # Had wake-ups been lost they would each have cost a whole slice.
        assert spent < (rounds * limits.WAIT_SLICE_S) / 8
        for segment in (*pages, *rings):
            segment.close()


def test_many_senders_one_owner(fork: Fork, bell: Doorbell) -> None:
    senders, each = 4, 3000
    page = create_mailbox()
    rings = [create_ring(8192) for _ in range(senders)]

    def send(slot: int) -> None:
        producer = RingProducer(rings[slot], wake=MailboxPeer(page, bell).notifier(slot + 1))
        rng = random.Random(slot)
        for i in range(each):
            producer.put(i.to_bytes(4, "little"), 30)
            if rng.random() < 0.02:
                os.sched_yield()

    children = [fork(lambda slot=slot: send(slot)) for slot in range(senders)]
    owner = Mailbox(page, bell)
    consumers = [RingConsumer(ring) for ring in rings]
    seen = [0] * senders
    deadline = time.monotonic() + 60
    while sum(seen) < senders * each:
        assert time.monotonic() < deadline
        slot = owner.next_ready()
        if slot is None:
            assert owner.wait(10), "everybody sleeps"
            continue
        for _, item in consumers[slot - 1].take(10_000):
            assert int.from_bytes(item, "little") == seen[slot - 1]
            seen[slot - 1] += 1
        consumers[slot - 1].commit()
    assert [child.wait() for child in children] == [0] * senders
    for segment in (page, *rings):
        segment.close()


def test_a_lone_ring_with_a_waiter(fork: Fork, bell_name: str) -> None:
    ring = create_ring(4096)
    with Waiter.create(bell_name) as waiter:

        def child() -> None:
            producer = RingProducer(ring, wake=waiter.notifier())
            for i in range(2000):
                producer.put(b"%d" % i, 30)
            RingInspector(ring).close_ring()

        writer = fork(child)
        consumer = RingConsumer(ring, waiter=waiter)
        for i in range(2000):
            assert consumer.get_wait(30) == b"%d" % i
            consumer.commit()
        with pytest.raises(ChannelClosed):
            consumer.get_wait(30)
        assert writer.wait() == 0
    ring.close()


def test_asyncio_bridge(bell: Doorbell) -> None:
    page, ring = create_mailbox(), create_ring(4096)

    async def run() -> list[bytes]:
        owner, consumer = Mailbox(page, bell), RingConsumer(ring)
        producer = RingProducer(ring, wake=MailboxPeer(page, bell).notifier(1))
        got: list[bytes] = []
        async with AsyncMailbox(owner, bell) as bridge:
            assert not await bridge.wait(0.02)
            loop = asyncio.get_running_loop()
            for i in range(50):
                loop.call_later(i * 0.001, producer.put, b"%d" % i)
            while len(got) < 50:
                assert await bridge.wait(10)
                while owner.next_ready() is not None:
                    got += consumer.get_many(100)
                    consumer.commit()
            assert not await bridge.wait(0.01)
        assert not await bridge.wait(1)
        return got

    before = threading.active_count()
    assert asyncio.run(run()) == [b"%d" % i for i in range(50)]
    assert threading.active_count() == before
    page.close()
    ring.close()


def test_asyncio_bridge_reports_a_lost_bell(bell_name: str) -> None:
    page = create_mailbox()

    async def run() -> None:
        own = Doorbell.create(bell_name)
        own.unlink()
        bridge = AsyncMailbox(Mailbox(page, own), own)
        asyncio.get_running_loop().call_later(0.02, own.close)
        with pytest.raises(DoorbellLost):
            await bridge.wait(10)

    asyncio.run(run())
    page.close()


def test_fence_mode_is_named() -> None:
    assert fence.mode() in ("membarrier", "bounded-wait")
    fence.full_fence()
    assert Segment is not None

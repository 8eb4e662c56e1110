"""The queue beside a model of it: emitted, handed out, done, timed out, killed and opened again, in any order."""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import dataclass, field

from dying_files import UnsyncedFiles
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from virtual_clock import VirtualClock

from weftos.ecc.hlc import HybridClock, unpack
from weftos.ecc.impulses.model import ImpulseSettings, ImpulseType, Overflow
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.universal import StructureTag
from weftos.errors import ImpulseQueueFull

TARGETS = (StructureTag.CAUSAL_GRAPH, StructureTag.HNSW_INDEX, StructureTag(0x20))
LEASE_MS, HALF_LIFE_MS, FLOOR, ATTEMPTS, MAX_DEAD = 700, 1000, 0.05, 2, 2


@dataclass
class One:
    hlc: int
    target: StructureTag
    strength: float
    attempts: int = 0
    #: When its lease ends, in nanoseconds; None: it waits.
    until: int | None = None


@dataclass
class Model:
    next_id: int = 1
    live: dict[int, One] = field(default_factory=dict)
    dead: dict[int, One] = field(default_factory=dict)
    done: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def end(self, numbers: list[int]) -> None:
        for number in numbers:
            one = self.live[number]
            one.until = None
            if one.attempts >= ATTEMPTS:
                self.dead[number] = self.live.pop(number)
        while len(self.dead) > MAX_DEAD:
            del self.dead[next(iter(self.dead))]
            self.drop("dead")

    def ready(self) -> list[int]:
        return sorted((n for n, one in self.live.items() if one.until is None), key=lambda n: (self.live[n].hlc, n))


class QueueMachine(RuleBasedStateMachine):
    """Files in a folder, a virtual clock, and the model; what was synced is a copy of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.clock = VirtualClock()

    @initialize(overflow=st.sampled_from(Overflow))
    def begin(self, overflow: Overflow) -> None:
        self.settings = ImpulseSettings(
            max_count=6,
            overflow=overflow,
            lease_ms=LEASE_MS,
            max_attempts=ATTEMPTS,
            max_dead=MAX_DEAD,
            half_life_ms=HALF_LIFE_MS,
            floor=FLOOR,
        )
        self.model, self.synced = Model(), Model()
        self.open()

    def open(self) -> None:
        self.hlc = HybridClock(self.clock)
        self.queue = ImpulseQueue.open(UnsyncedFiles(), self.folder, self.clock, self.hlc, self.settings)

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()
        shutil.rmtree(self.folder)

    def strength(self, one: One) -> float:
        age = max(0, self.clock.wall // 1_000_000 - unpack(one.hlc).millis)
        return one.strength * 0.5 ** (age / HALF_LIFE_MS)

    def expire(self) -> None:
        weak = [number for number in self.model.ready() if self.strength(self.model.live[number]) < FLOOR]
        for number in weak:
            del self.model.live[number]
            self.model.drop("expired")

    def end_leases(self) -> None:
        over = [n for n, one in self.model.live.items() if one.until is not None and one.until <= self.clock.mono]
        self.model.end(sorted(over, key=lambda n: (self.model.live[n].until, n)))

    # Strengths and steps of time are such that no two impulses ever become equally strong by ageing.
    @rule(target_structure=st.sampled_from(TARGETS), strength=st.sampled_from([0.9, 0.55, 0.33]), late=st.booleans())
    def emit(self, target_structure: StructureTag, strength: float, late: bool) -> None:
        hlc = self.hlc.last if late and self.hlc.last else None
        one = One(0, target_structure, strength)
        self.expire()
        try:
            number = self.queue.emit(
                ImpulseType.NOVELTY_DETECTED,
                source_structure=TARGETS[0],
                source_node=bytes(32),
                target_structure=target_structure,
                payload={"n": self.model.next_id},
                strength=strength,
                hlc=hlc,
            )
        except ImpulseQueueFull:
            assert len(self.model.live) >= 6
            if self.settings.overflow is Overflow.DROP_WEAKEST:
                one.hlc = self.hlc.last
                assert all(self.strength(self.model.live[n]) >= self.strength(one) - 1e-9 for n in self.model.ready())
            return
        one.hlc = self.hlc.last if hlc is None else hlc
        assert number == self.model.next_id
        if len(self.model.live) == 6:
            assert self.settings.overflow is Overflow.DROP_WEAKEST
            victim = min(self.model.ready(), key=lambda n: (round(self.strength(self.model.live[n]), 6), n))
            assert self.strength(self.model.live[victim]) < self.strength(one)
            del self.model.live[victim]
            self.model.drop("weakest")
        self.model.live[number] = one
        self.model.next_id += 1

    @rule(limit=st.integers(0, 4), target_structure=st.sampled_from([None, *TARGETS]))
    def lease(self, limit: int, target_structure: StructureTag | None) -> None:
        self.end_leases()
        self.expire()
        waiting = [n for n in self.model.ready() if target_structure in (None, self.model.live[n].target)]
        found = self.queue.lease(limit, target_structure)
        assert [one.impulse.id for one in found] == waiting[:limit]
        for delivery in found:
            one = self.model.live[delivery.impulse.id]
            one.attempts += 1
            one.until = self.clock.mono + LEASE_MS * 1_000_000
            assert delivery.attempt == one.attempts
            assert delivery.impulse.hlc == one.hlc
            assert delivery.impulse.content == {"n": delivery.impulse.id}
            assert abs(delivery.strength - self.strength(one)) < 1e-9

    @rule(numbers=st.lists(st.integers(1, 12), max_size=4))
    def done(self, numbers: list[int]) -> None:
        known = {n for n in numbers if n in self.model.live or n in self.model.dead}
        assert self.queue.done(numbers) == len(known)
        for number in known:
            self.model.live.pop(number, None)
            self.model.dead.pop(number, None)
        self.model.done += len(known)

    @rule(numbers=st.lists(st.integers(1, 12), max_size=4))
    def release(self, numbers: list[int]) -> None:
        held = {n for n in numbers if n in self.model.live and self.model.live[n].until is not None}
        assert self.queue.release(numbers) == len(held)
        for number in held:
            self.model.live[number].until = None
            self.model.live[number].attempts -= 1

    @rule(revived=st.booleans())
    def look_at_the_dead(self, revived: bool) -> None:
        numbers = [one.impulse.id for one in self.queue.dead()]
        assert numbers == list(self.model.dead)
        if revived:
            count = self.queue.revive(numbers)
            assert count == min(len(numbers), max(0, 6 - len(self.model.live)))
            for number in numbers[:count]:
                one = self.model.dead.pop(number)
                one.attempts = 0
                self.model.live[number] = one
        else:
            assert self.queue.purge(numbers) == len(numbers)
            self.model.dead.clear()
            if numbers:
                self.model.drop("purged", len(numbers))

    @rule(steps=st.integers(1, 5))
    def time_passes(self, steps: int) -> None:
        self.clock.pass_ms(steps * 250)

    @rule(whole=st.booleans())
    def sync(self, whole: bool) -> None:
        if whole:
            self.queue.compact()
        else:
            self.queue.sync()
        self.synced = copy.deepcopy(self.model)

    @rule()
    def kill_and_open(self) -> None:
        self.queue.close()
        self.model = copy.deepcopy(self.synced)
        self.open()
        self.model.end([n for n, one in self.model.live.items() if one.until is not None])

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        self.end_leases()
        found, model = self.queue.statistics(), self.model
        assert (found.ready, found.leased + found.ready) == (len(model.ready()), len(model.live))
        assert (found.dead, found.done, found.dropped) == (len(model.dead), model.done, model.dropped)
        assert found.emitted == found.ready + found.leased + found.done + found.dead + sum(found.dropped.values())
        assert len(self.queue) <= 6


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

"""When a waiter looks again and when it sleeps, on a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from weftos import limits
from weftos.shm.spin import Patience

NEVER = float("inf")


class Machine:
    """Time, and how long a yield lets others run; ``done`` holds from a moment on."""

    def __init__(self) -> None:
        self.now, self.others, self.yields, self.done_at = 0.0, 1e-6, 0, NEVER

    def monotonic(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += self.others

    def done(self) -> bool:
        return self.now >= self.done_at

    def spins(self, patience: Patience, deadline: float = NEVER) -> bool:
        """Wait once; returns whether it looked for longer than once."""
        before = self.yields
        patience.spin(self.done, deadline)
        return self.yields > before


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr("weftos.shm.spin.time", made)
    monkeypatch.setattr("weftos.shm.spin.os", SimpleNamespace(sched_yield=made.sched_yield))
    return made


def test_it_looks_until_it_is_done_or_the_time_is_over(machine):
    patience = Patience(allowed=True, spin_s=1e-3)
    machine.done_at = 0.5e-3
    assert patience.spin(machine.done, NEVER)
    assert machine.now < 0.51e-3
    machine.done_at = NEVER
    began = machine.now
    assert not patience.spin(machine.done, NEVER)
    assert 1e-3 <= machine.now - began < 1.01e-3
    assert not patience.spin(machine.done, machine.now + 1e-4)
    assert machine.now - began < 1.2e-3
    assert (patience.hits, patience.misses) == (1, 2)


def test_it_stops_after_many_times_in_vain_and_tries_again_now_and_then(machine):
    patience = Patience(allowed=True, spin_s=1e-4)
    tried = [machine.spins(patience) for _ in range(limits.SPIN_PATIENCE + 3 * limits.SPIN_PROBE)]
    assert tried[: limits.SPIN_PATIENCE] == [True] * limits.SPIN_PATIENCE
    rest = tried[limits.SPIN_PATIENCE :]
    assert [at + 1 for at, one in enumerate(rest) if one] == [limits.SPIN_PROBE * n for n in (1, 2, 3)]
    machine.done_at = machine.now + 1e-5
    while not machine.spins(patience):
        machine.done_at = machine.now + 1e-5
    machine.done_at = NEVER
    assert machine.spins(patience)


def test_it_gives_way_to_those_who_have_work(machine):
    """A yield that lasts is not made again soon, and ever less often, up to a bound."""
    patience = Patience(allowed=True, spin_s=1e-3)
    machine.others = 3e-3
    assert machine.spins(patience)
    assert machine.yields == 1
    gaps = []
    for _ in range(9):
        gap = 1
        while not machine.spins(patience):
            gap += 1
        gaps.append(gap)
    assert gaps[:4] == [limits.SPIN_PROBE * n for n in (2, 4, 8, 16)]
    assert gaps[-1] == max(gaps) == limits.SPIN_PROBE_MAX
    machine.others, machine.done_at = 1e-6, NEVER
    while not patience.hits:
        machine.done_at = machine.now + 1e-6
        machine.spins(patience)
    machine.done_at = NEVER
    assert machine.spins(patience)


def test_what_is_found_after_a_long_yield_counts_and_it_gives_way_too(machine):
    patience = Patience(allowed=True, spin_s=1e-3)
    machine.others, machine.done_at = 3e-3, 1e-3
    assert patience.spin(machine.done, NEVER)
    machine.done_at = NEVER
    assert not machine.spins(patience)


def test_on_one_cpu_it_only_looks(machine):
    patience = Patience(allowed=False)
    assert not machine.spins(patience)
    machine.done_at = 0.0
    assert patience.spin(machine.done, NEVER)
    assert machine.yields == 0

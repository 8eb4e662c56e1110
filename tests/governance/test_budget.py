"""Budgets are conserved: what an account holds is the sum of what its family reserved and used, whatever happens."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from weftos import limits
from weftos.errors import InvalidRequest
from weftos.governance.budget import DIMENSIONS, Budgets, LoopGuard, Rule, check_amounts

amounts = st.dictionaries(st.sampled_from(DIMENSIONS), st.integers(1, 50), max_size=3)


class Ledger(RuleBasedStateMachine):
    """The accounts beside a list of all that ever happened, from which each of them is summed anew."""

    def __init__(self) -> None:
        super().__init__()
        self.budgets = Budgets()
        self.numbers = itertools.count(1)
        self.parent: dict[int, int] = {}
        self.alive: dict[int, int] = {}
        self.given: dict[int, dict[str, int]] = {}
        #: number -> pid, path, reserved, charged or None
        self.acts: dict[int, list] = {}
        self.clock = 1_000
        self.overdrawn: set[tuple[int, str]] = set()

    def one(self, data):
        return data.draw(st.sampled_from(sorted(self.alive))) if self.alive else None

    @rule(data=st.data())
    def spawn(self, data):
        pid = len(self.parent) + 1
        above = data.draw(st.sampled_from([0, *sorted(self.alive)]))
        self.parent[pid], self.alive[pid] = above, 1
        self.budgets.begins(pid, above)

    @rule(data=st.data(), given=amounts, claims=st.booleans())
    def set_rule(self, data, given, claims):
        pid = data.draw(st.sampled_from([0, *sorted(self.alive)]))
        self.given[pid] = given
        self.budgets.set_rule(pid, Rule(given, claims))

    @rule(data=st.data(), wanted=amounts)
    def reserve(self, data, wanted):
        if (pid := self.one(data)) is None:
            return
        stop = self.budgets.check(pid, wanted, "", b"", self.clock)
        fits = all(
            amount <= self.given.get(one, {}).get(name, 1 << 60) - self.held(one, name)
            for name, amount in wanted.items()
            for one in self.path(pid)
        )
        assert (stop is None) == fits
        if stop is not None:
            assert stop.given == self.given[stop.rule_pid][stop.dimension]
            assert stop.remaining == stop.given - self.held(stop.rule_pid, stop.dimension) < stop.asked
            return
        number = next(self.numbers)
        self.acts[number] = [pid, self.path(pid), dict(wanted), None]
        self.budgets.reserve(number, pid, self.alive[pid], wanted, "", b"", self.clock)

    @rule(data=st.data(), used=st.none() | amounts, passed=st.integers(0, 60))
    def settle(self, data, used, passed):
        still = [number for number, act in self.acts.items() if act[3] is None]
        if not still:
            return
        number = data.draw(st.sampled_from(still))
        self.clock += passed
        (made,) = [one for one in self.budgets.open_of(self.acts[number][0]) if one.number == number]
        charged = self.budgets.charge_for(made, used, self.clock)
        for name in ("turns", "tool_calls"):
            assert charged.get(name, 0) >= made.amounts.get(name, 0), "an act that was reserved has happened"
        self.end(number, charged)

    def end(self, number, charged):
        pid = self.acts[number][0]
        assert self.budgets.settle(number, pid, charged)
        assert not self.budgets.settle(number, pid, charged), "a reservation ends once"
        self.acts[number][3] = charged

    @rule(data=st.data())
    def crash(self, data):
        if (pid := self.one(data)) is None:
            return
        for made in self.budgets.open_of(pid, self.alive[pid]):
            self.end(made.number, dict(made.amounts))
        self.alive[pid] += 1

    @rule(data=st.data())
    def gone(self, data):
        if (pid := self.one(data)) is None:
            return
        for made in self.budgets.open_of(pid):
            self.end(made.number, dict(made.amounts))
        self.budgets.gone(pid)
        del self.alive[pid]

    @rule(data=st.data())
    def revived(self, data):
        ended = sorted(set(self.parent) - set(self.alive))
        if not ended:
            return
        pid = data.draw(st.sampled_from(ended))
        if self.parent[pid] not in self.alive:
            self.parent[pid] = 0
        self.alive[pid] = 9
        self.budgets.begins(pid, self.parent[pid])

    def path(self, pid):
        found = []
        while pid:
            found.append(pid)
            pid = self.parent[pid]
        return [*found, 0]

    def held(self, pid, name):
        return sum((act[2] if act[3] is None else act[3]).get(name, 0) for act in self.acts.values() if pid in act[1])

    @invariant()
    def every_account_is_the_sum_of_its_family(self):
        for pid in [0, *self.parent]:
            account = self.budgets.account(pid)
            for name in DIMENSIONS:
                reserved = sum(act[2].get(name, 0) for act in self.acts.values() if pid in act[1] and act[3] is None)
                settled = sum(act[3].get(name, 0) for act in self.acts.values() if pid in act[1] and act[3] is not None)
                if account is None:
                    assert reserved == settled == 0
                    continue
                assert (account.reserved.get(name, 0), account.settled.get(name, 0)) == (reserved, settled)
                given = self.given.get(pid, {}).get(name, 0)
                remaining = account.remaining(name)
                assert (remaining is None) == (not given)
                assert remaining is None or reserved + settled + remaining == given

    @invariant()
    def the_way_to_the_top_is_whole(self):
        for pid in self.alive:
            assert [one.pid for one in self.budgets.path(pid)] == self.path(pid)


Ledger.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLedger = Ledger.TestCase


def family(*rules):
    """A chain of agents 1, 2, …, each below the one before, with rules from the kernel's down."""
    budgets = Budgets()
    for pid, one in enumerate(rules):
        if pid:
            budgets.begins(pid, pid - 1)
        budgets.set_rule(pid, one)
    return budgets


def test_the_tightest_rule_wins_and_says_whose_it_is():
    budgets = family(Rule({"tokens": 100}), Rule({"tokens": 50, "cost": 9}), Rule({"tokens": 80}))
    stop = budgets.check(2, {"tokens": 60}, "", b"", 0)
    assert (stop.dimension, stop.rule_pid, stop.remaining, stop.given, stop.asked) == ("tokens", 1, 50, 50, 60)
    assert "60 tokens do not fit the 50 left of 50, by the rule of agent 1" in str(stop)
    assert budgets.tightest(2, "cost") == (9, 1, 9)
    assert budgets.tightest(2, "turns") is None


def test_siblings_draw_from_what_is_left():
    budgets = family(None, Rule({"tokens": 100}))
    for pid in (2, 3):
        budgets.begins(pid, 1)
    budgets.reserve(1, 2, 1, {"tokens": 70}, "", b"", 0)
    assert budgets.check(3, {"tokens": 31}, "", b"", 0) is not None
    assert budgets.check(3, {"tokens": 30}, "", b"", 0) is None


@pytest.mark.parametrize(("claims", "charged"), [(True, 5), (False, 40)])
def test_an_agents_word_counts_only_where_all_rules_take_it(claims, charged):
    budgets = family(Rule({}, claims=True), Rule({"tokens": 100}, claims=claims), Rule({}, claims=True))
    made = budgets.reserve(1, 2, 1, {"tokens": 40, "turns": 2}, "", b"", 0)
    assert budgets.charge_for(made, {"tokens": 5}, 0) == {"tokens": charged, "turns": 2}
    assert budgets.charge_for(made, {"tokens": 400}, 0)["tokens"] == 400
    assert budgets.charge_for(made, None, 0) == {"tokens": 40, "turns": 2}


def test_time_is_measured_not_told():
    budgets = family(Rule({}, claims=True))
    budgets.begins(1, 0)
    made = budgets.reserve(1, 1, 1, {"wall_ms": 100}, "", b"", 5_000)
    assert budgets.charge_for(made, {"wall_ms": 1}, 5_250) == {"wall_ms": 250}
    assert budgets.charge_for(made, {"wall_ms": 1}, 4_000) == {}


def test_what_is_overdrawn_stops_everything_else():
    budgets = family(Rule({"tokens": 10}, claims=True))
    budgets.begins(1, 0)
    made = budgets.reserve(1, 1, 1, {"tokens": 10}, "", b"", 0)
    budgets.settle(1, 1, budgets.charge_for(made, {"tokens": 25}, 0))
    assert budgets.tightest(1, "tokens") == (-15, 0, 10)
    assert budgets.check(1, {"tokens": 1}, "", b"", 0).remaining == -15


@given(repeats=st.integers(1, 5), window=st.integers(1, 10), steps=st.lists(st.integers(0, 4000), max_size=30))
def test_the_guard_stops_the_same_act_in_its_window(repeats, window, steps):
    budgets = family(Rule(loop=LoopGuard(repeats, window)), None)
    now, done = 0, []
    for number, step in enumerate(steps):
        now += step
        recent = sum(time > now - window * 1000 for time in done)
        stop = budgets.check(1, {}, "search", b"a", now)
        assert (stop is not None) == (recent >= repeats)
        if stop is None:
            budgets.reserve(number, 1, 1, {}, "search", b"a", now)
            done.append(now)
        else:
            assert (stop.dimension, stop.rule_pid, stop.given) == ("loop", 0, repeats)
        assert budgets.check(1, {}, "search", b"b", now) is None
        assert budgets.check(1, {}, "search", b"", now) is None


def test_the_nearest_guard_counts_and_zero_is_none():
    budgets = family(Rule(loop=LoopGuard(1, 60)), Rule(loop=LoopGuard(0, 60)), None)
    assert budgets.loop_guard(2) == (LoopGuard(0, 60), 1)
    assert budgets.loop_guard(0) == (LoopGuard(1, 60), 0)
    assert Budgets().loop_guard(7)[0] == LoopGuard()


def test_the_guard_keeps_no_more_than_it_must():
    budgets = family(None, None)
    for number in range(limits.BUDGET_LOOP_ACTIONS + 10):
        budgets.reserve(number, 1, 1, {}, f"a{number}", b"x", 0)
    assert len(budgets.account(1).repeats) == limits.BUDGET_LOOP_ACTIONS


def test_a_child_of_the_gone_is_still_below_its_grandparent():
    budgets = family(None, Rule({"tokens": 5}), None, None)
    budgets.set_rule(2, None)
    budgets.gone(2)
    assert budgets.check(3, {"tokens": 6}, "", b"", 0).rule_pid == 1


@pytest.mark.parametrize("wrong", [{"gold": 1}, {"tokens": -1}, {"tokens": 1 << 60}, {"tokens": True}, {"tokens": 1.5}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(InvalidRequest):
        check_amounts(wrong)

"""Budgets in a running kernel: over the ring of real agents, through crashes of agents, service and kernel."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from weftos import chain
from weftos.errors import WeftError
from weftos.kernel.folding import Fold

TESTER = str(Path(__file__).parent / "programs" / "tester.py")


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def tell(kernel, pid, /, **payload):
    return kernel.call("agent.send", pid=pid, message=payload, timeout_secs=10.0).reply


def reserve(kernel, pid, **amounts):
    return tell(kernel, pid, do="reserve", amounts=amounts)


def give(kernel, pid, **given):
    return kernel.call("budget.set", pid=pid, given=given, reason="a test")


def account(kernel, pid, dimension):
    view = kernel.call("budget.show", pid=pid)
    row = next(row for row in view.dimensions if row.dimension == dimension)
    return row.reserved, row.settled, row.remaining, row.rule_pid


def records(kernel, kind):
    return [record for record in kernel.events() if record.kind == kind]


def kill_agent(kernel, pid):
    before = kernel.call("agent.inspect", pid=pid)
    os.kill(before.os_pid, signal.SIGKILL)

    def again():
        now = kernel.call("agent.inspect", pid=pid)
        return (now.state in ("exited", "running") and now.incarnation > before.incarnation) or now.state == "exited"

    kernel.until(again)


def service_pid(kernel):
    return next(one.os_pid for one in kernel.call("kernel.services") if one.name == "service")


def kill_service(kernel):
    victim = service_pid(kernel)
    os.kill(victim, signal.SIGKILL)
    kernel.await_end(victim)
    kernel.until(lambda: service_pid(kernel) not in (None, victim))

    def answers():
        try:
            return kernel.call("chain.status")
        except WeftError:
            return None

    kernel.until(answers)


def test_an_act_is_reserved_and_settled(kernel):
    a = kernel.spawn("tester").pid
    give(kernel, a, tokens=100)
    number = reserve(kernel, a, tokens=60, turns=1)
    assert account(kernel, a, "tokens") == (60, 0, 40, a)
    refused = reserve(kernel, a, tokens=41)
    assert (refused["stop"], refused["rule"], refused["remaining"]) == ("tokens", a, 40)
    # Without a rule that takes its word, what it reserved is what it used.
    tell(kernel, a, do="used", number=number, amounts={"tokens": 5})
    assert tell(kernel, a, do="settle", number=number) == {"tokens": 60, "turns": 1}
    assert account(kernel, a, "tokens") == (0, 60, 40, a)
    (record,) = records(kernel, "budget.exhausted")
    assert (record.payload["dimension"], record.payload["asked"], record.source) == ("tokens", 41, "budget")


def test_an_agents_word_gives_back_where_the_rule_takes_it(kernel):
    a = kernel.spawn("tester").pid
    kernel.call("budget.set", pid=a, given={"tokens": 100}, claims=True)
    number = reserve(kernel, a, tokens=60)
    tell(kernel, a, do="used", number=number, amounts={"tokens": 5})
    assert tell(kernel, a, do="settle", number=number) == {"tokens": 5}
    assert account(kernel, a, "tokens") == (0, 5, 95, a)


def test_children_draw_on_what_their_parent_has_left(fresh):
    a = fresh.spawn("tester").pid
    child = tell(fresh, a, do="spawn", program=TESTER)
    other = tell(fresh, a, do="spawn", program=TESTER)
    give(fresh, a, cost=1000)
    assert isinstance(reserve(fresh, child, cost=700), int)
    assert reserve(fresh, other, cost=400) == {
        "stop": "cost",
        "rule": a,
        "remaining": 300,
        "text": f"400 cost do not fit the 300 left of 1000, by the rule of agent {a}",
    }
    assert account(fresh, a, "cost") == (700, 0, 300, a)
    give(fresh, 0, cost=750)
    assert account(fresh, other, "cost") == (0, 0, 50, 0)
    assert tell(fresh, other, do="budget")["path"] == [other, a, 0]


def test_a_crash_charges_what_was_reserved(kernel):
    a = kernel.spawn("tester", restart="on-failure").pid
    give(kernel, a, tokens=100)
    reserve(kernel, a, tokens=70)
    kill_agent(kernel, a)
    kernel.until(lambda: account(kernel, a, "tokens") == (0, 70, 30, a))
    (record,) = records(kernel, "budget.settle")
    assert (record.payload["how"], record.payload["charged"]) == ("crash", {"tokens": 70})
    kernel.until(lambda: kernel.call("agent.inspect", pid=a).state == "running")
    assert reserve(kernel, a, tokens=31)["stop"] == "tokens"
    assert isinstance(reserve(kernel, a, tokens=30), int)


def test_an_agent_that_ends_in_order_leaves_nothing_open(kernel):
    a = kernel.spawn("tester").pid
    child = tell(kernel, a, do="spawn", program=TESTER)
    reserve(kernel, child, turns=3)
    kernel.call("agent.stop", pid=child)
    kernel.until(lambda: account(kernel, a, "turns") == (0, 3, None, None))


def test_the_service_adds_up_the_same_after_it_was_killed(kernel):
    a = kernel.spawn("tester").pid
    give(kernel, a, tokens=1000, turns=5)
    first, second = reserve(kernel, a, tokens=100), reserve(kernel, a, tokens=200, turns=1)
    tell(kernel, a, do="settle", number=first)
    before = kernel.call("budget.show", pid=a)
    kill_service(kernel)
    assert kernel.call("budget.show", pid=a) == before
    # A reservation made before is settled after.
    assert tell(kernel, a, do="settle", number=second) == {"tokens": 200, "turns": 1}
    assert account(kernel, a, "tokens") == (0, 300, 700, a)


def test_the_log_says_what_was_held_after_the_kernel_was_killed(cold):
    cold.start()
    a = cold.spawn("tester").pid
    give(cold, a, tokens=100)
    number = reserve(cold, a, tokens=30)
    held = cold.call("kernel.state")
    cold.kill()
    cold.start()
    folded = Fold(bytes.fromhex(held.boot_id)).take_all(chain.read(str(cold.home.chain), stop=held.seq + 1))
    assert folded.budgets == held.budgets
    (mine,) = [one for one in held.budgets if one.pid == a]
    assert (mine.given, mine.reserved, mine.open) == ({"tokens": 100}, {"tokens": 30}, [number])


def test_the_same_act_again_and_again_is_stopped(fresh):
    a = fresh.spawn("tester").pid
    fresh.call("budget.set", pid=0, loop_repeats=3, loop_window_secs=3600)
    for _ in range(3):
        number = tell(fresh, a, do="reserve", action="search", args={"q": "x", "n": 1})
        tell(fresh, a, do="settle", number=number)
    stopped = tell(fresh, a, do="reserve", action="search", args={"n": 1, "q": "x"})
    assert (stopped["stop"], stopped["rule"]) == ("loop", 0)
    assert isinstance(tell(fresh, a, do="reserve", action="search", args={"q": "y"}), int)
    kill_service(fresh)
    assert tell(fresh, a, do="reserve", action="search", args={"q": "x", "n": 1})["stop"] == "loop"


@pytest.mark.parametrize("amounts", [{"gold": 1}, {"tokens": -1}, {"tokens": 1 << 60}])
def test_nonsense_is_refused(kernel, amounts):
    a = kernel.spawn("tester").pid
    assert tell(kernel, a, do="reserve", amounts=amounts)["error"] in ("rpc.invalid", "ipc.protocol")
    with pytest.raises(WeftError):
        give(kernel, a, **amounts)


def test_an_agent_ends_only_its_own_reservations(kernel):
    a, b = kernel.spawn("tester").pid, kernel.spawn("tester").pid
    number = reserve(kernel, a, tokens=5)
    assert tell(kernel, b, do="settle_foreign", number=number)["error"] == "rpc.invalid"
    assert account(kernel, a, "tokens")[0] == 5


def test_an_agent_cannot_give_itself_a_budget(kernel):
    a = kernel.spawn("tester").pid
    give(kernel, a, tokens=5)
    assert tell(kernel, a, do="set_budget", tokens=10**6)["error"] == "gate.capability"
    assert tell(kernel, a, do="append_this", kind="budget.set", payload={})["error"] == "chain.append_refused"
    assert account(kernel, a, "tokens") == (0, 0, 5, a)


def test_a_refusal_is_on_the_log_once_until_something_changes(kernel):
    a = kernel.spawn("tester").pid
    give(kernel, a, tokens=5)
    for _ in range(4):
        reserve(kernel, a, tokens=6)
    assert len(records(kernel, "budget.exhausted")) == 1
    give(kernel, a, tokens=4)
    reserve(kernel, a, tokens=6)
    assert len(records(kernel, "budget.exhausted")) == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_through_crashes_kernel_and_log_agree(fresh, seed):
    chance = random.Random(seed)
    pids = [fresh.spawn("tester", restart="on-failure").pid]
    pids += [tell(fresh, pids[0], do="spawn", program=TESTER) for _ in range(2)]
    numbers: dict[int, list[int]] = {}
    kills = 0
    for _ in range(25):
        pid = chance.choice(pids)
        act = chance.randrange(8)
        try:
            if act < 3:
                made = reserve(fresh, pid, **{chance.choice(["tokens", "cost", "turns"]): chance.randrange(1, 50)})
                numbers.setdefault(pid, []).append(made)
            elif act < 5 and numbers.get(pid):
                tell(fresh, pid, do="settle", number=numbers[pid].pop())
            elif act == 5:
                give(fresh, chance.choice([0, *pids]), tokens=chance.randrange(10, 500))
            elif act == 6 and kills < 4:
                kills += 1
                fresh.until(lambda: fresh.call("agent.inspect", pid=pids[0]).state == "running")
                kill_agent(fresh, pids[0])
                numbers.pop(pids[0], None)
            elif act == 7 and chance.random() < 0.6:
                kill_service(fresh)
        except WeftError:
            pass
        fresh.audit()

"""Budgets in a real service process: what was answered counts once, however often the process is killed."""

from __future__ import annotations

import select
import time

import pytest

from weftos import chain
from weftos.agent.budget import AsyncBudget, Budget, hash_arguments
from weftos.errors import BudgetExhausted, WeftError
from weftos.kernel.folding_budgets import BudgetFold
from weftos.service import protocol as p

SPAWN = {
    "agent_id": "a.1",
    "name": "a",
    "program": "a",
    "args": [],
    "requested_by": 0,
    "restart": "never",
    "limits": {},
    "capabilities": {},
}


@pytest.fixture
def service(kernel):
    """A service in a boot that has begun, with agent 1 and agent 2 below it."""
    kernel.start()
    kernel.ask(p.Append("boot.init", {"version": "1", "boot_id": kernel.boot_id}))
    for pid, parent in ((1, 0), (2, 1)):
        kernel.ask(p.Append("agent.spawn", SPAWN | {"pid": pid, "parent_pid": parent}))
        kernel.agent(pid)
    return kernel


def give(kernel, pid, claims=None, **given):
    reply = kernel.ask(p.BudgetSet(pid, given, claims, None, None, "operator", "a test"))
    assert isinstance(reply, p.Done), reply


def state(kernel):
    reply = kernel.ask(p.BudgetState())
    assert isinstance(reply, p.Done), reply
    return {row["pid"]: row for row in reply.values["budgets"]}


def folded(kernel):
    fold = BudgetFold()
    for record in chain.read(str(kernel.chain_dir)):
        if record.source in ("kernel", "budget"):
            fold.take(record)
    return {row.pid: row for row in fold.held()}


def same(kernel):
    held, log = state(kernel), folded(kernel)
    assert {pid: (row["reserved"], row["settled"], row["open"]) for pid, row in held.items()} == {
        pid: (row.reserved, row.settled, row.open) for pid, row in log.items()
    }
    return held


def test_a_block_settles_what_it_used_also_when_it_fails(service):
    give(service, 0, claims=True, tokens=1000)
    agent, _ = service.agents[2]
    budget = Budget(agent.client())
    with budget.reserve("llm.call", turns=1, tokens=400) as spent:
        spent.used(tokens=100)
        spent.used(tokens=50)
    with pytest.raises(ZeroDivisionError), budget.reserve("llm.call", turns=1, tokens=400):
        raise ZeroDivisionError
    assert same(service)[2]["settled"] == {"turns": 2, "tokens": 550}
    with pytest.raises(BudgetExhausted) as caught:
        budget.reserve("llm.call", tokens=451)
    error = caught.value
    assert (error.dimension, error.rule_pid, error.asked, error.remaining, error.given) == ("tokens", 0, 451, 450, 1000)
    assert spent.settle() == {}, "once is enough"


def test_the_hash_of_arguments_does_not_depend_on_their_order():
    assert hash_arguments({"a": 1, "b": [2]}) == hash_arguments({"b": [2], "a": 1})
    assert hash_arguments({"a": 1}) != hash_arguments({"a": 2})
    with pytest.raises(WeftError, match="cannot be compared"):
        hash_arguments(object())


def test_what_an_agent_may_not_ask_is_refused(service):
    agent, _ = service.agents[1]
    client = agent.client()
    for request in (p.BudgetSet(1, {}, True, None, None, "me", "mine"), p.BudgetState()):
        with pytest.raises(WeftError):
            client.submit(request).result()
    # Whatever it names, it is told of itself.
    assert client.ask(p.BudgetShow(2), p.Done, 5.0).values["pid"] == 1


@pytest.mark.parametrize("incarnations", [(1, 2)])
def test_the_end_of_a_life_charges_what_that_life_reserved(service, incarnations):
    agent, _ = service.agents[1]
    Budget(agent.client()).reserve(tokens=7)
    end = {"pid": 1, "agent_id": "a.1", "os_pid": 9}
    # A life that ended before has nothing to do with it.
    service.ask(p.Append("agent.exit", end | {"incarnation": 0, "exit": {}}))
    assert state(service)[1]["reserved"] == {"tokens": 7}
    service.ask(p.Append("agent.exit", end | {"incarnation": 1, "exit": {}}))
    assert same(service)[1]["settled"] == {"tokens": 7}
    service.ask(p.Append("agent.gone", end | {"incarnation": 1, "reason": "x"}))
    assert same(service)[1]["settled"] == {"tokens": 7}


def test_what_was_answered_counts_once_however_often_the_service_is_killed(service):
    """Requests that lie in the ring are read again; each reservation and settlement is there once."""
    acts, seconds = 400, 3.0
    give(service, 1, turns=10**6)
    agent, _ = service.agents[2]

    def program():
        budget = Budget(agent.client())
        for number in range(acts):
            with budget.reserve("act", args=number, turns=1, tool_calls=2):
                pass
        return 0

    child = service.fork(program)
    deadline = time.monotonic() + seconds
    kills = 0
    while kills < 6 and time.monotonic() < deadline:
        select.select([], [], [], 0.03)
        service.kill_service()
        service.start()
        kills += 1
    assert child.wait(60.0) == 0
    assert kills >= 2
    held = same(service)
    assert held[2]["settled"] == {"turns": acts, "tool_calls": 2 * acts}
    assert (held[2]["open"], held[2]["reserved"], held[1]["settled"]["turns"]) == ([], {}, acts)


def test_a_child_that_dies_between_is_charged_and_nothing_is_lost(service):
    agent, _ = service.agents[2]

    def program():
        budget = Budget(agent.client())
        for _ in range(5):
            budget.reserve(tokens=10)
        return 3

    assert service.fork(program).wait() == 3
    service.kill_service()
    service.start()
    held = same(service)
    assert (held[2]["reserved"], len(held[2]["open"])) == ({"tokens": 50}, 5)
    payload = {"pid": 2, "agent_id": "a.2", "incarnation": 1, "os_pid": 9, "exit": {}}
    service.ask(p.Append("agent.exit", payload))
    assert same(service)[2]["settled"] == {"tokens": 50}


def test_more_reservations_than_are_allowed_are_refused(service):
    from weftos import limits

    agent, _ = service.agents[1]
    budget = Budget(agent.client())
    for _ in range(limits.BUDGET_OPEN_MAX):
        budget.reserve()
    with pytest.raises(WeftError, match="settle some first"):
        budget.reserve()


def test_an_async_program_reserves_as_well(service):
    agent, _ = service.agents[1]
    client = agent.client()

    async def ask(request):
        return client.submit(request).result()

    async def main():
        budget = AsyncBudget(ask)
        async with await budget.reserve("x", tokens=3) as spent:
            spent.used(tokens=1)
        return await budget.show()

    import asyncio

    shown = asyncio.run(main())
    assert {row["dimension"]: row["settled"] for row in shown["dimensions"]}["tokens"] == 1

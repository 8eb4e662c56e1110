"""Appends under a key of the agent's own: once, whatever is killed or started anew in between."""

from __future__ import annotations

import os

import pytest

from weftos import chain
from weftos.errors import AppendRefused, IdempotencyConflict
from weftos.service import protocol as p
from weftos.service.keyed import full_key, scope_of


def test_under_one_key_there_is_one_event(kernel):
    agent = kernel.agent(1, scope="orders")
    kernel.start()
    client = agent.client()
    first = client.append("app.order", {"n": 17}, key="order-17")
    again = client.append("app.order", {"n": 17}, key="order-17")
    assert (again.seq, again.hash, again.durable) == (first.seq, first.hash, True)
    with pytest.raises(IdempotencyConflict, match=f"record {first.seq}"):
        client.append("app.order", {"n": 18}, key="order-17")
    with pytest.raises(IdempotencyConflict):
        client.append("app.other", {"n": 17}, key="order-17")
    with pytest.raises(IdempotencyConflict):
        client.append("app.order", {"n": 17}, subject="x", key="order-17")
    assert client.append("app.order", {"n": 18}, key="order-18").seq == first.seq + 1
    for bad in ("", "x" * 65, "a\nb"):
        with pytest.raises(AppendRefused):
            client.append("app.order", {}, key=bad)
    with pytest.raises(AppendRefused):
        client.append("agent.spawn", {}, key="k")
    assert kernel.stop_service() == 0
    records = [record for record in chain.read(kernel.chain_dir) if record.kind == "app.order"]
    assert [record.header.producer for record in records] == ["key:orders#order-17", "key:orders#order-18"]
    assert chain.verify(kernel.chain_dir).valid


def test_keys_belong_to_a_scope(kernel):
    mine, twin, other = (
        kernel.agent(1, scope="orders"),
        kernel.agent(2, scope="orders"),
        kernel.agent(3, scope="evil/orders"),
    )
    kernel.start()
    first = mine.client().append("app.order", {"n": 1}, key="k")
    assert twin.client().append("app.order", {"n": 1}, key="k").seq == first.seq
    assert other.client().append("app.order", {"n": 2}, key="k").seq == first.seq + 1
    reply = kernel.ask(p.Append("app.info", {"n": 3}, key="k"))
    assert reply.seq == first.seq + 2


def test_keys_outlive_service_kernel_and_agent(kernel):
    agent = kernel.agent(1, scope="orders")
    kernel.start()
    seqs = [agent.client().append("app.order", {"n": n}, key=f"order-{n}").seq for n in range(5)]
    kernel.kill_service()
    kernel.boot_id = os.urandom(16)  # another kernel, another pid, another ring
    anew = kernel.agent(7, scope="orders")
    kernel.start()
    client = anew.client()
    assert [client.append("app.order", {"n": n}, key=f"order-{n}").seq for n in range(5)] == seqs
    with pytest.raises(IdempotencyConflict):
        client.append("app.order", {"n": -1}, key="order-3")
    assert kernel.stop_service() == 0
    kernel.channel.close()
    os.truncate(f"{kernel.chain_dir}.index/log.db", 100)
    last = kernel.agent(8, scope="orders")
    kernel.start()
    assert [last.client().append("app.order", {"n": n}, key=f"order-{n}").seq for n in range(5)] == seqs


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_around_keyed_appends(kernel, kills):
    """The service is killed with keyed appends under way; each is repeated until it is answered, and is there once."""
    agent = kernel.agent(1, scope="orders")
    kernel.start()
    client = agent.client(in_flight=64)
    answers: dict[int, set[int]] = {}
    for round_ in range(kills):
        numbers = range(round_ * 10, round_ * 10 + 20)  # the second half comes again in the next round
        waiting = [(n, client.submit(p.Append("app.order", {"n": n}, key=f"o-{n}"))) for n in numbers]
        waiting[round_ % 20][1].result(30)
        kernel.kill_service()
        assert isinstance(kernel.start(), p.ServiceReady)
        for n, pending in waiting:
            answers.setdefault(n, set()).add(pending.result(30).seq)
    assert kernel.stop_service() == 0
    records = [record for record in chain.read(kernel.chain_dir) if record.kind == "app.order"]
    assert sorted(record.payload["n"] for record in records) == sorted(answers), "each once"
    assert {record.payload["n"]: {record.seq} for record in records} == answers
    assert chain.verify(kernel.chain_dir).valid


def test_an_event_whose_payload_was_taken_away_is_still_there_once(kernel):
    agent = kernel.agent(1, scope="orders")
    kernel.start()
    first = agent.client().append("app.order", {"n": 1}, key="k")
    assert isinstance(kernel.ask(p.Redact(first.seq, "wanted", "me")), p.Done)
    assert agent.client().append("app.order", {"n": 1}, key="k").seq == first.seq


def test_scopes_are_bounded_and_differ():
    scope = ""
    seen = set()
    for n in range(200):
        scope = scope_of(scope, f"agent-{n}")
        assert scope not in seen
        seen.add(scope)
        assert len(("key:" + full_key(scope, "k" * 64)).encode()) <= 128
    assert scope_of("", "a") == "a"
    assert scope_of("a", "b") == "a/b"
    assert scope_of("a" * 40, "b" * 40) != scope_of("a" * 40, "c" * 40)

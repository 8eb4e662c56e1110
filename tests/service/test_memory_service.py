"""Memory through real rings, with the service in a process of its own."""

from __future__ import annotations

import os
import select
import time

import numpy as np
import pytest

from weftos import chain, limits
from weftos.ecc.vectors.filters import Range
from weftos.errors import (
    CollectionExists,
    CollectionNotFound,
    DimensionMismatch,
    EccUnavailable,
    EmbeddingRefused,
    FilterInvalid,
    GovernanceDenied,
    GraphNotFound,
    GraphRefused,
    IdentityMismatch,
    InvalidRequest,
    MemoryQuotaReached,
    MessageTooLarge,
    MetadataInvalid,
    VectorRefused,
)
from weftos.governance.capability import AgentCapabilities, ToolPermissions
from weftos.service import protocol as p
from weftos.service.ecc_protocol import (
    AskMemory,
    EmbedMemory,
    EmitImpulses,
    Found,
    LinkCrossRefs,
    Remembered,
    RunMemory,
    SearchMemory,
)
from weftos.service.ecc_quota import Room
from weftos.service.memory import Causal, Memory
from weftos.service.memory_steps import node_id

TEXTS = ["the pump failed at noon", "a cat sat on the mat", "line three stopped because of the pump"]
NODE = bytes(range(32))


@pytest.fixture
def running(kernel):
    assert isinstance(kernel.start(), p.ServiceReady)
    return kernel


def agent(kernel, pid=1, capabilities=None):
    return kernel.agent(pid, capabilities, scope=f"agent{pid}", ring_bytes=256 * 1024, reply_bytes=256 * 1024).client()


def until(done):
    """Ask until it is so; each question waits for its answer."""
    deadline = time.monotonic() + 150
    while not done():
        assert time.monotonic() < deadline, "it did not come about"


def records(kernel, kind):
    return [one["payload"] for one in kernel.ask(p.ChainTail(200)).records if one["kind"] == kind]


def test_what_is_remembered_is_recalled_by_the_next_question(running):
    memory = Memory(agent(running))
    ids = memory.remember(TEXTS, metadata=[{"n": n, "kind": "note"} for n in range(3)])
    found = memory.recall("when did the pump fail", 2)
    assert [one.id for one in found] == [ids[0], ids[2]]
    assert found[0].text == TEXTS[0]
    assert found[0].metadata == {"n": 0, "kind": "note"}
    assert [one.id for one in memory.recall("pump", where={"n": 2})] == [ids[2]]
    assert [one.id for one in memory.recall("pump", where=Range("n", low=1))] == [ids[2], ids[1]]
    assert memory.fields(["kind", "n"], {"n": 1}) == [(("note", 1), 1)]
    assert memory.ids() == ids
    assert memory.forget(ids[0]) == 1
    assert memory.forget(ids[0]) == 0
    assert [one.id for one in memory.recall("when did the pump fail", 5)] == [ids[2], ids[1]]
    assert memory.get(ids)[0] is None


def test_a_record_of_the_log_vouches_for_every_change(running):
    client = agent(running)
    memory = Memory(client)
    ids = memory.remember(TEXTS)
    Causal(client).link("a", "b")
    record = running.ask(RunMemory("tick")).values["record"]
    told = records(running, "ecc.commit")[-1]
    assert {one["store"]: (one["first"], one["last"]) for one in told["changes"]} == {
        "causal:agent/agent1": (1, 3),
        "vectors": (1, 4),
    }
    assert told["by"]["agent:1"] == 3
    assert {one.record for one in memory.recall("pump", 3)} == {record}
    assert memory.get(ids)[0]["chain_seq"] == record
    assert Causal(client).why("b")[0]["chain_seq"] == record
    # Without an order it comes by itself, and only once.
    memory.forget(ids[0])
    until(lambda: running.ask(AskMemory("status")).values["waiting"] == 0)
    assert running.ask(RunMemory("tick")).values["record"] is None


def test_no_agent_looks_into_the_memory_of_another(running):
    first, second = agent(running), agent(running, 2)
    Memory(first).remember("a secret of the first")
    for space in ("agent/agent1", "agent/agent1/sub", "agent/agent"):
        for act in (
            lambda space=space: Memory(second).recall("secret", space=space),
            lambda space=space: Memory(second).remember("planted", space=space),
            lambda space=space: Memory(second).forget("x", space=space),
            lambda space=space: Memory(second).ids(space=space),
            lambda space=space: Memory(second).drop(space),
            lambda space=space: Causal(second).link("a", "b", space=space),
            lambda space=space: Causal(second).why("a", space=space),
        ):
            with pytest.raises(GovernanceDenied, match="memory space"):
                act()
    denied = records(running, "gate.deny")
    assert len(denied) == 21
    assert {one["action"] for one in denied} >= {"ecc.search", "ecc.embed", "ecc.forget", "ecc.collection.drop"}
    assert Memory(second).recall("secret") == []
    # What is nobody's own is open to all, unless the lists of a capability say otherwise.
    Memory(first).remember("for everybody", space="shared/notes")
    assert Memory(second).recall("everybody", space="shared/notes")[0].text == "for everybody"


def test_lists_of_spaces_are_obeyed(running):
    listed = AgentCapabilities(
        tools=ToolPermissions(memory_access=("shared/*", "agent/agent2"), memory_deny=("shared/x",))
    )
    second, third = agent(running, 2), agent(running, 3, listed)
    Memory(second).remember("own of the second")
    assert Memory(third).recall("own", space="agent/agent2")[0].text == "own of the second"
    Memory(third).remember("y", space="shared/y")
    for space in ("shared/x", "other", ""):
        with pytest.raises(GovernanceDenied):
            Memory(third).remember("x", space=space)


def test_bad_input_is_refused_and_the_index_is_as_it_was(running):
    client = agent(running)
    memory = Memory(client)
    memory.create("vectors", 4, "l2")
    memory.put(["a", "b"], np.eye(2, 4), [{"n": 1}, {"n": 2}], space="vectors")
    before = running.ask(AskMemory("spaces")).values["spaces"][0]["collection"]["content_root"]

    def refused(error, act):
        with pytest.raises(error):
            act()

    nan = np.full((1, 4), np.nan)
    refused(VectorRefused, lambda: memory.put(["c"], nan, space="vectors"))
    refused(DimensionMismatch, lambda: memory.put(["c"], np.ones((1, 5)), space="vectors"))
    refused(VectorRefused, lambda: memory.put([""], np.ones((1, 4)), space="vectors"))
    refused(MetadataInvalid, lambda: memory.put(["c"], np.ones((1, 4)), [{"n": float("inf")}], space="vectors"))
    refused(MetadataInvalid, lambda: memory.put(["c"], np.ones((1, 4)), [{"n": "x" * 20_000}], space="vectors"))
    refused(MessageTooLarge, lambda: memory.put(["c"], np.ones((1, 4)), None, [b"x" * 70_000], space="vectors"))
    refused(DimensionMismatch, lambda: memory.search(np.ones((1, 5)), space="vectors"))
    refused(VectorRefused, lambda: memory.search(nan, space="vectors"))
    refused(InvalidRequest, lambda: memory.search(np.ones((1, 4)), 0, space="vectors"))
    refused(FilterInvalid, lambda: memory.search(np.ones((1, 4)), where=Range("n"), space="vectors"))
    refused(CollectionNotFound, lambda: memory.search(np.ones((1, 4)), space="nowhere"))
    refused(CollectionExists, lambda: memory.create("vectors", 5))
    refused(IdentityMismatch, lambda: memory.recall("words", space="vectors"))
    refused(IdentityMismatch, lambda: memory.remember("words", space="vectors"))
    refused(EmbeddingRefused, lambda: memory.remember("  "))
    refused(VectorRefused, lambda: memory.create("no/ spaces", 4))
    refused(InvalidRequest, lambda: memory.create("x" * 200, 4))
    refused(GraphNotFound, lambda: Causal(client).why("a"))
    refused(GraphRefused, lambda: Causal(client).link("a", "b", "Wishes"))
    refused(GraphRefused, lambda: Causal(client).link("a", "b", weight=float("nan")))
    refused(GraphRefused, lambda: Causal(client).link("a", "a"))
    for question in ("walk", "nothing", "status"):
        reply = client.submit(AskMemory(question, "vectors")).result
        with pytest.raises(Exception, match=r"no question|no causal graph|only the kernel"):
            reply()
    torn = client.submit(EmbedMemory("vectors", ["c"], b"\0" * 15, [{}], [b""]))
    refused(DimensionMismatch, torn.result)
    after = running.ask(AskMemory("spaces")).values["spaces"][0]["collection"]
    assert after["content_root"] == before
    assert [one.id for one in memory.search(np.eye(1, 4), space="vectors")[0]] == ["a", "b"]


def test_searches_of_one_round_are_answered_together_and_in_order(running):
    client = agent(running)
    memory = Memory(client)
    memory.create("v", 8)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 8)).astype("<f4")
    memory.put([str(n) for n in range(50)], vectors, space="v")
    requests = [SearchMemory("v", vectors[n].tobytes(), 1, 1 + n % 2) for n in range(40)]
    requests[7] = SearchMemory("v", vectors[7].tobytes()[:-1], 1, 1)
    waiting = [client.submit(request) for request in requests]
    for n, pending in enumerate(waiting):
        if n == 7:
            with pytest.raises(DimensionMismatch):
                pending.result()
            continue
        found = pending.result()
        assert isinstance(found, Found)
        (matches,) = found.rows()
        assert (matches[0].id, len(matches)) == (str(n), 1 + n % 2)


def test_documents_that_do_not_fit_an_answer_are_left_out_and_that_is_said(running):
    client = running.agent(1, scope="a", ring_bytes=256 * 1024, reply_bytes=64 * 1024).client()
    memory = Memory(client)
    memory.create("v", 2)
    memory.put([str(n) for n in range(10)], np.ones((10, 2)), None, [b"d" * 9000] * 10, space="v")
    found = client.ask(SearchMemory("v", np.ones(2, "<f4").tobytes(), 1, 10), Found, 10)
    assert found.cut
    sizes = [len(one.document) for one in found.rows()[0]]
    whole = sizes.count(9000)
    assert sizes == [9000] * whole + [0] * (10 - whole)
    assert 1 <= whole < 8


def test_a_killed_service_loses_nothing_that_it_acknowledged(running):
    client = agent(running)
    memory, causal = Memory(client), Causal(client)
    ids = memory.remember(TEXTS)
    causal.link("a", "b", weight=0.5)
    content = running.ask(AskMemory("spaces")).values["spaces"]
    for _ in range(3):
        running.kill_service()
        assert isinstance(running.start(), p.ServiceReady)
        assert (
            running.ask(AskMemory("spaces")).values["spaces"][0]["collection"]["content_root"]
            == (content[0]["collection"]["content_root"])
        )
        assert {one.id for one in memory.recall("pump", 5)} == set(ids)
        assert causal.effects("a")[0]["label"] == "b"
    # What no record vouched for at the kill, one does now.
    assert all(one.record for one in memory.recall("pump", 3)) or running.ask(RunMemory("tick")).values["record"]
    assert all(one.record for one in memory.recall("pump", 3))
    assert running.stop_service() == 0
    assert chain.verify(str(running.chain_dir)).valid


def test_impulses_become_nodes_edges_and_cross_references_by_a_tick(running):
    client = agent(running)
    impulses = [(1, 3, NODE, 3, {"text": "the pump failed"}), (3, 3, NODE, 3, {"text": "the pump failed again"})]
    emitted = client.ask(EmitImpulses("", impulses), Remembered, 10)
    assert emitted.count == 2
    until(lambda: running.ask(AskMemory("status")).values["impulses"] == 0)
    told = records(running, "ecc.tick")
    assert sum(one["impulses"] for one in told) == 2
    graph = client.ask(AskMemory("find", "", {"text": "impulse"}), p.Done, 10).values
    assert [one["label"] for one in graph["nodes"]] == ["impulse:BeliefUpdate:1", "impulse:NoveltyDetected:2"]
    walk = client.ask(AskMemory("walk", "", {"node": "impulse:NoveltyDetected:2"}), p.Done, 10).values
    assert {(edge["type"], edge["source"], edge["target"]) for edge in walk["edges"]} == {("Follows", 2, 1)}
    refs = client.ask(AskMemory("crossrefs", "", {"node": NODE}), p.Done, 10).values
    assert [ref["type"] for ref in refs["refs"]] == ["TriggeredBy", "TriggeredBy"]
    assert all(ref["chain_seq"] for ref in refs["refs"])
    ticks = running.ask(AskMemory("ticks")).values
    assert ticks["ticks"]["agent/agent1"]["impulses_done"] == 2


def test_cross_references_name_the_record_that_vouches_for_them(running):
    client = agent(running)
    other = node_id("x")
    added = client.ask(LinkCrossRefs("", [(NODE, 1, other, 4, 0x21), (NODE, 1, other, 4, 0x24)]), Remembered, 10)
    assert added.count == 2
    assert client.ask(LinkCrossRefs("", [(NODE, 1, other, 4, 0x21)]), Remembered, 10).count == 0
    found = client.ask(AskMemory("crossrefs", "", {"node": other.hex()}), p.Done, 10).values
    assert [(one["type"], one["chain_seq"]) for one in found["refs"]] == [("Imports", added.op), ("Contains", added.op)]
    assert client.ask(LinkCrossRefs("", [(NODE, 1, other, 4, 0x21)], remove=True), Remembered, 10).count == 1
    assert client.ask(AskMemory("crossrefs", ""), p.Done, 10).values["types"] == {"Contains": 1}
    assert [one["count"] for one in records(running, "ecc.crossref.create")] == [2, 1]


def test_damaged_memory_refuses_and_log_and_gate_go_on(running):
    client = agent(running)
    Memory(client).remember(TEXTS)
    assert running.stop_service() == 0
    running.channel.close()
    folder = f"{running.chain_dir}.ecc/vectors"
    victim = next(os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith("manifest"))
    with open(victim, "r+b") as file:
        file.seek(20)
        file.write(b"\xff\xff\xff")
    assert isinstance(running.start(), p.ServiceReady)
    with pytest.raises(EccUnavailable):
        Memory(client).recall("pump")
    with pytest.raises(EccUnavailable):
        Causal(client).link("a", "b")
    assert running.ask(AskMemory("status")).values["state"] == "failed"
    assert client.append("app.note", {}).durable
    assert client.gate("tool.exec", {"tool": "x"}) is not None
    assert len(records(running, "ecc.failed")) == 1
    assert running.stop_service() == 0


def test_a_full_disk_costs_memory_alone(running, kernel):
    """The files of memory cannot grow any more; what was written before is still read after a restart."""
    import resource

    client = agent(running)
    memory = Memory(client)
    ids = memory.remember(TEXTS)
    assert running.stop_service() == 0
    running.channel.close()
    room = (
        max(
            os.path.getsize(os.path.join(f"{running.chain_dir}.ecc/vectors", name))
            for name in os.listdir(f"{running.chain_dir}.ecc/vectors")
        )
        + 40_000
    )

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    assert isinstance(running.start(small), p.ServiceReady)
    vectors = np.random.default_rng(2).standard_normal((64, 512))
    with pytest.raises(EccUnavailable):
        for n in range(20):
            memory.remember([f"{n} {row}" for row in range(64)])
    assert len(vectors) == 64
    with pytest.raises(EccUnavailable):
        memory.recall("pump")
    running.kill_service()
    assert isinstance(running.start(), p.ServiceReady)
    assert set(ids) <= set(memory.ids())


def test_the_builder_of_segments_is_gone_with_the_service(running):
    client = agent(running)
    memory = Memory(client)
    memory.create("v", 16)
    vectors = np.random.default_rng(3).standard_normal((9000, 16))
    memory.put([str(n) for n in range(9000)], vectors, space="v")
    until(lambda: running.ask(AskMemory("status")).values["building"])
    children = _children(running.service.pid)
    assert children
    fds = [os.pidfd_open(pid) for pid in children]
    running.kill_service()
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    left = set(fds)
    while left:
        ended = poller.poll(20_000)
        assert ended, "a builder outlived the service"
        for fd, _ in ended:
            poller.unregister(fd)
            left.discard(fd)
    for fd in fds:
        os.close(fd)
    assert isinstance(running.start(), p.ServiceReady)
    found = memory.search(vectors[:3], 1, space="v")
    assert [row[0].id for row in found] == ["0", "1", "2"]
    until(lambda: running.ask(AskMemory("status")).values["segments"] >= 1)
    assert [row[0].id for row in memory.search(vectors[:3], 1, space="v")] == ["0", "1", "2"]


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        direct = [int(one) for one in file.read().split()]
    tasks = os.listdir(f"/proc/{pid}/task")
    for task in tasks:
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            direct += [int(one) for one in file.read().split()]
    return sorted(set(direct))


def test_an_agent_cannot_take_more_than_its_room(kernel):
    kernel.settings["ecc_room"] = Room(agent_bytes=40_000, store_bytes=60_000)
    kernel.start()
    first, child, other = (
        Memory(kernel.agent(pid, scope=scope, ring_bytes=256 * 1024).client())
        for pid, scope in ((1, "first"), (2, "first/child"), (3, "other"))
    )
    first.remember([f"text {n}" for n in range(10)])
    with pytest.raises(MemoryQuotaReached, match="agent_bytes"):
        first.remember([f"more {n}" for n in range(10)])
    with pytest.raises(MemoryQuotaReached, match="'first'"):
        child.remember([f"more {n}" for n in range(10)])
    other.remember([f"text {n}" for n in range(10)])
    with pytest.raises(MemoryQuotaReached, match="store_bytes"):
        other.remember([f"more {n}" for n in range(10)], ids=[f"x{n}" for n in range(10)])
    assert first.forget(first.ids()) == 10
    until(lambda: _fits(first))
    assert kernel.stop_service() == 0


def _fits(memory):
    try:
        return memory.remember("it fits again")
    except MemoryQuotaReached:
        return False


def test_an_agent_cannot_begin_spaces_without_end(running):
    client = agent(running)
    memory, causal = Memory(client), Causal(client)
    for n in range(limits.ECC_AGENT_SPACES):
        memory.create(f"shared/{n}", 2)
    with pytest.raises(MemoryQuotaReached, match="64 collections"):
        memory.create("shared/one-more", 2)
    memory.create("shared/0", 2)
    causal.link("a", "b", space="shared/0")
    for space in ("shared/x", "agent/agent1/x"):
        with pytest.raises(CollectionNotFound):
            causal.link("a", "b", space=space)
        with pytest.raises(CollectionNotFound):
            client.ask(EmitImpulses(space, [(1, 1, NODE, 1, {})]), Remembered, 10)
        with pytest.raises(CollectionNotFound):
            client.ask(LinkCrossRefs(space, [(NODE, 1, NODE, 1, 1)]), Remembered, 10)


def test_more_vectors_than_fit_one_request_or_answer(running):
    """Each is answered at its place, with all its matches."""
    memory = Memory(agent(running))
    vectors = np.random.default_rng(3).normal(size=(700, 8)).astype(np.float32)
    memory.create("v", 8, "cosine")
    memory.put([f"{number:05}" for number in range(700)], vectors, space="v")
    for k in (1, 40):
        rows = memory.search(vectors, k, space="v")
        assert [row[0].id for row in rows] == [f"{number:05}" for number in range(700)]
        assert {len(row) for row in rows} == {k}
    memory.put([f"{number:05}" for number in range(700)], vectors, [{"note": "n" * 300, "n": 1}] * 700, space="v")
    rows = memory.search(vectors[:100], 40, space="v")
    assert [row[0].id for row in rows] == [f"{number:05}" for number in range(100)]
    assert {one.metadata["note"] for row in rows for one in row} == {"n" * 300}
    memory.put(["long"], vectors[:1], [{str(number): "n" * 4000 for number in range(3)}], space="v")
    with pytest.raises(MessageTooLarge, match="smaller k"):
        memory.search(np.tile(vectors[0], (3, 1)), 300, space="v")
    with pytest.raises(InvalidRequest, match="not 0"):
        memory.search(np.empty((0, 8)), space="v")


def test_long_documents_come_back_whole(running):
    memory = Memory(agent(running))
    texts = [f"passage {number} " + chr(97 + number) * 40_000 for number in range(6)]
    memory.remember(texts)
    assert sorted(one.text for one in memory.recall("passage", 6)) == sorted(texts)
    vectors = np.eye(40, dtype=np.float32)
    documents = [bytes([number]) * 3000 for number in range(39)] + [b"z" * 64_000]
    memory.create("v", 40)
    memory.put([str(number) for number in range(40)], vectors, None, documents, space="v")
    rows = memory.search(vectors, 4, space="v", documents=True)
    assert [row[0].document for row in rows] == documents
    assert all(one.document == documents[int(one.id)] for row in rows for one in row)
    assert memory.get(["39"], space="v")[0]["document"] == documents[39]

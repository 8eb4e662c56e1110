"""Requests and answers through real rings, with the service in a process of its own."""

from __future__ import annotations

import select

import msgspec
import pytest

from weftos import limits
from weftos.errors import (
    AppendRefused,
    GateUnavailable,
    GovernanceDenied,
    MessageTooLarge,
    ProtocolError,
    ServiceUnavailable,
)
from weftos.governance.capability import AgentCapabilities
from weftos.governance.gate import Deny, Permit
from weftos.service import protocol as p


@pytest.fixture
def running(kernel):
    assert isinstance(kernel.start(), p.ServiceReady)
    return kernel


def kinds(client, count=20):
    return [record["kind"] for record in client.tail(count)]


def test_an_append_is_answered_and_in_the_log(running):
    client = running.agent(1).client()
    first = client.append("app.note", {"n": 1}, subject="me")
    second = client.append("app.note", {"n": 2}, cause=first.seq, durable=False)
    assert first.durable
    assert not second.durable
    assert second.seq == first.seq + 1
    assert len(first.hash) == 32
    records = client.tail(2)
    assert [record["seq"] for record in records] == [first.seq, second.seq]
    assert {record["source"] for record in records} == {"agent:1"}
    assert records[0]["subject"] == "me"
    assert records[0]["payload"] == {"n": 1}
    assert client.ping() < 5
    assert client.statistics().in_flight == 0
    assert client.statistics().strays == 0


def test_a_batch_has_one_answer_and_lies_in_order(running):
    client = running.agent(1, reply_bytes=256 * 1024).client()
    ack = client.append_batch([p.Event("app.item", {"i": i}) for i in range(100)])
    assert ack.seq - ack.first_seq == 99
    assert [record["payload"]["i"] for record in client.tail(100)] == list(range(100))


def test_a_batch_is_taken_whole_or_not_at_all(running):
    client = running.agent(1).client()
    before = client.head()["records"]
    with pytest.raises(AppendRefused):
        client.append_batch([p.Event("app.good", {}), p.Event("app.bad kind!", {}), p.Event("app.good", {})])
    with pytest.raises(AppendRefused):
        client.append_batch([])
    assert client.head()["records"] == before


@pytest.mark.parametrize("kind", ["agent.spawn", "gate.permit", "kernel.halt", "application", "ipc.grant", ""])
def test_an_agent_that_poses_as_the_kernel_is_refused_and_written_down(running, kind):
    client = running.agent(1).client()
    with pytest.raises(AppendRefused):
        client.append(kind, {})
    record = client.tail(1)[0]
    assert record["kind"] == "capability.deny"
    assert record["source"] == "agent:1"
    assert record["payload"]["kind"] == kind
    with pytest.raises(AppendRefused):
        client.append_batch([p.Event("app.fine", {}), p.Event(kind, {})])
    assert kinds(client, 2) == ["capability.deny"] * 2


def test_an_agent_may_write_its_side_of_the_audit(running):
    client = running.agent(1).client()
    window = {
        "ring": 1, "side": "producer", "producer": 1, "consumer": 2, "incarnation": 1, "window": 0, "prev": bytes(32),
        "from": 0, "to": 8, "first": 1, "last": 1, "count": 1, "bytes": 8, "digest": bytes(32), "lost": [],
        "lost_count": 0, "complete": True, "resumed": False, "final": False, "opened_ns": 1, "closed_ns": 2,
    }  # fmt: skip
    client.append_batch([p.Event("ipc.window", window)])
    assert kinds(client, 1) == ["ipc.window"]
    for wrong in ({"from": -1}, {"digest": b"short"}, {"ring": "1"}, {"more": 1}):
        with pytest.raises(AppendRefused, match="form"):
            client.append("ipc.window", window | wrong)


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": 1 << 63, "y": {"z": float("inf")}}])
def test_what_cannot_be_canonical_is_refused_by_name(running, payload):
    client = running.agent(1).client()
    with pytest.raises(AppendRefused):
        client.append("app.bad", payload)
    assert client.append("app.good", {}).durable


def test_the_gate_answers_by_capability_and_writes_it_down(running):
    rich = running.agent(1).client()
    poor = running.agent(2, AgentCapabilities(can_spawn=False)).client()
    assert isinstance(rich.gate("agent.spawn", {"program": "echo"}), Permit)
    assert isinstance(poor.gate("agent.spawn"), Deny)
    rich.require("agent.spawn")
    with pytest.raises(GovernanceDenied, match="can_spawn"):
        poor.require("agent.spawn")
    with pytest.raises(GovernanceDenied):
        rich.require("kernel.shutdown")
    with pytest.raises(GovernanceDenied, match="table"):
        rich.require("reactor.open")
    records = rich.tail(6)
    assert [r["kind"] for r in records] == [f"gate.{k}" for k in ("permit", "deny", "permit", "deny", "deny", "deny")]
    assert records[0]["payload"]["context"] == {"program": "echo"}
    assert records[1]["subject"] == "agent:2"
    assert records[1]["source"] == "agent:2"


def test_nobody_asks_the_gate_in_the_name_of_another(running):
    client = running.agent(1).client()
    running.agent(2)
    with pytest.raises(ProtocolError):
        client.submit(p.GateCheck("agent.spawn", {}, on_behalf=2)).result()
    with pytest.raises(ProtocolError):
        client.submit(p.GateCheck("agent.spawn", {}, on_behalf=0)).result()
    assert isinstance(client.submit(p.GateCheck("agent.spawn", {}, on_behalf=1)).result(), p.Decided)


def test_the_kernel_asks_and_appends_over_the_socket(running):
    running.agent(1, AgentCapabilities(can_network=False))
    ack = running.ask(p.Append("service.unregister", {"name": "x", "pid": 1}, "agent:1"), source="kernel")
    assert isinstance(ack, p.Appended)
    permit = running.ask(p.GateCheck("agent.spawn", {}, on_behalf=1))
    deny = running.ask(p.GateCheck("net.connect", {}, on_behalf=1))
    unknown = running.ask(p.GateCheck("agent.spawn", {}, on_behalf=99))
    assert isinstance(permit.decision, Permit)
    assert isinstance(deny.decision, Deny)
    assert isinstance(unknown.decision, Deny)
    tail = running.ask(p.ChainTail(3))
    assert [r["kind"] for r in tail.records] == ["service.unregister", "gate.deny", "gate.deny"], (
        "permits are the kernel's to log"
    )
    assert tail.records[0]["source"] == "kernel"


def test_the_same_serial_again_is_the_same_event(running):
    first = running.ask(p.Append("boot.services", {"count": 4}))
    head = running.head()["head_seq"]
    running.replies.clear()
    running.send(p.KernelRequest(1, "kernel", p.Append("boot.services", {"count": 4})))
    again = running.result(1)
    assert (again.seq, again.hash) == (first.seq, first.hash)
    assert running.head()["head_seq"] == head


def test_head_says_how_log_and_service_are(running):
    client = running.agent(1).client()
    client.append("app.x", {})
    values = client.head()
    assert values["state"] == "ok"
    assert values["records"] == values["head_seq"] + 1
    assert bytes.fromhex(values["head_hash"])
    assert values["clients"] == 1
    assert values["appends_total"] >= 1
    assert values["durable_groups"] >= 1
    assert values["pid"] == running.service.pid
    assert set(values) >= {
        "dir", "segments", "bytes", "last_sync_seconds", "mean_group", "requests_total", "rejected", "dropped_replies",
        "uptime_seconds",
    }  # fmt: skip
    msgspec.json.encode(values)


def test_tail_fits_its_answer_however_much_was_asked_for(running):
    agent = running.agent(1, reply_bytes=32 * 1024)
    client = agent.client()
    for i in range(20):
        client.append("app.big", {"i": i, "data": bytes(1000)}, durable=False)
    records = client.tail(10_000)
    assert 1 <= len(records) < 20
    assert records[-1]["payload"]["i"] == 19
    assert client.tail(0) == []
    assert client.tail(-5) == []


def test_many_requests_under_way_are_bounded_and_all_answered(running):
    client = running.agent(1).client(in_flight=100)
    pendings = [client.submit(p.Append("app.n", {"i": i})) for i in range(1000)]
    assert client.in_flight <= 100
    acks = [pending.result() for pending in pendings]
    assert [ack.seq for ack in acks] == list(range(acks[0].seq, acks[0].seq + 1000))
    assert running.head()["mean_group"] > 2, "they shared syncs"


def test_offers_need_no_waiting_and_callbacks_come(running):
    client = running.agent(1).client()
    assert client.offer(p.Append("app.offered", {}))
    got = []
    pending = client.submit(p.Ping())
    pending.on_done(got.append)
    assert pending.result() == p.Pong()
    assert got == [pending]
    pending.on_done(got.append)
    assert got == [pending, pending]
    assert client.in_flight == 0


def test_what_is_too_large_does_not_leave_the_agent(running):
    client = running.agent(1).client()
    with pytest.raises(MessageTooLarge):
        client.append("app.huge", {"data": bytes(limits.SERVICE_REQUEST_BYTES)})
    with pytest.raises(ProtocolError):
        client.append("app.object", {"data": object()})
    assert client.ping() < 5


def test_without_a_service_the_gate_is_shut(kernel):
    agent = kernel.agent(1)
    client = agent.client()
    with pytest.raises(GateUnavailable):
        client.require("agent.spawn", timeout_s=0.1)
    with pytest.raises(ServiceUnavailable):
        client.append("app.x", {}, timeout_s=0.1)
    assert client.in_flight == 0
    # What was put is carried out when there is a service; its answer comes too late for anyone.
    kernel.start()
    assert client.append("app.y", {}).durable
    assert [r["kind"] for r in client.tail(3)] == ["gate.permit", "app.x", "app.y"]
    assert client.statistics().strays == 2


def test_answers_that_found_no_room_are_known_to_be_lost(running):
    client = running.agent(1, reply_bytes=4096).client()
    pendings = [client.submit(p.Append("app.n", {"i": i}, durable=False)) for i in range(900)]
    while running.head()["appends_total"] < 900:
        continue
    client.on_ready()
    client.ping()
    outcomes = [pending.reply for pending in pendings]
    assert all(outcomes), "each has an answer, or is known to have none"
    lost = sum(isinstance(reply, p.Failed) for reply in outcomes)
    assert 0 < lost < 900
    assert client.statistics().lost == lost == running.head()["dropped_replies"]
    assert client.in_flight == 0
    with pytest.raises(ServiceUnavailable, match="may have been done"):
        pendings[outcomes.index(next(r for r in outcomes if isinstance(r, p.Failed)))].result()


def test_a_kernel_that_does_not_read_loses_nothing(running):
    sent = 0
    room = select.poll()
    room.register(running.channel, select.POLLOUT)
    while room.poll(300):
        if running.channel.send(p.KernelRequest(sent + 1, "kernel", p.Append("app.info", {"i": sent}))):
            sent += 1
            running._notify()
    assert 50 < sent < 20_000, "in the end the service stopped reading too"
    running.pump_until(lambda: len(running.replies) == sent)
    assert [running.replies[serial].seq for serial in sorted(running.replies)] == list(
        range(running.replies[1].seq, running.replies[1].seq + sent)
    )

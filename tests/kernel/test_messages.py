"""Messages between agents: grants, scopes, topics, redelivery, dead letters."""

from __future__ import annotations

import os
import signal

import pytest

from weftos import chain


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def tell(kernel, agent_pid, **what):
    return kernel.call("agent.send", pid=agent_pid, message=what, timeout_secs=30.0).reply


def seen(kernel, agent_pid, count):
    return kernel.until(lambda: (got := tell(kernel, agent_pid, do="seen")) and len(got) >= count and got)


def grants(kernel, kind="ipc.grant"):
    return [record.payload for record in kernel.events() if record.kind == kind]


def test_first_contact_is_granted_once_and_the_sender_is_known(kernel):
    a, b = kernel.spawn("tester"), kernel.spawn("tester")
    for n in range(5):
        assert tell(kernel, a.pid, do="send", to=b.pid, payload=f"m{n}") is True
    got = seen(kernel, b.pid, 5)
    assert [(m["payload"], m["sender"], m["type"]) for m in got] == [(f"m{n}", a.pid, "text") for n in range(5)]
    granted = [g for g in grants(kernel) if g["from"] == a.pid]
    assert len(granted) == 1
    assert granted[0]["direct"] is True
    rings = [r for r in kernel.call("agent.inspect", pid=b.pid).rings if r.peer_pid == a.pid]
    assert [(r.direction, r.messages) for r in rings] == [("in", 5)]


def test_calls_match_their_replies(kernel):
    a, echo = kernel.spawn("tester"), kernel.spawn("echo")
    for n in range(20):
        assert tell(kernel, a.pid, do="call", to=echo.pid, payload={"n": n}) == {"n": n}
    assert tell(kernel, a.pid, do="call", to=999, payload=1)["error"] == "process.not_found"
    silent = kernel.spawn("stubborn")
    assert tell(kernel, a.pid, do="call", to=silent.pid, payload=1, timeout=0.2)["error"] == "timeout"


def test_arrays_and_large_messages_arrive_whole(kernel):
    a, b = kernel.spawn("tester"), kernel.spawn("tester")
    tell(kernel, a.pid, do="send_array", to=b.pid, n=5)
    assert tell(kernel, a.pid, do="send_big", to=b.pid, n=3_000_000) is True
    tell(kernel, a.pid, do="send", to=b.pid, payload="after")
    got = seen(kernel, b.pid, 3)
    assert got[0]["payload"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len(got[1]["payload"]) == 3_000_000
    assert got[2]["payload"] == "after"
    sizes = [r.capacity_bytes for r in kernel.call("agent.inspect", pid=a.pid).rings if r.peer_pid == b.pid]
    assert max(sizes) >= 6_000_000


def test_a_message_beyond_every_limit_is_refused_and_nothing_is_sent(kernel):
    a, b = kernel.spawn("tester", limits={"memory_bytes": 0}), kernel.spawn("tester")
    answer = tell(kernel, a.pid, do="send_big", to=b.pid, n=300 * 1024 * 1024)
    assert answer["error"] == "ipc.message_too_large"
    assert tell(kernel, b.pid, do="seen") == []


@pytest.mark.parametrize(
    ("scope", "to_peer", "to_parent", "topic_a", "topic_b", "broadcast"),
    [
        ({"type": "All"}, True, True, True, True, True),
        ({"type": "None"}, False, False, False, False, False),
        ({"type": "ParentOnly"}, False, True, False, False, False),
        ({"type": "Restricted", "pids": ["peer"]}, True, False, False, False, False),
        ({"type": "Topic", "names": ["a"]}, False, False, True, False, False),
    ],
)
def test_the_scope_matrix_holds_between_real_processes(kernel, scope, to_peer, to_parent, topic_a, topic_b, broadcast):
    parent, peer = kernel.spawn("tester"), kernel.spawn("tester")
    if "pids" in scope:
        scope = scope | {"pids": [peer.pid]}
    agent = kernel.spawn("tester", parent_pid=parent.pid, capabilities={"ipc_scope": scope})
    allowed = {
        "peer": tell(kernel, agent.pid, do="send", to=peer.pid, payload="x"),
        "parent": tell(kernel, agent.pid, do="send", to=parent.pid, payload="x"),
        "a": tell(kernel, agent.pid, do="publish", topic="a", payload="x"),
        "b": tell(kernel, agent.pid, do="subscribe", topic="b"),
        "all": tell(kernel, agent.pid, do="broadcast", payload="x"),
    }
    refused = {name for name, answer in allowed.items() if isinstance(answer, dict)}
    expected = {"peer": to_peer, "parent": to_parent, "a": topic_a, "b": topic_b, "all": broadcast}
    assert refused == {name for name, yes in expected.items() if not yes}
    assert all(answer["error"] == "gate.capability" for answer in allowed.values() if isinstance(answer, dict))
    # The agent's own client refuses, and tells the kernel without waiting.
    kernel.until(lambda: len(grants(kernel, "ipc.deny")) == len(refused))


def test_topics_reach_subscribers_old_and_new_and_only_them(kernel):
    publisher, early, late, other = (kernel.spawn("tester") for _ in range(4))
    tell(kernel, early.pid, do="subscribe", topic="news")
    assert tell(kernel, publisher.pid, do="publish", topic="news", payload="one") == 1
    tell(kernel, late.pid, do="subscribe", topic="news")
    assert kernel.until(lambda: tell(kernel, publisher.pid, do="publish", topic="news", payload="two") == 2)
    assert kernel.call("ipc.publish", topic="news", message="three").delivered == 2
    assert [m["payload"] for m in seen(kernel, early.pid, 3)][0] == "one"
    got = seen(kernel, late.pid, 2)
    assert {m["target"] for m in got} == {"Topic(name='news')"}
    assert tell(kernel, other.pid, do="seen") == []
    topics = kernel.call("ipc.topics")
    assert [(t.topic, t.subscribers, t.publishers) for t in topics] == [
        ("news", [early.pid, late.pid], [publisher.pid])
    ]
    tell(kernel, early.pid, do="unsubscribe", topic="news")
    tell(kernel, early.pid, do="clear")
    assert kernel.until(lambda: tell(kernel, publisher.pid, do="publish", topic="news", payload="four") == 1)
    assert tell(kernel, early.pid, do="seen") == []


def test_a_topic_grant_is_no_permission_for_direct_messages(kernel):
    """The ring is there for the topic; a direct message through it needs a grant of its own, and gets one here."""
    publisher, subscriber = kernel.spawn("tester"), kernel.spawn("tester")
    tell(kernel, subscriber.pid, do="subscribe", topic="t")
    tell(kernel, publisher.pid, do="publish", topic="t", payload="x")
    tell(kernel, publisher.pid, do="send", to=subscriber.pid, payload="direct")
    assert [m["payload"] for m in seen(kernel, subscriber.pid, 2)] == ["x", "direct"]
    last = [g for g in grants(kernel) if g["from"] == publisher.pid][-1]
    assert (last["direct"], last["topics"]) == (True, ["t"])


def test_a_broadcast_reaches_everyone_else(kernel):
    agents = [kernel.spawn("tester") for _ in range(3)]
    assert tell(kernel, agents[0].pid, do="broadcast", payload="all") == 2
    for agent in agents[1:]:
        assert seen(kernel, agent.pid, 1)[0]["target"] == "Broadcast()"


def test_services_are_found_by_name(kernel):
    a, owner = kernel.spawn("tester"), kernel.spawn("tester")
    assert tell(kernel, a.pid, do="call", to="service:oracle", payload=1)["error"] == "service.not_found"
    assert tell(kernel, owner.pid, do="serve", name="oracle") is True
    answer = tell(kernel, a.pid, do="call", to="service:oracle/ask", payload={"do": "who"})
    assert answer == [owner.pid, 1, 0]
    assert tell(kernel, a.pid, do="serve", name="oracle")["error"] == "rpc.invalid"
    assert {s.name for s in kernel.call("kernel.services")} == {"service", "ecc.hnsw", "ecc.cognitive_tick", "oracle"}
    kernel.call("agent.stop", pid=owner.pid)
    assert tell(kernel, a.pid, do="call", to="service:oracle", payload=1)["error"] == "service.not_found"


def test_remote_targets_are_refused_with_their_reason(kernel):
    from weftos.ipc.targets import Process, RemoteNode, target_to_wire

    with pytest.raises(Exception, match="remote"):
        target_to_wire(RemoteNode("n-1", Process(1)))


def test_the_inbox_survives_its_reader_and_only_the_handled_message_comes_again(kernel, tmp_path):
    log = tmp_path / "seen"
    agent = kernel.spawn("poison", args=[str(log)], restart="on-failure", sandbox={"writable": [str(tmp_path)]})
    kernel.call("agent.suspend", pid=agent.pid)
    for payload in ("one", "two", "three", "four"):
        kernel.call("agent.send", pid=agent.pid, message=payload, wait=False)
    os.kill(agent.os_pid, signal.SIGKILL)
    assert kernel.call("agent.send", pid=agent.pid, message="ask", timeout_secs=20.0).reply == 2
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["one", "two", "three", "four", "ask"]


def test_a_poisoned_message_is_delivered_three_times_and_then_a_dead_letter(fresh, tmp_path):
    log = tmp_path / "seen"
    agent = fresh.spawn("poison", args=[str(log)], restart="on-failure", sandbox={"writable": [str(tmp_path)]})
    for payload in ("before", "poison", "after"):
        fresh.call("agent.send", pid=agent.pid, message=payload, wait=False)
    assert fresh.call("agent.send", pid=agent.pid, message="ask", timeout_secs=20.0).reply == 4
    lines = [line.split() for line in log.read_text().splitlines()]
    assert lines == [
        ["before", "0", "1"],
        ["poison", "0", "1"],
        ["poison", "1", "2"],
        ["poison", "2", "3"],
        ["after", "0", "4"],
        ["ask", "0", "4"],
    ]
    letters = fresh.call("ipc.dead-letters", count=0)
    assert [(x.reason, x.target, x.deliveries, x.payload_type) for x in letters] == [("poisoned", agent.pid, 3, "text")]
    assert "SIGKILL" in letters[0].detail
    fresh.until(lambda: "ipc.dead_letter" in fresh.kinds())


def test_unread_messages_of_an_ended_agent_are_dead_letters_and_its_senders_are_told(fresh):
    a, b = fresh.spawn("tester"), fresh.spawn("tester")
    tell(fresh, a.pid, do="send", to=b.pid, payload="read")
    seen(fresh, b.pid, 1)
    fresh.call("agent.suspend", pid=b.pid)
    for n in range(3):
        tell(fresh, a.pid, do="send", to=b.pid, payload=f"unread {n}")
    fresh.call("agent.stop", pid=b.pid, graceful=False)
    letters = fresh.until(lambda: fresh.call("ipc.dead-letters", count=0))
    # The operator's last question was answered, and perhaps not yet given up when the agent was suspended.
    others = [(x.reason, x.sender, x.target) for x in letters if x.sender]
    assert others == [("agent_exited", a.pid, b.pid)] * 3
    assert tell(fresh, a.pid, do="send", to=b.pid, payload="late")["error"] in ("process.exited", "ipc.channel_closed")


def test_what_an_ended_sender_left_is_still_read(kernel):
    a, b = kernel.spawn("tester"), kernel.spawn("tester")
    kernel.call("agent.suspend", pid=b.pid)
    for n in range(10):
        tell(kernel, a.pid, do="send", to=b.pid, payload=f"m{n}")
    kernel.call("agent.stop", pid=a.pid)
    kernel.call("agent.resume", pid=b.pid)
    assert [m["payload"] for m in seen(kernel, b.pid, 10)] == [f"m{n}" for n in range(10)]
    kernel.until(lambda: not [r for r in kernel.call("agent.inspect", pid=b.pid).rings if r.peer_pid == a.pid])


def test_a_full_ring_tells_the_operator_and_a_patient_agent_waits(kernel):
    from weftos.errors import RingFull

    b = kernel.spawn("tester")
    kernel.call("agent.suspend", pid=b.pid)
    with pytest.raises(RingFull, match="full"):
        for _ in range(1000):
            kernel.call("agent.send", pid=b.pid, message="x" * 1000, wait=False)
    kernel.call("agent.resume", pid=b.pid)
    assert len(seen(kernel, b.pid, 100)) >= 100


def test_audit_windows_of_both_ends_agree_on_the_chain(kernel):
    a, b = kernel.spawn("tester"), kernel.spawn("tester")
    for _ in range(12):
        tell(kernel, a.pid, do="send_big", to=b.pid, n=100_000)
    seen(kernel, b.pid, 12)
    kernel.call("agent.stop", pid=a.pid)
    kernel.call("agent.stop", pid=b.pid)
    kernel.stop()
    windows = [r.payload for r in kernel.events() if r.kind == "ipc.window"]
    assert {w["side"] for w in windows} == {"producer", "consumer"}
    report = chain.verify(str(kernel.home.chain))
    assert report.valid, report.errors
    assert report.checks.windows_paired > 0


def test_an_inbox_of_thousands_that_loses_its_reader_costs_nobody_else_anything(fresh):
    """One event for all of them, and fresh, service and everybody else go on."""
    a, b = fresh.spawn("tester"), fresh.spawn("tester")
    tell(fresh, a.pid, do="send", to=b.pid, payload="first")
    seen(fresh, b.pid, 1)
    fresh.call("agent.suspend", pid=b.pid)
    sent = tell(fresh, a.pid, do="flood", to=b.pid, n=12_000)
    assert sent == 12_000
    fresh.call("agent.stop", pid=b.pid, graceful=False)
    events = fresh.until(lambda: [e for e in grants(fresh, "ipc.dead_letter") if e["from"] == a.pid])
    assert [(e["count"], e["from"], e["target"], e["reason"]) for e in events] == [
        (12_000, a.pid, b.pid, "agent_exited")
    ]
    assert len(fresh.call("ipc.dead-letters", count=0)) == 10_000
    assert tell(fresh, a.pid, do="seen") == []
    assert fresh.call("kernel.health").overall == "healthy"
    assert next(s.restarts for s in fresh.call("kernel.services")) == 0

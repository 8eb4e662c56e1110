"""Capabilities that change while agents live, driven from outside; each test ends with an audit of kernel and log."""

from __future__ import annotations

import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from weftos import chain
from weftos.errors import CapabilityDenied, InvalidRequest, WeftError
from weftos.kernel.folding import Fold

TESTER = str(Path(__file__).parent / "programs" / "tester.py")


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def tell(kernel, pid, /, **payload):
    return kernel.call("agent.send", pid=pid, message=payload, timeout_secs=10.0).reply


def change(kernel, what, pid, *rights):
    return kernel.call(f"capability.{what}", pid=pid, rights=list(rights), reason="a test")


def records(kernel, kind):
    return [record for record in kernel.events() if record.kind == kind]


def messages(kernel, pid):
    return [one["payload"] for one in tell(kernel, pid, do="seen")]


def test_a_revoked_right_closes_the_ring_at_once(kernel):
    a, b = kernel.spawn("tester").pid, kernel.spawn("tester").pid
    assert tell(kernel, a, do="send", to=b, payload="one") is True
    changed = change(kernel, "revoke", a, "can_ipc")
    assert (changed.changed, changed.epoch, changed.narrowed) == (True, 2, [])
    assert kernel.call("kernel.state").rings == []
    assert tell(kernel, a, do="send", to=b, payload="two")["error"] == "gate.capability"
    kernel.until(lambda: messages(kernel, b) == ["one"])
    # Granted again it works again, and the log has all of it.
    assert change(kernel, "grant", a, "can_ipc").epoch == 3
    assert tell(kernel, a, do="send", to=b, payload="three") is True
    kernel.until(lambda: messages(kernel, b) == ["one", "three"])
    assert [record.payload["epoch"] for record in records(kernel, "capability.revoke")] == [2]
    kernel.until(lambda: records(kernel, "ipc.deny"))


def test_a_narrower_scope_closes_the_rings_outside_of_it_and_no_other(kernel):
    a, b, c = (kernel.spawn("tester").pid for _ in range(3))
    for target in (b, c):
        tell(kernel, a, do="send", to=target, payload="x")
    change(kernel, "revoke", a, f"ipc_scope=restricted:{b}")
    assert [(ring.src, ring.dst) for ring in kernel.call("kernel.state").rings] == [(a, b)]
    assert tell(kernel, a, do="send", to=b, payload="y") is True
    assert tell(kernel, a, do="broadcast", payload="z")["error"] == "gate.capability"


def test_topics_are_left_and_publishing_ends(kernel):
    a, b, c = (kernel.spawn("tester").pid for _ in range(3))
    tell(kernel, b, do="subscribe", topic="t")
    tell(kernel, c, do="subscribe", topic="t")
    assert tell(kernel, a, do="publish", topic="t", payload=1) == 2
    change(kernel, "revoke", a, "ipc_scope=topic:other")
    assert tell(kernel, a, do="publish", topic="t", payload=2)["error"] == "gate.capability"
    change(kernel, "revoke", c, "ipc_scope=none")
    held = kernel.call("kernel.state")
    assert [(one.topic, one.subscribers, one.publishers) for one in held.topics] == [("t", [b], [])]
    assert held.rings == []
    change(kernel, "grant", a, "ipc_scope=all")
    assert tell(kernel, a, do="publish", topic="t", payload=3) == 1
    kernel.until(lambda: messages(kernel, b) == ["1", "3"])
    assert messages(kernel, c) == ["1"]


def test_a_ring_that_is_still_needed_for_a_topic_is_made_anew(kernel):
    a, b = kernel.spawn("tester").pid, kernel.spawn("tester").pid
    tell(kernel, b, do="subscribe", topic="t")
    tell(kernel, a, do="send", to=b, payload="direct")
    tell(kernel, a, do="publish", topic="t", payload="p1")
    change(kernel, "revoke", a, "ipc_scope=topic:t")
    (ring,) = kernel.call("kernel.state").rings
    assert (ring.direct, ring.topics) == (False, ["t"])
    assert tell(kernel, a, do="send", to=b, payload="direct")["error"] == "gate.capability"
    assert tell(kernel, a, do="publish", topic="t", payload="p2") == 1
    kernel.until(lambda: messages(kernel, b) == ["direct", "p1", "p2"])


def test_without_messages_no_service_is_offered(kernel):
    a = kernel.spawn("tester").pid
    tell(kernel, a, do="serve", name="s")
    change(kernel, "revoke", a, "can_ipc")
    assert kernel.call("kernel.state").services == []
    assert tell(kernel, a, do="serve", name="s")["error"] == "gate.denied"


def test_artifacts_are_refused(kernel):
    a = kernel.spawn("tester").pid
    digest = tell(kernel, a, do="put_artifact", text="hello")
    assert tell(kernel, a, do="get_artifact", hash=digest) == "hello"
    change(kernel, "revoke", a, "can_store")
    assert tell(kernel, a, do="get_artifact", hash=digest)["error"] in ("gate.denied", "gate.capability")


def test_narrowing_a_parent_narrows_all_below_it(kernel):
    top = kernel.spawn("tester").pid
    middle = tell(kernel, top, do="spawn", program=TESTER)
    low = tell(kernel, middle, do="spawn", program=TESTER)
    tell(kernel, low, do="send", to=top, payload="x")
    changed = change(kernel, "revoke", top, "ipc_scope=none", "can_store")
    assert changed.narrowed == [middle, low]
    for pid in (middle, low):
        found = kernel.call("capability.show", pid=pid)
        assert (found.capabilities["can_store"], found.epoch) == (False, 2)
        assert found.capabilities["ipc_scope"]["type"] == "ParentOnly"
    assert kernel.call("kernel.state").rings == []
    kinds = [record.payload for record in records(kernel, "capability.revoke")]
    # The deepest first: at no point of the log does a child hold more than its parent.
    assert [one["pid"] for one in kinds] == [low, middle, top]
    assert [one.get("because_of") for one in kinds] == [top, top, None]
    with pytest.raises(CapabilityDenied, match=f"its parent, agent {middle}, has not"):
        change(kernel, "grant", low, "can_store")


def test_a_second_revoke_changes_nothing(kernel):
    a = kernel.spawn("tester").pid
    first = change(kernel, "revoke", a, "can_spawn", "tools=fs.*")
    again = change(kernel, "revoke", a, "can_spawn", "tools=fs.*")
    assert (first.changed, again.changed, again.epoch, again.record) == (True, False, 2, None)
    assert len(records(kernel, "capability.revoke")) == 1


def test_beyond_its_start_takes_an_elevation_with_an_approval_on_the_log(kernel):
    a = kernel.spawn("tester").pid
    with pytest.raises(CapabilityDenied, match="was not started with can_network"):
        change(kernel, "grant", a, "can_network")
    assert change(kernel, "elevate", a, "can_network").at_restart == ["can_network"]
    (record,) = records(kernel, "capability.elevate")
    assert (record.payload["approved_by"], record.payload["by"]) == ("operator", "operator")
    # From now on it may be given back without one.
    change(kernel, "revoke", a, "can_network")
    assert change(kernel, "grant", a, "can_network").capabilities["can_network"] is True
    denied = [record.payload["action"] for record in records(kernel, "capability.deny")]
    assert denied == ["capability.grant"]


def test_a_child_cannot_be_elevated_beyond_its_parent(kernel):
    a = kernel.spawn("tester").pid
    child = tell(kernel, a, do="spawn", program="echo")
    with pytest.raises(CapabilityDenied, match=f"may not have can_network: its parent, agent {a}, has not"):
        change(kernel, "elevate", child, "can_network")
    change(kernel, "elevate", a, "can_network")
    assert change(kernel, "elevate", child, "can_network").changed


def test_what_an_agent_asks_for_waits_for_somebody(kernel):
    a = kernel.spawn("tester").pid
    answer = tell(kernel, a, do="ask_for", rights=["can_network"], reason="I fetch prices")
    assert answer["error"] == "gate.deferred"
    (record,) = records(kernel, "capability.request")
    assert (record.payload["pid"], record.payload["rights"], record.payload["decision"]) == (
        a,
        ["can_network"],
        "defer",
    )
    assert f"weaver gate approve {records(kernel, 'gate.request')[0].seq}" in answer["text"]
    assert kernel.call("capability.show", pid=a).epoch == 1
    assert tell(kernel, a, do="ask_for", rights=["can_ipc"], reason="has it")["epoch"] == 1
    assert tell(kernel, a, do="ask_for", rights=["can_fly"], reason="x")["error"] == "rpc.invalid"


@pytest.mark.parametrize("rights", [["can_fly"], ["tools=a*b"], ["limits.memory_bytes=3"]])
def test_nonsense_is_refused(kernel, rights):
    a = kernel.spawn("echo").pid
    for what in ("grant", "revoke", "elevate"):
        with pytest.raises(InvalidRequest):
            change(kernel, what, a, *rights)


def test_a_new_incarnation_has_what_the_log_says(kernel):
    a = kernel.spawn("tester", restart="on-failure").pid
    change(kernel, "revoke", a, "ipc_scope=none", "can_spawn")
    os.kill(kernel.call("agent.inspect", pid=a).os_pid, signal.SIGKILL)
    kernel.until(lambda: kernel.call("agent.inspect", pid=a).incarnation == 2)
    kernel.until(lambda: kernel.call("agent.inspect", pid=a).state == "running")
    assert tell(kernel, a, do="allows", action="ipc.send", target=7) is False
    assert tell(kernel, a, do="spawn", program="echo")["error"] == "gate.capability"
    assert tell(kernel, a, do="epoch") == 2
    shown = kernel.call("agent.inspect", pid=a)
    assert (shown.epoch, shown.changed_by, shown.changed_why) == (2, "operator", "a test")


def test_a_service_that_was_killed_decides_as_before(kernel):
    a, b = kernel.spawn("tester").pid, kernel.spawn("tester").pid
    change(kernel, "revoke", a, "can_spawn")
    kernel.call("kernel.restart-service", name="service")
    assert tell(kernel, a, do="gate", action="agent.spawn") == "Deny"
    assert tell(kernel, b, do="gate", action="agent.spawn") == "Permit"


def test_a_change_waits_for_a_service_that_was_killed(kernel):
    a = kernel.spawn("tester").pid
    victim = next(one.os_pid for one in kernel.call("kernel.services") if one.name == "service")
    os.kill(victim, signal.SIGKILL)
    assert kernel.await_end(victim)
    assert change(kernel, "revoke", a, "can_exec_tools").epoch == 2
    assert tell(kernel, a, do="gate", action="tool.exec") == "Deny"
    assert len(records(kernel, "capability.revoke")) == 1


def test_an_ended_agent_comes_back_with_no_more_than_its_parent(kernel):
    a = kernel.spawn("tester").pid
    child = tell(kernel, a, do="spawn", program=TESTER)
    kernel.call("agent.stop", pid=child)
    change(kernel, "revoke", a, "can_store")
    kernel.call("agent.restart", pid=child)
    assert kernel.call("capability.show", pid=child).capabilities["can_store"] is False
    # It is below its parent again.
    assert change(kernel, "revoke", a, "can_network", "can_exec_tools").narrowed == [child]


def test_an_agent_that_was_refused_here_is_on_the_log_once(kernel):
    a = kernel.spawn("tester").pid
    change(kernel, "revoke", a, "can_exec_tools")
    for _ in range(5):
        assert tell(kernel, a, do="require_right", action="tool.exec", target="fs.read")["error"] == "gate.capability"
    kernel.until(lambda: records(kernel, "capability.deny"))
    tell(kernel, a, do="who")
    assert [record.payload["action"] for record in records(kernel, "capability.deny")] == ["tool.exec"]


def test_of_spawns_that_race_a_revoke_none_has_what_was_taken(kernel):
    """Eight children are asked for while their parent loses a right: those that are there have lost it, too."""
    parent = kernel.spawn("tester").pid

    def spawn(_number):
        try:
            return kernel.call("agent.spawn", program="echo", restart="never", parent_pid=parent).pid
        except WeftError:
            return None

    with ThreadPoolExecutor(9) as pool:
        spawning = pool.map(spawn, range(8))
        revoking = pool.submit(change, kernel, "revoke", parent, "can_network", "can_store", "limits.messages=77")
        children = [pid for pid in spawning if pid is not None]
        revoking.result()
    assert children or records(kernel, "agent.spawn")
    for pid in children:
        shown = kernel.call("capability.show", pid=pid)
        assert (shown.capabilities["can_store"], shown.limits["messages"]) == (False, 77)


def test_a_large_family_is_narrowed_whole(kernel):
    parent = kernel.spawn("tester").pid
    listed = [f"tools=a{n}.*" for n in range(30)]
    for _ in range(12):
        kernel.call("agent.spawn", program="echo", restart="never", parent_pid=parent)
    changed = change(kernel, "revoke", parent, *listed)
    assert len(changed.narrowed) == 12
    assert len(kernel.call("capability.show", pid=changed.narrowed[-1]).capabilities["tools"]["deny"]) == 30


def test_who_ignores_its_client_is_refused_all_the_same(kernel):
    """The page is for honest programs. Another one asks the kernel, and gets its answer there."""
    a, b = kernel.spawn("tester").pid, kernel.spawn("tester").pid
    change(kernel, "revoke", a, "can_ipc", "can_spawn", "can_store")
    for body in ("channel", "topic", "subscribe", "broadcast", "spawn", "artifact"):
        answer = tell(kernel, a, do="ask_raw", body=body, pid=b)
        assert answer["error"] in ("gate.capability", "gate.denied"), (body, answer)
    assert kernel.call("kernel.state").rings == []


def test_roles_bound_whom_one_may_start(kernel):
    boss = kernel.spawn("tester", role="supervisor").pid
    worker = tell(kernel, boss, do="spawn_role", program="echo", role="worker")
    shown = kernel.call("capability.show", pid=worker)
    assert (shown.role, shown.capabilities["can_spawn"]) == ("worker", False)
    for role in ("supervisor", "user", "root", "", "boss"):
        assert "error" in tell(kernel, boss, do="spawn_role", program="echo", role=role)
    with pytest.raises(InvalidRequest):
        kernel.spawn("echo", role="boss")


def test_what_a_log_says_can_be_added_up_after_the_kernel_was_killed(cold):
    cold.start()
    a = cold.spawn("tester").pid
    child = tell(cold, a, do="spawn", program="echo")
    change(cold, "elevate", a, "can_network")
    change(cold, "revoke", a, "can_store", "limits.messages=100")
    held = cold.call("kernel.state")
    cold.kill()
    cold.start()
    folded = Fold(bytes.fromhex(held.boot_id)).take_all(chain.read(str(cold.home.chain), stop=held.seq + 1))
    found = {one.pid: one for one in folded.agents}
    assert found == {one.pid: one for one in held.agents}
    assert (found[a].capabilities["can_network"], found[child].limits["messages"], found[a].epoch) == (True, 100, 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_each_change_kernel_and_log_agree_and_children_are_within(kernel, seed):
    chance = random.Random(seed)
    texts = ["can_spawn", "can_ipc", "can_store", "ipc_scope=all", "ipc_scope=none", "ipc_scope=topic:t", "tools=a.*"]
    pids = [kernel.spawn("tester").pid for _ in range(2)]
    for step in range(30):
        pid = chance.choice(pids)
        try:
            act = chance.randrange(6)
            if act == 0:
                pids.append(tell(kernel, pid, do="spawn", program=TESTER))
            elif act == 1:
                tell(kernel, pid, do="send", to=chance.choice(pids), payload="x")
            elif act == 2:
                tell(kernel, pid, do=chance.choice(["subscribe", "publish"]), topic="t", payload="x")
            else:
                change(kernel, chance.choice(["grant", "revoke", "revoke", "elevate"]), pid, chance.choice(texts))
        except WeftError:
            pass
        pids = [one for one in pids if isinstance(one, int)]
        kernel.audit()
        rows = {one.pid: one for one in kernel.call("kernel.state").agents}
        for row in rows.values():
            above = rows.get(row.parent_pid)
            for name in ("can_spawn", "can_ipc", "can_store") if above else ():
                assert above.capabilities[name] or not row.capabilities[name], (step, row.pid, name)

"""The resource tree of a running kernel: it follows what happens, and is the same again after any end."""

from __future__ import annotations

import itertools
import os
import signal

import msgspec
import pytest
from forged_records import append_forged

from weftos import chain
from weftos.errors import WeftError
from weftos.tree.deltas import LOG_KINDS, from_payload
from weftos.tree.tree import ResourceTree


def root_hash(kernel):
    return kernel.call("resource.stats").root_hash


def state_of(kernel, path):
    return kernel.call("resource.inspect", path=path).metadata.get("state")


def folded(kernel):
    """The tree as the log adds it up, computed from its files."""
    tree = ResourceTree()
    for record in chain.read(str(kernel.home.chain)):
        if record.source == "tree" and record.kind in LOG_KINDS:
            tree.apply(from_payload(record.kind, record.payload), record.seq, record.t_ns)
    return tree


def test_the_tree_follows_an_agent_through_its_life(kernel):
    agent = kernel.spawn("echo", name="echo")
    path = f"/kernel/agents/{agent.agent_id}"
    kernel.until(lambda: state_of(kernel, path) == "running")
    detail = kernel.call("resource.inspect", path=path)
    assert (detail.kind, detail.metadata["pid"], detail.metadata["program"]) == ("agent", agent.pid, "echo")
    kernel.call("agent.suspend", pid=agent.pid)
    kernel.until(lambda: state_of(kernel, path) == "suspended")
    kernel.call("agent.resume", pid=agent.pid)
    kernel.until(lambda: state_of(kernel, path) == "running")
    kernel.call("agent.stop", pid=agent.pid)
    kernel.until(lambda: state_of(kernel, path) == "exited")
    changed = chain.tail(str(kernel.home.chain), 50)
    newest = [r for r in changed if r.source == "tree"][-1]
    assert newest.seq == kernel.call("resource.inspect", path=path).chain_seq
    cause = next(r for r in changed if r.seq == newest.header.cause)
    assert (cause.kind, cause.subject) == ("agent.exit", agent.agent_id)


def test_every_end_leaves_the_tree_that_the_log_adds_up_to(kernel):
    for _ in range(3):
        kernel.spawn("echo")
    kernel.stop()
    expected = folded(kernel).root_hash().hex()
    kernel.start()
    assert root_hash(kernel) == expected
    names = [node.path for node in kernel.call("resource.tree", path="/kernel/agents").nodes]
    assert len(names) == 4
    assert {state_of(kernel, name) for name in names[1:]} == {"exited"}, "they were alive when the kernel ended"


def test_the_tree_survives_the_service_process(kernel):
    kernel.spawn("echo")
    victim = next(s.os_pid for s in kernel.call("kernel.services") if s.name == "service")
    os.kill(victim, signal.SIGKILL)
    kernel.until(lambda: "the service process is back" in kernel.log())
    kernel.spawn("echo")
    found = root_hash(kernel)
    kernel.stop()
    tree = folded(kernel)
    agents = [node for node in tree.subtree() if str(node.kind) == "agent"]
    assert len(agents) == 2
    assert found != tree.root_hash().hex(), "stopping the agents changed it"


@pytest.mark.parametrize("damage", ["gone", "changed", "of another log"])
def test_a_snapshot_is_believed_only_if_the_log_says_so(kernel, damage):
    kernel.spawn("echo")
    kernel.stop()
    expected = folded(kernel).root_hash().hex()
    snapshot = kernel.home.tree / "snapshot"
    data = bytearray(snapshot.read_bytes())
    if damage == "gone":
        snapshot.unlink()
    elif damage == "changed":
        place = data.index(b"echo")
        data[place : place + 4] = b"evil"
        snapshot.write_bytes(data)
    else:
        (kernel.home.tree / "snapshot.seq").write_text("3\n")
    kernel.start()
    assert root_hash(kernel) == expected
    if damage != "gone":
        assert "the snapshot of the resource tree is not used" in kernel.log()


def test_agents_cannot_change_the_tree(kernel):
    before = root_hash(kernel)
    agent = kernel.spawn("tester")
    kernel.until(lambda: state_of(kernel, f"/kernel/agents/{agent.agent_id}") == "running")
    with pytest.raises(WeftError, match="no node"):
        kernel.call("resource.inspect", path="/kernel/agents/nobody")
    with pytest.raises(WeftError):
        kernel.call("resource.inspect", path="/kernel/../etc")
    assert root_hash(kernel) != before
    assert kernel.call("resource.rank", limit=2).ranked
    score = kernel.call("resource.score", path=f"/kernel/agents/{agent.agent_id}")
    assert score.scoring.trust == 0.5


def test_what_a_killed_kernel_left_behind_is_not_shown_as_alive(kernel):
    agent = kernel.spawn("echo")
    path = f"/kernel/agents/{agent.agent_id}"
    kernel.until(lambda: state_of(kernel, path) == "running")
    kernel.kill()
    kernel.start()
    assert state_of(kernel, path) == "lost"
    kernel.stop()
    kernel.start()
    assert state_of(kernel, path) == "lost"


def test_forged_changes_whose_payloads_are_no_maps_are_named_and_left_out(cold):
    """Each kind with each of the payloads: every one of them is met by the kernel that starts on this log."""
    cold.start()
    expected = root_hash(cold)
    cold.stop()
    log = str(cold.home.chain)
    first = sum(1 for _ in chain.read(log))
    forged = list(itertools.product(sorted(LOG_KINDS), (msgspec.msgpack.encode([1, 2]), b"\xc1", b"")))
    for kind, payload in forged:
        append_forged(cold.home.chain, kind, payload, source="tree")
    cold.start()
    assert root_hash(cold) == expected
    records = {record.seq: record for record in chain.read(log, start=first)}
    for seq, (kind, payload) in enumerate(forged, first):
        shown = records[seq].view()["payload"]
        assert (records[seq].kind, set(shown), shown["bytes"]) == (kind, {"unreadable", "bytes"}, payload.hex())
        assert f"record {seq} does not fit the resource tree" in cold.log()
    agent = cold.spawn("echo")
    cold.until(lambda: state_of(cold, f"/kernel/agents/{agent.agent_id}") == "running")

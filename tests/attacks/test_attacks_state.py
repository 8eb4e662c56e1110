"""Attacks 16, 17, 24, 26 to 28, 30 and 32: the state that is built from the log, and who may say what.

The numbers are those of docs/attacks.md. Where a kernel is part of the attack, a real one runs.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import blake3
import msgspec
import pytest

from weftos import chain
from weftos.errors import (
    CapabilityDenied,
    DelegationRevoked,
    GateDeferred,
    GovernanceDenied,
    PathInvalid,
    SnapshotInvalid,
)
from weftos.governance.capability import AgentCapabilities
from weftos.governance.gate import CapabilityGate, Defer, Deny, Permit, Subject, require
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc.client import RpcClient
from weftos.tree.acl import EffectiveAcl
from weftos.tree.deltas import Created, MetadataSet, PolicyRemoved, PolicySet
from weftos.tree.names import Action, Kind, Role
from weftos.tree.paths import ResourcePath as P
from weftos.tree.policies import Policy
from weftos.tree.snapshot import load_snapshot, make_snapshot
from weftos.tree.tree import ResourceTree
from weftos.tree.view import TreeView

LOG_ID = bytes(range(16))
READ = Action("read")


def grown():
    tree = ResourceTree()
    deltas = [
        *tree.bootstrap_deltas(),
        Created(path=P("/kernel/agents/a"), kind=Kind("agent"), values={"pid": 7, "state": "running"}),
        Created(path=P("/kernel/agents/ab"), kind=Kind("agent"), values={"pid": 8, "state": "running"}),
    ]
    apply(tree, *deltas)
    return tree


def apply(tree, *deltas):
    for delta in deltas:
        tree.apply(delta, tree.last_seq + 1, 10**18 + tree.last_seq)


# --- 16, 17: the snapshot of the tree ------------------------------------------------------------------------------


def forged_snapshot(change):
    """A snapshot that an attacker changed, and what the log says about the genuine one."""
    data, ref = make_snapshot(grown(), LOG_ID, 10**6)
    raw = msgspec.msgpack.decode(data)
    change({row[0]: row for row in raw[5]})
    return msgspec.msgpack.encode(raw, order="deterministic"), ref


CHANGES = {
    "16 metadata edited": lambda rows: rows["/kernel/agents/a"][2].update(pid=b"\x09"),
    "16 metadata taken away": lambda rows: rows["/kernel/agents/a"][2].pop("pid"),
    "17 renamed": lambda rows: rows["/kernel/agents/ab"].__setitem__(0, "/kernel/agents/b"),
    "17 kind swapped": lambda rows: rows["/kernel/agents/ab"].__setitem__(1, "namespace"),
    "17 contents swapped": lambda rows: (
        rows["/kernel/agents/a"].__setitem__(2, rows["/kernel/agents/ab"][2]),
        rows["/kernel/agents/ab"].__setitem__(2, {"pid": b"\x07"}),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_attack_16_and_17_a_changed_snapshot(name):
    data, ref = forged_snapshot(CHANGES[name])
    with pytest.raises(SnapshotInvalid, match="its digest is another") as caught:
        load_snapshot(data, ref)
    assert (caught.value.code, caught.value.exit_code) == ("tree.snapshot", 5)
    # And if somebody put the new digest on the log, the root that is on the log as well is another one.
    with pytest.raises(SnapshotInvalid):
        load_snapshot(data, msgspec.structs.replace(ref, digest=blake3.blake3(data).digest()))


def test_attack_17_a_renamed_or_swapped_node_has_another_root():
    roots = set()
    for path, kind in (("/x", "app"), ("/y", "app"), ("/x", "service"), ("/x", "custom:app")):
        tree = ResourceTree()
        apply(tree, *tree.bootstrap_deltas(), Created(path=P(path), kind=Kind(kind)))
        roots.add(tree.root_hash())
    assert len(roots) == 4


# --- 24: what waits is not done -----------------------------------------------------------------------------------


def test_attack_24_defer_is_no_permit():
    require(Permit("yes"), "agent.spawn")
    with pytest.raises(GateDeferred) as caught:
        require(Defer("ask the operator"), "agent.spawn")
    assert (caught.value.code, caught.value.exit_code) == ("gate.deferred", 3)
    with pytest.raises(GovernanceDenied) as denied:
        require(Deny("no"), "agent.spawn")
    assert (denied.value.code, denied.value.exit_code) == ("gate.denied", 4)


# --- 26: who says it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent_id", ["0 ", "00", "", "kernel", "4", "7\x00"])
def test_attack_26_the_gate_knows_no_identity_but_those_it_was_told(agent_id):
    subject = Subject(7, "x", 1, AgentCapabilities())
    gate = CapabilityGate({"7": subject}.get)
    assert isinstance(gate.check(agent_id, "agent.spawn", {"agent_id": "0", "source": "kernel", "pid": 7}), Deny)
    assert isinstance(gate.check("7", "kernel.shutdown", {"agent_id": "0", "source": "kernel"}), Deny)


#: Says what it is not, in every way that an agent has, and ends.
LIAR = """
from weftos.errors import WeftError
from weftos.service import protocol as p

def main(ctx):
    service = ctx.service
    for kind in ("agent.spawn", "key.rotate", "chain.redacted", "tree.create", "log.seal", "gate.permit"):
        try:
            service.append(kind, {"source": "kernel", "pid": 1})
        except WeftError:
            pass
    try:
        service.submit(p.GateCheck("agent.spawn", {}, on_behalf=0)).result()
    except WeftError:
        pass
    service.append("app.claim", {"source": "kernel", "seq": 0}, subject="kernel")
"""


class Instance:
    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.os_pid = 0

    def start(self):
        self.os_pid = start_daemon(self.home)

    def call(self, method, **params):
        with RpcClient(self.home.socket, timeout=20.0) as client:
            return client.call(method, params)

    def stop(self):
        handle = os.pidfd_open(self.os_pid)
        try:
            self.call("kernel.shutdown")
            assert select.select([handle], [], [], 20.0)[0], "the kernel did not halt"
        finally:
            os.close(handle)
        self.os_pid = 0

    def until(self, look):
        """Ask the kernel again until the answer is true: from outside there is no event to wait on."""
        deadline = time.monotonic() + 20
        while not (found := look()):
            assert time.monotonic() < deadline, "not within 20 s"
            select.select([], [], [], 0.02)
        return found

    def records(self):
        return list(chain.read(self.home.chain))


@pytest.fixture
def instance(weftos_home):
    one = Instance(weftos_home)
    yield one
    if one.os_pid:
        handle = os.pidfd_open(one.os_pid)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        select.select([handle], [], [], 20.0)
        os.close(handle)


def test_attack_26_an_agent_that_claims_to_be_another(instance, tmp_path):
    program = tmp_path / "liar.py"
    program.write_text(LIAR)
    instance.start()
    pid = instance.call("agent.spawn", program=str(program), restart="never").pid
    claim = instance.until(lambda: [one for one in instance.records() if one.kind == "app.claim"])[0]
    instance.stop()
    assert claim.source == f"agent:{pid}", "whose ring it came from, not what it says"
    records = instance.records()
    said = [one for one in records if one.source == f"agent:{pid}"]
    assert [one.kind for one in said] == ["capability.deny"] * 6 + ["app.claim"]
    for record in records:
        if record.kind in ("agent.spawn", "key.rotate", "chain.redacted", "tree.create", "log.seal"):
            assert record.source in ("kernel", "chain", "tree")
    assert chain.verify(instance.home.chain).valid


# --- 27, 28: paths and the memory of the access list ----------------------------------------------------------------


def test_attack_27_a_path_that_begins_alike_is_another():
    tree = grown()
    apply(tree, PolicySet(path=P("/kernel/agents/a"), policy_id="p", policy=Policy("allow", "alice")))
    acl = EffectiveAcl(tree)
    viewer = Role("viewer")
    assert acl.decide("alice", viewer, READ, P("/kernel/agents/a/memory")).allowed
    with pytest.raises(CapabilityDenied) as caught:
        acl.require("alice", viewer, READ, P("/kernel/agents/ab"))
    assert (caught.value.code, caught.value.exit_code) == ("gate.capability", 4)
    assert not P("/kernel/agents/ab").is_within(P("/kernel/agents/a"))
    view = TreeView(tree, [P("/kernel/agents/a")])
    with pytest.raises(CapabilityDenied):
        view.get(P("/kernel/agents/ab"))


@pytest.mark.parametrize("text", ["/agents/a/../ab", "/agents//a", "/agents/./a", "/agents/a/", "agents/a", "/a\0b"])
def test_attack_27_no_path_has_two_spellings(text):
    with pytest.raises(PathInvalid) as caught:
        P(text)
    assert caught.value.exit_code == 2


def test_attack_28_the_memory_of_the_access_list_is_never_stale():
    tree = grown()
    acl = EffectiveAcl(tree)
    question = ("alice", Role("operator"), READ, P("/kernel/agents/a"))
    apply(tree, PolicySet(path=P("/kernel"), policy_id="p", policy=Policy("allow", "alice", Role("operator"))))
    assert acl.decide(*question).allowed
    assert acl.decide(*question).allowed, "from memory"
    assert acl.statistics().hits == 1
    assert not acl.decide("alice", Role("viewer"), *question[2:]).allowed, "another role is another question"
    apply(tree, PolicySet(path=P("/kernel"), policy_id="p", policy=Policy("allow", "alice", Role("viewer"))))
    assert not acl.decide(*question).allowed, "the role that may was changed"
    apply(tree, PolicySet(path=P("/"), policy_id="q", policy=Policy("allow", "alice")))
    assert acl.decide(*question).allowed
    apply(tree, PolicyRemoved(path=P("/"), policy_id="q"))
    assert not acl.decide(*question).allowed, "revoked three levels up"


# --- 30: the list of what was revoked ---------------------------------------------------------------------------------


def test_attack_30_a_damaged_revocation_does_not_empty_the_list(instance):
    """There is no file of revocations to empty: they are records, so who damages one damages the log."""
    instance.start()
    issued = instance.call("resource.delegate", subject="agent:echo.1", actions=["read"], reason="a test")
    instance.call("resource.revoke", id=issued.id, reason="stolen")
    instance.stop()
    for kind in ("tree.create", "revocation.add"):
        about = [one for one in instance.records() if one.kind == kind and issued.id.encode() in one.payload_bytes]
        about = about or [one for one in instance.records() if one.kind == kind]
        record = about[-1]
        path = instance.home.chain / "00000001.log"
        good = path.read_bytes()
        data = bytearray(good)
        data[data.index(record.salted) + 20] ^= 1
        path.write_bytes(data)
        report = chain.verify(instance.home.chain)
        assert [(one.code, one.seq) for one in report.errors][:1] == [("bad_crc", record.seq)]
        path.write_bytes(good)
    # The snapshot is no way around it either.
    (instance.home.tree / "snapshot").unlink()
    instance.start()
    (row,) = instance.call("resource.delegations").certificates
    assert (row.id, row.revoked) == (issued.id, True)
    instance.stop()


def test_attack_30_a_revoked_certificate_stays_without_authority(instance):
    instance.start()
    issued = instance.call("resource.delegate", subject="agent:echo.1", actions=["read"], reason="a test")
    shown = {"certificates": [issued.certificate], "subject": "agent:echo.1", "path": "/apps"}
    assert instance.call("resource.authorize", **shown).prefix == "/"
    instance.call("resource.revoke", id=issued.id, reason="stolen")
    for _ in range(2):
        with pytest.raises(DelegationRevoked) as caught:
            instance.call("resource.authorize", **shown)
        assert (caught.value.code, caught.value.exit_code) == ("delegation.revoked", 4)
        instance.stop()
        instance.start()
    instance.stop()


# --- 16, 32: the instance as a whole ----------------------------------------------------------------------------------


def replayed(instance):
    """The tree that the log gives from its first record on."""
    from weftos.tree.deltas import LOG_KINDS, from_payload

    tree = ResourceTree()
    for record in instance.records():
        if record.source == "tree" and record.kind in LOG_KINDS:
            tree.apply(from_payload(record.kind, record.payload), record.seq, record.t_ns)
    return tree


def test_attack_32_halted_with_live_agents_and_booted_again(instance):
    instance.start()
    for _ in range(3):
        instance.call("agent.spawn", program="echo", restart="never")
    instance.until(lambda: [one.kind for one in instance.records()].count("agent.ready") == 3)
    instance.stop()
    assert chain.verify(instance.home.chain).valid
    before = replayed(instance)
    states = [node.metadata["state"] for node in before.subtree() if str(node.kind) == "agent"]
    assert len(states) == 3
    instance.start()
    shown = instance.call("resource.tree", path="/")
    after = replayed(instance)
    assert shown.root_hash == after.root_hash().hex(), "what the service has is what the log adds up to"
    assert {node.metadata["state"] for node in after.subtree() if str(node.kind) == "agent"} <= {"exited", "lost"}
    instance.stop()
    assert chain.verify(instance.home.chain).valid


def test_attack_16_an_edited_snapshot_of_an_instance_is_not_believed(instance):
    instance.start()
    instance.call("agent.spawn", program="echo", restart="never")
    instance.until(lambda: "agent.ready" in [one.kind for one in instance.records()])
    instance.stop()
    path = instance.home.tree / "snapshot"
    data = bytearray(path.read_bytes())
    place = data.index(b"program")
    data[place + 9] ^= 1
    path.write_bytes(data)
    instance.start()
    shown = instance.call("resource.tree", path="/")
    assert shown.root_hash == replayed(instance).root_hash().hex()
    instance.stop()
    assert "the snapshot of the resource tree is not used" in instance.home.log.read_text()


def test_the_tree_can_be_changed_at_all():
    tree = grown()
    before = tree.root_hash()
    apply(tree, MetadataSet(path=P("/kernel/agents/a"), values={"pid": 9}))
    assert tree.root_hash() != before

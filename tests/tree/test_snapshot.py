"""Snapshots: a tree comes back whole, any other byte is refused, and a false state has no way in."""

from __future__ import annotations

from typing import Any

import blake3
import msgspec
import pytest
from deltas_for_tests import DELTAS
from hypothesis import given
from hypothesis import strategies as st
from trees_for_tests import Log, P, booted, stamps, state

from weftos import limits
from weftos.errors import DeltaInvalid, ResourceLimitExceeded, SnapshotInvalid, TreeError
from weftos.tree.deltas import Created, Delta, MetadataSet, PolicySet, ScoringSet
from weftos.tree.names import Action, Kind, Role
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring
from weftos.tree.snapshot import SnapshotRef, load_snapshot, make_snapshot
from weftos.tree.tree import ResourceTree

LOG_ID = bytes(range(16))


def full() -> Log:
    log = booted()
    log.make("/kernel/agents/a", "agent", pid=7, state="running", tags=["x", {"y": None}])
    log.make("/kernel/agents/b", "agent", pid=8, state="running")
    log.make("/apps/x", "custom:thing", k=12, l=0.5)
    log.add(ScoringSet(path=P("/apps/x"), scoring=Scoring(trust=0.9)))
    log.add(PolicySet(path=P("/apps"), policy_id="p", policy=Policy("deny", "bob", Role("viewer"), Action("read"))))
    return log


def signed(data: bytes, ref: SnapshotRef) -> SnapshotRef:
    """The reference as it would be if the log named these bytes."""
    return msgspec.structs.replace(ref, digest=blake3.blake3(data).digest())


def test_a_tree_comes_back() -> None:
    log = full()
    data, ref = make_snapshot(log.tree, LOG_ID, log.tree.last_seq + 5)
    tree = load_snapshot(data, ref)
    assert (state(tree), stamps(tree)) == (state(log.tree), stamps(log.tree))
    assert tree.root_hash() == log.tree.root_hash() == ref.root
    assert tree.last_seq == ref.seq
    assert make_snapshot(tree, LOG_ID, ref.seq) == (data, ref)
    with pytest.raises(TreeError):
        tree.apply(Created(path=P("/x"), kind=Kind("app")), ref.seq, 1)
    tree.apply(Created(path=P("/x"), kind=Kind("app")), ref.seq + 1, 1)


@given(st.lists(DELTAS, max_size=40), st.lists(DELTAS, max_size=10))
def test_any_tree_comes_back_and_goes_on(first: list[Delta], then: list[Delta]) -> None:
    log = Log()
    for delta in first:
        try:
            log.add(delta)
        except TreeError:
            continue
    data, ref = make_snapshot(log.tree, LOG_ID, log.tree.last_seq)
    other = Log(load_snapshot(data, ref))
    assert (state(other.tree), stamps(other.tree)) == (state(log.tree), stamps(log.tree))
    for delta in then:
        results = []
        for each in (log, other):
            try:
                results.append(each.add(delta).root_hash())
            except TreeError as error:
                results.append(str(error))
        assert results[0] == results[1]
    assert (state(other.tree), stamps(other.tree)) == (state(log.tree), stamps(log.tree))


def test_every_byte_counts() -> None:
    data, ref = make_snapshot(full().tree, LOG_ID, 10**6)
    for place in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(SnapshotInvalid):
                load_snapshot(bytes(changed), ref)
    for bad in (b"", data[:-1], data + b"\x00", data * 2):
        with pytest.raises(SnapshotInvalid):
            load_snapshot(bad, ref)


def test_bytes_with_a_fitting_digest_are_refused_or_have_the_same_state() -> None:
    """What is behind the digest stands on its own: only times and record numbers are bound by the digest alone."""
    tree = full().tree
    data, ref = make_snapshot(tree, LOG_ID, 10**6)
    accepted = 0
    for place in range(len(data)):
        for flip in (1, 0x10, 0x80):
            changed = bytearray(data)
            changed[place] ^= flip
            try:
                loaded = load_snapshot(bytes(changed), signed(bytes(changed), ref))
            except SnapshotInvalid:
                continue
            accepted += 1
            assert state(loaded) == state(tree)
            assert stamps(loaded) != stamps(tree)
    assert 0 < accepted < len(data), "of three times as many trials"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    _, ref = make_snapshot(ResourceTree(), LOG_ID, 0)
    with pytest.raises(SnapshotInvalid):
        load_snapshot(data, signed(data, ref))


def rewritten(change: Any) -> tuple[bytes, SnapshotRef]:
    """A snapshot whose rows an attacker changed, with the digest mended but the root that the log has."""
    data, ref = make_snapshot(full().tree, LOG_ID, 10**6)
    raw = msgspec.msgpack.decode(data)
    rows = {row[0]: row for row in raw[5]}
    change(rows, raw)
    data = msgspec.msgpack.encode(raw, order="deterministic")
    return data, msgspec.structs.replace(signed(data, ref), nodes=len(raw[5]))


def test_an_unchanged_rewrite_is_accepted() -> None:
    assert len(load_snapshot(*rewritten(lambda rows, raw: None))) == 13


CHANGES: list[tuple[str, Any]] = [
    ("edited metadata", lambda rows, raw: rows["/kernel/agents/a"][2].update(pid=b"\x09")),
    ("metadata taken away", lambda rows, raw: rows["/kernel/agents/a"][2].pop("pid")),
    ("a key that is cut elsewhere", lambda rows, raw: rows["/apps/x"][2].update({"k1": rows["/apps/x"][2].pop("k")})),
    ("a renamed node", lambda rows, raw: rows["/kernel/agents/b"].__setitem__(0, "/kernel/agents/mallory")),
    ("another kind", lambda rows, raw: rows["/kernel/agents/b"].__setitem__(1, "service")),
    ("another custom kind", lambda rows, raw: rows["/apps/x"].__setitem__(1, "custom:thinG")),
    ("another score", lambda rows, raw: rows["/apps/x"][3].__setitem__(0, 0.91)),
    ("a score out of range", lambda rows, raw: rows["/apps/x"][3].__setitem__(0, 1.5)),
    ("a score that is none", lambda rows, raw: rows["/apps/x"][3].__setitem__(0, float("nan"))),
    ("a policy taken away", lambda rows, raw: rows["/apps"][4].clear()),
    ("a policy turned round", lambda rows, raw: rows["/apps"][4].update(p=Policy("allow").to_bytes())),
    ("a policy that is none", lambda rows, raw: rows["/apps"][4].update(p=b"\x80")),
    ("a node taken away", lambda rows, raw: raw[5].remove(rows["/kernel/agents/b"])),
    ("a node twice", lambda rows, raw: raw[5].append(rows["/kernel/agents/b"])),
    ("a new node", lambda rows, raw: raw[5].append(["/z", "app", {}, [0.5] * 6, {}, 1, 1, 1])),
    ("a node without a parent", lambda rows, raw: raw[5].append(["/z/z", "app", {}, [0.5] * 6, {}, 1, 1, 1])),
    ("no root", lambda rows, raw: raw[5].remove(rows["/"])),
    ("the root twice", lambda rows, raw: raw[5].append(rows["/"])),
    ("a root of another kind", lambda rows, raw: rows["/"].__setitem__(1, "app")),
    ("no nodes", lambda rows, raw: raw[5].clear()),
    ("a path that is none", lambda rows, raw: rows["/apps/x"].__setitem__(0, "/apps/../x")),
    ("an agent that was never born", lambda rows, raw: rows["/kernel/agents/a"][2].pop("incarnation")),
    ("an agent with a false count", lambda rows, raw: rows["/kernel/agents/a"][2].update(incarnation=b"\x00")),
    ("a service with a count", lambda rows, raw: rows["/apps/x"][2].update(incarnation=b"\x01")),
    ("a value that is not canonical", lambda rows, raw: rows["/apps/x"][2].update(k=b"\xcc\x0c")),
    ("a node newer than the tree", lambda rows, raw: rows["/apps/x"].__setitem__(5, 10**6 + 1)),
    ("another log", lambda rows, raw: raw.__setitem__(2, bytes(16))),
    ("another record", lambda rows, raw: raw.__setitem__(3, 10**6 + 1)),
    ("another root", lambda rows, raw: raw.__setitem__(4, bytes(32))),
    ("another format", lambda rows, raw: raw.__setitem__(0, "exo/tree/snapshots")),
    ("another version", lambda rows, raw: raw.__setitem__(1, 2)),
    ("one field too many", lambda rows, raw: raw.append(0)),
]  # fmt: skip


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
def test_a_false_state_has_no_way_in(change: Any) -> None:
    with pytest.raises(SnapshotInvalid):
        load_snapshot(*rewritten(change))


def test_the_order_of_rows_is_free_but_parents_come_first() -> None:
    def reverse(rows: Any, raw: Any) -> None:
        raw[5][1:] = reversed(raw[5][1:])

    with pytest.raises(SnapshotInvalid, match="before the node above"):
        load_snapshot(*rewritten(reverse))


def test_a_snapshot_with_running_agents_then_a_start_then_replay() -> None:
    """What ended with live agents comes back as it was; a new start registers them again; both ways give one root."""
    log = full()
    data, ref = make_snapshot(log.tree, LOG_ID, log.tree.last_seq)
    second = Log(load_snapshot(data, ref))
    for name in "ab":
        second.make(f"/kernel/agents/{name}", "agent", pid=20, state="starting")
    second.add(MetadataSet(path=P("/kernel/agents/a"), values={"state": "running"}))
    replayed = ResourceTree()
    for delta, seq, t_ns in log.records + second.records:
        replayed.apply(delta, seq, t_ns)
    assert replayed.root_hash() == second.tree.root_hash()
    assert replayed.get(P("/kernel/agents/a")).metadata == {"pid": 20, "state": "running", "incarnation": 2}


def test_the_reference_and_its_payload() -> None:
    _, ref = make_snapshot(full().tree, LOG_ID, 10**6)
    payload = ref.to_payload()
    assert SnapshotRef.from_payload(payload) == ref
    for key in payload:
        for bad in (None, "x", b"x", -2, 1.5, True, []):
            with pytest.raises(DeltaInvalid):
                SnapshotRef.from_payload({**payload, key: bad})
        with pytest.raises(DeltaInvalid):
            SnapshotRef.from_payload({name: value for name, value in payload.items() if name != key})
    for wrong in ({**payload, "x": 1}, [], None):
        with pytest.raises(DeltaInvalid):
            SnapshotRef.from_payload(wrong)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    log = full()
    for log_id, seq in [(bytes(15), 10**6), (LOG_ID, log.tree.last_seq - 1), (LOG_ID, 2**63)]:
        with pytest.raises(SnapshotInvalid):
            make_snapshot(log.tree, log_id, seq)
    data, ref = make_snapshot(log.tree, LOG_ID, 10**6)
    with monkeypatch.context() as patch:
        patch.setattr(limits, "TREE_NODES", 12)
        with pytest.raises(SnapshotInvalid):
            load_snapshot(data, ref)
    monkeypatch.setattr(limits, "TREE_SNAPSHOT_BYTES", 100)
    with pytest.raises(SnapshotInvalid):
        load_snapshot(data, ref)
    with pytest.raises(ResourceLimitExceeded):
        make_snapshot(log.tree, LOG_ID, 10**6)

"""The tree of a log: what each kind of record does to it, and that nothing that a record says can do more."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tree.trees_for_tests import booted, state
from weftos import limits
from weftos.chain.kinds import KINDS
from weftos.errors import DeltaRefused, NodeNotFound
from weftos.tree.deltas import LOG_KINDS, Created, Delta, MetadataSet
from weftos.tree.fold import BOOT, Allow, TreeFold
from weftos.tree.fold_rules import RULES, SOURCES, agent_path, service_path
from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.snapshot import load_snapshot, make_snapshot

P = ResourcePath
ECHO = P("/kernel/agents/echo-1")
LIFE = {"pid": 1, "agent_id": "echo.1", "incarnation": 1, "os_pid": 4242}
EXIT = {
    "reason": "crash", "code": 3, "signal": None, "message": "exit status 3", "core_dumped": False,
    "cpu_user_secs": 0.5, "cpu_system_secs": 0.25, "max_rss_bytes": 4096, "started_at": 1.0, "ended_at": 2.5,
    "incarnation": 1,
}  # fmt: skip
SPAWN = {
    "pid": 1, "agent_id": "echo.1", "name": "echo", "program": "echo", "args": ["-v"], "parent_pid": 0,
    "requested_by": 0, "restart": "on-failure", "limits": {"processes": 32},
    "capabilities": {"can_spawn": True, "ipc_scope": {"type": "All"}},
}  # fmt: skip
#: A payload of each kind of the kernel, in the form in which the kernel writes it.
PAYLOADS: dict[str, dict[str, Any]] = {
    "boot.init": {"version": "0.1.0", "boot_id": b"b" * 16},
    "boot.ready": {"os_pid": 77, "elapsed_ms": 130, "services": 1},
    "shutdown": {"dead_letters": 0, "reason": "asked", "uptime_ms": 1550},
    "agent.spawn": SPAWN,
    "agent.ready": LIFE,
    "agent.suspend": LIFE,
    "agent.resume": LIFE,
    "agent.stop": LIFE | {"by": "the operator asked"},
    "agent.force_stop": LIFE | {"by": "the operator asked"},
    "agent.exit": LIFE | {"os_pid": None, "exit": EXIT},
    "agent.restart": LIFE | {"os_pid": None, "incarnation": 2, "because": "exit status 3"},
    "agent.escalate": LIFE | {"os_pid": None, "why": "5 restarts were not enough"},
    "service.register": {"name": "search", "pid": 1, "methods": ["find"]},
    "service.unregister": {"name": "search", "pid": 1},
    "service.start": {"incarnation": 2, "records": 9},
    "service.exit": {"how": "SIGKILL", "ran_ms": 10, "incarnation": 1},
}


class Record(msgspec.Struct):
    seq: int
    t_ns: int
    source: str
    kind: str
    subject: str | None
    payload: Any


class Feed:
    """Gives a fold one record after another, and keeps them."""

    def __init__(self, allow: Allow | None = None) -> None:
        self.fold = TreeFold(allow=allow)
        self.records: list[Record] = []

    def __call__(self, kind: str, payload: Any = None, source: str = "kernel", subject: str | None = None) -> bool:
        payload = PAYLOADS[kind] if payload is None else payload
        if subject is None and isinstance(payload, dict):
            subject = payload.get("agent_id")
        seq = self.fold.seq + 1
        self.records.append(Record(seq, 1000 + seq, source, kind, subject, payload))
        return self.fold.take(self.records[-1])

    def values(self, path: ResourcePath = ECHO) -> dict[str, Any]:
        return self.fold.tree.get(path).metadata


def begun(allow: Allow | None = None) -> Feed:
    feed = Feed(allow)
    assert feed("genesis", {"log_id": b"l" * 16, "format": 1}, "chain")
    assert feed("boot.init")
    return feed


def test_the_first_record_brings_the_namespaces() -> None:
    feed = Feed()
    assert feed("genesis", {}, "chain")
    assert state(feed.fold.tree) == state(booted().tree)
    assert feed.fold.tree.root_hash() == booted().tree.root_hash()
    node = feed.fold.tree.get(P("/kernel/agents"))
    assert (node.chain_seq, node.created_ns, node.updated_ns) == (0, 1000, 1000)
    assert not feed("genesis", {}, "chain"), "once only"
    assert feed.fold.refused == {"tree.delta_refused": 1}


@pytest.mark.parametrize("source", ["kernel", "echo.1", "tree"])
def test_only_the_log_itself_begins(source: str) -> None:
    feed = Feed()
    assert not feed("genesis", {}, source)
    assert len(feed.fold.tree) == 1


def test_the_life_of_an_agent() -> None:
    feed = begun()
    seen = []
    for kind in ("spawn", "ready", "suspend", "resume", "exit", "restart", "ready", "stop", "exit", "escalate"):
        source = "kernel" if kind in ("spawn", "ready", "stop") else "supervisor"
        assert feed(f"agent.{kind}", source=source), kind
        seen.append(feed.values()["state"])
    assert seen == [
        "starting", "running", "suspended", "running", "exited", "starting", "running", "stopping", "exited", "exited",
    ]  # fmt: skip
    values = feed.values()
    expected = {"pid": 1, "name": "echo", "program": "echo", "parent": 0, "exit_code": 3, "exit_reason": "crash"}
    assert {key: values[key] for key in expected} == expected
    assert values["quarantined"] is True
    assert values["stopped_by"] == "the operator asked"
    assert "args" not in values
    node = feed.fold.tree.get(ECHO)
    assert (node.kind, node.chain_seq, node.created_ns) == (Kind("agent"), feed.fold.seq, 1002)
    assert not feed.fold.refused


def test_the_number_of_the_life_is_that_of_the_record() -> None:
    feed = begun()
    feed("agent.spawn")
    assert feed.values()["life"] == 1
    feed("agent.restart")
    assert (feed.values()["life"], feed.values()["os_pid"]) == (2, None)


def test_a_name_and_pid_of_an_earlier_boot_come_again() -> None:
    feed = begun()
    feed("agent.spawn")
    feed("agent.exit")
    assert feed.fold.is_current(ECHO)
    feed("boot.init", {"version": "0.1.0", "boot_id": b"c" * 16})
    assert not feed.fold.is_current(ECHO), "nobody saw it end, but its kernel is gone"
    assert feed("agent.spawn")
    assert feed.fold.is_current(ECHO)
    assert feed.values()["incarnation"] == 2
    assert feed.values()["state"] == "starting"
    assert "exit_code" not in feed.values()
    with pytest.raises(NodeNotFound):
        feed.fold.is_current(P("/kernel/agents/none-1"))


def test_services() -> None:
    feed = begun()
    path = P("/kernel/services/search")
    assert feed("service.register")
    assert (feed.values(path)["state"], feed.values(path)["methods"]) == ("offered", ["find"])
    assert feed("service.unregister")
    assert (feed.values(path)["state"], feed.values(path)["withdrawn_ns"]) == ("withdrawn", 1003)
    assert feed("service.register", {"name": "search", "pid": 2, "methods": []})
    values = feed.values(path)
    assert (values["state"], values["pid"], values["withdrawn_ns"]) == ("offered", 2, None)
    assert feed("service.exit")
    assert feed("service.start")
    assert feed.values(P("/kernel/services/chain"))["state"] == "running"
    assert feed.fold.is_current(path)
    assert not feed.fold.refused


def test_the_kernel() -> None:
    feed = begun()
    kernel = P("/kernel")
    assert (feed.values(kernel)["state"], feed.fold.boot_id) == ("booting", b"b" * 16)
    feed("boot.ready")
    assert (feed.values(kernel)["state"], feed.values(kernel)["os_pid"]) == ("running", 77)
    feed("shutdown")
    assert (feed.values(kernel)["state"], feed.values(kernel)["shutdown_reason"]) == ("stopped", "asked")


def test_payloads_cover_the_table() -> None:
    assert set(PAYLOADS) | {"genesis"} | set(LOG_KINDS) == set(RULES) == set(SOURCES)
    assert set(PAYLOADS) <= set(KINDS)


@pytest.mark.parametrize("kind", sorted(PAYLOADS))
def test_what_a_stranger_says_changes_nothing(kind: str) -> None:
    feed = begun(lambda _source, _delta: True)
    feed("agent.spawn")
    feed("service.register")
    before = feed.fold.tree.root_hash()
    for source in ("echo.1", "kernel.1", "chain", "Kernel", "tree"):
        assert not feed(kind, source=source)
    assert feed.fold.tree.root_hash() == before
    assert feed.fold.refused == {"gate.capability": 5}


@pytest.mark.parametrize("kind", sorted(PAYLOADS))
def test_every_field_that_is_read_must_be_there(kind: str) -> None:
    feed = begun()
    feed("agent.spawn")
    feed("service.register")
    before = feed.fold.tree.root_hash()
    taken = [feed(kind, {}, subject="echo.1"), feed(kind, [], subject="echo.1"), feed(kind, "x")]
    taken += [feed(kind, dict.fromkeys(PAYLOADS[kind], object), subject="echo.1")]
    assert not any(taken)
    assert feed.fold.tree.root_hash() == before
    assert feed.fold.refused == {"tree.delta": 4}


@pytest.mark.parametrize(
    ("kind", "payload", "subject"),
    [
        ("agent.ready", LIFE | {"agent_id": "echo.2"}, "echo.2"),
        ("agent.ready", LIFE | {"agent_id": ".1"}, ".1"),
        ("agent.ready", LIFE, "other.1"),
        ("agent.ready", LIFE | {"pid": True}, "echo.1"),
        ("agent.ready", LIFE | {"pid": 9, "agent_id": "echo.9"}, "echo.9"),
        ("agent.spawn", SPAWN | {"agent_id": "x" * 300 + ".1"}, "x" * 300 + ".1"),
        ("service.register", {"name": "", "pid": 1, "methods": []}, None),
        ("service.register", {"name": "ä" * 100, "pid": 1, "methods": []}, None),
        ("service.unregister", {"name": "none", "pid": 1}, None),
        ("boot.init", {"version": "1", "boot_id": b"short"}, None),
    ],
)
def test_records_that_do_not_fit(kind: str, payload: Any, subject: str | None) -> None:
    feed = begun()
    feed("agent.spawn")
    before = feed.fold.tree.root_hash()
    assert not feed(kind, payload, subject=subject)
    assert feed.fold.tree.root_hash() == before
    assert sum(feed.fold.refused.values()) == 1
    assert (feed.fold.refusals[0].seq, feed.fold.refusals[0].kind) == (feed.fold.seq, kind)
    assert feed("agent.ready"), "the fold goes on"


def test_a_payload_that_cannot_be_read() -> None:
    class Broken(Record):
        @property
        def payload(self) -> Any:  # type: ignore[override]
            raise msgspec.DecodeError("not msgpack")

    fold = begun().fold
    assert not fold.take(Broken(2, 1, "kernel", "agent.ready", "echo.1", None))
    assert fold.refused == {"tree.delta": 1}


def test_long_values_do_not_keep_an_event_out() -> None:
    feed = begun()
    assert feed("agent.spawn", SPAWN | {"capabilities": {"n": list(range(5000))}})
    assert feed.values()["capabilities"] is None
    assert feed("agent.exit", LIFE | {"exit": EXIT | {"message": "x" * 60_000}}, "supervisor")
    assert (feed.values()["exit_message"], feed.values()["state"]) == (None, "exited")


def test_names_of_services_do_not_meet() -> None:
    names = ["a b", "a+20b", "ä", "+C3+A4", ".", "..", "+2E", "a/b", "...", "A", "a"]
    paths = [service_path(name) for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.parent == P("/kernel/services") for path in paths)
    assert agent_path("a-1.2", 2) != agent_path("a.12", 12)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_two_names_are_two_places(one: str, other: str) -> None:
    assert (service_path(one) == service_path(other)) == (one == other)
    assert service_path(one).depth == 3


def made(path: str) -> dict[str, Any]:
    return Created(path=P(path), kind=Kind("app"), values={"k": 1}).to_payload()


def test_changes_of_the_tree_itself() -> None:
    asked: list[tuple[str, Delta]] = []

    def allow(source: str, delta: Delta) -> bool:
        asked.append((source, delta))
        return delta.path.is_within(P("/apps"))

    feed = begun(allow)
    assert feed("tree.create", made("/apps/one"))
    assert not asked, "the kernel needs no leave"
    assert feed("tree.create", made("/apps/two"), "echo.1")
    assert not feed("tree.create", made("/kernel/two"), "echo.1")
    assert not feed("tree.create", made("/apps/two"), "echo.1"), "it is there"
    assert feed("tree.update-meta", MetadataSet(path=P("/apps/one"), values={"k": 2}).to_payload(), "echo.1")
    assert feed.values(P("/apps/one")) == {"k": 2}
    assert BOOT not in feed.values(P("/apps/two"))
    assert [source for source, _ in asked] == ["echo.1"] * 4
    assert feed.fold.refused == {"gate.capability": 1, "tree.exists": 1}


def test_nobody_else_changes_the_tree_unasked() -> None:
    feed = begun()
    assert not feed("tree.create", made("/apps/one"), "echo.1")
    assert feed.fold.refused == {"gate.capability": 1}


def test_other_kinds_are_taken_and_mean_nothing() -> None:
    feed = begun()
    before = feed.fold.tree.root_hash()
    for kind in (*sorted(set(KINDS) - set(RULES)), "app.note", "tree.unknown"):
        assert not feed(kind, {"path": "/apps/x"})
    assert feed.fold.tree.root_hash() == before
    assert not feed.fold.refused


def test_records_come_in_order_and_without_a_gap() -> None:
    feed = begun()
    feed("agent.spawn")
    record = feed.records[-1]
    for seq in (-1, 0, 2, 4, 100):
        assert not feed.fold.take(msgspec.structs.replace(record, seq=seq))
    assert feed.fold.seq == 2
    assert feed.fold.refused == {"tree.delta_refused": 5}
    assert feed("agent.ready")


def test_refusals_are_counted_and_the_newest_kept() -> None:
    feed = begun()
    for _ in range(limits.TREE_FOLD_REFUSALS + 5):
        feed("agent.ready")
    assert feed.fold.refused == {"tree.not_found": limits.TREE_FOLD_REFUSALS + 5}
    assert len(feed.fold.refusals) == limits.TREE_FOLD_REFUSALS
    assert feed.fold.refusals[-1].seq == feed.fold.seq


STEPS = st.lists(st.tuples(st.sampled_from(sorted(PAYLOADS)), st.sampled_from(["kernel", "supervisor", "echo.1"])))


@given(STEPS, st.integers(0, 20))
def test_a_snapshot_in_between_makes_no_difference(steps: list[tuple[str, str]], cut: int) -> None:
    feed = begun()
    for kind, source in steps:
        feed(kind, source=source)
    fold = TreeFold()
    for record in feed.records[: cut + 1]:
        fold.take(record)
    data, reference = make_snapshot(fold.tree, b"l" * 16, fold.seq)
    again = TreeFold(load_snapshot(data, reference), fold.seq)
    for record in feed.records[cut + 1 :]:
        again.take(record)
    assert again.tree.root_hash() == feed.fold.tree.root_hash()
    assert (again.seq, again.boot_id) == (feed.fold.seq, feed.fold.boot_id)


@given(STEPS.filter(bool), st.randoms(use_true_random=False))
def test_a_rule_depends_on_its_record_alone(steps: list[tuple[str, str]], dice: random.Random) -> None:
    calls = [
        (source, kind, PAYLOADS[kind].get("agent_id"), PAYLOADS[kind], dice.randrange(10**18)) for kind, source in steps
    ]
    first = [RULES[call[1]](*call) for call in calls]
    order = list(range(len(calls)))
    dice.shuffle(order)
    assert all(RULES[calls[i][1]](*calls[i]) == first[i] for i in order)


def test_a_fold_is_not_behind_its_tree() -> None:
    tree = begun().fold.tree
    with pytest.raises(DeltaRefused):
        TreeFold(tree, 0)

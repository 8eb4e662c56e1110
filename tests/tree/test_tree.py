"""The tree: the namespaces, agents that come again, refusals, questions, and hashes that follow only what changed."""

from __future__ import annotations

from typing import Any

import pytest
from trees_for_tests import Log, P, booted, state

from weftos import limits
from weftos.errors import (
    DeltaInvalid,
    DeltaRefused,
    NodeExists,
    NodeInvalid,
    NodeNotEmpty,
    NodeNotFound,
    ResourceLimitExceeded,
)
from weftos.tree import entries
from weftos.tree.deltas import Created, MetadataRemoved, MetadataSet, PolicySet, Removed, ScoringSet
from weftos.tree.names import Kind
from weftos.tree.paths import ROOT
from weftos.tree.policies import Policy
from weftos.tree.scoring import DEFAULT_SCORING, Scoring, aggregate
from weftos.tree.tree import NAMESPACES, ResourceTree

AGENTS = P("/kernel/agents")


def test_bootstrap() -> None:
    log = booted()
    assert len(log.tree) == 1 + len(NAMESPACES) == 10
    assert {str(path) for path in NAMESPACES} == {
        "/kernel", "/kernel/services", "/kernel/processes", "/kernel/agents", "/kernel/tools",
        "/network", "/network/peers", "/apps", "/environments",
    }  # fmt: skip
    assert log.tree.bootstrap_deltas() == (), "a second start adds nothing"
    log.add(Removed(path=P("/apps")))
    assert [str(delta.path) for delta in log.tree.bootstrap_deltas()] == ["/apps"]


def test_the_roots_of_known_trees() -> None:
    assert ResourceTree().root_hash().hex() == "761b4789288d346b4383751d05fa206510fd7c1bd92f7fd4900e5f103d8fd19a"
    assert booted().tree.root_hash().hex() == "3bf9c50ebfc4098ba9bcd6580883562d3e62eb9f1dba23a517c96e05ec9b6da5"


def test_a_node() -> None:
    log = booted()
    tree = log.make("/kernel/agents/a", "agent", pid=7, tags=["x"])
    node = tree.get(P("/kernel/agents/a"))
    assert node.metadata == {"pid": 7, "tags": ["x"], "incarnation": 1}
    assert (node.kind, node.scoring, node.child_count, node.policies) == (Kind("agent"), DEFAULT_SCORING, 0, ())
    assert node.chain_seq == tree.last_seq
    assert node.created_ns == node.updated_ns == 10**18 + tree.last_seq
    log.add(MetadataSet(path=node.path, values={"state": "exited", "code": 0}))
    later = tree.get(node.path)
    assert later.metadata == {"pid": 7, "tags": ["x"], "incarnation": 1, "state": "exited", "code": 0}
    assert later.created_ns == node.created_ns < later.updated_ns
    assert tree.get(AGENTS).chain_seq < later.chain_seq, "the parent itself was not changed"
    node.metadata["tags"].append("y")
    assert tree.get(node.path).metadata["tags"] == ["x"], "readers have copies"


def test_an_agent_that_comes_again_is_its_next_incarnation() -> None:
    log = booted()
    path = P("/kernel/agents/a")
    log.make("/kernel/agents/a", "agent", pid=7, state="running")
    log.add(ScoringSet(path=path, scoring=Scoring(trust=0.9)))
    log.add(PolicySet(path=path, policy_id="p", policy=Policy("allow")))
    log.make("/kernel/agents/a/memory")
    log.add(MetadataSet(path=path, values={"state": "exited"}))
    first = log.tree.get(path)
    before = log.tree.root_hash()
    log.make("/kernel/agents/a", "agent", pid=9, state="starting")
    again = log.tree.get(path)
    assert again.metadata == {"pid": 9, "state": "starting", "incarnation": 2}
    assert (again.scoring.trust, again.child_count, again.policies) == (0.9, 1, ("p",))
    assert again.created_ns == first.created_ns < again.updated_ns
    assert log.tree.root_hash() != before


@pytest.mark.parametrize(("first", "second"), [("agent", "service"), ("service", "agent"), ("service", "service")])
def test_only_an_agent_comes_again(first: str, second: str) -> None:
    log = Log()
    log.make("/a", first)
    with pytest.raises(NodeExists):
        log.make("/a", second)


def test_refusals() -> None:
    log = booted()
    log.make("/apps/a", "app", k=1)
    before = state(log.tree), log.tree.last_seq, log.tree.root_hash()
    for delta, error in [
        (Created(path=ROOT, kind=Kind("namespace")), NodeExists),
        (Created(path=P("/x/y"), kind=Kind("app")), NodeNotFound),
        (Removed(path=ROOT), DeltaRefused),
        (Removed(path=P("/apps")), NodeNotEmpty),
        (Removed(path=P("/x")), NodeNotFound),
        (MetadataRemoved(path=P("/apps/a"), key="l"), DeltaRefused),
        (MetadataSet(path=P("/apps/b"), values={"k": 1}), NodeNotFound),
        (ScoringSet(path=P("/apps/ab"), scoring=DEFAULT_SCORING), NodeNotFound),
    ]:
        with pytest.raises(error):
            log.add(delta)
    assert (state(log.tree), log.tree.last_seq, log.tree.root_hash()) == before


@pytest.mark.parametrize(
    ("seq", "t_ns"), [(5, 1), (4, 1), (-1, 1), (6, -1), (2**63, 1), (6, 2**63), (6.0, 1), (True, 1)]
)
def test_numbers_and_times(seq: Any, t_ns: Any) -> None:
    tree = ResourceTree()
    tree.apply(Created(path=P("/a"), kind=Kind("app")), 5, 100)
    with pytest.raises(DeltaRefused):
        tree.apply(Created(path=P("/b"), kind=Kind("app")), seq, t_ns)
    tree.apply(Created(path=P("/b"), kind=Kind("app")), 6, 50)
    assert tree.get(P("/b")).created_ns == 50, "clocks go back, numbers do not"


def test_the_incarnation_belongs_to_the_tree() -> None:
    with pytest.raises(DeltaInvalid):
        Created(path=P("/a"), kind=Kind("agent"), values={"incarnation": 7})
    with pytest.raises(DeltaInvalid):
        MetadataSet(path=P("/a"), values={"incarnation": 7})
    with pytest.raises(DeltaInvalid):
        MetadataRemoved(path=P("/a"), key="incarnation")


def test_metadata_is_bounded_over_several_changes() -> None:
    log = Log()
    log.make("/a")
    for number in range(3):
        log.add(MetadataSet(path=P("/a"), values={f"k{number}": "x" * 16000}))
    with pytest.raises(NodeInvalid, match="bytes"):
        log.add(MetadataSet(path=P("/a"), values={"k3": "x" * 16000}))
    log.add(MetadataSet(path=P("/a"), values={"k0": "x" * 15999}))


def test_nodes_and_policies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr(limits, "TREE_NODES", 3)
    monkeypatch.setattr(limits, "TREE_POLICIES", 2)
    log.make("/a")
    log.make("/b", "agent")
    with pytest.raises(ResourceLimitExceeded):
        log.make("/c")
    log.make("/b", "agent")
    for name in ("p", "q", "p"):
        log.add(PolicySet(path=P("/a"), policy_id=name, policy=Policy("allow")))
    with pytest.raises(DeltaRefused):
        log.add(PolicySet(path=P("/a"), policy_id="r", policy=Policy("allow")))


def test_rename_and_change_of_kind_give_another_root() -> None:
    def with_agent(name: str, kind: str = "agent") -> bytes:
        log = booted()
        return log.add(Created(path=AGENTS.child(name), kind=Kind(kind))).root_hash()

    assert len({with_agent("alice"), with_agent("mallory"), with_agent("alice", "custom:agent")}) == 3
    log, other = booted(), booted()
    log.make("/apps/x", k=12)
    other.make("/apps/x", k1=2)
    assert log.tree.root_hash() != other.tree.root_hash()
    log.make("/apps/y", k=13)
    swapped = booted()
    swapped.make("/apps/x", k=13)
    swapped.make("/apps/y", k=12)
    assert log.tree.root_hash() != swapped.tree.root_hash(), "siblings that change places"


def test_questions() -> None:
    log = booted()
    for name, trust in [("a", 0.9), ("b", 0.1), ("c", 0.9)]:
        log.add(Created(path=AGENTS.child(name), kind=Kind("agent"), scoring=Scoring(trust=trust)))
    tree = log.tree
    assert [node.path.name for node in tree.children(AGENTS)] == ["a", "b", "c"]
    assert [str(node.path) for node in tree.ancestors(P("/kernel/agents/a"))] == ["/kernel/agents", "/kernel", "/"]
    paths = [node.path for node in tree.subtree()]
    assert paths == sorted(paths)
    assert len(paths) == len(tree)
    assert [str(n.path) for n in tree.subtree(P("/network"))] == ["/network", "/network/peers"]
    agents = lambda path, kind: kind == Kind("agent")  # noqa: E731
    assert [str(p) for p, _ in tree.find_similar(AGENTS.child("a"), 9, agents)] == [
        "/kernel/agents/c",
        "/kernel/agents/b",
    ]
    assert tree.find_similar(AGENTS.child("a"), 1)[0] == (AGENTS.child("c"), pytest.approx(1.0))
    assert [p.name for p, _ in tree.rank([1, 0, 0, 0, 0, 0], 2, agents)] == ["a", "c"]
    assert tree.rank([1, 0, 0, 0, 0, 0], 0) == []
    assert tree.aggregate_scoring(AGENTS) == aggregate([Scoring(trust=0.9), Scoring(trust=0.1), Scoring(trust=0.9)])
    assert tree.get(AGENTS).scoring == DEFAULT_SCORING, "asking changes nothing"
    counts = tree.statistics()
    assert (counts.nodes, counts.by_kind, counts.depth, counts.widest) == (13, {"agent": 3, "namespace": 10}, 3, 4)
    assert (counts.policies, counts.last_seq) == (0, tree.last_seq)
    for wrong in (lambda: tree.get(P("/x")), lambda: tree.children(P("/x")), lambda: tree.ancestors(P("/x")),
                  lambda: tree.subtree(P("/x")), lambda: tree.find_similar(P("/x"), 1), lambda: tree.hash_of(P("/x")),
                  lambda: tree.aggregate_scoring(P("/x"))):  # fmt: skip
        with pytest.raises(NodeNotFound):
            wrong()
    with pytest.raises(NodeInvalid):
        tree.rank([1] * 6, -1)


def test_scores_of_an_inner_node_stay_and_reach_the_root() -> None:
    log = booted()
    log.make("/kernel/agents/a", "agent")
    before = log.tree.root_hash()
    log.add(ScoringSet(path=AGENTS, scoring=Scoring(trust=1.0)))
    assert log.tree.root_hash() != before
    log.make("/kernel/agents/b", "agent")
    log.tree.root_hash()
    assert log.tree.get(AGENTS).scoring.trust == 1.0


def test_a_wide_node_is_cheap_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    original = entries.node_hash

    def counted(path: Any, *rest: Any) -> bytes:
        hashed.append(str(path))
        return original(path, *rest)

    log = booted()
    log.tree.root_hash()
    monkeypatch.setattr(entries, "node_hash", counted)
    for number in range(10_000):
        log.make(f"/kernel/agents/a{number}", "agent", pid=number, state="running")
    assert hashed == [], "nothing is hashed before it is asked for"
    root = log.tree.root_hash()
    assert len(hashed) == 10_000 + 3
    hashed.clear()
    assert log.tree.root_hash() == root
    assert hashed == []
    path = AGENTS.child("a4711")
    log.add(MetadataSet(path=path, values={"state": "exited"}))
    log.add(MetadataSet(path=path, values={"code": 0}))
    assert log.tree.root_hash() != root
    assert hashed == [str(path), "/kernel/agents", "/kernel", "/"]
    log.add(MetadataRemoved(path=path, key="code"), MetadataSet(path=path, values={"state": "running"}))
    assert log.tree.root_hash() == root
    log.make("/kernel/agents/b", "agent")
    assert log.tree.root_hash() != root
    log.add(Removed(path=AGENTS.child("b")))
    assert log.tree.root_hash() == root

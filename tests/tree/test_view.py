"""Views: nothing from outside the prefixes or behind the rule, and no difference between hidden and absent."""

from __future__ import annotations

from typing import Any

import pytest
from deltas_for_tests import PATHS
from hypothesis import given
from hypothesis import strategies as st
from trees_for_tests import Log, P, booted

from weftos.errors import CapabilityDenied, NodeNotFound, PathInvalid
from weftos.tree.acl import EffectiveAcl
from weftos.tree.deltas import Created, PolicySet, ScoringSet
from weftos.tree.names import Kind, Role
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring
from weftos.tree.view import TreeView, acl_rule, agent_view


def world() -> Log:
    log = booted()
    for name in ("a", "ab", "b"):
        log.make(f"/kernel/agents/{name}", "agent", pid=1)
        log.make(f"/kernel/agents/{name}/memory")
        log.add(ScoringSet(path=P(f"/kernel/agents/{name}"), scoring=Scoring(trust=0.9)))
    log.make("/apps/x", "app")
    return log


def test_an_agent_sees_its_own_part() -> None:
    tree = world().tree
    view = agent_view(tree, "a")
    assert [str(node.path) for node in view.subtree(P("/kernel/agents/a"))] == [
        "/kernel/agents/a",
        "/kernel/agents/a/memory",
    ]
    assert view.get(P("/kernel/agents/a")).metadata["pid"] == 1
    assert [node.path.name for node in view.children(P("/kernel/agents/a"))] == ["memory"]
    assert [str(node.path) for node in view.ancestors(P("/kernel/agents/a/memory"))] == ["/kernel/agents/a"]
    with pytest.raises(NodeNotFound):
        view.get(P("/kernel/agents/a/x"))


@pytest.mark.parametrize(
    "path", ["/kernel/agents/ab", "/kernel/agents/b", "/kernel/agents", "/", "/apps/x", "/no/such"]
)
def test_what_is_outside_is_denied_in_the_same_words(path: str) -> None:
    view = agent_view(world().tree, "a")
    for ask in (view.get, view.children, view.ancestors, view.subtree, lambda place: view.find_similar(place, 1)):
        with pytest.raises(CapabilityDenied, match=f"^{path} is not visible from here$"):
            ask(P(path))
    assert not view.can_read(P(path))


def test_names_of_agents_cannot_climb() -> None:
    for name in ("..", "", "a/../b", "a/b", "."):
        with pytest.raises(PathInvalid):
            agent_view(world().tree, name)


def test_namespaces() -> None:
    tree = world().tree
    view = agent_view(tree, "a", [P("/apps"), P("/apps/x"), P("/not/there")])
    assert [str(prefix) for prefix in view.prefixes] == ["/apps", "/kernel/agents/a", "/not/there"]
    assert view.get(P("/apps/x")).kind == Kind("app")
    assert [str(path) for path, _ in view.rank([1, 0, 0, 0, 0, 0], 9)] == [
        "/kernel/agents/a", "/apps", "/apps/x", "/kernel/agents/a/memory",
    ]  # fmt: skip
    counts = view.statistics()
    assert (counts.nodes, counts.by_kind) == (4, {"agent": 1, "app": 1, "namespace": 2})
    assert view.find_similar(P("/kernel/agents/a"), 9, Kind("agent")) == []
    assert [str(p) for p, _ in view.find_similar(P("/apps"), 9, Kind("app"))] == ["/apps/x"]


def test_all_and_nothing() -> None:
    tree = world().tree
    assert TreeView(tree, [ROOT, P("/apps")]).statistics() == tree.statistics()
    nothing = TreeView(tree, [])
    assert nothing.statistics().nodes == 0
    assert nothing.rank([1] * 6, 9) == []
    with pytest.raises(CapabilityDenied):
        nothing.get(ROOT)


def test_a_view_follows_the_tree() -> None:
    log = world()
    view = agent_view(log.tree, "c")
    with pytest.raises(NodeNotFound):
        view.get(P("/kernel/agents/c"))
    log.make("/kernel/agents/c", "agent")
    assert view.statistics().nodes == 1


def test_a_view_through_an_access_list() -> None:
    log = world()
    view = TreeView(log.tree, [P("/kernel"), P("/apps")], acl_rule(EffectiveAcl(log.tree), "alice", Role("viewer")))
    assert view.statistics().nodes == 0
    log.add(PolicySet(path=P("/kernel/agents"), policy_id="p", policy=Policy("allow", "alice")))
    log.add(PolicySet(path=P("/kernel/agents/b"), policy_id="p", policy=Policy("deny")))
    assert [node.path.name for node in view.children(P("/kernel/agents"))] == ["a", "ab"]
    assert view.statistics().nodes == 5
    for hidden in ("/kernel/agents/b", "/kernel/agents/b/memory", "/kernel"):
        with pytest.raises(CapabilityDenied):
            view.get(P(hidden))
    log.add(PolicySet(path=P("/"), policy_id="p", policy=Policy("allow", "alice")))
    assert not view.can_read(P("/network")), "a permission does not widen the view"
    assert view.can_read(P("/apps/x"))


@given(st.sets(PATHS, max_size=12), st.sets(PATHS | st.just(ROOT), max_size=3), st.sets(PATHS, max_size=3))
def test_whatever_is_given_out_is_within(
    paths: set[ResourcePath], prefixes: set[ResourcePath], hidden: set[ResourcePath]
) -> None:
    log = Log()
    closed = sorted({above for path in paths for above in (path, *path.ancestors)} - {ROOT})
    log.add(*(Created(path=path, kind=Kind("app")) for path in closed))
    view = TreeView(log.tree, prefixes, lambda path: path not in hidden)

    def visible(path: ResourcePath) -> bool:
        text = str(path)
        inside = any(text == str(p) or text.startswith(str(p).rstrip("/") + "/") for p in prefixes)
        return inside and path not in hidden

    expected = {path for path in [ROOT, *closed] if visible(path)}
    assert {path for path, _ in view.rank([1] * 6, 1000)} == expected
    assert len(view.rank([1] * 6, 1000)) == len(expected) == view.statistics().nodes
    for path in [ROOT, *closed]:
        answers: list[Any] = []
        for ask in (view.children, view.ancestors, view.subtree):
            try:
                answers.append({node.path for node in ask(path)})
            except CapabilityDenied:
                answers.append(None)
        if path in expected:
            assert all(found <= expected for found in answers)
            assert answers[2] == {other for other in expected if other.is_within(path)}
        else:
            assert answers == [None] * 3

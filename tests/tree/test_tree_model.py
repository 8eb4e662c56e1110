"""The tree against a plain map: same state, same refusals, and roots that are equal exactly when states are."""

from __future__ import annotations

import random
from typing import Any

import pytest
from deltas_for_tests import DELTAS, KINDS, METADATA, PATHS, SCORINGS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from trees_for_tests import Log, state

from weftos.errors import TreeError
from weftos.tree import metadata
from weftos.tree.deltas import (
    Created,
    Delta,
    MetadataRemoved,
    MetadataSet,
    PolicyRemoved,
    PolicySet,
    Removed,
    ScoringSet,
)
from weftos.tree.names import Kind
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.scoring import Scoring
from weftos.tree.tree import ResourceTree

#: Of all trees that any example built: hash by state and state by hash.
ROOT_OF: dict[str, bytes] = {}
STATE_OF: dict[bytes, str] = {}


def encoded(values: dict[str, Any]) -> dict[str, bytes]:
    return {key: metadata.encode(value) for key, value in values.items()}


class Model:
    """A map from texts of paths to (kind, encoded metadata, scoring, policies)."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Any]] = {"/": ["namespace", {}, Scoring(), {}]}

    def apply(self, delta: Delta) -> bool:
        path = str(delta.path)
        node = self.nodes.get(path)
        if isinstance(delta, Created):
            return self.create(delta, path, node)
        if node is None:
            return False
        match delta:
            case Removed():
                if path == "/" or any(other.startswith(path + "/") for other in self.nodes):
                    return False
                del self.nodes[path]
            case MetadataSet():
                node[1] |= encoded(delta.values)
            case MetadataRemoved():
                return node[1].pop(delta.key, None) is not None
            case ScoringSet():
                node[2] = delta.scoring
            case PolicySet():
                node[3][delta.policy_id] = delta.policy
            case PolicyRemoved():
                return node[3].pop(delta.policy_id, None) is not None
        return True

    def create(self, delta: Created, path: str, node: list[Any] | None) -> bool:
        values = encoded(delta.values)
        if delta.kind == Kind("agent"):
            values["incarnation"] = metadata.encode(
                1 if node is None else metadata.decode(node[1].get("incarnation", b"\x00")) + 1
            )
        if node is not None:
            if node[0] != "agent" or str(delta.kind) != "agent":
                return False
            node[1] = values
            return True
        if (path.rpartition("/")[0] or "/") not in self.nodes:
            return False
        self.nodes[path] = [str(delta.kind), values, delta.scoring, {}]
        return True

    def state(self) -> dict[str, Any]:
        return {
            path: (
                kind,
                sorted(values.items()),
                scoring.to_bytes(),
                sorted((name, policy.to_bytes()) for name, policy in policies.items()),
            )
            for path, (kind, values, scoring, policies) in self.nodes.items()
        }

    def rebuild(self, dice: random.Random) -> ResourceTree:
        """Build the same state in a new tree, in another order."""
        log, waiting = Log(), [path for path in self.nodes if path != "/"]
        dice.shuffle(waiting)
        waiting.sort(key=lambda path: path.count("/"))
        later: list[Delta] = []
        for path in ["/", *waiting]:
            kind, values, scoring, policies = self.nodes[path]
            plain = {key: metadata.decode(data) for key, data in values.items()}
            times = plain.pop("incarnation", 1)
            where = ResourcePath(path)
            if path != "/":
                for _ in range(times):
                    log.add(Created(path=where, kind=Kind(kind), values={}))
            later += [MetadataSet(path=where, values={key: value}) for key, value in plain.items()]
            later += [PolicySet(path=where, policy_id=name, policy=policy) for name, policy in policies.items()]
            later.append(ScoringSet(path=where, scoring=scoring))
        dice.shuffle(later)
        return log.add(*later)


class TreeMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.log, self.model = Log(), Model()

    def change(self, delta: Delta) -> None:
        before = state(self.log.tree)
        fits = self.model.apply(delta)
        if fits:
            self.log.tree.check(delta)
            self.log.add(delta)
        else:
            with pytest.raises(TreeError):
                self.log.tree.check(delta)
            with pytest.raises(TreeError):
                self.log.add(delta)
            assert state(self.log.tree) == before

    @rule(delta=DELTAS)
    def any_change(self, delta: Delta) -> None:
        self.change(delta)

    @rule(data=st.data(), name=st.sampled_from(["a", "b", "ab"]), kind=KINDS, values=METADATA, scoring=SCORINGS)
    def add(self, data: st.DataObject, name: str, kind: Kind, values: dict[str, Any], scoring: Scoring) -> None:
        parent = ResourcePath(data.draw(st.sampled_from(sorted(self.model.nodes))))
        if parent.depth < 4:
            self.change(Created(path=parent.child(name), kind=kind, values=values, scoring=scoring))

    @rule(data=st.data(), delta=DELTAS.filter(lambda delta: not isinstance(delta, Created)))
    def change_what_is_there(self, data: st.DataObject, delta: Delta) -> None:
        path = ResourcePath(data.draw(st.sampled_from(sorted(self.model.nodes))))
        self.change(type(delta)(**{**{f: getattr(delta, f) for f in delta.__struct_fields__}, "path": path}))

    @rule()
    def ask(self) -> None:
        """Hash now, so that later changes start from hashes and not from nothing."""
        self.log.tree.root_hash()

    @rule(dice=st.randoms(use_true_random=False))
    def rebuild(self, dice: random.Random) -> None:
        assert self.model.rebuild(dice).root_hash() == self.log.tree.root_hash()

    @rule()
    def replay(self) -> None:
        again = ResourceTree()
        for delta, seq, t_ns in self.log.records:
            again.apply(delta, seq, t_ns)
        assert again.root_hash() == self.log.tree.root_hash()

    @rule()
    def compare_roots(self) -> None:
        text, root = repr(sorted(self.model.state().items())), self.log.tree.root_hash()
        assert ROOT_OF.setdefault(text, root) == root
        assert STATE_OF.setdefault(root, text) == text

    @invariant()
    def same_state(self) -> None:
        if hasattr(self, "model"):
            assert state(self.log.tree) == self.model.state()
            assert len(self.log.tree) == len(self.model.nodes)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@given(st.sets(PATHS, max_size=15), st.randoms(use_true_random=False))
def test_the_order_of_inserts_does_not_count(paths: set[ResourcePath], dice: random.Random) -> None:
    closed = {above for path in paths for above in (path, *path.ancestors)} - {ROOT}
    roots = set()
    for _ in range(3):
        order = list(closed)
        dice.shuffle(order)
        order.sort(key=lambda path: path.depth)
        roots.add(
            Log()
            .add(
                *(Created(path=path, kind=Kind("app")) for path in order),
            )
            .root_hash()
        )
    assert len(roots) == 1

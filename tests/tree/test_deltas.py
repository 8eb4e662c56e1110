"""Changes and their payloads: one payload per change, and nothing else is read."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from deltas_for_tests import DELTAS, POLICIES
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.records.canonical import decode_payload, encode_payload
from weftos.errors import DeltaInvalid, NodeInvalid, PathInvalid
from weftos.tree import metadata
from weftos.tree.deltas import LOG_KINDS, Created, Delta, MetadataSet, PolicySet, ScoringSet, from_payload
from weftos.tree.names import Kind, Role
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring

PATH = ResourcePath("/a/b")
SCORES = {"trust": 0.5, "performance": 0.5, "difficulty": 0.5, "reward": 0.5, "reliability": 0.5, "velocity": 0.5}
POLICY = {"effect": "allow", "principal": None, "role": "viewer", "action": None}
GOOD: dict[str, dict[str, Any]] = {
    "tree.create": {"op": "create", "kind": "agent", "values": {"pid": 7}, "scoring": SCORES},
    "tree.remove": {"op": "remove"},
    "tree.update-meta": {"op": "set", "values": {"k": [1, {"a": b"x"}]}},
    "tree.update-scoring": {"op": "score", "scoring": SCORES},
    "acl.set": {"op": "policy", "policy_id": "p", "policy": POLICY},
    "acl.remove": {"op": "unpolicy", "policy_id": "p"},
}
for _payload in GOOD.values():
    _payload.update(version=1, path="/a/b")


@given(DELTAS)
def test_a_change_and_its_payload(delta: Delta) -> None:
    stored = encode_payload(delta.to_payload())
    again = from_payload(delta.log_kind, decode_payload(stored))
    assert again == delta
    assert encode_payload(again.to_payload()) == stored


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_the_form_of_each_kind(kind: str) -> None:
    delta = from_payload(kind, copy.deepcopy(GOOD[kind]))
    assert delta.to_payload() == GOOD[kind]
    assert delta.log_kind == kind
    assert delta.path == PATH


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_every_key_is_needed_and_no_other_allowed(kind: str) -> None:
    for key in GOOD[kind]:
        with pytest.raises(DeltaInvalid):
            from_payload(kind, {name: value for name, value in GOOD[kind].items() if name != key})
    for extra in ("x", "", "parent"):
        with pytest.raises(DeltaInvalid):
            from_payload(kind, {**GOOD[kind], extra: 1})


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_no_key_takes_another_type(kind: str) -> None:
    for key, value in GOOD[kind].items():
        for bad in (None, 1.5, True, 2, "text", b"bytes", [], [1], {}, {"a": 1}, {1: 1}):
            if type(bad) is not type(value) or bad != value:
                if kind == "tree.create" and key == "values" and bad in ({}, {"a": 1}):
                    continue
                if kind == "tree.update-meta" and key == "values" and bad == {"a": 1}:
                    continue
                if key == "policy_id" and bad == "text":
                    continue
                with pytest.raises(DeltaInvalid):
                    from_payload(kind, {**GOOD[kind], key: bad})


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_a_payload_is_not_read_as_another_kind(kind: str) -> None:
    for other in LOG_KINDS:
        if other != kind:
            with pytest.raises(DeltaInvalid):
                from_payload(other, GOOD[kind])
    with pytest.raises(DeltaInvalid):
        from_payload("app.x", GOOD[kind])
    with pytest.raises(DeltaInvalid):
        from_payload(kind, [GOOD[kind]])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("tree.create", {"path": "/a//b"}),
        ("tree.create", {"path": "/a/../b"}),
        ("tree.create", {"kind": "agnet"}),
        ("tree.create", {"version": 2}),
        ("tree.create", {"values": {"k": float("nan")}}),
        ("tree.create", {"values": {"k": {1: 2}}}),
        ("tree.create", {"values": {"k": object()}}),
        ("tree.create", {"values": {"k": 2**70}}),
        ("tree.create", {"values": {"k": "\ud800"}}),
        ("tree.create", {"scoring": {**SCORES, "trust": 1}}),
        ("tree.create", {"scoring": {**SCORES, "trust": 1.5}}),
        ("tree.create", {"scoring": {**SCORES, "trust": -0.0}}),
        ("tree.create", {"scoring": {**SCORES, "trust": float("nan")}}),
        ("tree.create", {"scoring": {"trust": 0.5}}),
        ("tree.update-meta", {"values": {}}),
        ("tree.update-meta", {"values": {"": 1}}),
        ("acl.set", {"policy": {**POLICY, "effect": "Allow"}}),
        ("acl.set", {"policy": {**POLICY, "principal": ""}}),
        ("acl.set", {"policy": {**POLICY, "role": "root"}}),
        ("acl.set", {"policy": {"effect": "allow"}}),
        ("acl.set", {"policy_id": ""}),
    ],
)
def test_bad_values(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(DeltaInvalid):
        from_payload(kind, {**GOOD[kind], **change})


@given(
    st.sampled_from(sorted(LOG_KINDS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["op", "path", "version", "values", "scoring"]), inner, max_size=5)
        ),
        max_leaves=8,
    ),
)
def test_any_value_is_read_or_refused(kind: str, payload: Any) -> None:
    with pytest.raises(DeltaInvalid):
        raise AssertionError(from_payload(kind, payload))


def test_bad_changes_cannot_be_made() -> None:
    with pytest.raises(NodeInvalid):
        Created(path=PATH, kind=Kind("agent"), values={"k": float("inf")})
    with pytest.raises(DeltaInvalid):
        MetadataSet(path=PATH, values={})
    with pytest.raises(NodeInvalid):
        PolicySet(path=PATH, policy_id="", policy=Policy("allow"))
    with pytest.raises(PathInvalid):
        ScoringSet(path=ResourcePath("a"), scoring=Scoring())


@given(POLICIES)
def test_a_policy_and_its_bytes(policy: Policy) -> None:
    assert Policy.from_bytes(policy.to_bytes()) == policy


@pytest.mark.parametrize(
    "value", [{}, [], "allow", {"effect": "allow"}, {**POLICY, "x": 1}, {**POLICY, "effect": "permit"}, POLICY["role"]]
)
def test_what_is_no_policy(value: Any) -> None:
    with pytest.raises(NodeInvalid):
        Policy.from_bytes(msgspec.msgpack.encode(value, order="deterministic"))


def test_a_policy_has_names_and_not_texts() -> None:
    with pytest.raises(NodeInvalid):
        Policy("allow", role="admin")  # type: ignore[arg-type]
    with pytest.raises(NodeInvalid):
        Policy("permit")  # type: ignore[arg-type]
    with pytest.raises(NodeInvalid):
        Policy("allow", principal="a\n")
    assert Policy("allow", role=Role("admin")).role == Role("admin")


def test_the_largest_change_fits_into_a_record() -> None:
    deep: Any = 0
    for _ in range(limits.TREE_METADATA_DEPTH):
        deep = [deep]
    values: dict[str, Any] = {f"{number:03}".ljust(100, "k"): "" for number in range(limits.TREE_METADATA_KEYS - 2)}
    values["deep"] = deep
    values["long"] = "x" * 16000
    room = limits.TREE_METADATA_BYTES - sum(len(k) + len(metadata.encode(v)) for k, v in values.items())
    first = next(iter(values))
    values[first] = "x" * (room - 2)
    created = Created(path=ResourcePath(("/" + "a" * 255) * 4), kind=Kind("custom:" + "k" * 64), values=values)
    assert from_payload(created.log_kind, decode_payload(encode_payload(created.to_payload()))) == created
    with pytest.raises(NodeInvalid):
        Created(path=PATH, kind=Kind("agent"), values={**values, first: "x" * (room - 1)})

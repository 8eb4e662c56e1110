"""Hashes: every part of a node counts, lengths are bound, and a set of siblings does not remember how it came about."""

from __future__ import annotations

import random
import struct
from typing import Any

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.tree import siblings
from weftos.tree.hashing import EMPTY, branch_hash, node_hash, place_hash
from weftos.tree.names import Kind
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.scoring import Scoring
from weftos.tree.siblings import BUCKET, SiblingSet

NODE: dict[str, Any] = {
    "path": ResourcePath("/a/b"),
    "kind": Kind("agent"),
    "metadata": {"k": b"\x0c"},
    "scoring": Scoring(),
    "policies": {},
    "children": None,
}


def test_every_part_of_a_node_counts() -> None:
    others = [
        {},
        {"path": ResourcePath("/a/c")},
        {"path": ResourcePath("/c/b")},
        {"path": ResourcePath("/a")},
        {"path": ROOT},
        {"kind": Kind("service")},
        {"kind": Kind("custom:agent")},
        {"metadata": {}},
        {"metadata": {"k": b"\x0d"}},
        {"metadata": {"k\x0c": b""}},
        {"metadata": {"k1": b"\x02"}},
        {"metadata": {"k": b"\x0c", "l": b"\x0c"}},
        {"metadata": {}, "policies": {"k": b"\x0c"}},
        {"scoring": Scoring(trust=0.5000000000000001)},
        {"scoring": Scoring(trust=0.25, performance=0.5)},
        {"scoring": Scoring(trust=0.5, performance=0.25)},
        {"children": (0, EMPTY)},
        {"children": (1, EMPTY)},
        {"children": (1, b"\x01" * 32)},
    ]
    hashes = {node_hash(**{**NODE, **change}) for change in others}
    assert len(hashes) == len(others)


def test_the_order_of_keys_does_not_count() -> None:
    one = node_hash(**{**NODE, "metadata": {"a": b"\x01", "é": b"\x02", "\U0001f600": b"\x03", "\uffee": b"\x04"}})
    two = node_hash(**{**NODE, "metadata": {"\uffee": b"\x04", "\U0001f600": b"\x03", "é": b"\x02", "a": b"\x01"}})
    assert one == two


def test_a_node_by_hand() -> None:
    def field(data: bytes) -> bytes:
        return struct.pack("<I", len(data)) + data

    data = field(b"exo/tree/v1") + b"\x01" + field(b"/a/b") + field(b"/a") + field(b"agent")
    data += struct.pack("<I", 1) + field(b"k") + field(b"\x0c") + struct.pack("<6d", *[0.5] * 6)
    data += struct.pack("<I", 0) + struct.pack("<Q", 3) + b"\x07" * 32
    assert node_hash(**{**NODE, "children": (3, b"\x07" * 32)}) == blake3.blake3(data).digest()


def reference(members: dict[str, bytes], level: int = 0) -> bytes:
    """The hash of a set, from the rule and not from the trie."""
    head = struct.pack("<I", 11) + b"exo/tree/v1"
    if len(members) <= BUCKET:
        rows = b"".join(struct.pack("<I", len(n.encode())) + n.encode() + h for n, h in sorted(members.items()))
        return blake3.blake3(head + b"\x02" + struct.pack("<I", len(members)) + rows).digest()
    parts: list[dict[str, bytes]] = [{} for _ in range(16)]
    for name, node in members.items():
        digits = blake3.blake3(head + b"\x04" + name.encode()).hexdigest()
        parts[int(digits[level], 16)][name] = node
    rows = b"".join(reference(part, level + 1) if part else bytes(32) for part in parts)
    return blake3.blake3(head + b"\x03" + struct.pack("<Q", len(members)) + rows).digest()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=150), st.randoms(use_true_random=False))
def test_a_set_of_siblings_against_the_rule(steps: list[tuple[int, int]], dice: random.Random) -> None:
    model: dict[str, bytes] = {}
    tested = SiblingSet()
    for number, value in steps:
        name = f"n{number}"
        if value:
            model[name] = bytes([value]) * 32
            tested.put(name, model[name])
        else:
            model.pop(name, None)
            tested.discard(name)
        if dice.random() < 0.2:
            assert tested.digest() == reference(model)
    assert tested.digest() == reference(model)
    assert len(tested) == len(model)


def test_many_siblings_grow_and_shrink() -> None:
    tested, model = SiblingSet(), {}
    for number in range(3000):
        model[str(number)] = place_hash(str(number))
        tested.put(str(number), model[str(number)])
    assert tested.digest() == reference(model)
    for number in range(2990):
        del model[str(number)]
        tested.discard(str(number))
        if number % 500 == 0 or number > 2970:
            assert tested.digest() == reference(model)
    assert len(tested) == 10


def test_one_change_among_many_costs_few_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = SiblingSet()
    for number in range(10_000):
        tested.put(str(number), EMPTY)
    tested.digest()
    count = 0

    def counted(function: Any) -> Any:
        def call(*args: Any) -> bytes:
            nonlocal count
            count += 1
            return function(*args)

        return call

    monkeypatch.setattr(siblings, "branch_hash", counted(siblings.branch_hash))
    monkeypatch.setattr(siblings, "bucket_hash", counted(siblings.bucket_hash))
    tested.put("77", b"\x01" * 32)
    tested.digest()
    assert 1 < count <= 6
    tested.digest()
    tested.put("77", b"\x01" * 32)
    tested.digest()
    assert count <= 6, "the same hash again changes nothing"


def test_a_branch_counts_its_members() -> None:
    assert branch_hash(17, [EMPTY] * 16) != branch_hash(18, [EMPTY] * 16)

"""Kinds, roles and actions are closed lists with a door; metadata has one encoding per value."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.errors import NodeInvalid
from weftos.tree import metadata
from weftos.tree.names import Action, Kind, Name, Role, check_label

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(
    LEAVES | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("name", [Kind("agent"), Role("viewer"), Action("read"), Kind.custom("Robot.arm-2")])
def test_names(name: Name) -> None:
    assert type(name)(str(name)) == name
    assert name.is_custom is str(name).startswith("custom:")


@pytest.mark.parametrize("cls", [Kind, Role, Action])
@pytest.mark.parametrize(
    "text", ["", "agnet", "Agent", "READ", "custom:", "custom:.a", "custom:a b", "custom:a\n", "custom:é", "custom:a:b",
             "custom:" + "a" * 65, 1, None, b"agent"]
)  # fmt: skip
def test_no_names(cls: type[Name], text: Any) -> None:
    with pytest.raises(NodeInvalid):
        cls(text)


def test_equal_texts_of_two_classes_are_two_names() -> None:
    assert Role("admin") != Action("admin")
    assert len({Role("admin"), Action("admin"), Role("admin")}) == 2
    assert Kind.custom("agent") != Kind("agent")


@pytest.mark.parametrize("text", ["", "a\n", "\x00", "a" * 257, "é" * 129, "\ud800", 3, None])
def test_no_labels(text: Any) -> None:
    with pytest.raises(NodeInvalid, match="the principal"):
        check_label(text, "the principal")


@given(VALUES)
def test_a_value_and_its_encoding(value: Any) -> None:
    data = metadata.encode(value)
    assert metadata.read_encoded(data) == data
    assert metadata.encode(metadata.decode(data)) == data


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, [-math.inf], {"a": {"b": math.nan}}, {1: 2}, {b"a": 1}, 2**64, -(2**63) - 1, object(), {1},
     "\ud800", bytearray(b"a"), 1j, type("S", (str,), {})("a")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_value(value: Any) -> None:
    with pytest.raises(NodeInvalid):
        metadata.encode(value)


def test_types_are_told_apart() -> None:
    assert len({metadata.encode(value) for value in (1, 1.0, True, "1", b"1", None, 0.0, -0.0, 0, False)}) == 10


def test_depth_and_size() -> None:
    deep: Any = []
    for _ in range(limits.TREE_METADATA_DEPTH - 1):
        deep = [deep]
    metadata.encode(deep)
    for bad in ([deep], {"a": deep}, "a" * limits.TREE_METADATA_VALUE_BYTES):
        with pytest.raises(NodeInvalid):
            metadata.encode(bad)
    with pytest.raises(NodeInvalid, match="keys"):
        metadata.encode_map({str(number): 0 for number in range(limits.TREE_METADATA_KEYS + 1)})
    with pytest.raises(NodeInvalid, match="bytes"):
        metadata.encode_map({str(number): "a" * 16000 for number in range(4)})


@pytest.mark.parametrize("key", ["", "a\n", "\x00", "k" * 129, "\ud800", 1, None, b"k"])
def test_no_keys(key: Any) -> None:
    with pytest.raises(NodeInvalid):
        metadata.encode_map({key: 1})


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x01\x01", b"\xcd\x00\x01", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xd9\x01a",
     b"\x82\xa1b\x01\xa1a\x01", b"\x82\xa1a\x01\xa1a\x01", b"\x91" * 5000 + b"\x01", b"\xd6\xff\x00\x00\x00\x00",
     b"\xca\x3f\x00\x00\x00"],
)  # fmt: skip
def test_encodings_that_are_not_canonical(data: bytes) -> None:
    with pytest.raises(NodeInvalid):
        metadata.read_encoded(data)


@given(st.binary(max_size=40))
def test_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        metadata.read_encoded(data)
    except NodeInvalid:
        return
    assert metadata.encode(msgspec.msgpack.decode(data)) == data

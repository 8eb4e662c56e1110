"""Universal ids: what v1 tells apart and v0 does not, and the numbers with names."""

from __future__ import annotations

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.codes import Code
from weftos.ecc.crossrefs.model import CrossRef, CrossRefType
from weftos.ecc.impulses.model import ImpulseType
from weftos.ecc.universal import StructureTag, UniversalNodeId, decode_hook, encode_hook
from weftos.errors import CrossRefRefused, EccError, ImpulseRefused, UniversalIdInvalid

GRAPH = StructureTag.CAUSAL_GRAPH
FIELDS = st.tuples(
    st.sampled_from([StructureTag.EXO_CHAIN, GRAPH, StructureTag(0x10), StructureTag(0xFF)]),
    st.binary(max_size=12),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=12),
    st.binary(max_size=12),
)


def test_a_shifted_boundary_collides_in_v0_and_not_in_v1() -> None:
    hlc = 0x0807060504030201
    one = (GRAPH, b"context", hlc, b"contentpar", b"ent")
    # The end of the content becomes the start of the parent.
    other = (GRAPH, b"context", hlc, b"content", b"parent")
    assert UniversalNodeId.v0(*one) == UniversalNodeId.v0(*other)
    assert UniversalNodeId.v1(*one) != UniversalNodeId.v1(*other)
    # And over the time: its first byte is read as the end of the context, the start of the content as its last.
    moved = (GRAPH, b"context\x01", int.from_bytes(bytes([2, 3, 4, 5, 6, 7, 8]) + b"c", "little"), b"ontentpar", b"ent")
    assert UniversalNodeId.v0(*one) == UniversalNodeId.v0(*moved)
    assert UniversalNodeId.v1(*one) != UniversalNodeId.v1(*moved)


@given(FIELDS, FIELDS)
def test_v1_differs_whenever_a_field_does(one: tuple, other: tuple) -> None:
    assert (UniversalNodeId.v1(*one) == UniversalNodeId.v1(*other)) == (one == other)


@given(FIELDS)
def test_v0_is_the_plain_concatenation(fields: tuple) -> None:
    tag, context, hlc, content, parent = fields
    plain = blake3(bytes([tag]) + context + hlc.to_bytes(8, "little") + content + parent).digest()
    assert UniversalNodeId.v0(*fields) == plain != UniversalNodeId.v1(*fields)


def test_v1_is_pinned() -> None:
    made = UniversalNodeId.v1(GRAPH, b"impulse:BeliefUpdate:1", 7, bytes(32), UniversalNodeId.ZERO)
    hasher = blake3(derive_key_context="weftos.ecc.universal node id v1")
    for field in (b"\x03", b"impulse:BeliefUpdate:1", (7).to_bytes(8, "little"), bytes(32), bytes(32)):
        hasher.update(len(field).to_bytes(8, "little") + field)
    assert made == hasher.digest()
    assert str(made) == "1c616a136ebfacae6ce4ce5dbef15408cdba4d0319bc243931cf5b25eea80354"


@given(st.binary(min_size=32, max_size=32))
def test_text_and_back(raw: bytes) -> None:
    one = UniversalNodeId(raw)
    assert UniversalNodeId.parse(str(one)) == one == raw
    assert UniversalNodeId.parse(str(one).upper()) == one
    assert hash(one) == hash(raw)


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "g" * 64, " " + "0" * 63, "0" * 63 + "\n", "\u0660" * 64, "0x" + "0" * 62]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UniversalIdInvalid, match="64 hexadecimal"):
        UniversalNodeId.parse(text)


def test_bytes_and_times_that_do_not_fit_are_refused() -> None:
    for raw in (b"", bytes(31), bytes(33)):
        with pytest.raises(UniversalIdInvalid, match="32 bytes"):
            UniversalNodeId(raw)
    for make in (UniversalNodeId.v0, UniversalNodeId.v1):
        for hlc in (-1, 1 << 64):
            with pytest.raises(UniversalIdInvalid):
                make(GRAPH, b"", hlc, b"", b"")


def test_numbers_and_names() -> None:
    assert [
        int(one) for one in (StructureTag.EXO_CHAIN, StructureTag.RESOURCE_TREE, GRAPH, StructureTag.HNSW_INDEX)
    ] == [1, 2, 3, 4]
    assert str(GRAPH) == "CausalGraph"
    assert str(StructureTag.custom(0x10)) == "Custom(0x10)"
    assert str(ImpulseType.custom(42)) == "Custom(42)"
    assert ImpulseType.custom(1) != ImpulseType.BELIEF_UPDATE
    assert str(CrossRefType.METHOD_OF) == "MethodOf"
    assert CrossRefType.TOM_INFERENCE == 0x0A
    assert CrossRefType.custom(7).is_custom
    assert not CrossRefType.CALLS.is_custom
    assert repr(GRAPH) == "StructureTag.CausalGraph"


@pytest.mark.parametrize(
    ("make", "number", "error"),
    [
        (StructureTag, 0, UniversalIdInvalid),
        (StructureTag, 5, UniversalIdInvalid),
        (StructureTag, 0x100, UniversalIdInvalid),
        (StructureTag.custom, 3, UniversalIdInvalid),
        (StructureTag.custom, 0x0F, UniversalIdInvalid),
        (CrossRefType, -1, CrossRefRefused),
        (CrossRefType, 256, CrossRefRefused),
        (CrossRefType.custom, 0x28, CrossRefRefused),
        (ImpulseType, 0, ImpulseRefused),
        (ImpulseType, 6, ImpulseRefused),
        (ImpulseType, 0x200, ImpulseRefused),
        (ImpulseType.custom, 256, ImpulseRefused),
        (ImpulseType.custom, -1, ImpulseRefused),
    ],
)
def test_a_number_outside_the_set_is_refused(make: type[Code], number: int, error: type[EccError]) -> None:
    with pytest.raises(error):
        make(number)


def test_ids_and_numbers_cross_a_wire() -> None:
    ref = CrossRef(UniversalNodeId(bytes(range(32))), GRAPH, UniversalNodeId.ZERO, GRAPH, CrossRefType.CALLS, 1, 2)
    raw = msgspec.msgpack.encode(ref, enc_hook=encode_hook)
    found = msgspec.msgpack.decode(raw, type=CrossRef, dec_hook=decode_hook)
    assert found == ref
    assert [type(one) for one in (found.source, found.source_structure, found.ref_type)] == [
        UniversalNodeId,
        StructureTag,
        CrossRefType,
    ]


def _with(field: str, value: object) -> bytes:
    """A cross-reference on the wire with another value in one field."""
    ref = CrossRef(UniversalNodeId.ZERO, GRAPH, UniversalNodeId.ZERO, GRAPH, CrossRefType.CALLS, 1, 2)
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(ref, enc_hook=encode_hook))
    return msgspec.msgpack.encode(fields | {field: value})


@pytest.mark.parametrize(
    ("field", "wrong", "error"),
    [
        ("source", b"short", UniversalIdInvalid),
        ("source_structure", 7, UniversalIdInvalid),
        ("ref_type", 256, CrossRefRefused),
    ],
)
def test_a_value_outside_its_set_is_refused_on_the_wire(field: str, wrong: object, error: type[EccError]) -> None:
    with pytest.raises(error):
        msgspec.msgpack.decode(_with(field, wrong), type=CrossRef, dec_hook=decode_hook)


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("target", 5, "int makes no UniversalNodeId"),
        ("target", "0" * 64, "str makes no UniversalNodeId"),
        ("source", None, "NoneType makes no UniversalNodeId"),
        ("ref_type", "Calls", "str makes no CrossRefType"),
        ("ref_type", True, "bool makes no CrossRefType"),
        ("source_structure", 1.0, "float makes no StructureTag"),
        ("source_structure", [1], "list makes no StructureTag"),
    ],
)
def test_a_value_of_another_type_is_invalid_at_its_place(field: str, wrong: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"{said} - at `\$\.{field}`"):
        msgspec.msgpack.decode(_with(field, wrong), type=CrossRef, dec_hook=decode_hook)


def test_the_hooks_leave_other_types_to_others() -> None:
    with pytest.raises(NotImplementedError, match="no form for complex"):
        encode_hook(1j)
    with pytest.raises(NotImplementedError, match="no form for complex"):
        decode_hook(complex, 1)

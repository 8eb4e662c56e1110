"""What a cross-reference is, and its row of 83 bytes: what snapshots, journals and roots are made of."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

import msgspec

from weftos.ecc.codes import Code
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import CrossRefRefused, UniversalIdInvalid

__all__ = ["ROW_BYTES", "CrossRef", "CrossRefType", "Key", "from_row", "key_of", "to_row"]

#: Source, target, structure of the source, of the target, type, created_at, chain_seq. So rows sort by their key's ids.
_ROW: Final = struct.Struct("<32s32sBBBQQ")
ROW_BYTES: Final = _ROW.size
_LARGEST: Final = (1 << 64) - 1


class CrossRefType(Code):
    """What a cross-reference says. Any number of a byte that has no name here is a custom one."""

    names: ClassVar = {
        0x01: "TriggeredBy",
        0x02: "EvidenceFor",
        0x03: "Elaborates",
        0x04: "EmotionCause",
        0x05: "GoalMotivation",
        0x06: "SceneBoundary",
        0x09: "MemoryEncoded",
        0x0A: "TomInference",
        0x20: "Calls",
        0x21: "Imports",
        0x22: "ImportsFrom",
        0x23: "DependsOn",
        0x24: "Contains",
        0x25: "Implements",
        0x26: "Configures",
        0x27: "Extends",
        0x28: "MethodOf",
    }
    refusal: ClassVar = CrossRefRefused
    TRIGGERED_BY: ClassVar[CrossRefType]
    EVIDENCE_FOR: ClassVar[CrossRefType]
    ELABORATES: ClassVar[CrossRefType]
    EMOTION_CAUSE: ClassVar[CrossRefType]
    GOAL_MOTIVATION: ClassVar[CrossRefType]
    SCENE_BOUNDARY: ClassVar[CrossRefType]
    MEMORY_ENCODED: ClassVar[CrossRefType]
    TOM_INFERENCE: ClassVar[CrossRefType]
    CALLS: ClassVar[CrossRefType]
    IMPORTS: ClassVar[CrossRefType]
    IMPORTS_FROM: ClassVar[CrossRefType]
    DEPENDS_ON: ClassVar[CrossRefType]
    CONTAINS: ClassVar[CrossRefType]
    IMPLEMENTS: ClassVar[CrossRefType]
    CONFIGURES: ClassVar[CrossRefType]
    EXTENDS: ClassVar[CrossRefType]
    METHOD_OF: ClassVar[CrossRefType]

    __slots__ = ()


#: What makes a cross-reference one and the same: source, target, type.
Key = tuple[bytes, bytes, int]


class CrossRef(msgspec.Struct, frozen=True):
    """A cross-reference.

    Attributes:
        source: the node that refers.
        source_structure: where it is.
        target: the node that is referred to.
        target_structure: where that is.
        ref_type: what the reference says.
        created_at: when it was made (:mod:`weftos.ecc.hlc`).
        chain_seq: the record of the log that it is in; 0 if none.
    """

    source: UniversalNodeId
    source_structure: StructureTag
    target: UniversalNodeId
    target_structure: StructureTag
    ref_type: CrossRefType
    created_at: int
    chain_seq: int


def key_of(ref: CrossRef) -> Key:
    """Return what a cross-reference is known by."""
    return ref.source, ref.target, int(ref.ref_type)


def to_row(ref: CrossRef) -> bytes:
    """Return the row of a cross-reference.

    Raises:
        CrossRefRefused: a field is out of range.
    """
    if not (0 <= ref.created_at <= _LARGEST and 0 <= ref.chain_seq <= _LARGEST):
        raise CrossRefRefused("times and positions in the log are whole numbers from 0 to 2^64 - 1")
    # Checked again: a structure of msgspec does not check what it is given.
    tags = StructureTag(ref.source_structure), StructureTag(ref.target_structure), CrossRefType(ref.ref_type)
    ends = UniversalNodeId(ref.source), UniversalNodeId(ref.target)
    return _ROW.pack(*ends, *tags, ref.created_at, ref.chain_seq)


def from_row(row: bytes) -> CrossRef:
    """Read a row.

    Raises:
        CrossRefRefused: it is none.
    """
    if len(row) != ROW_BYTES:
        raise CrossRefRefused(f"a cross-reference has {ROW_BYTES} bytes, not {len(row)}")
    source, target, source_tag, target_tag, kind, created_at, chain_seq = _ROW.unpack(row)
    try:
        tags = StructureTag(source_tag), StructureTag(target_tag)
    except UniversalIdInvalid as error:
        raise CrossRefRefused(f"a cross-reference between unknown structures: {error}") from error
    ends = UniversalNodeId(source), UniversalNodeId(target)
    return CrossRef(ends[0], tags[0], ends[1], tags[1], CrossRefType(kind), created_at, chain_seq)

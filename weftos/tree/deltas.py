"""Changes of the tree, complete enough that the tree is nothing but their sum, and their form as payloads of the log.

Why it is as it is: the log is the truth and the tree is computed from it, so a record must hold all that the change
needs: the value that was set and not its hash, the score that resulted and not the observation. Each kind of change has
a class, and each object of a class has one payload, which is what a reader accepts. A payload that comes from elsewhere
is checked in full before anything is done with it: its keys, types, ranges, paths and names.

Guaranteed: ``from_payload(delta.log_kind, delta.to_payload())`` gives an equal change; a payload that is accepted is
the one that its change would give. Not guaranteed: that a change fits the tree; that is known when it is applied.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from weftos.errors import DeltaInvalid, TreeError
from weftos.tree import metadata
from weftos.tree.convert import convert, to_builtins
from weftos.tree.names import Kind, check_label
from weftos.tree.nodes import INCARNATION
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import DEFAULT_SCORING, Scoring

__all__ = [
    "LOG_KINDS",
    "Created",
    "Delta",
    "MetadataRemoved",
    "MetadataSet",
    "PolicyRemoved",
    "PolicySet",
    "Removed",
    "ScoringSet",
    "from_payload",
]

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op"):
    """What all changes have: a version of the form, the node, and the kind of the record."""

    log_kind: ClassVar[str]

    version: Literal[1] = 1
    path: ResourcePath

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record: text keys, plain values."""
        payload: dict[str, Any] = to_builtins(self)
        return payload


class Created(_Change, frozen=True, tag="create"):
    """A node appeared. If an agent of this name was there before, this is its next incarnation.

    Attributes:
        kind: what it stands for.
        values: its metadata.
        scoring: its figures; those of an agent that was there before stay, whatever stands here.

    Raises:
        NodeInvalid: the metadata is not acceptable.
        DeltaInvalid: it sets a key that the tree keeps itself.
    """

    log_kind: ClassVar[str] = "tree.create"

    kind: Kind
    values: dict[str, Any] = {}
    scoring: Scoring = DEFAULT_SCORING

    def __post_init__(self) -> None:
        _refuse_reserved(self.values)
        metadata.encode_map(self.values)


class Removed(_Change, frozen=True, tag="remove"):
    """A node without children went away, with its policies."""

    log_kind: ClassVar[str] = "tree.remove"


class MetadataSet(_Change, frozen=True, tag="set"):
    """Keys of a node's metadata got values; others stay.

    Attributes:
        values: at least one key with its new value.

    Raises:
        NodeInvalid: one is not acceptable.
        DeltaInvalid: there is none, or the tree keeps one itself.
    """

    log_kind: ClassVar[str] = "tree.update-meta"

    values: dict[str, Any]

    def __post_init__(self) -> None:
        _refuse_reserved(self.values)
        if not metadata.encode_map(self.values):
            raise DeltaInvalid("a change of metadata sets at least one key")


class MetadataRemoved(_Change, frozen=True, tag="unset"):
    """A key of a node's metadata went away.

    Attributes:
        key: which.

    Raises:
        NodeInvalid: no metadata can have this key.
        DeltaInvalid: the tree keeps this key itself.
    """

    log_kind: ClassVar[str] = "tree.update-meta"

    key: str

    def __post_init__(self) -> None:
        metadata.check_key(self.key)
        _refuse_reserved((self.key,))


class ScoringSet(_Change, frozen=True, tag="score"):
    """A node got other figures.

    Attributes:
        scoring: all six, as they are from now on.
    """

    log_kind: ClassVar[str] = "tree.update-scoring"

    scoring: Scoring


class PolicySet(_Change, frozen=True, tag="policy"):
    """A policy was put on a node, in place of the one with the same identifier if there was one.

    Attributes:
        policy_id: names it on this node.
        policy: the rule.

    Raises:
        NodeInvalid: the identifier is not acceptable.
    """

    log_kind: ClassVar[str] = "acl.set"

    policy_id: str
    policy: Policy

    def __post_init__(self) -> None:
        check_label(self.policy_id, "the identifier of a policy")


class PolicyRemoved(_Change, frozen=True, tag="unpolicy"):
    """A policy was taken from a node.

    Attributes:
        policy_id: which.

    Raises:
        NodeInvalid: the identifier is not acceptable.
    """

    log_kind: ClassVar[str] = "acl.remove"

    policy_id: str

    def __post_init__(self) -> None:
        check_label(self.policy_id, "the identifier of a policy")


Delta: TypeAlias = Created | Removed | MetadataSet | MetadataRemoved | ScoringSet | PolicySet | PolicyRemoved

#: The changes that records of each kind can hold.
LOG_KINDS: Final[dict[str, Any]] = {
    "tree.create": Created,
    "tree.remove": Removed,
    "tree.update-meta": MetadataSet | MetadataRemoved,
    "tree.update-scoring": ScoringSet,
    "acl.set": PolicySet,
    "acl.remove": PolicyRemoved,
}


def from_payload(kind: str, payload: object) -> Delta:
    """Read the change that a record holds.

    Args:
        kind: of the record, one of ``LOG_KINDS``.
        payload: of the record, decoded.

    Raises:
        DeltaInvalid: the kind is another one, or the payload is not exactly what a change of this kind gives.
    """
    if kind not in LOG_KINDS:
        raise DeltaInvalid(f"records of the kind {kind!r} do not change the tree")
    if type(payload) is not dict:
        raise DeltaInvalid(f"the payload of {kind} is a map, not {type(payload).__name__}")
    try:
        delta: Delta = convert(payload, LOG_KINDS[kind])
        same = _encode(delta.to_payload()) == _encode(payload)
    except (msgspec.ValidationError, TreeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DeltaInvalid(f"the payload of {kind} is malformed: {error}") from error
    if not same:
        raise DeltaInvalid(f"the payload of {kind} is not in the form that its change has")
    return delta


def _refuse_reserved(keys: Container[str]) -> None:
    if INCARNATION in keys:
        raise DeltaInvalid(f"the tree keeps the key {INCARNATION!r} of metadata itself")

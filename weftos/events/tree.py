"""Events that change the resource tree. Their changes are read by ``weftos.tree.deltas``, which checks them further."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from weftos.events.event import Bytes16, Bytes32, Event, Natural


class _Change(Event, frozen=True, kw_only=True):
    """Where, and which change of the kind it is."""

    version: Literal[1]
    op: str
    path: str


class Create(_Change, frozen=True, kw_only=True):
    """A resource appeared."""

    kind: ClassVar[str] = "tree.create"
    node_kind: str = msgspec.field(name="kind")
    values: dict[str, Any]
    scoring: dict[str, float]


class Remove(_Change, frozen=True, kw_only=True):
    """A resource went away."""

    kind: ClassVar[str] = "tree.remove"


class UpdateMeta(_Change, frozen=True, kw_only=True):
    """What is known of a resource changed: values of some keys, or a key that went away."""

    kind: ClassVar[str] = "tree.update-meta"
    values: dict[str, Any] | None = None
    key: str | None = None


class UpdateScoring(_Change, frozen=True, kw_only=True):
    """The figures of a resource changed."""

    kind: ClassVar[str] = "tree.update-scoring"
    scoring: dict[str, float]


class AclSet(_Change, frozen=True, kw_only=True):
    """A rule was put on a resource."""

    kind: ClassVar[str] = "acl.set"
    policy_id: str
    policy: dict[str, Any]


class AclRemove(_Change, frozen=True, kw_only=True):
    """A rule was taken from a resource."""

    kind: ClassVar[str] = "acl.remove"
    policy_id: str


class Snapshot(Event, frozen=True, kw_only=True):
    """The hash of the resource tree, and of its snapshot."""

    kind: ClassVar[str] = "tree.snapshot"
    version: Literal[1]
    log_id: Bytes16
    seq: int
    root: Bytes32
    nodes: Natural
    digest: Bytes32


class _Wish(Event, frozen=True, kw_only=True):
    """Who wanted it, and why."""

    by: str
    reason: str


class AclRequest(_Wish, frozen=True, kw_only=True):
    """Somebody wants a rule on a resource, or away from it; the change follows."""

    kind: ClassVar[str] = "acl.request"
    path: str
    policy_id: str
    op: Literal["set", "remove"]


class DelegationIssue(_Wish, frozen=True, kw_only=True):
    """A certificate was signed by which somebody may act."""

    kind: ClassVar[str] = "delegation.issue"
    id: Bytes32
    certificate: bytes


class RevocationAdd(_Wish, frozen=True, kw_only=True):
    """A certificate, and what rests on it, is valid no more."""

    kind: ClassVar[str] = "revocation.add"
    certificate: Bytes32


class RevocationRemove(_Wish, frozen=True, kw_only=True):
    """The revocation of a certificate was taken back."""

    kind: ClassVar[str] = "revocation.remove"
    certificate: Bytes32

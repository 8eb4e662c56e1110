"""Parameters and answers of the methods about rules of access and certificates."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "AclDecision",
    "AclDecisionParams",
    "AclParams",
    "AclRemoveParams",
    "AclRule",
    "AclSetParams",
    "AclView",
    "AuthorizeParams",
    "CertificateList",
    "CertificateParams",
    "CertificateRow",
    "DelegateParams",
    "DelegateResult",
    "GrantView",
    "TreeChanged",
]

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Effect = Literal["allow", "deny"]


class AclParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resource.

    Attributes:
        path: of it.
    """

    path: _Text


class AclSetParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule to put on a resource.

    Attributes:
        path: of the resource; the rule counts there and below.
        policy_id: names the rule there; one with the same name is replaced.
        effect: whether it allows or denies.
        principal: whom it is about, such as an agent's id; ``None`` for everybody.
        role: in which capacity; ``None`` for each.
        action: which one; ``None`` for each.
        reason: for the log.
    """

    path: _Text
    policy_id: _Text
    effect: _Effect
    principal: str | None = None
    role: str | None = None
    action: str | None = None
    reason: _Reason


class AclRemoveParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule to take from a resource.

    Attributes:
        path: of the resource.
        policy_id: of the rule.
        reason: for the log.
    """

    path: _Text
    policy_id: _Text
    reason: _Reason


class AclDecisionParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question to the rules.

    Attributes:
        path: of the resource.
        principal: who would act.
        role: in which capacity.
        action: what would be done.
    """

    path: _Text
    principal: _Text
    role: str = "viewer"
    action: str = "read"


class AclDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say.

    Attributes:
        allowed: the answer.
        reason: in one sentence.
        path: the resource whose rule decided; ``None`` if no rule speaks about it.
        policy_id: of that rule.
    """

    allowed: bool
    reason: str
    path: str | None
    policy_id: str | None


class AclRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and where it is.

    Attributes:
        path: of the resource that it is on.
        policy_id: its name there.
        effect: whether it allows or denies.
        principal: whom it is about; ``None`` for everybody.
        role: in which capacity; ``None`` for each.
        action: which one; ``None`` for each.
    """

    path: str
    policy_id: str
    effect: str
    principal: str | None = None
    role: str | None = None
    action: str | None = None


class AclView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that count for a resource.

    Attributes:
        path: of the resource.
        rules: its own, then those of what is above it, the nearest first.
    """

    path: str
    rules: list[AclRule]


class TreeChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A change is on the log.

    Attributes:
        record: number of the record of the change.
    """

    record: int


class DelegateParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate to be signed.

    Attributes:
        subject: ``agent:ID`` or ``key:`` and 64 hex digits.
        prefix: it counts there and below.
        actions: what may be done.
        valid_secs: for how long, in seconds.
        max_depth: how often it may be handed on.
        reason: for the log.
    """

    subject: _Text
    prefix: _Text = "/"
    actions: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]
    valid_secs: Annotated[float, msgspec.Meta(gt=0, le=366 * 24 * 3600)] = 3600.0
    max_depth: Annotated[int, msgspec.Meta(ge=0, le=7)] = 0
    reason: _Reason


class DelegateResult(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate.

    Attributes:
        id: its identifier, 64 hex digits.
        certificate: itself, in base64.
        not_after_ns: when it ends, nanoseconds since 1970 UTC.
        record: number of the record of the change.
    """

    id: str
    certificate: str
    not_after_ns: int
    record: int


class CertificateParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate to be revoked, or not any more.

    Attributes:
        id: its identifier, 64 hex digits.
        reason: for the log.
    """

    id: _Id
    reason: _Reason


class CertificateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was issued here.

    Attributes:
        id: its identifier, 64 hex digits.
        subject: who may act.
        prefix: there and below.
        actions: what may be done.
        not_before_ns: from when, nanoseconds since 1970 UTC.
        not_after_ns: until when.
        max_depth: how often it may be handed on.
        issuer: public key of the issuer, hex digits.
        record: number of the record that lists it.
        revoked: whether it is valid no more for that reason.
    """

    id: str
    subject: str
    prefix: str
    actions: list[str]
    not_before_ns: int
    not_after_ns: int
    max_depth: int
    issuer: str
    record: int
    revoked: bool


class CertificateList(msgspec.Struct, frozen=True, kw_only=True):
    """What was delegated.

    Attributes:
        certificates: that were issued here.
        revoked_elsewhere: identifiers of revoked certificates that were not.
        issuers: public keys that may issue first certificates, each with the path within which it may.
    """

    certificates: list[CertificateRow]
    revoked_elsewhere: list[str]
    issuers: dict[str, str]


class AuthorizeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain of certificates to be checked now.

    Attributes:
        certificates: each in base64, the first one first.
        subject: who shows them.
        action: what he wants to do.
        path: with what.
    """

    certificates: Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]
    subject: _Text
    action: str = "read"
    path: _Text


class GrantView(msgspec.Struct, frozen=True, kw_only=True):
    """What a good chain gives.

    Attributes:
        subject: to whom.
        prefix: there and below.
        actions: what.
        not_after_ns: until when, nanoseconds since 1970 UTC.
        chain: identifiers of the certificates, the first one first.
    """

    subject: str
    prefix: str
    actions: list[str]
    not_after_ns: int
    chain: list[str]

"""Changes of who may do what: each is a record that says who wanted it and why, and one that changes the tree.

Why it is as it is: the tree's own records hold nothing but the change. So there is one in front of each that names the
person, the reason and, for a certificate, the certificate itself; both are in one group. A request that is carried out
again after a crash finds them, and gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from weftos import chain
from weftos.errors import DelegationInvalid, InvalidRequest
from weftos.service import tree_protocol as p
from weftos.service.clients import Caller
from weftos.service.delegations import DelegationKey
from weftos.service.journal import Journal
from weftos.tree import trust
from weftos.tree.delegation import Certificate
from weftos.tree.deltas import Delta, PolicyRemoved, PolicySet
from weftos.tree.names import Action, Role
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy

__all__ = ["change_tree", "trust_ourselves"]

_REASON_CHARS: Final = 500


class _Change(msgspec.Struct):
    """What goes on the log: kind and payload of the record in front, the change, and what the caller is told."""

    kind: str
    payload: dict[str, Any]
    delta: Delta
    told: dict[str, Any] = {}


def _set_rule(change: p.SetRule, _key: DelegationKey) -> _Change:
    if change.effect not in ("allow", "deny"):
        raise InvalidRequest(f"a rule allows or denies, it does not {change.effect!r:.40}")
    policy = Policy(
        "allow" if change.effect == "allow" else "deny",
        change.principal,
        Role(change.role) if change.role is not None else None,
        Action(change.action) if change.action is not None else None,
    )
    path = ResourcePath(change.path)
    payload = {"path": change.path, "policy_id": change.policy_id, "op": "set"}
    return _Change("acl.request", payload, PolicySet(path=path, policy_id=change.policy_id, policy=policy))


def _remove_rule(change: p.RemoveRule, _key: DelegationKey) -> _Change:
    payload = {"path": change.path, "policy_id": change.policy_id, "op": "remove"}
    delta = PolicyRemoved(path=ResourcePath(change.path), policy_id=change.policy_id)
    return _Change("acl.request", payload, delta)


def _issue(change: p.IssueCertificate, key: DelegationKey) -> _Change:
    actions = frozenset(Action(action) for action in change.actions)
    certificate = key.issue(change.subject, ResourcePath(change.prefix), actions, change.valid_secs, change.max_depth)
    return _issued(certificate)


def _issued(certificate: Certificate) -> _Change:
    data = certificate.to_bytes()
    payload = {"id": certificate.id, "certificate": data}
    told = {"id": certificate.id.hex(), "certificate": data, "not_after_ns": certificate.not_after_ns}
    return _Change("delegation.issue", payload, trust.issued(certificate), told)


def _revoke(change: p.RevokeCertificate, _key: DelegationKey) -> _Change:
    payload = {"certificate": change.certificate}
    return _Change("revocation.add", payload, trust.revoked(change.certificate, "revoked"))


def _restore(change: p.RestoreCertificate, _key: DelegationKey) -> _Change:
    return _Change("revocation.remove", {"certificate": change.certificate}, trust.restored(change.certificate))


_CHANGES: Final[dict[type, Callable[[Any, DelegationKey], _Change]]] = {
    p.SetRule: _set_rule,
    p.RemoveRule: _remove_rule,
    p.IssueCertificate: _issue,
    p.RevokeCertificate: _revoke,
    p.RestoreCertificate: _restore,
}


def change_tree(journal: Journal, caller: Caller, position: int, request: p.ChangeTree) -> dict[str, Any]:
    """Carry out a change; it is on the disk when this returns.

    Returns:
        The number of the record that changed the tree; for a certificate also its identifier and its bytes.

    Raises:
        TreeError, DelegationError, InvalidRequest: there can be no such change, or it does not fit the tree.
        StorageFailed: the log has failed.
    """
    if not 0 < len(request.reason) <= _REASON_CHARS or not request.reason.isprintable():
        raise InvalidRequest(f"a change of access gives its reason, in 1 to {_REASON_CHARS} printable characters")
    known = journal.known(caller, position)
    if known is not None and isinstance(request.change, p.IssueCertificate):
        # Carried out before: another certificate would be a second one.
        change = _issued(_certificate_in(journal.record(known.seq)))
    else:
        change = _CHANGES[type(request.change)](request.change, journal.delegation_key)
    payload = change.payload | {"by": request.by, "reason": request.reason}
    seq = journal.change_tree(caller, position, change.kind, payload, change.delta)
    return {"record": seq, **change.told}


def _certificate_in(record: chain.Record) -> Certificate:
    data = record.payload.get("certificate")
    if not isinstance(data, bytes):
        raise DelegationInvalid(f"record {record.seq} holds no certificate")
    return Certificate.from_bytes(data)


def trust_ourselves(journal: Journal) -> None:
    """Put on the log that this instance's key may delegate, unless it is there; called when the log is opened."""
    tree, public = journal.tree.tree, journal.delegation_key.public
    for delta in trust.groundwork(tree):
        journal.change_by_itself(delta)
    if public not in trust.issuers(tree):
        journal.change_by_itself(trust.trusted(public, ResourcePath("/")))

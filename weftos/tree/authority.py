"""From a chain of certificates to what its last subject may do now.

Why it is as it is: each reason for which a chain gives nothing is looked for at the moment of use. A result that was
kept would outlive a revocation, so there is none to keep: ``authorize`` answers one question, at one moment.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, DelegationExpired, DelegationInvalid, DelegationRevoked
from weftos.tree.delegation import Certificate, key_subject
from weftos.tree.names import Action
from weftos.tree.paths import ResourcePath

__all__ = ["Grant", "authorize", "verify_chain"]


class Grant(msgspec.Struct, frozen=True):
    """What a chain gives to its last subject.

    Attributes:
        subject: to whom.
        prefix: where, and below.
        actions: what.
        not_after_ns: until when, if nothing is revoked before.
        chain: identifiers of the certificates, the first one first, for the log.
    """

    subject: str
    prefix: ResourcePath
    actions: frozenset[Action]
    not_after_ns: int
    chain: tuple[bytes, ...]


def verify_chain(
    chain: Sequence[Certificate],
    *,
    trusted: Mapping[bytes, ResourcePath],
    now_ns: int,
    revoked: Container[bytes],
) -> Grant:
    """Check a chain of certificates in full.

    Args:
        chain: the one on which the others rest first, each followed by the one that rests on it.
        trusted: the keys that may issue a first certificate, each with the path within which it may.
        now_ns: the time, ns since 1970 UTC.
        revoked: identifiers of certificates that are valid no more.

    Returns:
        What the last certificate gives; all others give at least that.

    Raises:
        DelegationInvalid: the chain is empty or too long, its first issuer is not trusted, a signature is wrong, or a
            certificate does not rest on the one before, or exceeds it.
        DelegationExpired: a certificate is not valid yet, or no more.
        DelegationRevoked: a certificate was revoked.
    """
    if not 0 < len(chain) <= limits.DELEGATION_DEPTH:
        raise DelegationInvalid(f"a chain has 1 to {limits.DELEGATION_DEPTH} certificates, not {len(chain)}")
    first = chain[0]
    ground = trusted.get(first.issuer)
    if ground is None:
        raise DelegationInvalid(f"the key {first.issuer.hex()} is not trusted to delegate")
    if first.parent is not None:
        raise DelegationInvalid("the first certificate rests on another one, which is missing")
    if not first.prefix.is_within(ground):
        raise DelegationInvalid(f"the key {first.issuer.hex()} may delegate within {ground}, not {first.prefix}")
    for place, certificate in enumerate(chain):
        if place:
            _check_link(chain[place - 1], certificate)
        certificate.verify_signature()
        if certificate.id in revoked:
            raise DelegationRevoked(f"the certificate {certificate.id.hex()} for {certificate.subject} was revoked")
        if not certificate.not_before_ns <= now_ns < certificate.not_after_ns:
            when = "yet" if now_ns < certificate.not_before_ns else "any more"
            raise DelegationExpired(f"the certificate {certificate.id.hex()} is not valid {when}")
    last = chain[-1]
    ids = tuple(certificate.id for certificate in chain)
    return Grant(last.subject, last.prefix, frozenset(last.actions), last.not_after_ns, ids)


def authorize(
    chain: Sequence[Certificate],
    *,
    subject: str,
    action: Action,
    resource: ResourcePath,
    trusted: Mapping[bytes, ResourcePath],
    now_ns: int,
    revoked: Container[bytes],
) -> Grant:
    """Tell whether a chain lets somebody do something now.

    Args:
        chain: what the subject shows.
        subject: who wants to act. The caller must know that it is he.
        action: what he wants to do.
        resource: with what.
        trusted: the keys that may issue a first certificate, each with the path within which it may.
        now_ns: the time, ns since 1970 UTC.
        revoked: identifiers of certificates that are valid no more.

    Raises:
        DelegationError: the chain gives nothing.
        CapabilityDenied: it gives something else than what is asked, or to somebody else.
    """
    grant = verify_chain(chain, trusted=trusted, now_ns=now_ns, revoked=revoked)
    if grant.subject != subject:
        raise CapabilityDenied(f"the certificate was issued to {grant.subject}, not to {subject}")
    if action not in grant.actions:
        raise CapabilityDenied(f"the certificate of {subject} does not allow {action}")
    if not resource.is_within(grant.prefix):
        raise CapabilityDenied(f"the certificate of {subject} is for {grant.prefix} and below, not for {resource}")
    return grant


def _check_link(parent: Certificate, child: Certificate) -> None:
    """Refuse a certificate that does not rest on the one before it, or gives more than that one.

    Raises:
        DelegationInvalid: naming what is wrong.
    """
    wrong = {
        "does not name the one before it": child.parent != parent.id,
        "is not issued by the subject of the one before it": parent.subject != key_subject(child.issuer),
        "may be handed on as often as the one before it, or oftener": child.max_depth >= parent.max_depth,
        f"is for {child.prefix}, outside of {parent.prefix}": not child.prefix.is_within(parent.prefix),
        "allows actions that the one before it does not": not set(child.actions) <= set(parent.actions),
        "begins before the one before it": child.not_before_ns < parent.not_before_ns,
        "ends after the one before it": child.not_after_ns > parent.not_after_ns,
    }
    for what, is_so in wrong.items():
        if is_so:
            raise DelegationInvalid(f"the certificate for {child.subject} {what}")

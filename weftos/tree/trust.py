"""Who may delegate, what was delegated, and what of it is valid no more: kept as nodes of the tree.

Why it is as it is: a list of revocations that can be lost, or is read later than it changes, is a way to bring a stolen
certificate back. As nodes, issuers, certificates and revocations are folded over the log with everything else, are in
the same snapshot, and are bound by the same root hash; there is no second list that could lag behind.

Guaranteed: a certificate is revoked from the record on that says so, and until one takes it back. Not guaranteed: that
a certificate that was handed on without this instance is listed; it need not be, to be checked or revoked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from weftos.errors import PathInvalid
from weftos.tree.delegation import Certificate
from weftos.tree.deltas import Created, Removed
from weftos.tree.names import Kind
from weftos.tree.nodes import Node
from weftos.tree.paths import ResourcePath
from weftos.tree.tree import ResourceTree

__all__ = [
    "CERTIFICATES",
    "ISSUERS",
    "REVOKED",
    "Revoked",
    "groundwork",
    "issued",
    "issuers",
    "listed",
    "restored",
    "revoked",
    "trusted",
]

_TRUST: Final = ResourcePath("/kernel/trust")
ISSUERS: Final = ResourcePath("/kernel/trust/issuers")
CERTIFICATES: Final = ResourcePath("/kernel/trust/certificates")
REVOKED: Final = ResourcePath("/kernel/trust/revoked")

_NAMESPACE: Final = Kind("namespace")
_ISSUER: Final = Kind("custom:issuer")
_CERTIFICATE: Final = Kind("custom:certificate")
_REVOCATION: Final = Kind("custom:revocation")


class Revoked:
    """What is revoked in a tree, as it is at each question: ``identifier in revoked``.

    Args:
        tree: that is asked.
    """

    def __init__(self, tree: ResourceTree) -> None:
        self._tree = tree

    def __contains__(self, certificate: object) -> bool:
        return isinstance(certificate, bytes) and REVOKED.child(certificate.hex()) in self._tree


def groundwork(tree: ResourceTree) -> list[Created]:
    """Return the changes that make the places for all this, as far as they are missing, parents first."""
    places = (_TRUST, ISSUERS, CERTIFICATES, REVOKED)
    return [Created(path=path, kind=_NAMESPACE) for path in places if path not in tree]


def trusted(public_key: bytes, prefix: ResourcePath) -> Created:
    """Return the change by which a key may issue first certificates within a path."""
    return Created(path=ISSUERS.child(public_key.hex()), kind=_ISSUER, values={"prefix": str(prefix)})


def issuers(tree: ResourceTree) -> dict[bytes, ResourcePath]:
    """Return the keys that may issue first certificates, each with the path within which it may."""
    return {bytes.fromhex(node.path.name): ResourcePath(str(node.metadata["prefix"])) for node in _below(tree, ISSUERS)}


def issued(certificate: Certificate) -> Created:
    """Return the change by which a certificate is listed."""
    return Created(
        path=CERTIFICATES.child(certificate.id.hex()),
        kind=_CERTIFICATE,
        values={
            "subject": certificate.subject,
            "prefix": str(certificate.prefix),
            "actions": [str(action) for action in certificate.actions],
            "not_before_ns": certificate.not_before_ns,
            "not_after_ns": certificate.not_after_ns,
            "max_depth": certificate.max_depth,
            "issuer": certificate.issuer.hex(),
        },
    )


def listed(tree: ResourceTree) -> list[Node]:
    """Return the certificates that were issued here, by identifier."""
    return list(_below(tree, CERTIFICATES))


def revoked(certificate: bytes, reason: str) -> Created:
    """Return the change by which a certificate is valid no more, nor what rests on it."""
    return Created(path=_of(certificate), kind=_REVOCATION, values={"reason": reason})


def restored(certificate: bytes) -> Removed:
    """Return the change that takes a revocation back."""
    return Removed(path=_of(certificate))


def _of(certificate: bytes) -> ResourcePath:
    if len(certificate) != 32:
        raise PathInvalid(f"the identifier of a certificate has 32 bytes, not {len(certificate)}")
    return REVOKED.child(certificate.hex())


def _below(tree: ResourceTree, path: ResourcePath) -> Iterator[Node]:
    return iter(tree.children(path) if path in tree else ())

"""The certificates that are valid no more, as the sum of the records that say so.

Why it is as it is: a list of revocations that can be lost is a way to bring a stolen certificate back. So it is not a
file but a function of the log, like the tree; a record that cannot be read is an error and not an empty list.

Guaranteed: after an error the list is what it was. Revoking twice is no error, because two people may do it at once;
the first record stays. Taking back a revocation that is not there is one.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from weftos import limits
from weftos.errors import DeltaInvalid, DeltaRefused, ResourceLimitExceeded

__all__ = ["LOG_KINDS", "Revocation", "RevocationAdded", "RevocationChange", "RevocationRemoved", "Revocations"]

_Id = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class RevocationAdded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Payload of ``revocation.add``: a certificate is valid no more, nor what rests on it.

    Attributes:
        version: of the form, 1.
        certificate: its identifier, 32 bytes.
        reason: for a person, printable, at most ``limits.DELEGATION_REASON_BYTES`` bytes; may be empty.

    Raises:
        DeltaInvalid: the reason is too long or not printable.
    """

    log_kind: ClassVar[str] = "revocation.add"

    version: Literal[1] = 1
    certificate: _Id
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.isprintable() or len(self.reason.encode()) > limits.DELEGATION_REASON_BYTES:
            raise DeltaInvalid(f"a revocation's reason is printable, in at most {limits.DELEGATION_REASON_BYTES} bytes")

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record."""
        return msgspec.structs.asdict(self)


class RevocationRemoved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Payload of ``revocation.remove``: a revocation was a mistake.

    Attributes:
        version: of the form, 1.
        certificate: whose, 32 bytes.
    """

    log_kind: ClassVar[str] = "revocation.remove"

    version: Literal[1] = 1
    certificate: _Id

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record."""
        return msgspec.structs.asdict(self)


RevocationChange: TypeAlias = RevocationAdded | RevocationRemoved

#: The kinds of records that change the list.
LOG_KINDS: Final[dict[str, type[RevocationAdded | RevocationRemoved]]] = {
    cls.log_kind: cls for cls in (RevocationAdded, RevocationRemoved)
}


class Revocation(msgspec.Struct, frozen=True):
    """What is known about a revocation.

    Attributes:
        reason: as it was given.
        chain_seq: number of the record.
        t_ns: its time, ns since 1970 UTC.
    """

    reason: str
    chain_seq: int
    t_ns: int


class Revocations:
    """The list. ``certificate_id in revocations`` tells whether one is revoked."""

    def __init__(self) -> None:
        self._known: dict[bytes, Revocation] = {}
        self._last_seq = -1

    def __contains__(self, certificate: bytes) -> bool:
        return certificate in self._known

    def __len__(self) -> int:
        return len(self._known)

    @property
    def last_seq(self) -> int:
        """Number of the last record that was applied; -1 if none was."""
        return self._last_seq

    def get(self, certificate: bytes) -> Revocation | None:
        """Return what is known about the revocation of a certificate; ``None`` if it is not revoked."""
        return self._known.get(certificate)

    def check(self, change: RevocationChange) -> None:
        """Refuse a change that cannot be applied now.

        Raises:
            DeltaRefused: the revocation that is to be taken back is not there.
            ResourceLimitExceeded: there are ``limits.DELEGATION_REVOCATIONS`` already.
        """
        there = change.certificate in self._known
        if isinstance(change, RevocationRemoved):
            if not there:
                raise DeltaRefused(f"the certificate {change.certificate.hex()} is not revoked")
        elif not there and len(self._known) >= limits.DELEGATION_REVOCATIONS:
            raise ResourceLimitExceeded(f"{limits.DELEGATION_REVOCATIONS} certificates are revoked, no more can be")

    def apply(self, change: RevocationChange, chain_seq: int, t_ns: int) -> None:
        """Change the list as a record of the log says.

        Args:
            change: what the record says.
            chain_seq: its number, larger than all before.
            t_ns: its time, ns since 1970 UTC.

        Raises:
            DeltaRefused: the change or its number does not fit.
            ResourceLimitExceeded: see ``check``.
        """
        if chain_seq <= self._last_seq:
            raise DeltaRefused(f"record {chain_seq} cannot follow record {self._last_seq}")
        self.check(change)
        self._last_seq = chain_seq
        if isinstance(change, RevocationRemoved):
            del self._known[change.certificate]
        else:
            self._known.setdefault(change.certificate, Revocation(change.reason, chain_seq, t_ns))

    @staticmethod
    def from_payload(kind: str, payload: object) -> RevocationChange:
        """Read the change that a record holds.

        Raises:
            DeltaInvalid: the kind is another one, or the payload does not have its form.
        """
        cls = LOG_KINDS.get(kind)
        if cls is None:
            raise DeltaInvalid(f"records of the kind {kind!r} do not change the list of revocations")
        if type(payload) is not dict or set(payload) != set(cls.__struct_fields__):
            raise DeltaInvalid(f"the payload of {kind} is no map, or has other keys than it must have")
        try:
            return msgspec.convert(payload, cls, strict=True)
        except msgspec.ValidationError as error:
            raise DeltaInvalid(f"the payload of {kind} is malformed: {error}") from error

"""Custody: a signed statement of a device about the log and the contents that it held at one moment.

Why it is as it is: whoever takes over data from a device wants to know later what that device had, and that it was this
device. So the statement names the device by its public key, the log by size and head, and each body of content by one
root hash. The signer is a function, because the secret may be in another process or in hardware.

Guaranteed: two different statements never have the same signed bytes, and none has those of a head or a seal; an
attestation that is handed out verifies. Not guaranteed: that the statement is true, only that the holder of the key
made it. The time is the device's own.

The signature covers ``exo/custody/v1`` and the fields, each behind its length; see ``statement`` and ``message``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeAlias

import msgspec

from weftos import limits
from weftos.chain.records.kinds import check_text
from weftos.chain.signing.statement import U64_MAX, statement
from weftos.chain.statements.versioned import fields_of
from weftos.errors import AppendRefused, AttestationInvalid

__all__ = ["CUSTODY_KIND", "ED25519", "Attestation", "Sign", "Verify", "attest", "verify_attestation"]

#: Kind of the record that carries an attestation.
CUSTODY_KIND: Final = "custody.attestation"
ED25519: Final = "ed25519"
_TAG: Final = b"exo/custody/v1"
_VERSION: Final = 1
#: Longest device id and signature, in bytes: those of ML-DSA-87 (FIPS 204) are 2592 and 4627.
_KEY_MOST: Final = 4096
_SIGNATURE_MOST: Final = 8192

#: Returns the signature of the given bytes.
Sign: TypeAlias = Callable[[bytes], bytes]
#: Tells whether (public key, signature, message) fit together.
Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]


class Attestation(msgspec.Struct, frozen=True):
    """What a device says about itself, with its signature.

    Attributes:
        device_id: the device's public key; 32 bytes for Ed25519.
        epoch: of the device's seals or keys, as the device counts it.
        head_hash: hash of the last record of the log, 32 bytes.
        size: records in the log.
        roots: name of each body of content, and the hash that stands for all of it, 32 bytes.
        t_ns: the device's time, nanoseconds since 1970 UTC.
        algorithm: of the signature.
        signature: over ``message()``.
    """

    device_id: bytes
    epoch: int
    head_hash: bytes
    size: int
    roots: dict[str, bytes]
    t_ns: int
    algorithm: str
    signature: bytes

    def message(self) -> bytes:
        """Return the signed bytes.

        The fields in this order: algorithm, device id, epoch, head hash, size, time, number of roots; then name and
        hash of each root, ordered by the UTF-8 bytes of the names.

        Raises:
            AttestationInvalid: a field does not have its form.
        """
        self._check_form()
        names = sorted((name.encode(), root) for name, root in self.roots.items())
        parts = [part for pair in names for part in pair]
        fixed = (self.device_id, self.epoch, self.head_hash, self.size, self.t_ns, len(names))
        return statement(_TAG, self.algorithm.encode(), *fixed, *parts)

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of a record: plain integers, text, bytes and one map."""
        return {"version": _VERSION, **msgspec.structs.asdict(self), "roots": dict(self.roots)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        """Read an attestation from a record's payload. Its signature is not checked here.

        Raises:
            AttestationInvalid: it has another form.
        """
        attestation = cls(**fields_of(payload, cls, version=_VERSION, name="an attestation", error=AttestationInvalid))
        attestation._check_form()
        return attestation

    def _check_form(self) -> None:
        _check_bytes("device_id", self.device_id, 1, _KEY_MOST)
        _check_bytes("head_hash", self.head_hash, 32, 32)
        _check_bytes("signature", self.signature, 0, _SIGNATURE_MOST)
        for name in ("epoch", "size", "t_ns"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= U64_MAX:
                raise AttestationInvalid(f"{name} is an unsigned number of 64 bits, not {value!r:.40}")
        if type(self.roots) is not dict or len(self.roots) > limits.CHAIN_CUSTODY_ROOTS:
            raise AttestationInvalid(f"roots is a map of at most {limits.CHAIN_CUSTODY_ROOTS} names")
        try:
            check_text("algorithm", self.algorithm, limits.CHAIN_NAME_BYTES)
            for name, root in self.roots.items():
                check_text("the name of a root", name, limits.CHAIN_NAME_BYTES)
                _check_bytes("a root", root, 32, 32)
        except AppendRefused as error:
            raise AttestationInvalid(str(error)) from error


def attest(
    sign: Sign,
    device_id: bytes,
    *,
    epoch: int,
    head_hash: bytes,
    size: int,
    roots: Mapping[str, bytes],
    t_ns: int,
    algorithm: str = ED25519,
    verify: Verify | None = None,
) -> Attestation:
    """Make an attestation and check it before it is handed out.

    Args:
        sign: returns a signature by the device's key.
        device_id: the device's public key.
        epoch: see ``Attestation``, and likewise ``head_hash``, ``size``, ``roots`` and ``t_ns``.
        head_hash: hash of the last record, 32 bytes.
        size: records in the log.
        roots: 32 bytes for each name.
        t_ns: nanoseconds since 1970 UTC.
        algorithm: of the signature.
        verify: checks a signature; needed for every algorithm but ``ed25519``.

    Raises:
        AttestationInvalid: a field does not have its form, or the signature is not that of the device's key.
        Exception: whatever ``sign`` raises.
    """
    blank = Attestation(device_id, epoch, head_hash, size, dict(roots), t_ns, algorithm, b"")
    attestation = msgspec.structs.replace(blank, signature=sign(blank.message()))
    verify_attestation(attestation, device_id, algorithm=algorithm, verify=verify)
    return attestation


def verify_attestation(
    attestation: Attestation, device_id: bytes, *, algorithm: str = ED25519, verify: Verify | None = None
) -> None:
    """Check that a device made an attestation. Whether log and contents agree with it is for the caller to compare.

    Args:
        attestation: what was handed over.
        device_id: the public key of the device that it must be from, known from elsewhere; the one in the attestation
            alone would prove nothing.
        algorithm: the only one that is accepted.
        verify: checks a signature; needed for every algorithm but ``ed25519``.

    Raises:
        AttestationInvalid: it is malformed, of another device or algorithm, or not signed by this key.
    """
    message = attestation.message()
    if attestation.device_id != device_id:
        raise AttestationInvalid(f"the attestation is of the device {attestation.device_id.hex():.64}, not of this one")
    if attestation.algorithm != algorithm:
        raise AttestationInvalid(f"the attestation is signed with {attestation.algorithm}, not with {algorithm}")
    if verify is None:
        if algorithm != ED25519:
            raise AttestationInvalid(f"nothing here checks signatures of {algorithm}")
        verify = _verify_ed25519
    if not verify(device_id, attestation.signature, message):
        raise AttestationInvalid("the attestation was not signed by this device, or was changed since")


def _verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_bytes(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not bytes or not least <= len(value) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise AttestationInvalid(f"{name} is {wanted} bytes, not {value!r:.80}")

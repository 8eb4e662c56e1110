"""The public keys of a log, and the statement by which one pair of keys hands over to the next.

Why it is as it is: whoever trusts a log's keys must be able to follow when they change. So the old pair signs the new
public keys, and the new pair signs the old ones: the first shows that the change was wanted by whoever held the old
secret, the second that the new secret exists and that its holder took part. Each proof has both algorithms, so breaking
one of them is not enough to hand a log over.

Guaranteed: the signed bytes say which log, which keys, and which of the two proofs; no statement reads as another, and
none as a note or a signed head, because the lengths in it hold zero bytes at places where these have none.
Not guaranteed: that the old secret was not stolen. Whoever has it can hand over to keys of his own as long as somebody
still trusts the old keys; so retire old pairs, and renew pins.

A log that began with Ed25519 alone has an empty ML-DSA-65 key in its first pair. It can gain one by a statement with
the same Ed25519 key on both sides. It can never lose it again: the new pair must have both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from weftos.chain.signing.note_keys import ED25519, ML_DSA_65, VerifierKey, verify_ed25519, verify_ml_dsa_65
from weftos.chain.signing.statement import statement
from weftos.errors import ChainCorrupted, ConfigError, SignatureInvalid

__all__ = [
    "ACCEPT_TAG",
    "ENDORSE_TAG",
    "ROTATION_CONTEXT",
    "Genesis",
    "PublicKeys",
    "Rotation",
    "follow_rotations",
    "verify_rotation",
]

#: Of the proof that the old pair makes.
ENDORSE_TAG: Final = b"weftos/key.rotate/endorse/v1"
#: Of the proof that the new pair makes.
ACCEPT_TAG: Final = b"weftos/key.rotate/accept/v1"
#: Bound into the ML-DSA signatures.
ROTATION_CONTEXT: Final = b"weftos/key.rotate/v1"
_PAIR_TAG: Final = b"weftos/key.pair/v1"
_PAIR_ID: Final = re.compile(r"[0-9a-f]{16}")


class PublicKeys(msgspec.Struct, frozen=True):
    """The public halves of a pair.

    Attributes:
        ed25519: 32 bytes.
        ml_dsa_65: 1952 bytes; none if the log began with Ed25519 alone and has no such key yet.

    Raises:
        ConfigError: one of them has another length.
    """

    ed25519: bytes
    ml_dsa_65: bytes = b""

    def __post_init__(self) -> None:
        self.verifier_keys("x")

    @property
    def pair_id(self) -> str:
        """Sixteen hex digits that name the pair: the first 8 bytes of a SHA-256 over both keys."""
        return hashlib.sha256(statement(_PAIR_TAG, self.ed25519, self.ml_dsa_65)).hexdigest()[:16]

    @property
    def is_complete(self) -> bool:
        """Whether there are both keys."""
        return bool(self.ml_dsa_65)

    def verifier_keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """Return the keys under the name of a log, Ed25519 first.

        Raises:
            ConfigError: the origin cannot name a key.
        """
        classic = VerifierKey(origin, ED25519, self.ed25519)
        return (classic, VerifierKey(origin, ML_DSA_65, self.ml_dsa_65)) if self.ml_dsa_65 else (classic,)


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Payload of ``key.genesis``: the first pair of a log.

    Attributes:
        version: of the payload, 2. The payload before had Ed25519 alone and no version.
        pair_id: of the keys.
        ed25519: public key, 32 bytes.
        ml_dsa_65: public key, 1952 bytes.
    """

    version: int = 2
    pair_id: str
    ed25519: bytes
    ml_dsa_65: bytes

    @classmethod
    def of(cls, keys: PublicKeys) -> Self:
        """Make the payload for a pair."""
        return cls(pair_id=keys.pair_id, ed25519=keys.ed25519, ml_dsa_65=keys.ml_dsa_65)

    def to_payload(self) -> dict[str, str | bytes | int]:
        """Return the payload as a record takes it."""
        return _to_payload(self)

    @staticmethod
    def read(payload: Mapping[str, object]) -> PublicKeys:
        """Return the keys in a payload of ``key.genesis``, of this version or of the one before.

        Raises:
            ChainCorrupted: it is of neither form, or its parts contradict each other.
        """
        try:
            if "version" not in payload:
                legacy = msgspec.convert(payload, _LegacyGenesis)
                if legacy.algorithm != ED25519:
                    raise ChainCorrupted(f"the first key of the log is of the unknown algorithm {legacy.algorithm!r}")
                return PublicKeys(legacy.public_key)
            genesis = msgspec.convert(payload, Genesis)
            keys = PublicKeys(genesis.ed25519, genesis.ml_dsa_65)
        except (msgspec.ValidationError, ConfigError) as error:
            raise ChainCorrupted(f"the record of the log's first keys is malformed: {error}") from error
        if genesis.version != 2 or genesis.pair_id != keys.pair_id or not keys.is_complete:
            raise ChainCorrupted("the record of the log's first keys has another version, another id or a key too few")
        return keys


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Payload of ``key.rotate``: the old pair, the new pair, and the proof of each about the other.

    Attributes:
        version: of the payload, 1.
        origin: of the log.
        old_ed25519, old_ml_dsa_65: public keys of the old pair; the second may be empty, see the head of this module.
        new_ed25519, new_ml_dsa_65: public keys of the new pair.
        endorse_ed25519, endorse_ml_dsa_65: signatures of the old pair; the second is empty if the key is.
        accept_ed25519, accept_ml_dsa_65: signatures of the new pair.
    """

    version: int = 1
    origin: str
    old_ed25519: bytes
    old_ml_dsa_65: bytes
    new_ed25519: bytes
    new_ml_dsa_65: bytes
    endorse_ed25519: bytes
    endorse_ml_dsa_65: bytes
    accept_ed25519: bytes
    accept_ml_dsa_65: bytes

    @property
    def old(self) -> PublicKeys:
        """The pair that hands over."""
        return PublicKeys(self.old_ed25519, self.old_ml_dsa_65)

    @property
    def new(self) -> PublicKeys:
        """The pair that takes over."""
        return PublicKeys(self.new_ed25519, self.new_ml_dsa_65)

    def to_payload(self) -> dict[str, str | bytes | int]:
        """Return the payload as a record takes it."""
        return _to_payload(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, object]) -> Self:
        """Read a payload. Nothing is verified.

        Raises:
            ChainCorrupted: it does not have the form.
        """
        try:
            rotation = msgspec.convert(payload, cls)
            if rotation.version != 1:
                raise ChainCorrupted(f"a change of keys of version {rotation.version} cannot be read; known is 1")
            _ = rotation.old, rotation.new
        except (msgspec.ValidationError, ConfigError) as error:
            raise ChainCorrupted(f"the record of a change of keys is malformed: {error}") from error
        return rotation


class _LegacyGenesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    algorithm: str
    public_key: bytes


def rotation_message(tag: bytes, origin: str, old: PublicKeys, new: PublicKeys) -> bytes:
    """Return the bytes that a proof signs: the tag, the origin and the four public keys, each behind its length."""
    return statement(tag, origin.encode(), old.ed25519, old.ml_dsa_65, new.ed25519, new.ml_dsa_65)


def verify_rotation(rotation: Rotation, origin: str, old: PublicKeys) -> PublicKeys:
    """Verify that the trusted pair handed over, and that the new pair took over.

    Args:
        rotation: as read from the log.
        origin: of the log that is expected.
        old: the pair that is trusted.

    Returns:
        The new pair.

    Raises:
        SignatureInvalid: it is about another log or another pair, gives up an algorithm, or a proof is wrong.
        ChainCorrupted: a key in it does not have its form.
    """
    try:
        before, after = rotation.old, rotation.new
    except ConfigError as error:
        raise ChainCorrupted(f"the record of a change of keys is malformed: {error}") from error
    if rotation.version != 1 or rotation.origin != origin:
        raise SignatureInvalid(f"the change of keys is of the log {rotation.origin!r}, not of {origin!r}")
    if before != old:
        raise SignatureInvalid(
            f"the change of keys is from the pair {before.pair_id}, the trusted one is {old.pair_id}"
        )
    if not after.is_complete:
        raise SignatureInvalid("the change of keys gives up ML-DSA-65; both algorithms are needed", algorithm=ML_DSA_65)
    if before.is_complete and (before.ed25519 == after.ed25519 or before.ml_dsa_65 == after.ml_dsa_65):
        raise SignatureInvalid("the change of keys keeps a key; both have to be new")
    for who, tag, keys, classic, lattice in (
        ("old", ENDORSE_TAG, before, rotation.endorse_ed25519, rotation.endorse_ml_dsa_65),
        ("new", ACCEPT_TAG, after, rotation.accept_ed25519, rotation.accept_ml_dsa_65),
    ):
        message = rotation_message(tag, origin, before, after)
        if not verify_ed25519(keys.ed25519, classic, message):
            raise SignatureInvalid(f"the {who} pair's Ed25519 proof of the change of keys is wrong", algorithm=ED25519)
        if not _lattice_proof_is_good(keys, lattice, message):
            raise SignatureInvalid(f"the {who} pair's ML-DSA-65 proof of the change is wrong", algorithm=ML_DSA_65)
    return after


def follow_rotations(origin: str, trusted: PublicKeys, rotations: Sequence[Rotation]) -> PublicKeys:
    """Follow the changes of keys from a trusted pair to the newest.

    Args:
        origin: of the log.
        trusted: the pair to begin with.
        rotations: all of the log, oldest first. Those before the one that leaves the trusted pair are skipped.

    Returns:
        The newest pair; the trusted one if no change leaves it.

    Raises:
        SignatureInvalid: a change does not hold, or does not continue the one before.
    """
    start = next((n for n, one in enumerate(rotations) if _leaves(one, trusted)), len(rotations))
    for rotation in rotations[start:]:
        trusted = verify_rotation(rotation, origin, trusted)
    return trusted


def _leaves(rotation: Rotation, keys: PublicKeys) -> bool:
    return (rotation.old_ed25519, rotation.old_ml_dsa_65) == (keys.ed25519, keys.ml_dsa_65)


def _lattice_proof_is_good(keys: PublicKeys, signature: bytes, message: bytes) -> bool:
    if not keys.is_complete:
        return not signature
    return verify_ml_dsa_65(keys.ml_dsa_65, signature, message, ROTATION_CONTEXT)


def _to_payload(struct: msgspec.Struct) -> dict[str, str | bytes | int]:
    payload: dict[str, Any] = msgspec.structs.asdict(struct)
    return payload


def is_pair_id(text: str) -> bool:
    """Tell whether a text has the form of a pair's id."""
    return _PAIR_ID.fullmatch(text) is not None

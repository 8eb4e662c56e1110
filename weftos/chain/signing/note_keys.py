"""The keys that sign notes: their text form, their id, and what each of them signs.

Why it is as it is: three kinds of signature stand side by side below one text. Ed25519 is what every reader of signed
notes knows; ML-DSA-65 (FIPS 204) is for the day when Ed25519 can be forged; the cosignature is how a witness says when
it has seen a log. A name and four bytes of a hash tell which key is meant, so each kind of the same key has its own id.

Guaranteed: a key is read only from its one canonical form. An ML-DSA signature made for another purpose never passes
for one on a note, because a context is bound into it.
Not guaranteed: that a secret leaves the memory again; Python keeps copies that no program can erase. Ed25519 has no
such context: whoever signs other things with the same key must see to it that no note can look like them.

``cryptography`` is imported when a key is used, because that takes a tenth of a second that most programs never need.
The forms are in docs/formats/checkpoint.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from typing import Final, Protocol, Self

import msgspec

from weftos.errors import ChainError, ConfigError

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "MAX_TIME",
    "ML_DSA_65",
    "SEED_BYTES",
    "Ed25519NoteSigner",
    "MLDSA65NoteSigner",
    "NoteSignature",
    "NoteSigner",
    "VerifierKey",
    "cosignature_message",
    "verify_ed25519",
    "verify_ml_dsa_65",
]

ED25519: Final = "ed25519"
ML_DSA_65: Final = "ml-dsa-65"
#: An Ed25519 signature of a witness, with the time when it was made.
COSIGNATURE: Final = "cosignature"

#: What stands before the public key in the text form and in the key id. 0xff is for types without a number; what
#: follows it is ours.
TYPES: Final = {ED25519: b"\x01", COSIGNATURE: b"\x04", ML_DSA_65: b"\xffweftos/ml-dsa-65/v1\n"}
_PUBLIC_BYTES: Final = {ED25519: 32, COSIGNATURE: 32, ML_DSA_65: 1952}
_SIGNATURE_BYTES: Final = {ED25519: 64, COSIGNATURE: 72, ML_DSA_65: 3309}
#: Bound into every ML-DSA signature on a note, so that none made for another purpose passes for one.
ML_DSA_CONTEXT: Final = b"weftos/note/v1"
SEED_BYTES: Final = 32
MAX_TIME: Final = 2**63 - 1
TIME: Final = struct.Struct(">Q")
ID_BYTES: Final = 4
CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_HEX8: Final = re.compile("[0-9a-f]{8}")


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line.

    Attributes:
        name: of the key.
        key_id: 4 bytes that tell keys of one name apart; no proof of anything.
        signature: at least one byte; its form depends on the key.
    """

    name: str
    key_id: bytes
    signature: bytes


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key with the name under which it signs.

    Attributes:
        name: not empty, without spaces, plus signs and control characters; for a log, its origin.
        algorithm: ``ed25519``, ``ml-dsa-65`` or ``cosignature``.
        public_key: 32 bytes, for ML-DSA-65 1952.

    Raises:
        ConfigError: one of them does not have its form.
    """

    name: str
    algorithm: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ConfigError(
                f"{self.name!r} cannot name a key: a name has no spaces, plus signs or control characters"
            )
        if (expected := _PUBLIC_BYTES.get(self.algorithm)) is None:
            raise ConfigError(f"the signature algorithm {self.algorithm!r} is not known; known are {', '.join(TYPES)}")
        if len(self.public_key) != expected:
            raise ConfigError(f"a public key for {self.algorithm} has {expected} bytes, not {len(self.public_key)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form ``NAME+HEX8(key id)+BASE64(type || public key)``.

        Raises:
            ConfigError: it is malformed, of an unknown type, or the key id belongs to another key.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        data = decode_base64(encoded)
        if not _HEX8.fullmatch(key_id) or not data:
            raise ConfigError("a verifier key is NAME+KEYID+BASE64, with eight lower-case hex digits in the middle")
        for algorithm, prefix in TYPES.items():
            if data.startswith(prefix):
                key = cls(name, algorithm, data[len(prefix) :])
                if key.key_id.hex() != key_id:
                    raise ConfigError(f"the verifier key of {name!r} has the id {key.key_id.hex()}, not {key_id}")
                return key
        raise ConfigError(f"the verifier key of {name!r} has the type 0x{data[0]:02x}, which is not known here")

    def format(self) -> str:
        """Return the text form."""
        data = TYPES[self.algorithm] + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(data).decode()}"

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256 over name, line feed, type and public key."""
        material = self.name.encode() + b"\n" + TYPES[self.algorithm] + self.public_key
        return hashlib.sha256(material).digest()[:ID_BYTES]

    def is_genuine(self, text: str, signature: bytes) -> bool:
        """Tell whether ``signature`` is this key's on the text of a note."""
        if len(signature) != _SIGNATURE_BYTES[self.algorithm]:
            return False
        if self.algorithm == ML_DSA_65:
            return verify_ml_dsa_65(self.public_key, signature, text.encode(), ML_DSA_CONTEXT)
        if self.algorithm == ED25519:
            return verify_ed25519(self.public_key, signature, text.encode())
        time = TIME.unpack_from(signature)[0]
        message = cosignature_message(text, time) if time <= MAX_TIME else b""
        return bool(message) and verify_ed25519(self.public_key, signature[TIME.size :], message)


class NoteSigner(Protocol):
    """Signs notes with one key."""

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""

    def sign(self, text: str) -> NoteSignature:
        """Sign the text of a note."""


class Ed25519NoteSigner:
    """Signs with Ed25519 (RFC 8032), type 0x01.

    Args:
        name: of the key.
        seed: the 32 secret bytes.

    Raises:
        ConfigError: name or seed does not have its form.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        _check_seed(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name, ED25519, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> NoteSignature:
        """Sign the text of a note; the same text always gives the same signature."""
        check_text(text)
        return NoteSignature(self.verifier.name, self.verifier.key_id, self._key.sign(text.encode()))


class MLDSA65NoteSigner:
    """Signs with ML-DSA-65 (FIPS 204), a type of our own.

    Args:
        name: of the key.
        seed: the 32 secret bytes from which FIPS 204 derives the key.

    Raises:
        ConfigError: name or seed does not have its form, or this build of ``cryptography`` has no ML-DSA.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

        _check_seed(seed)
        try:
            self._key = MLDSA65PrivateKey.from_seed_bytes(seed)
        except UnsupportedAlgorithm as error:
            raise ConfigError(
                f"this build of the package cryptography cannot make ML-DSA signatures: {error}"
            ) from error
        self.verifier = VerifierKey(name, ML_DSA_65, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> NoteSignature:
        """Sign the text of a note; each signature is another, because randomness goes into it."""
        check_text(text)
        signature = self._key.sign(text.encode(), ML_DSA_CONTEXT)
        return NoteSignature(self.verifier.name, self.verifier.key_id, signature)


def cosignature_message(text: str, time: int) -> bytes:
    """Return what a witness signs: a head line, the time in seconds since 1970 UTC, and the text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def check_text(text: str) -> str:
    """Return ``text`` if a note can have it.

    Raises:
        ChainError: it does not end in a line feed, has control characters, or is no Unicode.
    """
    if not text.endswith("\n") or CONTROL.search(text) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ChainError(
            "the text of a note ends in a line feed and has no control characters or half characters in it"
        )
    return text


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether an Ed25519 signature (RFC 8032) is good."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_ml_dsa_65(public_key: bytes, signature: bytes, message: bytes, context: bytes) -> bool:
    """Tell whether an ML-DSA-65 signature (FIPS 204) with this context is good.

    Raises:
        ConfigError: this build of ``cryptography`` has no ML-DSA. Nothing is known about the signature then.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

    try:
        MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, message, context)
    except (InvalidSignature, ValueError):
        return False
    except UnsupportedAlgorithm as error:
        raise ConfigError(f"this build of the package cryptography cannot check ML-DSA signatures: {error}") from error
    return True


def decode_base64(text: str) -> bytes | None:
    """Decode the one canonical form (RFC 4648, section 4); return ``None`` for any other."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def is_name(name: str) -> bool:
    """Tell whether a key can have this name."""
    return (
        bool(name)
        and "+" not in name
        and not CONTROL.search(name)
        and not any(letter.isspace() or "\ud800" <= letter <= "\udfff" for letter in name)
    )


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise ConfigError(f"a secret key has {SEED_BYTES} bytes, not {len(seed)}")

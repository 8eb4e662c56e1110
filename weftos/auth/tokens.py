"""Tokens: how they are made, written, recognised and used, without the secret ever leaving who holds it.

Why it is as it is: a kernel that sees a token could leak it, to its log or to the agents that are forked from it. So a
token is the private half of an Ed25519 key. The instance keeps the hash of the public half and nothing else; who logs
in shows the public half and signs a challenge that is used once. What was recorded of one connection opens no other,
and a hash that was read from the log or the kernel's memory opens nothing.

Guaranteed: ``parse`` takes exactly what ``Token.text`` gives; a text with a slip of the pen is refused and never taken
for another token. Not guaranteed: anything about a token that was copied from where its holder keeps it; such a one is
revoked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import Final

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from weftos.errors import TokenRefused

__all__ = ["Challenge", "Token", "fingerprint", "matches", "parse", "token_id", "verify"]

PREFIX: Final = "weftos-token-1."
_SEED_BYTES: Final = 32
_CHECK_BYTES: Final = 5
_CHARS: Final = 50
_FINGERPRINT: Final = b"weftos token key 1"
_CHECK: Final = b"weftos token check 1"
_STATEMENT: Final = b"weftos token login 1"


class Challenge(msgspec.Struct, frozen=True):
    """What a login signs: it holds for one try, on one connection, between two users, with one boot of one kernel.

    Attributes:
        nonce: 32 random bytes of the kernel's, for this connection.
        boot_id: of the kernel, 16 bytes.
        server_uid: user of the kernel, as the client sees it: somebody who passes the challenge on has another.
        client_uid: user of the client, as the kernel sees it.
    """

    nonce: bytes
    boot_id: bytes
    server_uid: int
    client_uid: int

    def statement(self, public_key: bytes) -> bytes:
        """Return the bytes that are signed; each part has a fixed length."""
        users = self.server_uid.to_bytes(8, "big") + self.client_uid.to_bytes(8, "big")
        return _STATEMENT + self.nonce + self.boot_id + users + public_key


class Token:
    """A token, as its holder has it.

    Args:
        seed: 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == _SEED_BYTES
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.fingerprint = fingerprint(self.public_key)

    @classmethod
    def make(cls) -> Token:
        """Make a new one."""
        return cls(secrets.token_bytes(_SEED_BYTES))

    @property
    def id(self) -> str:
        """Name of the token, which is no secret: 16 hex digits."""
        return token_id(self.fingerprint)

    def text(self) -> str:
        """Return the token as its holder keeps it. This is the secret."""
        data = self._seed + _check(self._seed)
        return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")

    def sign(self, challenge: Challenge) -> bytes:
        """Answer a challenge."""
        return self._key.sign(challenge.statement(self.public_key))

    def __repr__(self) -> str:
        return f"<Token {self.id}>"


def parse(text: str) -> Token:
    """Read a token.

    Raises:
        TokenRefused: it is none; the message does not repeat it.
    """
    if len(text) != len(PREFIX) + _CHARS or not text.startswith(PREFIX) or not text.isascii():
        raise TokenRefused(f"this is no token: one begins with {PREFIX!r} and has {len(PREFIX) + _CHARS} characters")
    try:
        data = base64.b64decode(text[len(PREFIX) :] + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused("this is no token: it holds a character that none has; was all of it copied?") from None
    seed, check = data[:_SEED_BYTES], data[_SEED_BYTES:]
    if not hmac.compare_digest(check, _check(seed)):
        raise TokenRefused("this token was not copied exactly: its check digits do not fit")
    token = Token(seed)
    if token.text() != text:  # bits behind the last byte
        raise TokenRefused("this token was not copied exactly: its last character does not fit")
    return token


def fingerprint(public_key: bytes) -> bytes:
    """Return the hash by which an instance knows a token: 32 bytes."""
    return blake3(_FINGERPRINT + public_key).digest()


def token_id(hashed: bytes) -> str:
    """Return the name of the token with this fingerprint."""
    return hashed[:8].hex()


def matches(hashed: bytes, public_key: bytes) -> bool:
    """Tell whether a public half belongs to a fingerprint."""
    return hmac.compare_digest(hashed, fingerprint(public_key))


def verify(public_key: bytes, signature: bytes, challenge: Challenge) -> bool:
    """Tell whether a challenge was answered by who holds the token of this public half."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, challenge.statement(public_key))
    except (InvalidSignature, ValueError):
        return False
    return True


def _check(seed: bytes) -> bytes:
    return blake3(_CHECK + seed).digest(_CHECK_BYTES)

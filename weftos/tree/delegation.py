"""Delegation: a signed certificate by which the holder of a key lets somebody act below a path for a while.

Why it is as it is: authority may be handed on, but never grow. So a certificate names the exact one that it rests on,
by a hash of all that it says, and whoever checks it looks at the whole chain: each link must lie within the one before
in place, actions and time, and may be handed on fewer times. The identifier of a certificate is computed and not
written in it: nobody can give his certificate the identifier of another, so a revocation means one certificate.

A subject is a key or an agent. A key can hand on what it got. An agent, known to the kernel by its name, only uses it.

Guaranteed: the signed bytes are an injective function of the content, under a tag of their own; all conditions are
checked anew at each use, against the clock and the revocations that the caller gives. Not guaranteed: that the caller
is the subject; for an agent the kernel knows that, for a key the caller must have proved it.
"""

from __future__ import annotations

import re
import struct
from typing import Annotated, Any, Final, Literal

import blake3
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from weftos import limits
from weftos.errors import DelegationInvalid, TreeError
from weftos.tree.convert import convert, to_builtins
from weftos.tree.names import Action
from weftos.tree.paths import ResourcePath

__all__ = ["TAG", "Certificate", "agent_subject", "issue", "key_subject"]

#: In front of the signed bytes.
TAG: Final = b"exo/delegation/v1"
_KEY: Final = re.compile(r"key:[0-9a-f]{64}")
_AGENT: Final = re.compile(r"agent:[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TIME_MAX: Final = 2**63 - 1

_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX)]


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a certificate says, and its signature. Made by ``issue``, or read by ``from_bytes``.

    Attributes:
        version: of the form, 1.
        issuer: public key of whoever signs, 32 bytes.
        subject: who may act: ``key:`` and 64 hex digits, or ``agent:`` and its name.
        prefix: he may act there and below.
        actions: what he may do; sorted, each once, at least one.
        not_before_ns, not_after_ns: when it is valid, ns since 1970 UTC; the second moment is no more part of it.
        max_depth: how many certificates may follow it in a chain; 0 if it may not be handed on.
        parent: identifier of the certificate that it rests on, 32 bytes; ``None`` if on the trust in its issuer.
        nonce: 16 random bytes, so that two certificates are never the same one.
        signature: Ed25519 (RFC 8032) over ``statement``, 64 bytes.

    Raises:
        DelegationInvalid: a part is not what it must be.
    """

    version: Literal[1] = 1
    issuer: _Hash
    subject: str
    prefix: ResourcePath
    actions: tuple[Action, ...]
    not_before_ns: _Time
    not_after_ns: _Time
    max_depth: Annotated[int, msgspec.Meta(ge=0, lt=limits.DELEGATION_DEPTH)]
    parent: _Hash | None
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

    def __post_init__(self) -> None:
        texts = [str(action) for action in self.actions]
        if not 0 < len(texts) <= limits.DELEGATION_ACTIONS or texts != sorted(set(texts)):
            raise DelegationInvalid(f"a certificate lists 1 to {limits.DELEGATION_ACTIONS} actions, sorted, each once")
        if _KEY.fullmatch(self.subject) is None and _AGENT.fullmatch(self.subject) is None:
            raise DelegationInvalid(f"{self.subject!r} is no subject; that is key:HEX or agent:NAME")
        if self.max_depth > 0 and not self.subject.startswith("key:"):
            raise DelegationInvalid("only a key can hand on; a certificate for an agent has the depth 0")
        if not 0 < self.not_after_ns - self.not_before_ns <= limits.DELEGATION_LIFE_NS:
            raise DelegationInvalid("a certificate ends after it begins, and within a year")

    @property
    def statement(self) -> bytes:
        """The signed bytes: the tag and each part, every one behind its length."""
        parent = b"" if self.parent is None else self.parent
        actions = _fields(*(str(action).encode() for action in self.actions))
        numbers = (self.version, self.not_before_ns, self.not_after_ns, self.max_depth)
        texts = (self.issuer, self.subject.encode(), str(self.prefix).encode(), actions, parent, self.nonce)
        return _fields(TAG, struct.pack("<4Q", *numbers), *texts)

    @property
    def id(self) -> bytes:
        """BLAKE3 of the statement, 32 bytes. The signature is not in it: other signatures make no other certificate."""
        return blake3.blake3(self.statement).digest()

    def verify_signature(self) -> None:
        """Refuse a certificate that its issuer did not sign.

        Raises:
            DelegationInvalid: the signature is wrong, or the issuer is no key.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.issuer).verify(self.signature, self.statement)
        except (InvalidSignature, ValueError) as error:
            raise DelegationInvalid(f"the certificate for {self.subject} is not signed by its issuer") from error

    def to_bytes(self) -> bytes:
        """Return the certificate for storage or sending: msgpack with sorted keys."""
        return _encode(to_builtins(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Certificate:
        """Read a certificate. Nothing is verified yet.

        Raises:
            DelegationInvalid: the bytes are not exactly what ``to_bytes`` makes.
        """
        if len(data) > limits.DELEGATION_BYTES:
            raise DelegationInvalid(f"a certificate has at most {limits.DELEGATION_BYTES} bytes, this has {len(data)}")
        try:
            plain: Any = msgspec.msgpack.decode(data)
            certificate: Certificate = convert(plain, cls)
        except (msgspec.DecodeError, TreeError, ValueError, TypeError, RecursionError) as error:
            raise DelegationInvalid(f"the certificate is malformed: {error}") from error
        if certificate.to_bytes() != data:
            raise DelegationInvalid("the certificate is not in its canonical form")
        return certificate


_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def issue(
    key: Ed25519PrivateKey,
    *,
    subject: str,
    prefix: ResourcePath,
    actions: frozenset[Action],
    not_before_ns: int,
    not_after_ns: int,
    nonce: bytes,
    max_depth: int = 0,
    parent: Certificate | None = None,
) -> Certificate:
    """Sign a certificate. That it lies within its parent is checked where it is used, not here.

    Args:
        key: of the issuer.
        subject: see ``key_subject`` and ``agent_subject``.
        prefix: where the subject may act.
        actions: what it may do.
        not_before_ns: from when, ns since 1970 UTC.
        not_after_ns: until when, this moment excluded.
        nonce: 16 bytes from the operating system's random source.
        max_depth: how often it may be handed on.
        parent: the certificate that it rests on.

    Raises:
        DelegationInvalid: a part is not what it must be.
    """
    plain = {
        "version": 1,
        "issuer": key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        "subject": subject,
        "prefix": str(prefix),
        "actions": sorted(str(action) for action in actions),
        "not_before_ns": not_before_ns,
        "not_after_ns": not_after_ns,
        "max_depth": max_depth,
        "parent": None if parent is None else parent.id,
        "nonce": nonce,
        "signature": bytes(64),
    }
    # By way of plain values, because only that checks the types and ranges of the fields.
    try:
        unsigned: Certificate = convert(plain, Certificate)
    except msgspec.ValidationError as error:
        raise DelegationInvalid(f"there can be no such certificate: {error}") from error
    return msgspec.structs.replace(unsigned, signature=key.sign(unsigned.statement))


def key_subject(public_key: bytes) -> str:
    """Name the holder of an Ed25519 key as a subject."""
    return f"key:{public_key.hex()}"


def agent_subject(name: str) -> str:
    """Name an agent as a subject."""
    return f"agent:{name}"


def _fields(*fields: bytes) -> bytes:
    return b"".join(part for field in fields for part in (struct.pack("<I", len(field)), field))

"""Parameters and results of the methods about who asks, tokens and credentials. No secret is in any of them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from weftos import limits

__all__ = [
    "ChallengeResult",
    "CredentialAddParams",
    "CredentialChanged",
    "CredentialInfo",
    "CredentialRemoveParams",
    "CredentialRotateParams",
    "LoginParams",
    "TokenInfo",
    "TokenIssueParams",
    "TokenRevokeParams",
    "VaultKey",
    "WhoAmI",
]

Bytes32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Box: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=49, max_length=limits.AUTH_SECRET_BYTES + 48)]
Reason: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ChallengeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a login has to sign, once, on this connection; see docs/access.md.

    Attributes:
        nonce: 32 random bytes.
        boot_id: of the kernel, 16 bytes.
        uid: of the client, as the kernel sees it.
    """

    nonce: bytes
    boot_id: bytes
    uid: int


class LoginParams(_Params, frozen=True):
    """A challenge of this connection, answered with a token.

    Attributes:
        nonce: of the challenge.
        public_key: public half of the token.
        signature: over the challenge.
    """

    nonce: Bytes32
    public_key: Bytes32
    signature: Bytes64


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A token that counts.

    Attributes:
        id: its name for programs.
        name: its name for people.
        access: class of methods that it gives; empty for none.
        methods: further methods.
        agents: agents that it is limited to; none is no limit.
        uids: users that it is limited to; none is no limit.
        expires_at: end of its life.
        issued_by: who issued it.
        expired: whether its life is over.
    """

    id: str
    name: str
    access: str
    methods: list[str]
    agents: list[str]
    uids: list[int]
    expires_at: float
    issued_by: str
    expired: bool = False


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the kernel sees it.

    Attributes:
        uid: user.
        user: his name.
        access: class of methods that he has on this connection; `open` is none.
        by: how he stands on the log.
        token: with which he logged in.
    """

    uid: int
    user: str
    access: str
    by: str
    token: TokenInfo | None = None


class TokenIssueParams(_Params, frozen=True, kw_only=True):
    """A token to be; the secret stays with who made it.

    Attributes:
        fingerprint: hash of the token's public half.
        name: for people.
        access: class of methods that it gives.
        methods: further methods, by name.
        agents: limits it to methods about these agents, named as they were spawned by the operator.
        uids: limits it to these users.
        valid_secs: how long it lives.
    """

    fingerprint: Bytes32
    name: str
    access: Literal["", "read", "operate", "admin"] = ""
    methods: list[str] = []
    agents: list[str] = []
    uids: list[Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]] = []
    valid_secs: Annotated[float, msgspec.Meta(gt=0, le=limits.AUTH_TOKEN_LIFE_S)] = 86_400.0


class TokenRevokeParams(_Params, frozen=True):
    """Which token counts no more.

    Attributes:
        id: of the token, or its name if only one has it.
        reason: why; it goes on the log.
    """

    id: str
    reason: Reason


class VaultKey(msgspec.Struct, frozen=True, kw_only=True):
    """To whom secrets are sealed on their way to the vault.

    Attributes:
        public_key: X25519, 32 bytes.
    """

    public_key: bytes


class CredentialAddParams(_Params, frozen=True, kw_only=True):
    """A credential to keep.

    Attributes:
        name: by which agents ask for it.
        type: `api-key`, `bearer-token`, `password`, `certificate` or `other`.
        agents: who may have it, named as they were spawned by the operator; nobody by default.
        box: the secret, sealed to the key of the vault.
    """

    name: str
    type: str = "other"
    agents: list[str] = []
    box: Box


class CredentialRotateParams(_Params, frozen=True):
    """Another secret for a credential.

    Attributes:
        name: of the credential.
        box: the secret, sealed to the key of the vault.
    """

    name: str
    box: Box


class CredentialRemoveParams(_Params, frozen=True):
    """A credential to destroy.

    Attributes:
        name: of the credential.
        reason: why; it goes on the log.
    """

    name: str
    reason: Reason


class CredentialChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a credential.

    Attributes:
        name: of the credential.
        version: counts its secrets.
        record: number of the record that changed it.
    """

    name: str
    version: int
    record: int


class CredentialInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a credential; its secret is shown to nobody.

    Attributes:
        name: of the credential.
        type: what it is.
        agents: who may have it.
        version: counts its secrets.
        rotated_at: when it got the present one.
    """

    name: str
    type: str
    agents: list[str]
    version: int
    rotated_at: float

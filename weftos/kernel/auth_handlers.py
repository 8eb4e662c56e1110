"""The control socket's methods about who asks, tokens and credentials. No secret passes through here in the clear."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from weftos import limits
from weftos.auth import places
from weftos.auth.scope import TokenScope
from weftos.auth.tokens import Challenge, fingerprint, matches, token_id, verify
from weftos.errors import TokenRefused
from weftos.kernel.core import Core
from weftos.kernel.peers import Peer
from weftos.kernel.socket_access import Door
from weftos.kernel.token_table import TokenTable, nodes_below
from weftos.rpc import auth_types as u
from weftos.rpc import types as t
from weftos.rpc.methods import METHODS
from weftos.service import access_protocol as q

__all__ = ["AuthHandlers"]

#: What everybody is told who fails to log in; why stands on the log.
_REFUSED = "the token is unknown, expired, revoked or not for this user, or its answer does not fit the challenge"


class AuthHandlers:
    """All methods below ``auth.``.

    Args:
        core: shared state.
        tokens: that count.
        door: records who is refused.
    """

    def __init__(self, core: Core, tokens: TokenTable, door: Door) -> None:
        self._core = core
        self._tokens = tokens
        self._door = door

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "auth.challenge": self.challenge,
            "auth.login": self.login,
            "auth.whoami": self.whoami,
            "auth.token-issue": self.token_issue,
            "auth.token-list": self.token_list,
            "auth.token-revoke": self.token_revoke,
            "auth.vault-key": self.vault_key,
            "auth.credential-add": self.credential_add,
            "auth.credential-list": self.credential_list,
            "auth.credential-rotate": self.credential_rotate,
            "auth.credential-remove": self.credential_remove,
        }

    def _peer(self) -> Peer:
        peer = self._core.acting.peer()
        assert peer is not None, "a handler runs for a peer"
        return peer

    # --- who asks -----------------------------------------------------------------------------------------------------

    async def challenge(self, _params: t.NoParams) -> u.ChallengeResult:
        peer = self._peer()
        while len(peer.challenges) >= limits.AUTH_CHALLENGES:
            del peer.challenges[next(iter(peer.challenges))]
        made = Challenge(secrets.token_bytes(32), self._core.boot_id, os.geteuid(), peer.uid)
        peer.challenges[made.nonce] = made
        return u.ChallengeResult(nonce=made.nonce, boot_id=made.boot_id, uid=peer.uid)

    async def login(self, params: u.LoginParams) -> u.WhoAmI:
        peer = self._peer()
        # Whatever comes of it, the challenge is used up.
        challenge = peer.challenges.pop(params.nonce, None)
        scope = self._tokens.get(token_id(fingerprint(params.public_key)))
        reason = _why_not(challenge, scope, params, peer, time.time_ns())
        if reason is not None or scope is None:
            peer.failures += 1
            self._door.note(peer, "auth.login", reason or _REFUSED)
            raise TokenRefused(_REFUSED)
        peer.token = scope
        payload = {"id": scope.id, "name": scope.name, "uid": peer.uid, "os_pid": peer.os_pid, "by": peer.by}
        try:
            await self._core.record_first("auth.token.use", payload)
        except BaseException:
            peer.token = None
            raise
        return _who(peer)

    async def whoami(self, _params: t.NoParams) -> u.WhoAmI:
        return _who(self._peer())

    # --- tokens -------------------------------------------------------------------------------------------------------

    async def token_issue(self, params: u.TokenIssueParams) -> u.TokenInfo:
        now = time.time_ns()
        scope = TokenScope(
            id=token_id(params.fingerprint),
            name=params.name,
            fingerprint=params.fingerprint,
            access=params.access,
            methods=sorted(params.methods),
            agents=sorted(params.agents),
            uids=sorted(params.uids),
            expires_ns=now + int(params.valid_secs * 1e9),
            issued_by=self._core.acting.by(),
        )
        scope.check(now, METHODS)
        await self._tokens.issue(scope, now)
        return _info(scope)

    async def token_list(self, _params: t.NoParams) -> list[u.TokenInfo]:
        return [_info(scope) for scope in self._tokens.held()]

    async def token_revoke(self, params: u.TokenRevokeParams) -> u.TokenInfo:
        scope = self._tokens.named(params.id)
        await self._tokens.revoke(scope, params.reason, self._core.acting.by())
        return _info(scope)

    # --- credentials --------------------------------------------------------------------------------------------------

    async def vault_key(self, _params: t.NoParams) -> u.VaultKey:
        return u.VaultKey(**await self._core.service.done(q.VaultIntake()))

    async def credential_add(self, params: u.CredentialAddParams) -> u.CredentialChanged:
        by = self._core.acting.by()
        return await self._changed(q.AddCredential(params.name, params.type, sorted(params.agents), params.box, by))

    async def credential_rotate(self, params: u.CredentialRotateParams) -> u.CredentialChanged:
        return await self._changed(q.RotateCredential(params.name, params.box, self._core.acting.by()))

    async def credential_remove(self, params: u.CredentialRemoveParams) -> u.CredentialChanged:
        return await self._changed(q.RemoveCredential(params.name, params.reason, self._core.acting.by()))

    async def _changed(self, request: q.AccessRequest) -> u.CredentialChanged:
        return u.CredentialChanged(**await self._core.service.done(request))

    async def credential_list(self, _params: t.NoParams) -> list[u.CredentialInfo]:
        rows = await nodes_below(self._core.service, str(places.CREDENTIALS))
        return [
            u.CredentialInfo(
                name=name,
                type=values["type"],
                agents=values["agents"],
                version=values["version"],
                rotated_at=values["rotated_ns"] / 1e9,
            )
            for name, values in sorted(rows.items())
        ]


def _why_not(
    challenge: Challenge | None, scope: TokenScope | None, params: u.LoginParams, peer: Peer, now_ns: int
) -> str | None:
    """Why a login fails, for the log; ``None`` if it does not."""
    if challenge is None:
        return "its challenge was not given on this connection, or was used before"
    if scope is None or not matches(scope.fingerprint, params.public_key):
        return "no such token counts"
    if not verify(params.public_key, params.signature, challenge):
        return f"the answer of token {scope.name} does not fit the challenge"
    if scope.is_expired(now_ns):
        return f"the token {scope.name} has expired"
    if scope.uids and peer.uid not in scope.uids:
        return f"the token {scope.name} is not for user {peer.uid}"
    return None


def _info(scope: TokenScope) -> u.TokenInfo:
    return u.TokenInfo(
        id=scope.id,
        name=scope.name,
        access=scope.access,
        methods=scope.methods,
        agents=scope.agents,
        uids=scope.uids,
        expires_at=scope.expires_ns / 1e9,
        issued_by=scope.issued_by,
        expired=scope.is_expired(time.time_ns()),
    )


def _who(peer: Peer) -> u.WhoAmI:
    token = _info(peer.token) if peer.token is not None else None
    access = peer.access.value if token is None else token.access or "open"
    return u.WhoAmI(uid=peer.uid, user=peer.name, access=access, by=peer.by, token=token)

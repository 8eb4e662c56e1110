"""The tokens that count, as the kernel holds them: the same as on the log, by the resource tree.

Why it is as it is: every request of somebody who logged in looks here, so it is a table in memory. It is filled from
the tree at the start; from then on each change is a record, on the disk before the table changes.

Guaranteed: a token counts only if the log says so. Not guaranteed: that an expired one leaves the log at once; it
counts no more from that moment on, and goes when the next one is issued, or at the next start.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from weftos import limits
from weftos.auth import places
from weftos.auth.scope import TokenScope
from weftos.errors import InvalidRequest, TokenRefused
from weftos.kernel.service_host import ServiceHost
from weftos.service import access_protocol as q
from weftos.tree.deltas import Delta

__all__ = ["TokenTable", "nodes_below"]


class TokenTable:
    """All tokens of the instance.

    Args:
        service: which keeps the log.
        changing: held while the log and the table differ.
    """

    def __init__(self, service: ServiceHost, changing: asyncio.Lock) -> None:
        self._tokens: dict[str, TokenScope] = {}
        self._service = service
        self._changing = changing

    async def begin(self, now_ns: int) -> int:
        """Fill the table from the log, and let those go that have expired.

        Returns:
            How many tokens count.

        Raises:
            WeftError: the service does not answer.
        """
        rows = await nodes_below(self._service, str(places.TOKENS))
        self._tokens = {name: places.token_of(name, values) for name, values in rows.items()}
        await self.drop_expired(now_ns)
        return len(self._tokens)

    def held(self) -> list[TokenScope]:
        """All tokens, by id."""
        return [self._tokens[one] for one in sorted(self._tokens)]

    def get(self, token: str) -> TokenScope | None:
        """Return a token by id."""
        return self._tokens.get(token)

    def counts(self, token: str) -> bool:
        """Tell whether a token is there; whether it has expired is another question."""
        return token in self._tokens

    def named(self, what: str) -> TokenScope:
        """Return a token by id, or by a name that only one has.

        Raises:
            TokenRefused: none, or several.
        """
        found = [one for one in self._tokens.values() if what in (one.id, one.name)]
        if len(found) != 1:
            how = "no token" if not found else f"{len(found)} tokens"
            raise TokenRefused(f"{how} {what!r:.80}; `weaver auth token list` shows their ids")
        return found[0]

    async def issue(self, scope: TokenScope, now_ns: int) -> None:
        """Let a token count.

        Raises:
            InvalidRequest: there is one with this id, or too many.
            WeftError: it is not on the log.
        """
        await self.drop_expired(now_ns)
        if scope.id in self._tokens:
            raise InvalidRequest(f"there is a token {scope.id} already; make another one")
        if len(self._tokens) >= limits.AUTH_TOKENS:
            raise InvalidRequest(f"there are {limits.AUTH_TOKENS} tokens; revoke some that nobody needs")
        payload = msgspec.structs.asdict(scope)
        payload["by"] = payload.pop("issued_by")
        async with self._changing:
            await self._note("auth.token.issue", payload, places.token_issued(scope))
            self._tokens[scope.id] = scope

    async def revoke(self, scope: TokenScope, reason: str, by: str) -> None:
        """Let a token count no more, at once.

        Raises:
            WeftError: it is not on the log; the token counts for nobody, but comes back at the next start.
        """
        payload = {"id": scope.id, "name": scope.name, "reason": reason, "by": by}
        async with self._changing:
            # First here: whoever revokes wants no further use, whatever the log does.
            if self._tokens.pop(scope.id, None) is not None:
                await self._note("auth.token.revoke", payload, places.token_revoked(scope.id))

    async def drop_expired(self, now_ns: int) -> None:
        """Let those go that have expired; errors as for ``revoke``."""
        for scope in [one for one in self._tokens.values() if one.is_expired(now_ns)]:
            await self.revoke(scope, "it has expired", "kernel")

    async def _note(self, kind: str, payload: dict[str, Any], delta: Delta) -> None:
        await self._service.done(q.NoteChange(kind, payload, delta.log_kind, delta.to_payload()))


async def nodes_below(service: ServiceHost, path: str) -> dict[str, dict[str, Any]]:
    """Return the nodes below a path of the tree: metadata by name.

    Raises:
        WeftError: the service does not answer.
    """
    found: dict[str, dict[str, Any]] = {}
    while True:
        values = await service.done(q.ListBelow(path, max(found, default="")))
        found |= dict(values["rows"])
        if values["complete"]:
            return found

"""Who may ask what on the control socket: decided here, for every connection and every request, closed by default.

    connection ─▶ user, process ─▶ class by user  ─▶ request ─▶ method's class ≤ the peer's ─▶ handler
                      │                  └ token: its class, methods, agents, while it counts
                      └ agent's process, unknown user: refused

Why it is as it is: the rules are one pure function of peer and method, so that they can be read and tested as such.
What is refused is on the log, the first of a kind at once and the others by their number.

Guaranteed: a method whose class a peer does not have is not called. Refusals are recorded by whoever caused them, never
with what he sent. Not guaranteed: that malformed lines are recorded; they are answered, and ask for nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, Final

from weftos import limits
from weftos.config import AccessSection
from weftos.errors import AccessDenied, PeerRefused
from weftos.kernel.peers import Credentials, Peer, credentials_of, is_descendant, user_name
from weftos.rpc.methods import METHODS, Access

__all__ = ["AGENT_PARAMETERS", "Door", "class_of", "why_not"]

_RANK: Final = {Access.OPEN: 0, Access.READ: 1, Access.OPERATE: 2, Access.ADMIN: 3}
#: Parameters by which methods name the agent that they are about.
AGENT_PARAMETERS: Final = ("pid", "parent_pid")
#: What a token cannot do, whatever its class: make others, or change who may connect.
NOT_BY_TOKEN: Final = frozenset(("auth.token-issue",))
#: Methods of class operate whose effects do not say on the log who caused them.
UNSIGNED: Final = frozenset(("agent.suspend", "agent.resume", "chain.bridge-add", "custody.attest"))
_ALL_OTHERS: Final = ("operator:?", "(several)")


def class_of(uid: int, own: int, rules: AccessSection) -> Access | None:
    """Return the class of a user, ``None`` if he may not connect.

    Args:
        uid: of the peer.
        own: of the kernel.
        rules: as configured.
    """
    if uid in (0, own) or uid in rules.admin_uids:
        return Access.ADMIN
    if uid in rules.operate_uids:
        return Access.OPERATE
    if uid in rules.read_uids:
        return Access.READ
    return Access.OPEN if uid in rules.token_uids else None


def why_not(
    peer: Peer, method: str, params: dict[str, Any], agent_name: Callable[[int], str | None], now_ns: int
) -> str | None:
    """Return why a peer may not call a method, ``None`` if it may.

    Args:
        peer: who asks; its token still counts.
        method: one of ``METHODS``.
        params: as they came.
        agent_name: name of an agent, as the operator spawned it, by pid.
        now_ns: nanoseconds since 1970.
    """
    needed = METHODS[method].access
    if needed is Access.OPEN:
        return None
    token = peer.token
    if token is None:
        if _RANK[peer.access] >= _RANK[needed]:
            return None
        held = "no class without a token" if peer.access is Access.OPEN else f"class {peer.access}"
        return f"{method} takes class {needed}, and user {peer.uid} has {held}"
    if token.is_expired(now_ns):
        return f"the token {token.name} has expired"
    if method in NOT_BY_TOKEN:
        return f"{method} is not for holders of tokens"
    if method not in token.methods and not (token.access and _RANK[Access(token.access)] >= _RANK[needed]):
        return f"{method} is outside of what the token {token.name} gives"
    if token.agents:
        named = [params[name] for name in AGENT_PARAMETERS if params.get(name) is not None]
        if not named:
            return f"the token {token.name} is for some agents only, and {method} names none"
        for pid in named:
            if type(pid) is not int or agent_name(pid) not in token.agents:
                return f"the token {token.name} is not for agent {pid!r:.20}"
    return None


class Door:
    """Lets peers and requests in, and records whom it does not.

    Args:
        rules: gives the configured rules, as they are now.
        agent_name: see ``why_not``.
        counts: tells whether a token still counts, by its id.
        record: puts an event on the log without waiting.
    """

    def __init__(
        self,
        rules: Callable[[], AccessSection],
        agent_name: Callable[[int], str | None],
        counts: Callable[[str], bool],
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._rules = rules
        self._agent_name = agent_name
        self._counts = counts
        self._record = record
        #: Refusals since the record of the first of their kind: payload and number.
        self._counted: dict[tuple[str, str], tuple[dict[str, Any], int]] = {}
        self.refused = 0

    def admit(self, connection: Any) -> Peer:
        """Find out who connects.

        Raises:
            PeerRefused: nobody who may.
        """
        found = credentials_of(connection) or Credentials(os.geteuid(), 0)
        peer = Peer(found.uid, found.os_pid, user_name(found.uid), Access.OPEN)
        access = class_of(found.uid, os.geteuid(), self._rules())
        if access is None:
            reason = f"user {found.uid} may not control this kernel, which runs as user {os.geteuid()}"
            self.note(peer, "(connect)", reason)
            raise PeerRefused(f"{reason}; its operator can allow it, see docs/access.md")
        if is_descendant(found.os_pid, os.getpid()):
            reason = "agents may not use the control socket; they ask the kernel through their own"
            self.note(peer, "(connect)", reason)
            raise PeerRefused(reason)
        peer.access = access
        return peer

    def check(self, peer: Peer, method: str, params: dict[str, Any]) -> None:
        """Return if a peer may call a method, and say on the log that it calls one that changes the kernel.

        Raises:
            AccessDenied: it may not.
        """
        # Asked again each time: rules can change, and tokens be revoked, while a connection stays open.
        access = class_of(peer.uid, os.geteuid(), self._rules())
        peer.access = access or Access.OPEN
        reason = why_not(peer, method, params, self._agent_name, time.time_ns())
        if access is None:
            reason = f"user {peer.uid} may not control this kernel any more"
        elif reason is None and peer.token is not None and not self._counts(peer.token.id):
            reason = f"the token {peer.token.name} is revoked or has expired"
        if reason is not None:
            self.note(peer, method, reason)
            raise AccessDenied(reason)
        needed = METHODS[method].access
        if needed is Access.ADMIN or method in UNSIGNED:
            act = {"by": peer.by, "method": method, "access": needed.value, "target": _target(params)}
            self._record("access.act", act)

    def note(self, peer: Peer, method: str, reason: str) -> None:
        """Record a refusal, or count it if there was one like it a moment ago."""
        self.refused += 1
        key = (peer.by, method)
        if key not in self._counted and len(self._counted) >= limits.ACCESS_DENY_KINDS:
            key = _ALL_OTHERS
        payload = {"by": key[0], "uid": peer.uid, "os_pid": peer.os_pid, "method": key[1], "reason": reason[:400]}
        if key in self._counted:
            self._counted[key] = payload, self._counted[key][1] + 1
            return
        self._counted[key] = payload, 0
        self._record("access.deny", payload)
        asyncio.get_running_loop().call_later(limits.ACCESS_DENY_S, self._settle, key)

    def _settle(self, key: tuple[str, str]) -> None:
        """Record how many came after the first."""
        payload, count = self._counted.pop(key, ({}, 0))
        if count:
            self._record("access.deny", payload | {"count": count})

    def close(self) -> None:
        """Record what was only counted yet."""
        for key in list(self._counted):
            self._settle(key)


def _target(params: dict[str, Any]) -> str:
    """What a request is about, as far as one word can say it; never a value that may be long or secret."""
    for name in ("pid", "name", "key", "path", "id", "seq"):
        if (value := params.get(name)) is not None and isinstance(value, str | int):
            return f"{name}={value}"[:100]
    return ""

"""What a token is good for: classes or methods of the control socket, agents, users, and until when.

Guaranteed: what a scope does not name it does not give; an empty scope gives nothing but looking at oneself. Not
guaranteed: that a method or an agent of this name exists.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import InvalidRequest

__all__ = ["TokenScope", "check_scope_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/#+-]{0,199}")
_LABEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")


class TokenScope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token as the instance knows it; none of this is secret.

    Attributes:
        id: 16 hex digits of the fingerprint.
        name: for people.
        fingerprint: hash of the token's public half, 32 bytes.
        access: ``read``, ``operate`` or ``admin``: every method up to this class; empty for none.
        methods: further methods by name.
        agents: if there are any, only methods about one of these agents, by name as the operator spawned them.
        uids: users who may use it; if there are none, whoever may connect.
        expires_ns: end of its life, nanoseconds since 1970.
        issued_by: who issued it.
    """

    id: str
    name: str
    fingerprint: bytes
    access: str = ""
    methods: list[str] = []
    agents: list[str] = []
    uids: list[int] = []
    expires_ns: int
    issued_by: str = ""

    def check(self, now_ns: int, known_methods: Any) -> None:
        """Refuse what no token can be.

        Args:
            now_ns: nanoseconds since 1970.
            known_methods: names of all methods.

        Raises:
            InvalidRequest: naming the field.
        """
        if _LABEL.fullmatch(self.name) is None:
            raise InvalidRequest("the name of a token is 1 to 64 letters, digits and _.@+-, beginning with a letter")
        if self.access not in ("", "read", "operate", "admin"):
            raise InvalidRequest(f"the class of a token is read, operate or admin, not {self.access!r:.40}")
        if not self.access and not self.methods:
            raise InvalidRequest("a token without a class and without methods would be good for nothing")
        for what, values in (("methods", self.methods), ("agents", self.agents), ("uids", self.uids)):
            if len(values) > limits.AUTH_SCOPE_NAMES or len(set(values)) != len(values):
                raise InvalidRequest(f"a token names at most {limits.AUTH_SCOPE_NAMES} {what}, each once")
        for method in self.methods:
            if method not in known_methods:
                raise InvalidRequest(f"there is no method {method!r:.60}; docs/rpc.md lists them")
        for agent in self.agents:
            check_scope_name(agent)
        life = self.expires_ns - now_ns
        if not 0 < life <= limits.AUTH_TOKEN_LIFE_S * 1_000_000_000:
            raise InvalidRequest(f"a token lives up to {limits.AUTH_TOKEN_LIFE_S // 86_400} days from now on")

    def is_expired(self, now_ns: int) -> bool:
        """Tell whether its life is over."""
        return now_ns >= self.expires_ns


def check_scope_name(name: str) -> None:
    """Refuse what no agent is called.

    Raises:
        InvalidRequest: it is empty, too long or holds other characters.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(f"{name!r:.60} is no name of an agent: 1 to 200 letters, digits and _.:@/#+-")

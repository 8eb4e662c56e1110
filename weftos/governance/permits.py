"""Permits: what a person's approval turns into, and what makes it good for one thing only.

    gate.request ─ approved ─▶ permit.mint ─ token ─▶ agent ─▶ executor presents it ─▶ permit.use

Why it is as it is: an approval is for one act of one life of one agent, with the very arguments that the person saw,
under the rules of that moment. So all of that is bound: the token carries the permit's id and a code over everything
that the log says about it, made with a key of the service. The log alone makes nobody a token, and a token that is
altered, or shown for anything else, is worth nothing. Whether it was used is a fact on the log.

Guaranteed: ``fault`` is empty only for the token of this permit, within its time, under the same constitution, for the
same agent, life, executor, action and arguments. Pure; whoever asks keeps count of use.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from blake3 import blake3

from weftos.errors import InvalidRequest

__all__ = [
    "KEY_BYTES",
    "TOKEN_BYTES",
    "Binding",
    "HeldPermit",
    "Permission",
    "args_hash",
    "fault",
    "token_id",
    "token_of",
]

KEY_BYTES: Final = 32
_ID_BYTES: Final = 16
_MAC_BYTES: Final = 32
_MAGIC: Final = b"wp1\0"
TOKEN_BYTES: Final = len(_MAGIC) + _ID_BYTES + _MAC_BYTES
_ARGS_TAG: Final = b"exo/governance/args/v1\0"
_TOKEN_TAG: Final = b"exo/governance/permit/v1\0"
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What a request, and the permit that comes of it, is for.

    Attributes:
        boot_id: of the kernel's boot in which the agent lives, 16 bytes: pids begin anew with each.
        pid: of the agent.
        agent_id: of the agent.
        incarnation: of the agent.
        executor: pid of who carries it out and shows the permit; 0 is the kernel.
        action: to be done.
        args_hash: of action and context, 32 bytes; see ``args_hash``.
        constitution: hash of the rules in force, 32 bytes.
    """

    boot_id: bytes
    pid: int
    agent_id: str
    incarnation: int
    executor: int
    action: str
    args_hash: bytes
    constitution: bytes


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """A permit, as the log has it.

    Attributes:
        id: 16 random bytes.
        request: number of the record of the request.
        binding: what it is for.
        expires_ns: when it is worth nothing any more, nanoseconds since 1970 UTC.
        record: number of its own record.
    """

    id: bytes
    request: int
    binding: Binding
    expires_ns: int
    record: int


class HeldPermit(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has after ``require``.

    Attributes:
        action: that is permitted.
        token: to be shown by the executor; empty if nobody's approval was needed.
        request: number of the request that was approved; ``None`` likewise.
        record: number of the record of the permit, for a proof; ``None`` likewise.
        expires_ns: until when, nanoseconds since 1970 UTC; 0 likewise.
    """

    action: str
    token: bytes = b""
    request: int | None = None
    record: int | None = None
    expires_ns: int = 0


def args_hash(action: str, context: Mapping[str, Any]) -> bytes:
    """Hash an action and the facts about it, 32 bytes; equal for equal ones, in whatever order they stand.

    Raises:
        InvalidRequest: the context holds what has no one form.
    """
    try:
        return blake3(_ARGS_TAG + _encode((action, dict(context)))).digest()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"the context of {action} cannot be hashed: {error}") from error


def token_of(key: bytes, permit: Permission) -> bytes:
    """Make the token of a permit.

    Args:
        key: secret of the service, 32 bytes.
        permit: as the log has it.
    """
    told = (permit.id, permit.request, msgspec.structs.astuple(permit.binding), permit.expires_ns)
    return _MAGIC + permit.id + blake3(_TOKEN_TAG + _encode(told), key=key).digest()


def token_id(token: bytes) -> bytes | None:
    """Return the id of the permit that a token speaks of; ``None`` if it is no token."""
    if len(token) != TOKEN_BYTES or not token.startswith(_MAGIC):
        return None
    return token[len(_MAGIC) : len(_MAGIC) + _ID_BYTES]


_WRONG: Final[dict[str, str]] = {
    "boot_id": "the agent that it was made for has ended",
    "pid": "it was made for another agent",
    "agent_id": "it was made for another agent",
    "incarnation": "it was made for another life of this agent",
    "executor": "another executor is to present it",
    "action": "it is for another action",
    "args_hash": "it is for other arguments",
    "constitution": "the rules have changed since it was made",
}


def fault(key: bytes, token: bytes, permit: Permission, wanted: Binding, now_ns: int) -> str:
    """Return why a token gives nothing, or an empty text.

    Args:
        key: secret of the service, 32 bytes.
        token: as it was presented.
        permit: with its id, as the log has it.
        wanted: what is to be done now, as the service knows it.
        now_ns: nanoseconds since 1970 UTC.
    """
    if not hmac.compare_digest(token, token_of(key, permit)):
        return "it was altered"
    for name, text in _WRONG.items():
        if getattr(permit.binding, name) != getattr(wanted, name):
            return text
    return "it has expired" if now_ns >= permit.expires_ns else ""

"""Where a message goes: the seven targets, and how each travels on the wire.

A target is a value, not an address: the kernel resolves it to rings when a channel is granted. On a ring the common
case, one process, costs nothing (no field at all); the others travel as one short string whose first letter names the
kind.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from weftos.errors import ProtocolError

__all__ = [
    "Broadcast",
    "Kernel",
    "Process",
    "RemoteNode",
    "Service",
    "ServiceMethod",
    "Target",
    "Topic",
    "parse_target",
    "target_from_wire",
    "target_to_wire",
]

_NAME_MAX = 255


class Process(msgspec.Struct, frozen=True, tag="Process"):
    """One agent, by kernel pid."""

    pid: int


class Topic(msgspec.Struct, frozen=True, tag="Topic"):
    """All subscribers of a topic (exact name) except the sender."""

    name: str


class Broadcast(msgspec.Struct, frozen=True, tag="Broadcast"):
    """Every live agent in the sender's scope except the sender."""


class Service(msgspec.Struct, frozen=True, tag="Service"):
    """The agent that registered this service name."""

    name: str


class ServiceMethod(msgspec.Struct, frozen=True, tag="ServiceMethod"):
    """One method of a service; the owner sees both names."""

    service: str
    method: str


class Kernel(msgspec.Struct, frozen=True, tag="Kernel"):
    """The kernel itself (pid 0)."""


class RemoteNode(msgspec.Struct, frozen=True, tag="RemoteNode"):
    """A target on another node. Refused with ``RemoteUnavailable`` until a mesh exists."""

    node_id: str
    target: Process | Topic | Broadcast | Service | ServiceMethod | Kernel


Target: TypeAlias = Process | Topic | Broadcast | Service | ServiceMethod | Kernel | RemoteNode


def _checked_name(kind: str, name: str) -> str:
    if not name or len(name) > _NAME_MAX or not name.isprintable() or "/" in name:
        raise ProtocolError(f"{kind} name {name[:40]!r} is not 1 to {_NAME_MAX} printable characters without '/'")
    return name


def target_to_wire(target: Target) -> str | None:
    """Return the wire form of a target: ``None`` for one process or the kernel, else a tagged string."""
    match target:
        case Process() | Kernel():
            return None
        case Topic(name):
            return "t" + _checked_name("topic", name)
        case Broadcast():
            return "b"
        case Service(name):
            return "s" + _checked_name("service", name)
        case ServiceMethod(service, method):
            return f"m{_checked_name('service', service)}/{_checked_name('method', method)}"
        case RemoteNode():
            raise ProtocolError("a remote target has no form on a local ring")


def target_from_wire(wire: str | None, own_pid: int) -> Target:
    """Inverse of ``target_to_wire`` as seen by the receiver.

    Args:
        wire: the field as read from a ring; may have been written by a liar.
        own_pid: pid of the receiver, the meaning of an absent target.

    Raises:
        ProtocolError: the string is not a wire target.
    """
    if wire is None:
        return Process(own_pid)
    kind, rest = wire[:1], wire[1:]
    if kind == "t":
        return Topic(_checked_name("topic", rest))
    if kind == "b" and not rest:
        return Broadcast()
    if kind == "s":
        return Service(_checked_name("service", rest))
    if kind == "m" and "/" in rest:
        service, method = rest.split("/", 1)
        return ServiceMethod(_checked_name("service", service), _checked_name("method", method))
    raise ProtocolError(f"{wire[:40]!r} is not a message target")


def parse_target(value: int | str | Target) -> Target:
    """Accept what people write: a pid, ``topic:NAME``, ``service:NAME[/METHOD]``, ``kernel`` or ``broadcast``.

    Raises:
        ProtocolError: the text names no target.
    """
    if isinstance(value, int):
        return Kernel() if value == 0 else Process(value)
    if not isinstance(value, str):
        return value
    if value.isdecimal():
        return parse_target(int(value))
    if value == "kernel":
        return Kernel()
    if value == "broadcast":
        return Broadcast()
    kind, _, rest = value.partition(":")
    if kind == "topic":
        return Topic(_checked_name("topic", rest))
    if kind == "service":
        service, slash, method = rest.partition("/")
        if slash:
            return ServiceMethod(_checked_name("service", service), _checked_name("method", method))
        return Service(_checked_name("service", service))
    raise ProtocolError(
        f"{value[:60]!r} is no target: use a pid, topic:NAME, service:NAME[/METHOD], kernel or broadcast"
    )

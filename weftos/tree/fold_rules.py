"""What each kind of record means for the tree: one function per kind, from the record alone to changes.

Why it is as it is: the kernel writes what happened to processes and services, not what a tree should look like. The
translation stands here, in a table, so that anybody with the log gets the same tree, and a kind that is not in the
table cannot change it. A payload is read into a struct with the fields that are needed; fields that a later kernel adds
do not matter, a missing one or another type refuses the record.

Guaranteed: a rule depends on its arguments only and changes nothing. Not guaranteed: that a change fits the tree, and
that the source may say such a thing; ``SOURCES`` lists who may, and the fold compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from weftos import limits
from weftos.errors import DeltaInvalid, NodeInvalid
from weftos.tree import metadata
from weftos.tree.deltas import LOG_KINDS, Created, Delta, MetadataSet, from_payload
from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.tree import NAMESPACES

__all__ = ["AGENTS", "KERNEL", "RULES", "SERVICES", "SOURCES", "Rule", "agent_path", "service_path"]

#: Source, kind, subject, decoded payload and time (ns since 1970 UTC) of a record; gives the changes, in order.
#: Raises ``TreeError`` or ``msgspec.ValidationError`` if the payload does not have the form.
Rule: TypeAlias = Callable[[str, str, str | None, object, int], list[Delta]]

KERNEL: Final = ResourcePath("/kernel")
AGENTS: Final = KERNEL.child("agents")
SERVICES: Final = KERNEL.child("services")
#: The service that the kernel's records call none: the process that keeps the log.
_OWN_SERVICE: Final = "chain"

_NAMESPACE: Final = Kind("namespace")
_AGENT: Final = Kind("agent")
_SERVICE: Final = Kind("service")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_.@:-]")

_Pid = Annotated[int, msgspec.Meta(ge=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Spawn(msgspec.Struct):
    pid: _Pid
    agent_id: str
    name: str
    program: str
    parent_pid: _Count
    requested_by: _Count
    restart: str
    capabilities: dict[str, Any]


class _Life(msgspec.Struct):
    pid: _Pid
    agent_id: str
    incarnation: _Pid
    os_pid: _Pid | None


class _Asked(_Life):
    by: str


class _Again(_Life):
    because: str


class _GivenUp(_Life):
    why: str


class _End(msgspec.Struct):
    reason: str
    code: int | None
    signal: str | None
    message: str


class _Ended(_Life):
    exit: _End


class _Offer(msgspec.Struct):
    name: str
    pid: _Pid
    methods: list[str]


class _Withdrawal(msgspec.Struct):
    name: str
    pid: _Pid


class _Started(msgspec.Struct):
    incarnation: _Count


class _Stopped(_Started):
    how: str


class _Boot(msgspec.Struct):
    version: str
    boot_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class _Ready(msgspec.Struct):
    os_pid: _Pid


class _Shutdown(msgspec.Struct):
    reason: str


_Body = TypeVar("_Body")
_LifeBody = TypeVar("_LifeBody", bound=_Life)


def agent_path(agent_id: str, pid: int) -> ResourcePath:
    """Return where an agent is in the tree: ``/kernel/agents/NAME-PID``.

    Args:
        agent_id: as in the kernel's records, ``NAME.PID``.
        pid: its kernel pid.

    Raises:
        DeltaInvalid: the two do not belong together.
        PathInvalid: the name is too long.
    """
    name = agent_id.removesuffix(f".{pid}")
    if not name or name == agent_id:
        raise DeltaInvalid(f"{agent_id[:80]!r} does not name agent {pid}")
    return AGENTS.child(_segment(f"{name}-{pid}"))


def service_path(name: str) -> ResourcePath:
    """Return where a service is in the tree: ``/kernel/services/NAME``.

    A character that no segment may have, and ``+``, stands as ``+`` and two hex digits for each byte of its UTF-8, so
    two names never share a place.

    Raises:
        PathInvalid: the name is empty or too long.
    """
    return SERVICES.child(_segment(name))


def _segment(name: str) -> str:
    text = _OTHER.sub(_escape, name)
    # These two would be a way up instead of a name.
    return text.replace(".", "+2E") if text in (".", "..") else text


def _escape(found: re.Match[str]) -> str:
    return "".join(f"+{byte:02X}" for byte in found.group().encode(errors="surrogatepass"))


def _fitting(values: dict[str, Any]) -> dict[str, Any]:
    """Put ``None`` for values that are too large for a node: a long reason must not keep an exit out of the tree."""
    return {key: value if _fits(value) else None for key, value in values.items()}


def _fits(value: Any) -> bool:
    try:
        return len(metadata.encode(value)) <= limits.TREE_FOLD_VALUE_BYTES
    except NodeInvalid:
        return False


def _genesis(_source: str, _kind: str, _subject: str | None, _payload: object, _t_ns: int) -> list[Delta]:
    return [Created(path=path, kind=_NAMESPACE) for path in NAMESPACES]


def _direct(_source: str, kind: str, _subject: str | None, payload: object, _t_ns: int) -> list[Delta]:
    return [from_payload(kind, payload)]


def _spawn(_source: str, _kind: str, subject: str | None, payload: object, t_ns: int) -> list[Delta]:
    body = msgspec.convert(payload, _Spawn, strict=True)
    _same_agent(subject, body.agent_id)
    values = {
        "pid": body.pid,
        "agent_id": body.agent_id,
        "name": body.name,
        "program": body.program,
        "parent": body.parent_pid,
        "requested_by": body.requested_by,
        "restart": body.restart,
        "capabilities": body.capabilities,
        "state": "starting",
        "life": 1,
        "os_pid": None,
        "spawned_ns": t_ns,
    }
    return [Created(path=agent_path(body.agent_id, body.pid), kind=_AGENT, values=_fitting(values))]


def _same_agent(subject: str | None, agent_id: str) -> None:
    if subject != agent_id:
        raise DeltaInvalid(f"the record is about {subject!r}, its payload about {agent_id[:80]!r}")


def _life(form: type[_LifeBody], values: Callable[[_LifeBody, int], dict[str, Any]]) -> Rule:
    """Make the rule for a kind that tells what became of an agent's present life."""

    def rule(_source: str, _kind: str, subject: str | None, payload: object, t_ns: int) -> list[Delta]:
        body = msgspec.convert(payload, form, strict=True)
        _same_agent(subject, body.agent_id)
        new = {"life": body.incarnation, "os_pid": body.os_pid} | values(body, t_ns)
        return [MetadataSet(path=agent_path(body.agent_id, body.pid), values=_fitting(new))]

    return rule


def _service(form: type[_Body], name: Callable[[_Body], str], values: Callable[[_Body, int], dict[str, Any]]) -> Rule:
    """Make the rule for a kind that makes a service or brings it up to date."""

    def rule(_source: str, _kind: str, _subject: str | None, payload: object, t_ns: int) -> list[Delta]:
        body = msgspec.convert(payload, form, strict=True)
        new = {"name": name(body)} | values(body, t_ns)
        return [Created(path=service_path(name(body)), kind=_SERVICE, values=_fitting(new))]

    return rule


def _withdrawn(_source: str, _kind: str, _subject: str | None, payload: object, t_ns: int) -> list[Delta]:
    body = msgspec.convert(payload, _Withdrawal, strict=True)
    return [MetadataSet(path=service_path(body.name), values={"state": "withdrawn", "withdrawn_ns": t_ns})]


def _of_kernel(form: type[_Body], values: Callable[[_Body, int], dict[str, Any]]) -> Rule:
    """Make the rule for a kind that tells about the kernel itself."""

    def rule(_source: str, _kind: str, _subject: str | None, payload: object, t_ns: int) -> list[Delta]:
        body = msgspec.convert(payload, form, strict=True)
        return [MetadataSet(path=KERNEL, values=_fitting(values(body, t_ns)))]

    return rule


def _ended(body: _Ended, t_ns: int) -> dict[str, Any]:
    end = body.exit
    return {
        "state": "exited",
        "exit_reason": end.reason,
        "exit_code": end.code,
        "exit_signal": end.signal,
        "exit_message": end.message,
        "exited_ns": t_ns,
    }


def _offered(body: _Offer, t_ns: int) -> dict[str, Any]:
    return {
        "pid": body.pid,
        "methods": body.methods,
        "state": "offered",
        "registered_ns": t_ns,
        "withdrawn_ns": None,
    }


_KERNEL_RULES: Final[dict[str, Rule]] = {
    "boot.init": _of_kernel(
        _Boot,
        lambda b, t: {
            "boot_id": b.boot_id,
            "version": b.version,
            "state": "booting",
            "booted_ns": t,
            "os_pid": None,
            "shutdown_reason": None,
        },
    ),
    "boot.ready": _of_kernel(_Ready, lambda b, _t: {"state": "running", "os_pid": b.os_pid}),
    "shutdown": _of_kernel(_Shutdown, lambda b, _t: {"state": "stopped", "os_pid": None, "shutdown_reason": b.reason}),
    "agent.spawn": _spawn,
    "agent.ready": _life(_Life, lambda _b, _t: {"state": "running"}),
    "agent.suspend": _life(_Life, lambda _b, _t: {"state": "suspended"}),
    "agent.resume": _life(_Life, lambda _b, _t: {"state": "running"}),
    "agent.stop": _life(_Asked, lambda b, _t: {"state": "stopping", "stopped_by": b.by}),
    "agent.force_stop": _life(_Asked, lambda b, _t: {"state": "stopping", "stopped_by": b.by}),
    "agent.exit": _life(_Ended, _ended),
    "agent.restart": _life(
        _Again,
        lambda b, _t: {"state": "starting", "because": b.because, "quarantined": False, "stopped_by": None},
    ),
    "agent.escalate": _life(_GivenUp, lambda b, _t: {"state": "exited", "quarantined": True, "because": b.why}),
    "service.register": _service(_Offer, lambda b: b.name, _offered),
    "service.unregister": _withdrawn,
    "service.start": _service(
        _Started, lambda _b: _OWN_SERVICE, lambda b, t: {"state": "running", "life": b.incarnation, "started_ns": t}
    ),
    "service.exit": _service(
        _Stopped,
        lambda _b: _OWN_SERVICE,
        lambda b, t: {"state": "exited", "life": b.incarnation, "exit_message": b.how, "exited_ns": t},
    ),
}

#: The rule of each kind that can change the tree.
RULES: Final[dict[str, Rule]] = {"genesis": _genesis, **_KERNEL_RULES, **dict.fromkeys(LOG_KINDS, _direct)}

#: Who may say it. Other sources may only give changes of the tree itself, and only if the holder of the fold allows it.
SOURCES: Final[dict[str, frozenset[str]]] = {
    "genesis": frozenset(("chain",)),
    **dict.fromkeys(_KERNEL_RULES, frozenset(("kernel", "supervisor"))),
    **dict.fromkeys(LOG_KINDS, frozenset(("kernel",))),
}

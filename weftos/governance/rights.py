"""What an agent holds, and how it becomes more or less: pure functions over capabilities and limits.

A right is written as people write it on a command line: a capability that one has or has not (``can_network``), or a
name with a value (``ipc_scope=restricted:1,2``, ``tools=fs.*``, ``sandbox=strict``, ``limits.messages=500``). ``add``
and ``take`` apply one such text; ``narrow`` cuts a child down to its parent.

Guaranteed: what ``narrow`` returns is within both of its arguments, as ``lacking`` sees it; ``add`` never takes
anything away and ``take`` never adds. Not guaranteed: anything about the parent; whoever calls ``add`` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, InvalidRequest, ResourceLimitExceeded
from weftos.governance.capability import (
    FLAGS,
    AgentCapabilities,
    IpcScope,
    ResourceLimits,
    SandboxPolicy,
    ScopeAll,
    ScopeNone,
    ScopeParentOnly,
    ScopeRestricted,
    ScopeTopic,
    ToolPermissions,
    parse_scope,
    scope_text,
    scope_within,
)
from weftos.governance.permissions import PROFILES, Profile

__all__ = ["NAMES", "Rights", "add", "check_size", "lacking", "narrow", "take"]


class Rights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one agent holds.

    Attributes:
        capabilities: what it may do.
        limits: how much of the machine it may use.
    """

    capabilities: AgentCapabilities = AgentCapabilities()
    limits: ResourceLimits = ResourceLimits()


def lacking(child: Rights, parent: Rights, parent_pid: int) -> list[str]:
    """Return what a child holds that its parent does not, each with what the parent has; nothing if it is within.

    Args:
        child: of the one below.
        parent: of the one above.
        parent_pid: of the one above; messages to it need no right of its own.
    """
    ours, theirs = child.capabilities, parent.capabilities
    found = [name for name in FLAGS if getattr(ours, name) and not getattr(theirs, name)]
    if not scope_within(ours.ipc_scope, theirs.ipc_scope, parent_pid):
        found.append(f"ipc_scope {scope_text(ours.ipc_scope)} (it has {scope_text(theirs.ipc_scope)})")
    found += ours.tools.beyond(theirs.tools)
    found += [f"sandbox {what}" for what in ours.sandbox.beyond(theirs.sandbox)]
    for name in ResourceLimits.__struct_fields__:
        amount, most = getattr(child.limits, name), getattr(parent.limits, name)
        if most and (amount == 0 or amount > most):
            found.append(f"limits.{name} {amount or 'unlimited'} (it has {most})")
    return found


def narrow(child: Rights, parent: Rights, parent_pid: int) -> Rights:
    """Return the most that a child may keep under its parent; arguments as for ``lacking``."""
    ours, theirs = child.capabilities, parent.capabilities
    flags = {name: getattr(ours, name) and getattr(theirs, name) for name in FLAGS}
    amounts = {}
    for name in ResourceLimits.__struct_fields__:
        amount, most = getattr(child.limits, name), getattr(parent.limits, name)
        amounts[name] = min(amount, most) if amount and most else amount or most
    capabilities = AgentCapabilities(
        **flags,
        ipc_scope=_meet_scope(ours.ipc_scope, theirs.ipc_scope, parent_pid),
        tools=ours.tools if not ours.tools.beyond(theirs.tools) else ours.tools.meet(theirs.tools),
        sandbox=ours.sandbox if not ours.sandbox.beyond(theirs.sandbox) else ours.sandbox.meet(theirs.sandbox),
    )
    return Rights(capabilities, ResourceLimits(**amounts))


def _meet_scope(child: IpcScope, parent: IpcScope, parent_pid: int) -> IpcScope:
    if scope_within(child, parent, parent_pid):
        return child
    match child, parent:
        case ScopeAll(), ScopeRestricted(pids):
            return ScopeRestricted(tuple(sorted({*pids, parent_pid})))
        case ScopeAll(), ScopeTopic():
            return parent
        case ScopeAll(), _:
            return ScopeParentOnly()
        case ScopeRestricted(pids), _:
            reach = {*parent.pids, parent_pid} if isinstance(parent, ScopeRestricted) else {parent_pid}
            return ScopeRestricted(tuple(pid for pid in pids if pid in reach)) if reach & set(pids) else ScopeNone()
        case ScopeTopic(names), ScopeTopic(known):
            return ScopeTopic(tuple(name for name in names if name in known))
        case _:
            return ScopeNone()


def check_size(rights: Rights) -> None:
    """Refuse rights with lists so long that they could not be published.

    Raises:
        InvalidRequest: they are larger than ``limits.RIGHTS_BYTES``.
    """
    size = len(msgspec.msgpack.encode(rights))
    if size > limits.RIGHTS_BYTES:
        raise InvalidRequest(
            f"these capabilities take {size} bytes, and {limits.RIGHTS_BYTES} are allowed: shorten their lists"
        )


# --- one right at a time ----------------------------------------------------------------------------------------------

_Step: TypeAlias = Callable[[Rights, str], Rights]


def add(rights: Rights, texts: Sequence[str]) -> Rights:
    """Return rights with more of them.

    Raises:
        InvalidRequest: a text names no right, its value makes no sense, or it would take something away.
    """
    for text in texts:
        wanted = _applied(rights, text, adds=True)
        # A parent that nobody is: what the agent had may not depend on who is above it.
        gone = lacking(rights, wanted, -1)
        if gone:
            raise InvalidRequest(f"{text} would take away {', '.join(gone)}; `weaver capability revoke` takes rights")
        rights = wanted
    return rights


def take(rights: Rights, texts: Sequence[str]) -> Rights:
    """Return rights with less of them; what is not there is not missed.

    Raises:
        InvalidRequest: a text names no right, its value makes no sense, or it would add something.
    """
    for text in texts:
        wanted = _applied(rights, text, adds=False)
        more = lacking(wanted, rights, -1)
        if more:
            raise InvalidRequest(f"{text} would add {', '.join(more)}; `weaver capability grant` gives rights")
        rights = wanted
    return rights


def _applied(rights: Rights, text: str, *, adds: bool) -> Rights:
    name, equals, value = text.partition("=")
    known = _STEPS.get(name)
    if known is None:
        raise InvalidRequest(f"there is no right {name[:60]!r}; there are {', '.join(NAMES)}")
    example = known.add_example if adds else known.take_example
    if not equals and example:
        raise InvalidRequest(f"{name} takes a value: {name}={example}")
    try:
        return (known.add if adds else known.take)(rights, value)
    except (ValueError, CapabilityDenied, ResourceLimitExceeded) as error:
        raise InvalidRequest(f"{text[:200]}: {error}") from error


def _with(rights: Rights, **fields: Any) -> Rights:
    return Rights(msgspec.structs.replace(rights.capabilities, **fields), rights.limits)


def _flag(name: str, held: bool) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        if value:
            raise ValueError(f"it takes no value; write {name}")
        return _with(rights, **{name: held})

    return step


def _scope(rights: Rights, value: str) -> Rights:
    return _with(rights, ipc_scope=parse_scope(value) if value else ScopeNone())


def _tools(rights: Rights, **fields: Any) -> Rights:
    tools = rights.capabilities.tools
    # By the constructor, which checks; ``replace`` does not.
    return _with(rights, tools=ToolPermissions(**msgspec.structs.asdict(tools) | fields))


def _allow(allow: str, deny: str, everything: str) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        ToolPermissions(**{deny: (value,)})  # whether it is a name at all, also where it would change nothing
        tools = rights.capabilities.tools
        denied = tuple(name for name in getattr(tools, deny) if value not in (name, everything))
        allowed: tuple[str, ...] = getattr(tools, allow)
        if value == everything:
            allowed = ()
        elif (allowed or everything in getattr(tools, deny)) and value not in allowed:
            # A list without entries lets all through, and needs no further one.
            allowed, denied = (*allowed, value), tuple(name for name in denied if name != everything)
        return _tools(rights, **{allow: allowed, deny: denied})

    return step


def _deny(deny: str) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        denied: tuple[str, ...] = getattr(rights.capabilities.tools, deny)
        return _tools(rights, **{deny: denied if value in denied else (*denied, value)})

    return step


def _sandboxed(rights: Rights, **fields: Any) -> Rights:
    sandbox = rights.capabilities.sandbox
    return _with(rights, sandbox=SandboxPolicy(**msgspec.structs.asdict(sandbox) | fields))


def _profile(rights: Rights, value: str) -> Rights:
    if value not in get_args(Profile):
        raise ValueError(f"it is none of {', '.join(PROFILES)}")
    return _sandboxed(rights, profile=cast("Profile", value))


def _switch(name: str, held: bool) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        if value:
            raise ValueError("it takes no value")
        return _sandboxed(rights, **{name: held})

    return step


def _path(name: str, held: bool) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        paths: tuple[str, ...] = getattr(rights.capabilities.sandbox, name)
        kept = tuple(path for path in paths if path != value)
        return _sandboxed(rights, **{name: (*kept, value) if held else kept})

    return step


def _limit(name: str) -> _Step:
    def step(rights: Rights, value: str) -> Rights:
        if not (value.isascii() and value.isdecimal() and len(value) < 20):
            raise ValueError("it is no whole number; 0 is unlimited")
        amounts = msgspec.structs.replace(rights.limits, **{name: int(value)})
        amounts.check_range()
        return Rights(rights.capabilities, amounts)

    return step


class _Right(NamedTuple):
    """What adds a right and what takes it, and an example of the value that each needs ("" for none)."""

    add: _Step
    take: _Step
    add_example: str
    take_example: str


_STEPS: Final[dict[str, _Right]] = {
    **{name: _Right(_flag(name, True), _flag(name, False), "", "") for name in FLAGS},
    "ipc_scope": _Right(_scope, _scope, "restricted:1,2", ""),
    "tools": _Right(_allow("allow", "deny", "*"), _deny("deny"), "fs.*", "fs.*"),
    "services": _Right(_allow("service_access", "service_deny", "*"), _deny("service_deny"), "shop", "shop"),
    "files": _Right(_allow("file_access", "file_deny", "/"), _deny("file_deny"), "/srv/data", "/srv/data"),
    "memory": _Right(_allow("memory_access", "memory_deny", "*"), _deny("memory_deny"), "docs", "docs"),
    "sandbox": _Right(_profile, _profile, "trusted", "strict"),
    "sandbox.network": _Right(_switch("network", True), _switch("network", False), "", ""),
    "sandbox.shell": _Right(_switch("allow_shell", True), _switch("allow_shell", False), "", ""),
    "sandbox.readable": _Right(_path("readable", True), _path("readable", False), "/srv/data", "/srv/data"),
    "sandbox.writable": _Right(_path("writable", True), _path("writable", False), "/srv/data", "/srv/data"),
    **{
        f"limits.{name}": _Right(_limit(name), _limit(name), "1000", "1000")
        for name in ResourceLimits.__struct_fields__
    },
}
#: Every right that can be named.
NAMES: Final = tuple(_STEPS)

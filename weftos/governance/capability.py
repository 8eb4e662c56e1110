"""What an agent may do: capabilities, message scope, resource limits, and the pure checks over them.

The kernel asks these functions before it hands out a ring, a topic or a process; nothing here knows a process or a
socket. One rule for every limit: ``0`` is unlimited, and a breach is *more* than the limit.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, ResourceLimitExceeded
from weftos.governance.permissions import SHELL_TOOLS, SandboxPolicy, ToolPermissions

__all__ = [
    "FLAGS",
    "AgentCapabilities",
    "IpcScope",
    "ResourceLimits",
    "SandboxPolicy",
    "ScopeAll",
    "ScopeNone",
    "ScopeParentOnly",
    "ScopeRestricted",
    "ScopeTopic",
    "ToolPermissions",
    "check_broadcast",
    "check_child",
    "check_file",
    "check_message",
    "check_service",
    "check_tool",
    "check_topic",
    "parse_scope",
    "scope_text",
    "scope_within",
]

#: The capabilities that one has or has not.
FLAGS: Final = ("can_spawn", "can_ipc", "can_exec_tools", "can_network", "can_store")


class ScopeAll(msgspec.Struct, frozen=True, tag="All"):
    """May message every agent, every topic, and broadcast."""


class ScopeParentOnly(msgspec.Struct, frozen=True, tag="ParentOnly"):
    """May message its parent and the kernel; no topics, no broadcast."""


class ScopeRestricted(msgspec.Struct, frozen=True, tag="Restricted"):
    """May message the listed pids and the kernel; no topics, no broadcast."""

    pids: tuple[int, ...] = ()


class ScopeTopic(msgspec.Struct, frozen=True, tag="Topic"):
    """May publish and subscribe to the listed topics; no direct messages but to the kernel."""

    names: tuple[str, ...] = ()


class ScopeNone(msgspec.Struct, frozen=True, tag="None"):
    """May message only the kernel."""


IpcScope: TypeAlias = ScopeAll | ScopeParentOnly | ScopeRestricted | ScopeTopic | ScopeNone


class ResourceLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one agent; ``0`` is unlimited.

    Attributes:
        memory_bytes: address space above what a bare agent maps, and resident memory.
        cpu_seconds: CPU time of one incarnation.
        descriptors: open file descriptors.
        processes: processes in the agent's own session.
        messages: messages sent over the life of the agent.
        file_bytes: size of any file it writes.
        artifact_bytes: artifacts that it has put and not released.
        scratch_bytes: what it keeps in its scratch folder.
    """

    memory_bytes: int = limits.MEMORY_BYTES
    cpu_seconds: int = limits.CPU_SECONDS
    descriptors: int = limits.DESCRIPTORS
    processes: int = limits.PROCESSES
    messages: int = limits.MESSAGES
    file_bytes: int = limits.FILE_BYTES
    artifact_bytes: int = limits.ARTIFACT_AGENT_BYTES
    scratch_bytes: int = limits.SCRATCH_BYTES

    def check_range(self) -> None:
        """Refuse values that no agent could start with.

        Raises:
            ResourceLimitExceeded: a limit is negative, or too small to run a program at all.
        """
        smallest = {"memory_bytes": 1 << 20, "descriptors": 16}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            low = smallest.get(name, 1)
            if value != 0 and not low <= value < 1 << 62:
                raise ResourceLimitExceeded(f"limit {name} = {value} is out of range: 0 (unlimited) or from {low} up")


class AgentCapabilities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one agent may do. The defaults: everything but the network and shells.

    Attributes:
        can_spawn: start agents.
        can_ipc: message agents and use topics, as far as ``ipc_scope`` goes.
        can_exec_tools: run tools, as far as ``tools`` goes.
        can_network: use the network; it takes ``sandbox.network`` as well.
        can_store: put and read artifacts.
        ipc_scope: whom it may message.
        tools: which tools, services and files.
        sandbox: by what its process is confined.
    """

    can_spawn: bool = True
    can_ipc: bool = True
    can_exec_tools: bool = True
    can_network: bool = False
    can_store: bool = True
    ipc_scope: IpcScope = ScopeAll()
    tools: ToolPermissions = ToolPermissions()
    sandbox: SandboxPolicy = SandboxPolicy()


def parse_scope(text: str) -> IpcScope:
    """Parse ``all``, ``parent-only``, ``none``, ``restricted:1,2`` or ``topic:a,b``.

    Raises:
        CapabilityDenied: the text is none of these.
    """
    kind, _, rest = text.partition(":")
    items = tuple(part for part in rest.split(",") if part)
    plain: dict[str, IpcScope] = {"all": ScopeAll(), "parent-only": ScopeParentOnly(), "none": ScopeNone()}
    if kind in plain and not rest:
        return plain[kind]
    if kind == "restricted" and all(item.isdecimal() for item in items):
        return ScopeRestricted(tuple(int(item) for item in items))
    if kind == "topic":
        return ScopeTopic(items)
    raise CapabilityDenied(f"scope {text!r} is none of: all, parent-only, none, restricted:PID,…, topic:NAME,…")


def check_message(caps: AgentCapabilities, sender: int, target: int, parent: int | None) -> None:
    """Refuse a direct message outside the sender's scope. Messages to the kernel (pid 0) are always allowed.

    Raises:
        CapabilityDenied: naming the missing capability.
    """
    if target == 0:
        return
    if not caps.can_ipc:
        raise CapabilityDenied(f"agent {sender} may not send messages (can_ipc is false)")
    scope = caps.ipc_scope
    allowed = (
        isinstance(scope, ScopeAll)
        or (isinstance(scope, ScopeRestricted) and target in scope.pids)
        or (isinstance(scope, ScopeParentOnly) and target == parent)
    )
    if not allowed:
        raise CapabilityDenied(f"agent {sender} may not message agent {target}: its ipc_scope is {scope_text(scope)}")


def check_topic(caps: AgentCapabilities, sender: int, topic: str) -> None:
    """Refuse publishing or subscribing outside the agent's scope.

    Raises:
        CapabilityDenied: naming the missing capability.
    """
    if not caps.can_ipc:
        raise CapabilityDenied(f"agent {sender} may not use topics (can_ipc is false)")
    scope = caps.ipc_scope
    if not (isinstance(scope, ScopeAll) or (isinstance(scope, ScopeTopic) and topic in scope.names)):
        raise CapabilityDenied(f"agent {sender} may not use topic {topic!r}: its ipc_scope is {scope_text(scope)}")


def check_broadcast(caps: AgentCapabilities, sender: int) -> None:
    """Refuse a broadcast by anyone whose scope is not All.

    Raises:
        CapabilityDenied: naming the missing capability.
    """
    if not caps.can_ipc or not isinstance(caps.ipc_scope, ScopeAll):
        raise CapabilityDenied(f"agent {sender} may not broadcast: that takes ipc_scope All")


def check_tool(caps: AgentCapabilities, agent: int, tool: str) -> None:
    """Refuse a tool that the agent may not run: without the flag none, then the denied, the unlisted, and shells.

    Raises:
        CapabilityDenied: naming what is missing.
    """
    if not caps.can_exec_tools:
        raise CapabilityDenied(f"agent {agent} may not run tools (can_exec_tools is false)")
    if not caps.tools.lets_tool(tool):
        raise CapabilityDenied(f"agent {agent} may not run the tool {tool!r}: its tools do not let it through")
    if tool in SHELL_TOOLS and not caps.sandbox.allow_shell:
        raise CapabilityDenied(f"agent {agent} may not run the tool {tool!r}: its sandbox does not allow shells")


def check_service(caps: AgentCapabilities, agent: int, service: str) -> None:
    """Refuse a service that the agent's list does not let through.

    Raises:
        CapabilityDenied: naming what is missing.
    """
    if not caps.can_ipc:
        raise CapabilityDenied(f"agent {agent} may not call services (can_ipc is false)")
    if not caps.tools.lets_service(service):
        raise CapabilityDenied(
            f"agent {agent} may not call the service {service!r}: its service_access does not let it"
        )


def check_file(caps: AgentCapabilities, agent: int, path: str) -> None:
    """Refuse a path that the agent's tools may not use.

    Raises:
        CapabilityDenied: naming what is missing.
    """
    if not caps.tools.lets_file(path):
        raise CapabilityDenied(f"agent {agent} may not use {path!r}: its file_access does not let it through")


def check_child(parent: int, parent_caps: AgentCapabilities, child_caps: AgentCapabilities) -> None:
    """Refuse a child that would hold more than its parent.

    Raises:
        CapabilityDenied: the parent may not spawn, or the child's capabilities are not a subset.
    """
    if not parent_caps.can_spawn:
        raise CapabilityDenied(f"agent {parent} may not spawn (can_spawn is false)")
    for name in FLAGS:
        if getattr(child_caps, name) and not getattr(parent_caps, name):
            raise CapabilityDenied(f"a child of agent {parent} may not have {name}: its parent has not")
    if not scope_within(child_caps.ipc_scope, parent_caps.ipc_scope, parent):
        raise CapabilityDenied(
            f"the scope of a child of agent {parent} must lie within {scope_text(parent_caps.ipc_scope)}"
        )
    beyond = child_caps.tools.beyond(parent_caps.tools) + [
        f"sandbox {what}" for what in child_caps.sandbox.beyond(parent_caps.sandbox)
    ]
    if beyond:
        raise CapabilityDenied(f"a child of agent {parent} may not have {', '.join(beyond)}: its parent has not")


def scope_within(child: IpcScope, parent: IpcScope, parent_pid: int) -> bool:
    """Tell whether ``parent`` allows everything that ``child`` does; messages to the parent itself always are."""
    if isinstance(child, ScopeNone | ScopeParentOnly) or isinstance(parent, ScopeAll):
        return True
    if isinstance(child, ScopeRestricted):
        allowed = set(parent.pids) if isinstance(parent, ScopeRestricted) else set()
        return set(child.pids) <= allowed | {parent_pid}
    if isinstance(child, ScopeTopic):
        return isinstance(parent, ScopeTopic) and set(child.names) <= set(parent.names)
    return False


def scope_text(scope: IpcScope) -> str:
    """Return a scope as people read it, such as ``Restricted(1, 2)``."""
    match scope:
        case ScopeRestricted(pids):
            return f"Restricted({', '.join(map(str, pids))})"
        case ScopeTopic(names):
            return f"Topic({', '.join(names)})"
        case _:
            return type(scope).__name__.removeprefix("Scope")

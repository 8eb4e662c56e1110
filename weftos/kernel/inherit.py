"""What may be spawned: the checks before an agent exists, on the request and on its parent."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from weftos.agent.frames import SpawnSpec
from weftos.agent.loader import parse_program
from weftos.errors import AgentExited, InvalidRequest, ResourceLimitExceeded
from weftos.governance.capability import AgentCapabilities, ResourceLimits, SandboxPolicy, check_child
from weftos.governance.rights import Rights, check_size, narrow
from weftos.governance.roles import check_agency, role_named
from weftos.kernel.process import ProcessEntry, ProcessTable
from weftos.kernel.restart import POLICIES

__all__ = ["capabilities_for", "checked_spec", "limits_from", "living_parent"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_spec(table: ProcessTable, spec: SpawnSpec) -> SpawnSpec:
    """Check a request to spawn against itself and against its parent.

    Raises:
        SpawnFailed: no such program.
        InvalidRequest: bad name or restart policy.
        ResourceLimitExceeded: a limit out of range, or above the parent's.
        CapabilityDenied: the parent may not spawn this.
        AgentExited: the parent has ended.
    """
    parse_program(spec.program)
    if not _NAME.fullmatch(spec.name):
        raise InvalidRequest(f"agent name {spec.name!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
    if spec.restart not in POLICIES:
        raise InvalidRequest(f"restart policy {spec.restart!r} is none of {', '.join(POLICIES)}")
    spec.limits.check_range()
    check_size(Rights(spec.capabilities, spec.limits))
    role_named(spec.role)
    parent = living_parent(table, spec)
    if parent is not None:
        check_child(spec.parent, parent.spec.capabilities, spec.capabilities)
        check_agency(spec.parent, parent.spec.role, len(parent.children), spec.role)
        _within(spec.limits, parent.spec.limits, spec.parent)
    return spec


def capabilities_for(
    role: str,
    asked: AgentCapabilities | None,
    parent: ProcessEntry | None,
    sandbox: SandboxPolicy | None = None,
) -> AgentCapabilities:
    """Return what a new agent gets: what was asked for, else what its role has, else what its parent has.

    What a role has is cut down to what the parent has; what was asked for is not, and refused if it is more.

    Args:
        role: of the agent; empty for none.
        asked: for it.
        parent: of it.
        sandbox: takes the place of the one among the capabilities.

    Raises:
        InvalidRequest: there is no such role.
    """
    found = _capabilities_for(role, asked, parent)
    return found if sandbox is None else msgspec.structs.replace(found, sandbox=sandbox)


def _capabilities_for(role: str, asked: AgentCapabilities | None, parent: ProcessEntry | None) -> AgentCapabilities:
    known = role_named(role)
    if asked is not None:
        return asked
    if known is None:
        return parent.spec.capabilities if parent is not None else AgentCapabilities()
    if parent is None:
        return known.capabilities
    return narrow(Rights(known.capabilities, parent.spec.limits), parent.rights, parent.pid).capabilities


def living_parent(table: ProcessTable, spec: SpawnSpec) -> ProcessEntry | None:
    """Entry of the agent that asks, ``None`` when the kernel or its operator does.

    Raises:
        AgentExited: it has ended.
    """
    if not spec.parent:
        return None
    parent = table.live(spec.parent)
    if parent is None:
        table.get(spec.parent)
        raise AgentExited(f"the parent, agent {spec.parent}, has ended")
    return parent


def _within(child: ResourceLimits, parent: ResourceLimits, parent_pid: int) -> None:
    for name in ResourceLimits.__struct_fields__:
        ours, theirs = getattr(child, name), getattr(parent, name)
        if theirs and (ours == 0 or ours > theirs):
            raise ResourceLimitExceeded(f"limit {name} = {ours} exceeds the {theirs} of its parent, agent {parent_pid}")


def limits_from(values: dict[str, int], base: ResourceLimits) -> ResourceLimits:
    """Replace some limits.

    Raises:
        InvalidRequest: a name is unknown or a value is no integer.
    """
    unknown = sorted(set(values) - set(ResourceLimits.__struct_fields__))
    if unknown:
        known = ", ".join(ResourceLimits.__struct_fields__)
        raise InvalidRequest(f"unknown limit {unknown[0]!r}; there are: {known}")
    wrong = [name for name, value in values.items() if type(value) is not int]
    if wrong:
        raise InvalidRequest(f"limit {wrong[0]} is not an integer")
    return msgspec.structs.replace(base, **values)

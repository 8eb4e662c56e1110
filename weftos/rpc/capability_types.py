"""Parameters and answers of the methods about capabilities."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from weftos import limits
from weftos.rpc.agent_types import AgentPid

__all__ = ["CapabilityChangeParams", "CapabilityChanged", "CapabilityView"]

_Rights = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=limits.RIGHTS_PATH_CHARS + 40)]],
    msgspec.Meta(min_length=1, max_length=limits.RIGHTS_PER_CHANGE),
]


class CapabilityChangeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rights to give to an agent or to take from it.

    Attributes:
        pid: of the agent.
        rights: such as ``can_network``, ``ipc_scope=restricted:1,2``, ``tools=fs.*``, ``limits.messages=500``.
        reason: for the log.
    """

    pid: AgentPid
    rights: _Rights
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.RIGHTS_REASON_CHARS)]


class CapabilityView(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent holds.

    Attributes:
        pid: of the agent.
        agent_id: its name on the log.
        parent_pid: whose capabilities bound it; ``None`` for the operator's.
        role: what it is for; empty for none.
        epoch: which version of its capabilities this is, from 1.
        changed_by: who made it: ``operator``, ``agent:PID``, ``kernel``; empty since its start.
        changed_why: the reason given.
        capabilities: what it may do.
        limits: how much of the machine it may use; 0 is unlimited.
        ceiling: what ``capability.grant`` may give: capabilities and limits.
    """

    pid: int
    agent_id: str
    parent_pid: int | None
    role: str
    epoch: int
    changed_by: str
    changed_why: str
    capabilities: dict[str, Any]
    limits: dict[str, int]
    ceiling: dict[str, Any]


class CapabilityChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What a change came to.

    Attributes:
        pid: of the agent.
        epoch: of its capabilities from here on.
        changed: whether anything is different; without that nothing is on the log.
        record: number of the record of the change; ``None`` for none.
        narrowed: descendants that lost something with it.
        at_restart: rights that bind the running process only from its next start on.
        capabilities: what it may do now.
        limits: how much it may use now.
    """

    pid: int
    epoch: int
    changed: bool
    record: int | None
    narrowed: list[int]
    at_restart: list[str]
    capabilities: dict[str, Any]
    limits: dict[str, int]

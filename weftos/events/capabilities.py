"""Events of what agents may do, and of what they asked for."""

from __future__ import annotations

from typing import Any, ClassVar

from weftos.events.event import Event, Natural, Pid


class _Change(Event, frozen=True, kw_only=True):
    """What an agent holds from here on, and who decided it."""

    pid: Pid
    agent_id: str
    epoch: Natural
    rights: list[str]
    capabilities: dict[str, Any]
    limits: dict[str, Any]
    by: str
    reason: str


class Granted(_Change, frozen=True, kw_only=True):
    """An agent got rights back, within what it was started with."""

    kind: ClassVar[str] = "capability.grant"


class Revoked(_Change, frozen=True, kw_only=True):
    """Rights were taken from an agent; because an ancestor lost them, if it is named."""

    kind: ClassVar[str] = "capability.revoke"
    because_of: Pid | None = None


class Elevated(_Change, frozen=True, kw_only=True):
    """An agent got rights beyond what it was started with, with somebody's approval."""

    kind: ClassVar[str] = "capability.elevate"
    approved_by: str
    requested_by: Pid | None = None
    request: str | None = None
    ceiling: dict[str, Any]


class Requested(Event, frozen=True, kw_only=True):
    """An agent asked for rights; with what was decided."""

    kind: ClassVar[str] = "capability.request"
    pid: Pid
    agent_id: str
    rights: list[str]
    reason: str
    decision: str
    detail: str

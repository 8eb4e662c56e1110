"""Events of what was allowed and what was refused."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from weftos.events.event import Bytes32, Event, Natural, Pid


class _Decision(Event, frozen=True, kw_only=True):
    """What was asked, and why it was decided so. A context that is too large stands here by its size alone.

    What rules decided names the rule, what matched, the figures, the environment and the rules in force by their hash.
    """

    action: str
    reason: str
    context: dict[str, Any] | None = None
    context_bytes: Natural | None = None
    context_refused: bool = False
    verdict: str = ""
    rule: str = ""
    matched: list[str] = msgspec.field(default_factory=list)
    magnitude: float | None = None
    threshold: float | None = None
    environment: str = ""
    constitution: Bytes32 | None = None
    effect: dict[str, float] | None = None
    request: Natural | None = None


class Permit(_Decision, frozen=True, kw_only=True):
    """The gate allowed an action."""

    kind: ClassVar[str] = "gate.permit"


class Defer(_Decision, frozen=True, kw_only=True):
    """The gate put an action off until somebody decides."""

    kind: ClassVar[str] = "gate.defer"


class Deny(_Decision, frozen=True, kw_only=True):
    """The gate refused an action."""

    kind: ClassVar[str] = "gate.deny"


class CapabilityDeny(Event, frozen=True, kw_only=True):
    """A process tried what its capabilities do not include."""

    kind: ClassVar[str] = "capability.deny"
    action: str
    pid: Pid | None = None
    program: str | None = None
    target: Pid | None = None
    wanted_kind: str | None = msgspec.field(name="kind", default=None)
    reason: str = ""

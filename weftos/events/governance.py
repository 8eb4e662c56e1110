"""Events of governance: the rules in force, the environment, approvals, permits, and what was done under them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from weftos.events.event import Bytes16, Bytes32, Event, Natural, Pid


class GovernanceGenesis(Event, frozen=True, kw_only=True):
    """The rules of this log begin, with the public key of each branch."""

    kind: ClassVar[str] = "governance.genesis"
    version: Natural
    risk_threshold: float
    human_approval_required: bool
    rules: list[dict[str, Any]]
    keys: dict[str, bytes]


class GovernanceSupersede(Event, frozen=True, kw_only=True):
    """The rules are changed, signed by the branches that must agree."""

    kind: ClassVar[str] = "governance.root.supersede"
    previous: Bytes32
    version: Natural
    reason: str
    added: list[dict[str, Any]]
    removed: list[str]
    risk_threshold: float | None
    signatures: dict[str, bytes]


class _Act(Event, frozen=True, kw_only=True):
    """Which person, by name and user id, and why."""

    by: str
    uid: Natural | None = None
    reason: str


class EnvSwitch(_Act, frozen=True, kw_only=True):
    """Another environment was chosen."""

    kind: ClassVar[str] = "env.switch"
    environment: dict[str, Any]


class GovernancePolicies(Event, frozen=True, kw_only=True):
    """Policies of another backend are asked from now on, or not any more; by the hash of their text."""

    kind: ClassVar[str] = "governance.policies"
    backend: str
    hash: Bytes32 | None
    bytes: Natural


class _Bound(Event, frozen=True, kw_only=True):
    """For which life of which agent, carried out by whom (0: the kernel), and for what."""

    boot_id: Bytes16
    pid: Pid
    agent_id: str
    incarnation: Natural
    executor: Pid
    action: str
    args_hash: Bytes32
    constitution: Bytes32
    expires_ns: Natural


class GateRequest(_Bound, frozen=True, kw_only=True):
    """An action waits for a person's approval, under the number of this record."""

    kind: ClassVar[str] = "gate.request"
    context: dict[str, Any]
    environment: str
    rule: str
    why: str


class _Decided(_Act, frozen=True, kw_only=True):
    """About which request."""

    request: Natural


class GateApprove(_Decided, frozen=True, kw_only=True):
    """A person approved what an agent asked for."""

    kind: ClassVar[str] = "gate.approve"


class GateRefuse(_Decided, frozen=True, kw_only=True):
    """A person refused what an agent asked for."""

    kind: ClassVar[str] = "gate.refuse"


class GateExpire(Event, frozen=True, kw_only=True):
    """Nobody decided about a request in time."""

    kind: ClassVar[str] = "gate.expire"
    request: Natural


class PermitMint(_Bound, frozen=True, kw_only=True):
    """A permit was made that can be used once."""

    kind: ClassVar[str] = "permit.mint"
    id: Bytes16
    request: Natural


class PermitUse(Event, frozen=True, kw_only=True):
    """A permit was presented and is used up."""

    kind: ClassVar[str] = "permit.use"
    id: Bytes16
    request: Natural
    pid: Pid
    executor: Pid
    action: str


class PermitRefuse(Event, frozen=True, kw_only=True):
    """A permit was presented that gives nothing: used, altered, expired, or for something or somebody else."""

    kind: ClassVar[str] = "permit.refuse"
    id: Bytes16 | None = None
    pid: Pid
    executor: Pid
    action: str
    reason: str


class _Effect(Event, frozen=True, kw_only=True):
    """Whose action, and under which permit, by its id in hex digits."""

    pid: Pid
    action: str
    permit: str | None = None


class GateIntent(_Effect, frozen=True, kw_only=True):
    """An action that the gate allowed is about to be carried out; the outcome follows and names this record."""

    kind: ClassVar[str] = "gate.intent"
    agent_id: str
    incarnation: Natural
    executor: Pid
    reason: str
    context: dict[str, Any] | None = None
    context_bytes: Natural | None = None
    verdict: str = ""
    rule: str = ""
    matched: list[str] = msgspec.field(default_factory=list)
    magnitude: float | None = None
    threshold: float | None = None
    environment: str = ""
    constitution: Bytes32 | None = None
    effect: dict[str, float] | None = None


class GateOutcome(_Effect, frozen=True, kw_only=True):
    """What came of an action that was allowed."""

    kind: ClassVar[str] = "gate.outcome"
    intent: Natural
    result: Literal["done", "failed"]
    error: str = ""
    reason: str = ""

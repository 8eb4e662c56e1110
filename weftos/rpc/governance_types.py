"""Parameters and results of the methods about the gate, the rules, environments and approvals."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from weftos import limits
from weftos.rpc.environment_types import EnvironmentList, EnvironmentView, SwitchParams, SwitchResult

__all__ = [
    "ApproveParams",
    "BranchView",
    "ConstitutionView",
    "EnvironmentList",
    "EnvironmentView",
    "GateCheckParams",
    "GatePendingParams",
    "GateRequestList",
    "GateRequestView",
    "GateVerdict",
    "GovernanceRuleList",
    "GovernanceRuleView",
    "RefuseParams",
    "RulesParams",
    "SimulateParams",
    "SimulationRow",
    "SimulationView",
    "SupersedeParams",
    "SupersedeResult",
    "SwitchParams",
    "SwitchResult",
]

_Action = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
_Pid = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=limits.PERMIT_MAX_S)]


class GateCheckParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question to the gate; nothing is recorded.

    Attributes:
        pid: of the agent.
        action: to be done.
        context: facts about it.
    """

    pid: _Pid
    action: _Action
    context: dict[str, Any] = {}


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says, and why.

    Attributes:
        decision: ``permit``, ``defer`` or ``deny``.
        reason: in one sentence.
        action: that was asked about.
        agent: pid of the agent as text; ``*`` for the rules alone.
        verdict: of the rules: ``permit``, ``permit_with_warning``, ``escalate_to_human``, ``deny``; empty if they did
            not decide.
        rule: id of the rule that decided; empty if none did.
        matched: ids of the rules that applied, in the order of evaluation.
        magnitude: of the effect.
        threshold: above which an effect is large.
        environment: name of it.
        effect: figures that were judged, by dimension; what is missing is 0.
        effect_source: why these figures count.
        constitution: hash of the rules in force, hex digits.
    """

    decision: str
    reason: str
    action: str = ""
    agent: str = ""
    verdict: str = ""
    rule: str = ""
    matched: list[str] = []
    magnitude: float | None = None
    threshold: float | None = None
    environment: str = ""
    effect: dict[str, float] = {}
    effect_source: str = ""
    constitution: str = ""


class GatePendingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests for approval.

    Attributes:
        all: also those that are decided, of the last day.
        after: number behind which to begin.
    """

    all: bool = False
    after: int = -1


class GateRequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A request for approval.

    Attributes:
        request: its number, that of its record.
        pid: of the agent that asks.
        agent_id: of it.
        incarnation: of it.
        executor: pid of who is to carry it out; 0 is the kernel.
        action: to be done.
        context: facts about it.
        environment: in which it was asked.
        rule: that wants the approval.
        why: in one sentence.
        state: ``pending``, ``approved``, ``refused`` or ``expired``.
        by: who decided.
        reason: of the decision.
        expires_ns: when nobody can approve it any more, nanoseconds since 1970 UTC.
        alive: whether the life of the agent that asked goes on.
        permit: id of the permit, hex digits; empty without one.
        permit_record: number of the record of the permit.
        used_record: number of the record by which it was used up.
        record: number of the record of the decision, in the answer to one.
        permit_expires_ns: until when the permit is good, in the answer to an approval.
    """

    request: int
    pid: int
    agent_id: str
    incarnation: int
    executor: int
    action: str
    context: dict[str, Any]
    environment: str
    rule: str
    why: str
    state: str
    by: str
    reason: str
    expires_ns: int
    alive: bool
    permit: str = ""
    permit_record: int | None = None
    used_record: int | None = None
    record: int | None = None
    permit_expires_ns: int = 0


class GateRequestList(msgspec.Struct, frozen=True, kw_only=True):
    """Requests for approval.

    Attributes:
        requests: in order of their numbers.
        more: whether there are further ones behind the last.
    """

    requests: list[GateRequestView]
    more: bool


class ApproveParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An approval.

    Attributes:
        request: number of the request.
        reason: for the log.
        valid_secs: how long the permit is good, in seconds.
    """

    request: _Pid
    reason: _Reason = "approved"
    valid_secs: _Seconds = limits.PERMIT_S


class RefuseParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refusal.

    Attributes:
        request: number of the request.
        reason: for the log, and for the agent.
    """

    request: _Pid
    reason: _Reason = "refused"


class BranchView(msgspec.Struct, frozen=True, kw_only=True):
    """A branch.

    Attributes:
        rules: how many are its.
        key: its public key, 64 hex digits.
    """

    rules: int
    key: str


class ConstitutionView(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force.

    Attributes:
        version: from 1.
        hash: of it, 64 hex digits.
        risk_threshold: where no environment is chosen.
        human_approval_required: where no environment is chosen.
        rules: how many.
        branches: by name.
        genesis_record: number of the record by which it began.
        environment: in force.
        differs_from_proposal: ids of rules that differ from those that this version of WeftOS proposes to a new log.
        waiting: requests for approval that wait.
        policies: hash of the Cedar policies that are asked as well, 64 hex digits; empty without any.
    """

    version: int
    hash: str
    risk_threshold: float
    human_approval_required: bool
    rules: int
    branches: dict[str, BranchView]
    genesis_record: int
    environment: EnvironmentView
    differs_from_proposal: list[str]
    waiting: int
    policies: str = ""


class RulesParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules.

    Attributes:
        after: id behind which to begin.
    """

    after: str = ""


class GovernanceRuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule.

    Attributes:
        id: of it.
        description: for a reader.
        branch: whose it is.
        severity: ``advisory``, ``warning``, ``blocking`` or ``critical``.
        outcome: ``note``, ``warn``, ``require_approval`` or ``deny``.
        when: it applies: what is named in it must hold.
        active: whether it counts.
        reference_url: where it is explained.
        sop_category: of the procedure it comes from.
    """

    id: str
    description: str
    branch: str
    severity: str
    outcome: str
    when: dict[str, Any] = {}
    active: bool = True
    reference_url: str | None = None
    sop_category: str | None = None


class GovernanceRuleList(msgspec.Struct, frozen=True, kw_only=True):
    """Rules in force.

    Attributes:
        rules: in order of their ids.
        more: whether there are further ones behind the last.
    """

    rules: list[GovernanceRuleView]
    more: bool


class SimulateParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What if; nothing is recorded.

    Attributes:
        action: to ask about; every known one if it is empty.
        pid: of the agent; without it the rules alone are asked.
        context: facts about the action.
        environment: name of one, or its fields; the one in force if ``None``.
        draft: a change of the rules, as it would be written for ``governance.supersede``: ``reason``, ``rule``,
            ``removed``, ``risk_threshold``.
    """

    action: str = ""
    pid: _Pid | None = None
    context: dict[str, Any] = {}
    environment: str | dict[str, Any] | None = None
    draft: dict[str, Any] = {}


class SimulationRow(msgspec.Struct, frozen=True, kw_only=True):
    """An action.

    Attributes:
        action: its name.
        now: what the gate says.
        then: what it would say.
    """

    action: str
    now: GateVerdict
    then: GateVerdict


class SimulationView(msgspec.Struct, frozen=True, kw_only=True):
    """What would be decided.

    Attributes:
        agent: pid of the agent as text; ``*`` for the rules alone.
        environment: that was assumed.
        constitution: hash of the rules that were assumed, hex digits.
        rows: of the actions.
    """

    agent: str
    environment: str
    constitution: str
    rows: list[SimulationRow]


class SupersedeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of the rules.

    Attributes:
        change: the payload of ``governance.root.supersede``, bytes in base64; signed by the branches that must agree.
    """

    change: dict[str, Any]


class SupersedeResult(msgspec.Struct, frozen=True, kw_only=True):
    """It is in force.

    Attributes:
        record: number of the record.
        version: of the constitution.
        hash: of it, 64 hex digits.
    """

    record: int
    version: int
    hash: str

"""What a person asks about governance through the kernel, and what he changes: one small function for each.

Questions record nothing and use nothing up. Changes are on the disk, with the person's name, before they are answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from weftos import limits
from weftos.errors import InvalidRequest
from weftos.governance.approvals import Request
from weftos.governance.articles import ARTICLES, EFFECTS
from weftos.governance.composite import strictest
from weftos.governance.constitution import Constitution, Supersede
from weftos.governance.draft import Draft
from weftos.governance.environments import Environment
from weftos.governance.gate import ACTIONS, KERNEL_ID, CapabilityGate, GateDecision
from weftos.governance.rules import Branch
from weftos.governance.standing import decision_of, judge
from weftos.service import governance_protocol as gp
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel
from weftos.service.gate_desk import explained

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["GOVERNANCE_HANDLERS", "QUESTIONS"]

_REASON_CHARS: Final = 500
#: Subject of a simulation that names no agent: only the rules are asked.
_NOBODY: Final = "*"


def _constitution(desk: Desk) -> Constitution:
    found = desk.governance.standing.constitution
    assert found is not None, "it begins when the log is opened"
    return found


def _shown(environment: Environment, *, active: bool) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(environment)
    return values | {"active_branches": sorted(environment.active_branches), "active": active}


def _show(desk: Desk, _params: dict[str, Any]) -> dict[str, Any]:
    found, governance = _constitution(desk), desk.governance
    proposed = {rule.id: rule for rule in ARTICLES}
    ours = {rule.id: rule for rule in found.rules}
    return {
        "version": found.version,
        "hash": governance.standing.hash.hex(),
        "risk_threshold": found.risk_threshold,
        "human_approval_required": found.human_approval_required,
        "rules": len(found.rules),
        "branches": {
            branch.value: {"rules": sum(rule.branch == branch for rule in found.rules), "key": found.keys[branch].hex()}
            for branch in Branch
        },
        "genesis_record": governance.genesis_seq,
        "environment": _shown(governance.standing.environment, active=True),
        "differs_from_proposal": sorted(name for name in ours | proposed if ours.get(name) != proposed.get(name)),
        "waiting": len(governance.approvals.waiting()),
        "policies": governance.standing.policies.hex(),
    }


def _rules(desk: Desk, params: dict[str, Any]) -> dict[str, Any]:
    after = str(params.get("after", ""))
    rules = [rule for rule in _constitution(desk).rules if rule.id > after]
    page = rules[: limits.GOVERNANCE_ROWS]
    return {"rules": [rule.to_builtins() for rule in page], "more": len(rules) > len(page)}


def _environments(desk: Desk, _params: dict[str, Any]) -> dict[str, Any]:
    standing = desk.governance.standing
    current = standing.environment
    return {"environments": [_shown(one, active=one == current) for one in standing.environments().values()]}


def _answer(decision: GateDecision) -> dict[str, Any]:
    values = explained(decision.why)
    if decision.why is not None:
        values |= {
            "effect": decision.why.effect,
            "effect_source": decision.why.effect_source,
            "constitution": decision.why.constitution.hex(),
        }
    return {"decision": type(decision).__name__.lower(), "reason": decision.reason} | values


def _question(params: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    agent, action, context = params.get("agent", _NOBODY), params.get("action", ""), params.get("context", {})
    if not isinstance(context, dict) or not isinstance(action, str):
        raise InvalidRequest("a question has an action and a context, which is a map of facts")
    return str(agent), action, context


def _check(desk: Desk, params: dict[str, Any]) -> dict[str, Any]:
    agent, action, context = _question(params)
    found = _answer(desk.gate.check(agent, action, context))
    return {"agent": agent, "action": action} | found


def _simulate(desk: Desk, params: dict[str, Any]) -> dict[str, Any]:
    """Say what would be decided in another environment or under other rules, beside what is."""
    agent, action, context = _question(params)
    now = _constitution(desk)
    draft = msgspec.convert(params.get("draft") or {"reason": "a simulation"}, Draft, builtin_types=(bytes,))
    then = draft.applied_to(now)
    standing = desk.governance.standing
    chosen = params.get("environment")
    environment = (
        _environment_of(chosen, standing.environments())
        if chosen is not None
        else (standing.chosen if standing.chosen is not None else then.environment)
    )
    if environment.name == "default":
        environment = then.environment
    before = _deciding(desk, agent, now, standing.environment)
    after = _deciding(desk, agent, then, environment)
    actions = [action] if action else sorted(EFFECTS.keys() & ACTIONS.keys())
    rows = []
    for name in actions:
        was, will = before(name, context), after(name, context)
        rows.append({"action": name, "now": _answer(was), "then": _answer(will)} if action else _short(name, was, will))
    return {"agent": agent, "environment": environment.name, "constitution": then.hash.hex(), "rows": rows}


def _short(action: str, was: GateDecision, will: GateDecision) -> dict[str, Any]:
    rows = {}
    for key, found in (("now", was), ("then", will)):
        rows[key] = {
            "decision": type(found).__name__.lower(),
            "reason": found.reason,
            "rule": found.why.rule if found.why is not None else "",
        }
    return {"action": action, **rows}


def _environment_of(chosen: object, known: dict[str, Environment]) -> Environment:
    """Return an environment by name, or by its fields."""
    if isinstance(chosen, str):
        if chosen not in known:
            raise InvalidRequest(f"there is no environment {chosen!r:.60}; there are {', '.join(known)}")
        return known[chosen]
    try:
        return msgspec.convert(chosen, Environment)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidRequest(f"the environment is malformed: {error}") from error


def _deciding(
    desk: Desk, agent: str, constitution: Constitution, environment: Environment
) -> Callable[[str, dict[str, Any]], GateDecision]:
    engine, digest = constitution.engine(), constitution.hash
    subject = desk.subject(agent)
    name = subject.agent_id if subject is not None else agent
    capabilities = CapabilityGate(desk.subject)

    def decide(action: str, context: dict[str, Any]) -> GateDecision:
        if agent == KERNEL_ID:
            return capabilities.check(agent, action, context)
        found, source = judge(engine, environment, name, action, context)
        by_rules = decision_of(found, environment, digest, source)
        return by_rules if agent == _NOBODY else strictest(by_rules, capabilities.check(agent, action, context))

    return decide


def _pending(desk: Desk, params: dict[str, Any]) -> dict[str, Any]:
    approvals = desk.governance.approvals
    found = sorted(approvals.requests.values(), key=_number) if params.get("all") else approvals.waiting()
    after = int(params.get("after", -1))
    rest = [one for one in found if one.id > after]
    page = rest[: limits.GOVERNANCE_ROWS]
    return {"requests": [_request(desk, one) for one in page], "more": len(rest) > len(page)}


def _number(request: Request) -> int:
    return request.id


def _request(desk: Desk, request: Request) -> dict[str, Any]:
    governance, binding = desk.governance, request.binding
    permit = governance.approvals.permits.get(request.permit)
    agent = desk.subject(str(binding.pid))
    alive = agent is not None and (agent.agent_id, agent.incarnation) == (binding.agent_id, binding.incarnation)
    return {
        "request": request.id,
        "pid": binding.pid,
        "agent_id": binding.agent_id,
        "incarnation": binding.incarnation,
        "executor": binding.executor,
        "action": binding.action,
        "context": request.context,
        "environment": request.environment,
        "rule": request.rule,
        "why": request.why,
        "state": request.state,
        "by": request.by,
        "reason": request.reason,
        "expires_ns": request.expires_ns,
        "alive": alive and binding.boot_id == governance.boot_id,
        "permit": request.permit.hex(),
        "permit_record": permit.record if permit is not None else None,
        "used_record": governance.approvals.used.get(request.permit),
    }


#: What can be asked.
QUESTIONS: Final[dict[str, Callable[[Desk, dict[str, Any]], dict[str, Any]]]] = {
    "show": _show,
    "rules": _rules,
    "environments": _environments,
    "check": _check,
    "simulate": _simulate,
    "pending": _pending,
}


def _ask(desk: Desk, caller: Caller, _position: int, request: gp.AskGovernance) -> p.Reply:
    only_kernel(caller)
    question = QUESTIONS.get(request.question)
    if question is None:
        raise InvalidRequest(f"there is no question {request.question!r:.40} about governance")
    return p.Done(question(desk, request.params))


# --- changes ----------------------------------------------------------------------------------------------------------


def _supersede(desk: Desk, caller: Caller, position: int, request: gp.ChangeGovernance) -> dict[str, Any]:
    assert isinstance(request.change, gp.SupersedeRules)
    change = Supersede.from_payload(request.change.change)
    return desk.governance.supersede(change, (caller, position, 0))


def _switch(desk: Desk, caller: Caller, position: int, request: gp.ChangeGovernance) -> dict[str, Any]:
    assert isinstance(request.change, gp.SwitchEnvironment)
    return {"record": desk.governance.switch(request.change.environment, _act(request), (caller, position, 0))}


def _approve(desk: Desk, caller: Caller, position: int, request: gp.ChangeGovernance) -> dict[str, Any]:
    change = request.change
    assert isinstance(change, gp.ApproveRequest)
    if not 0 < change.valid_secs <= limits.PERMIT_MAX_S:
        raise InvalidRequest(f"a permit is good for up to {limits.PERMIT_MAX_S:g} seconds, not {change.valid_secs:g}")
    found = desk.governance.decidable(change.request, request.by)
    agent = desk.subject(str(found.binding.pid))
    permit = desk.governance.approve(found, agent, change.valid_secs, _act(request), (caller, position, 0))
    return _request(desk, found) | {"record": found.decided, "permit_expires_ns": permit.expires_ns}


def _refuse(desk: Desk, caller: Caller, position: int, request: gp.ChangeGovernance) -> dict[str, Any]:
    assert isinstance(request.change, gp.RefuseRequest)
    found = desk.governance.decidable(request.change.request, request.by)
    record = desk.governance.refuse(found, _act(request), (caller, position, 0))
    return _request(desk, found) | {"record": record, "permit_expires_ns": 0}


def _act(request: gp.ChangeGovernance) -> dict[str, Any]:
    return {"by": request.by, "uid": request.uid, "reason": request.reason}


_CHANGES: Final[dict[type[Any], Callable[[Desk, Caller, int, gp.ChangeGovernance], dict[str, Any]]]] = {
    gp.SupersedeRules: _supersede,
    gp.SwitchEnvironment: _switch,
    gp.ApproveRequest: _approve,
    gp.RefuseRequest: _refuse,
}


def _change(desk: Desk, caller: Caller, position: int, request: gp.ChangeGovernance) -> p.Reply:
    only_kernel(caller)
    if not 0 < len(request.reason) <= _REASON_CHARS or not request.reason.isprintable():
        raise InvalidRequest(f"a change of governance gives its reason, in 1 to {_REASON_CHARS} printable characters")
    return p.Done(_CHANGES[type(request.change)](desk, caller, position, request))


#: The requests of this module.
GOVERNANCE_HANDLERS: Final[dict[type[Any], Handler]] = {
    gp.AskGovernance: _ask,
    gp.ChangeGovernance: _change,
}

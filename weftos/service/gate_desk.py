"""The service's side of the gate: a question becomes a decision, a decision a record, an approval something to do once.

    question ─▶ backends ─┬─ Deny  ─▶ gate.deny
                          ├─ Defer ─▶ a permit is shown? ─ yes ─▶ permit.use ─▶ gate.intent ─▶ Permit
                          │             └─ no ─▶ gate.request, which waits for a person
                          └─ Permit ─▶ gate.permit; for who carries it out at once: gate.intent

Why it is as it is: whoever asks is known from his ring, what he wants from the question, and nothing he says makes it
milder. The record comes before the answer. A permit is compared with all that it is bound to, used up on the disk, and
only then good; a bad one denies the action, whatever else would be said of it.

Guaranteed: a question that is read again after a crash neither queues nor uses anything twice. Not guaranteed: that
what was permitted is done; the outcome says so, and an intent without one shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from weftos import limits
from weftos.errors import AppendRefused, CapabilityDenied, InvalidRequest, ProtocolError
from weftos.governance.gate import ACTIONS, KERNEL_ID, Defer, Deny, GateDecision, Permit, Subject, Why
from weftos.governance.permits import Binding, Permission, args_hash, fault, token_id
from weftos.service import governance_protocol as gp
from weftos.service import protocol as p
from weftos.service.clients import Caller

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["GATE_HANDLERS", "decide_for", "explained", "tell_done"]

_DECISION_KIND: Final = {"Permit": "gate.permit", "Defer": "gate.defer", "Deny": "gate.deny"}
#: Longest name of an action, in characters: an answer must fit a record of any ring.
_ACTION_CHARS: Final = 200
_NS: Final = 1_000_000_000
_TEXT_CHARS: Final = 500
_MESSAGES: Final[dict[str, str]] = {
    "approved": "it was approved",
    "refused": "it was refused",
    "expired": "nobody decided in time",
    "pending": "it waits for a decision",
}


def explained(why: Why | None) -> dict[str, Any]:
    """Return the fields of a record that explain a decision."""
    if why is None:
        return {}
    fields: dict[str, Any] = {
        "verdict": why.verdict,
        "rule": why.rule,
        "matched": list(why.matched),
        "magnitude": why.magnitude,
        "threshold": why.threshold,
        "environment": why.environment,
        "constitution": why.constitution,
    }
    return fields | {"effect": why.effect} if why.detailed else fields


def _gate_check(desk: Desk, caller: Caller, position: int, request: p.GateCheck) -> p.Reply:
    if len(request.action) > _ACTION_CHARS:
        raise ProtocolError(f"the name of an action has at most {_ACTION_CHARS} characters")
    subject = caller.agent_id
    if request.on_behalf is not None and str(request.on_behalf) != subject:
        if not (caller.kernel or request.permit):
            raise ProtocolError("an agent asks the gate for itself only; for another one it shows that one's permit")
        subject = str(request.on_behalf)
    if request.permit:
        return _with_permit(desk, caller, position, request, subject)
    decision = desk.gate.check(subject, request.action, request.context)
    own = caller.kernel and subject == caller.agent_id
    if desk.journal.failed is not None:
        # The kernel logs what it does itself, and finds out.
        return p.Decided(decision if own else Deny(f"decisions cannot be recorded: {desk.journal.failed}"))
    if isinstance(decision, Defer):
        decision = _queued(desk, caller, position, request, subject, decision)
    elif request.intent and caller.kernel and isinstance(decision, Permit):
        return p.Decided(_bare(decision), _intend(desk, caller, position, request, subject, decision))
    # A request is a record itself, and so is what the kernel does.
    told = own or (caller.kernel and isinstance(decision, Permit)) or isinstance(decision, Defer)
    if not told:
        _record_decision(desk, caller, position, request, subject, decision)
    return p.Decided(_bare(decision))


def _bare(decision: GateDecision) -> GateDecision:
    """Leave out what is on the log and too long for each answer."""
    return decision if decision.why is None else msgspec.structs.replace(decision, why=None)


def _record_decision(
    desk: Desk, caller: Caller, position: int, request: p.GateCheck, subject: str, decision: GateDecision
) -> None:
    payload: dict[str, Any] = {"action": request.action, "reason": decision.reason, **explained(decision.why)}
    about = f"agent:{subject}"
    kind = _DECISION_KIND[type(decision).__name__]
    size = len(desk.encoder.encode(request.context))
    if size <= limits.GATE_CONTEXT_BYTES:
        try:
            desk.journal.append(caller, position, kind, payload | {"context": request.context}, subject=about)
        except AppendRefused:
            payload["context_refused"] = True  # it holds what no record can, such as an endless nesting or a NaN
        else:
            return
    desk.journal.append(caller, position, kind, payload | {"context_bytes": size}, subject=about)


def _intend(
    desk: Desk,
    caller: Caller,
    position: int,
    request: p.GateCheck,
    subject: str,
    decision: Permit,
    used: int | None = None,
) -> int:
    """Put on the log that something permitted is about to be done; returns the number of the record."""
    agent = desk.subject(subject)
    payload: dict[str, Any] = {
        "action": request.action,
        "pid": int(subject),
        "agent_id": agent.agent_id if agent is not None else "operator",
        "incarnation": agent.incarnation if agent is not None else 0,
        "executor": int(caller.agent_id),
        "reason": decision.reason,
        **explained(decision.why),
    }
    if decision.permit:
        payload["permit"] = decision.permit
    size = len(desk.encoder.encode(request.context))
    payload |= {"context": request.context} if size <= limits.GATE_CONTEXT_BYTES else {"context_bytes": size}
    place = caller, position, 0 if used is None else 1
    permit = decision.permit or None
    return desk.governance.put(
        "gate.intent", payload, place=place, subject=f"agent:{subject}", cause=used, permit=permit
    ).seq


# --- approvals --------------------------------------------------------------------------------------------------------


def _binding(desk: Desk, request: p.GateCheck, agent: Subject, executor: int) -> Binding:
    return Binding(
        boot_id=desk.governance.boot_id,
        pid=agent.pid,
        agent_id=agent.agent_id,
        incarnation=agent.incarnation,
        executor=executor,
        action=request.action,
        args_hash=args_hash(request.action, request.context),
        constitution=desk.governance.standing.hash,
    )


def decide_for(
    desk: Desk, caller: Caller, position: int, action: str, context: dict[str, Any], permit: bytes
) -> GateDecision:
    """Decide about something that the service itself does for an agent, as if the kernel had asked.

    A permit that is shown is used up, with the intent on the log; a denial is on the log, and what a person has to
    approve is in the queue. Then ``tell_done`` tells what came of it.
    """
    asking = Caller(
        KERNEL_ID, caller.source, caller.producer, kernel=True, reply_bytes=caller.reply_bytes, scope=caller.scope
    )
    question = p.GateCheck(action, context, on_behalf=int(caller.agent_id), permit=permit)
    reply = _gate_check(desk, asking, position, question)
    assert isinstance(reply, p.Decided)
    return reply.decision


def tell_done(desk: Desk, caller: Caller, position: int, allowed: Permit) -> None:
    """Put on the log that what was done under a permit is done."""
    approvals = desk.governance.approvals
    permit = approvals.permits[bytes.fromhex(allowed.permit)]
    if permit.id in approvals.outcomes:
        return
    intent = approvals.intents[permit.id]
    payload = {
        "pid": permit.binding.pid,
        "action": permit.binding.action,
        "permit": allowed.permit,
        "intent": intent,
        "result": "done",
        "error": "",
        "reason": "",
    }
    # Behind use and intent, which are the events 0 and 1 of the same request.
    place, subject = (caller, position, 2), f"agent:{permit.binding.pid}"
    desk.governance.put("gate.outcome", payload, place=place, subject=subject, cause=intent, permit=allowed.permit)


def _executor(caller: Caller, request: p.GateCheck) -> int:
    """Who carries it out: the kernel what only it can do, else who was named, else who asks."""
    action = ACTIONS.get(request.action)
    if caller.kernel or (action is not None and (action.facts is not None or action.inside)):
        return int(KERNEL_ID)
    return request.executor if request.executor is not None else int(caller.agent_id)


def _queued(
    desk: Desk, caller: Caller, position: int, request: p.GateCheck, subject: str, decision: Defer
) -> GateDecision:
    """Let a person decide about it: join the request that waits for exactly this, or make one."""
    governance = desk.governance
    agent = desk.subject(subject)
    assert agent is not None, "who is unknown is denied"
    known = desk.journal.known(caller, position)
    if known is not None and known.seq in governance.approvals.requests:
        return _deferred(decision, known.seq)
    try:
        binding = _binding(desk, request, agent, _executor(caller, request))
    except InvalidRequest as error:
        return Deny(str(error), decision.why)
    waiting = governance.approvals.pending_for(binding)
    if waiting is not None:
        return _deferred(decision, waiting.id)
    granted = governance.approvals.permit_for(binding, governance.now_ns())
    if granted is not None:
        return _deferred(decision, granted.request)
    queue = governance.approvals.waiting()
    own = sum(one.binding.pid == agent.pid for one in queue)
    if len(queue) >= limits.APPROVALS_WAITING or own >= limits.APPROVALS_PER_AGENT:
        return Deny(
            f"{own} requests of this agent, and {len(queue)} in all, wait for a person; no more do", decision.why
        )
    if len(desk.encoder.encode(request.context)) > limits.GATE_CONTEXT_BYTES:
        return Deny(f"a person approves a context of at most {limits.GATE_CONTEXT_BYTES} bytes", decision.why)
    why = decision.why
    payload = msgspec.structs.asdict(binding) | {
        "context": request.context,
        "environment": why.environment if why is not None else "",
        "rule": why.rule if why is not None else "",
        "why": decision.reason,
        "expires_ns": governance.now_ns() + int(limits.APPROVAL_S * _NS),
    }
    try:
        ack = governance.put("gate.request", payload, place=(caller, position, 0), subject=f"agent:{subject}")
    except AppendRefused as error:
        return Deny(f"this cannot be shown to a person: {error}", decision.why)
    return _deferred(decision, ack.seq)


def _deferred(decision: Defer, number: int) -> Defer:
    return Defer(
        f"{decision.reason}; request {number} is to be approved (`weaver gate approve {number}`)", None, number
    )


def _with_permit(desk: Desk, caller: Caller, position: int, request: p.GateCheck, subject: str) -> p.Reply:
    """Decide about something for which a permit is shown, and use it up if it is good."""
    governance, approvals = desk.governance, desk.governance.approvals
    if desk.journal.failed is not None:
        return p.Decided(Deny(f"decisions cannot be recorded: {desk.journal.failed}"))
    identifier = token_id(request.permit)
    permit = approvals.permits.get(identifier) if identifier is not None else None
    agent = desk.subject(subject)
    wrong = _fault(desk, caller, request, permit, agent)
    known = desk.journal.known(caller, position)
    used = approvals.used.get(permit.id) if permit is not None else None
    again = used is not None and known is not None and known.seq == used
    if not wrong and used is not None and not again:
        wrong = "it was used"
    if wrong:
        return p.Decided(_refused(desk, caller, position, request, subject, permit, wrong))
    assert permit is not None
    decision = desk.gate.check(subject, request.action, request.context)
    if isinstance(decision, Deny) and not again:
        _record_decision(desk, caller, position, request, subject, decision)
        return p.Decided(_bare(decision))
    name = permit.id.hex()
    if used is None:
        told = {
            "id": permit.id,
            "request": permit.request,
            "pid": int(subject),
            "executor": int(caller.agent_id),
            "action": request.action,
        }
        place = caller, position, 0
        used = governance.put(
            "permit.use", told, place=place, subject=f"agent:{subject}", cause=permit.record, permit=name
        ).seq
    by = approvals.requests[permit.request].by
    allowed = Permit(f"approved by {by} (request {permit.request})", decision.why, name)
    intent = _intend(desk, caller, position, request, subject, allowed, used)
    desk.journal.sync()
    return p.Decided(_bare(allowed), intent)


def _fault(desk: Desk, caller: Caller, request: p.GateCheck, permit: Permission | None, agent: Subject | None) -> str:
    if permit is None:
        return "there is no such permit"
    if agent is None:
        return "the agent that it was made for has ended"
    try:
        wanted = _binding(desk, request, agent, int(caller.agent_id))
    except InvalidRequest as error:
        return str(error)
    governance = desk.governance
    return fault(governance.key, request.permit, permit, wanted, governance.now_ns())


def _refused(
    desk: Desk,
    caller: Caller,
    position: int,
    request: p.GateCheck,
    subject: str,
    permit: Permission | None,
    wrong: str,
) -> Deny:
    payload: dict[str, Any] = {
        "pid": int(subject),
        "executor": int(caller.agent_id),
        "action": request.action,
        "reason": wrong,
    }
    if permit is not None:
        payload["id"] = permit.id
    desk.governance.put("permit.refuse", payload, place=(caller, position, 0), subject=f"agent:{subject}")
    return Deny(f"the permit gives nothing: {wrong}")


def _ask_approval(desk: Desk, caller: Caller, _position: int, request: gp.AskApproval) -> p.Reply:
    governance = desk.governance
    found = governance.approvals.requests.get(request.request)
    agent = desk.subject(caller.agent_id)
    if found is None or agent is None or not _is_own(desk, found.binding, agent):
        raise CapabilityDenied(f"request {request.request} is none of this agent's")
    values: dict[str, Any] = {"state": found.state, "reason": found.reason or _MESSAGES[found.state], "by": found.by}
    permit = governance.approvals.permits.get(found.permit)
    if permit is not None:
        values |= {
            "token": governance.token(permit),
            "record": permit.record,
            "expires_ns": permit.expires_ns,
            "action": permit.binding.action,
        }
    return p.Done(values)


def _is_own(desk: Desk, binding: Binding, agent: Subject) -> bool:
    mine = (desk.governance.boot_id, agent.pid, agent.agent_id, agent.incarnation)
    return mine == (binding.boot_id, binding.pid, binding.agent_id, binding.incarnation)


def _tell_outcome(desk: Desk, caller: Caller, position: int, request: gp.TellOutcome) -> p.Reply:
    approvals = desk.governance.approvals
    known = desk.journal.known(caller, position)
    if known is not None:
        return p.Done({"record": known.seq})
    identifier = token_id(request.permit)
    permit = approvals.permits.get(identifier) if identifier is not None else None
    if permit is None or desk.governance.token(permit) != request.permit or permit.id not in approvals.intents:
        raise CapabilityDenied("nothing is under way under this permit")
    if permit.binding.executor != int(caller.agent_id) or permit.binding.boot_id != desk.governance.boot_id:
        raise CapabilityDenied("who presented the permit tells what came of it")
    if permit.id in approvals.outcomes:
        raise CapabilityDenied("what came of it was told already")
    intent = approvals.intents[permit.id]
    payload = {
        "pid": permit.binding.pid,
        "action": permit.binding.action,
        "permit": permit.id.hex(),
        "intent": intent,
        "result": "failed" if request.error else "done",
        "error": request.error[:_TEXT_CHARS],
        "reason": request.reason[:_TEXT_CHARS],
    }
    name = permit.id.hex()
    place, subject = (caller, position, 0), f"agent:{permit.binding.pid}"
    ack = desk.governance.put("gate.outcome", payload, place=place, subject=subject, cause=intent, permit=name)
    return p.Done({"record": ack.seq})


#: The requests of this module.
GATE_HANDLERS: Final[dict[type[Any], Handler]] = {
    p.GateCheck: _gate_check,
    gp.AskApproval: _ask_approval,
    gp.TellOutcome: _tell_outcome,
}

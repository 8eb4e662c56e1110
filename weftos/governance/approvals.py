"""Requests for approval and the permits that come of them, as a sum over records.

    gate.request ─▶ pending ─┬─ gate.approve ─▶ approved ─ permit.mint ─▶ permit ─ permit.use ─▶ used
                             ├─ gate.refuse ─▶ refused
                             └─ gate.expire ─▶ expired

Why it is as it is: a decision of a person must not be lost with a process, nor be used twice because one forgot. So
every step is a record, and the queue is nothing but their sum.

Guaranteed: the sum depends on the records alone; a request is decided once, a permit used once. Records about requests
that are not known (they are too old to matter) change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from weftos.errors import InvalidRequest
from weftos.events import governance as e
from weftos.events.event import Event
from weftos.governance.permits import Binding, Permission

__all__ = ["APPROVAL_KINDS", "Approvals", "Request", "State"]

State: TypeAlias = Literal["pending", "approved", "refused", "expired"]
V = TypeVar("V", bound=Event)


class Request(msgspec.Struct, kw_only=True):
    """One request.

    Attributes:
        id: number of its record.
        binding: what is asked for.
        context: facts about it, as the person sees them.
        environment: in which it was asked.
        rule: that wants the approval.
        why: in one sentence.
        expires_ns: when nobody can approve it any more, nanoseconds since 1970 UTC.
        state: see ``State``.
        by: who decided.
        reason: of the decision.
        decided: number of the record of the decision; -1 before.
        permit: id of the permit that came of it; empty before.
    """

    id: int
    binding: Binding
    context: dict[str, Any]
    environment: str
    rule: str
    why: str
    expires_ns: int
    state: State = "pending"
    by: str = ""
    reason: str = ""
    decided: int = -1
    permit: bytes = b""


class Approvals:
    """The sum.

    Attributes:
        requests: by number.
        permits: by id.
        used: by id of the permit, the number of the record of its use.
        intents: likewise, of the intent that followed.
        outcomes: ids of permits whose outcome is known.
    """

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}
        self.permits: dict[bytes, Permission] = {}
        self.used: dict[bytes, int] = {}
        self.intents: dict[bytes, int] = {}
        self.outcomes: set[bytes] = set()
        self._waiting: dict[int, None] = {}
        #: The newest that waits, by what is asked for.
        self._pending: dict[Binding, int] = {}

    def take(self, kind: str, payload: Mapping[str, Any], seq: int) -> None:
        """Add a record; other kinds change nothing.

        Raises:
            InvalidRequest: it is malformed.
        """
        rule = _RULES.get(kind)
        if rule is not None:
            schema, add = rule
            add(self, _read(payload, schema), seq)

    def waiting(self) -> list[Request]:
        """Return what waits for a decision, the oldest first."""
        return [self.requests[number] for number in self._waiting]

    def pending_for(self, binding: Binding) -> Request | None:
        """Return the request that waits for exactly this."""
        number = self._pending.get(binding)
        return None if number is None else self.requests[number]

    def permit_for(self, binding: Binding, now_ns: int) -> Permission | None:
        """Return a permit for exactly this that can still be used."""
        for permit in self.permits.values():
            if permit.binding == binding and permit.id not in self.used and now_ns < permit.expires_ns:
                return permit
        return None

    def unminted(self) -> list[Request]:
        """Return requests that were approved and have no permit: a crash came between."""
        return [one for one in self.requests.values() if one.state == "approved" and not one.permit]

    def forget(self, before_ns: int) -> None:
        """Drop what ended before a time, nanoseconds since 1970 UTC; it can give nothing any more."""
        for number, request in list(self.requests.items()):
            permit = self.permits.get(request.permit)
            ends = max(request.expires_ns, permit.expires_ns if permit is not None else 0)
            if request.state != "pending" and ends < before_ns:
                del self.requests[number]
                self.permits.pop(request.permit, None)
                self.used.pop(request.permit, None)
                self.intents.pop(request.permit, None)
                self.outcomes.discard(request.permit)

    # --- records ------------------------------------------------------------------------------------------------------

    def _asked(self, said: e.GateRequest, seq: int) -> None:
        binding = _binding(said)
        self.requests[seq] = Request(
            id=seq,
            binding=binding,
            context=dict(said.context),
            environment=said.environment,
            rule=said.rule,
            why=said.why,
            expires_ns=said.expires_ns,
        )
        self._pending[binding] = seq
        self._waiting[seq] = None

    def _approved(self, said: e.GateApprove, seq: int) -> None:
        self._decide(said.request, "approved", said.by, said.reason, seq)

    def _refused(self, said: e.GateRefuse, seq: int) -> None:
        self._decide(said.request, "refused", said.by, said.reason, seq)

    def _expired(self, said: e.GateExpire, seq: int) -> None:
        self._decide(said.request, "expired", "", "nobody decided in time", seq)

    def _decide(self, number: int, state: State, by: str, reason: str, seq: int) -> None:
        request = self.requests.get(number)
        if request is None or request.state != "pending":
            return
        request.state, request.by, request.reason, request.decided = state, by, reason, seq
        del self._waiting[number]
        if self._pending.get(request.binding) == number:
            del self._pending[request.binding]

    def _minted(self, said: e.PermitMint, seq: int) -> None:
        request = self.requests.get(said.request)
        if request is None or request.state != "approved" or request.permit:
            return
        request.permit = said.id
        self.permits[said.id] = Permission(
            id=said.id, request=said.request, binding=_binding(said), expires_ns=said.expires_ns, record=seq
        )

    def _use(self, said: e.PermitUse, seq: int) -> None:
        if said.id in self.permits:
            self.used.setdefault(said.id, seq)

    def _intended(self, said: e.GateIntent, seq: int) -> None:
        permit = _id(said.permit)
        if permit in self.used:
            self.intents.setdefault(permit, seq)

    def _came_of(self, said: e.GateOutcome, _seq: int) -> None:
        permit = _id(said.permit)
        if permit in self.used:
            self.outcomes.add(permit)


def _binding(said: e.GateRequest | e.PermitMint) -> Binding:
    return Binding(**{name: getattr(said, name) for name in Binding.__struct_fields__})


def _id(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        return b""


def _read(payload: Mapping[str, Any], schema: type[V]) -> V:
    try:
        return msgspec.convert(payload, schema, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"the payload of {schema.kind} is malformed: {error}") from error


_RULES: Final[dict[str, tuple[type[Event], Any]]] = {
    e.GateRequest.kind: (e.GateRequest, Approvals._asked),
    e.GateApprove.kind: (e.GateApprove, Approvals._approved),
    e.GateRefuse.kind: (e.GateRefuse, Approvals._refused),
    e.GateExpire.kind: (e.GateExpire, Approvals._expired),
    e.PermitMint.kind: (e.PermitMint, Approvals._minted),
    e.PermitUse.kind: (e.PermitUse, Approvals._use),
    e.GateIntent.kind: (e.GateIntent, Approvals._intended),
    e.GateOutcome.kind: (e.GateOutcome, Approvals._came_of),
}
#: Kinds that count.
APPROVAL_KINDS: Final = tuple(_RULES)

"""What an agent asks of the gate, as calls of ``ServiceClient``: may I, please let somebody decide, and this is done.

    held = ctx.service.require("tool.fs.remove", {"path": path}, wait_s=3600)    # a person approves meanwhile
    with ctx.service.effect("tool.fs.remove", {"path": path}, held):             # used up here, once
        shutil.rmtree(path)                                                      # and the outcome is told behind

Guaranteed: ``require`` and ``effect`` go on only on a permit; silence, lateness and a broken service raise
``GateUnavailable``. Waiting serves the agent's orders meanwhile.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from weftos import limits
from weftos.errors import GateDeferred, GateUnavailable, GovernanceDenied, WeftError
from weftos.governance.gate import Defer, GateDecision, require
from weftos.governance.permits import HeldPermit
from weftos.service import governance_protocol as gp
from weftos.service import protocol as p

if TYPE_CHECKING:
    from weftos.service.client import Pump

__all__ = ["GateCalls", "held_from"]

R = TypeVar("R")


def held_from(values: dict[str, Any], request: int, action: str) -> HeldPermit | None:
    """Return what an answer about a request gives; ``None`` while nobody has decided.

    Args:
        values: of the answer to ``AskApproval``.
        request: its number.
        action: for the message.

    Raises:
        GovernanceDenied: refused.
        GateDeferred: expired.
    """
    if "token" in values:
        return HeldPermit(
            action=values["action"],
            token=values["token"],
            request=request,
            record=values["record"],
            expires_ns=values["expires_ns"],
        )
    if values["state"] == "refused":
        raise GovernanceDenied(f"{action} was refused by {values['by']}: {values['reason']}")
    if values["state"] == "expired":
        raise GateDeferred(f"{action}: request {request} has expired, {values['reason']}")
    return None


class GateCalls(ABC):
    """The calls; whoever has them knows how to ask and how to wait.

    Attributes:
        pump: waits and serves everything else.
        noticed: numbers of requests that were decided, as far as the service has said so.
    """

    pump: Pump
    noticed: dict[int, None]

    @abstractmethod
    def ask(self, request: p.Request, kind: type[R], timeout_s: float) -> R:
        """Send a request and wait for its answer, which is of that kind."""

    def take_notice(self, notice: p.Noticed) -> None:
        """Take note that a request was decided; called when the service says so."""
        self.noticed[notice.request] = None
        while len(self.noticed) > limits.APPROVALS_PER_AGENT:
            del self.noticed[next(iter(self.noticed))]

    def gate(
        self, action: str, context: dict[str, Any] | None = None, timeout_s: float = limits.GATE_TIMEOUT_S
    ) -> GateDecision:
        """Ask whether this agent may do something.

        Args:
            action: a name of ``governance.gate.ACTIONS``; another is denied.
            context: facts about the action. What the effect is stands in the registry; ``effect`` can only raise it.
            timeout_s: in seconds.

        Raises:
            GateUnavailable: there is no answer. The action must not be done.
        """
        return self._decide(p.GateCheck(action, context or {}), timeout_s).decision

    def require(
        self,
        action: str,
        context: dict[str, Any] | None = None,
        timeout_s: float = limits.GATE_TIMEOUT_S,
        *,
        wait_s: float = 0.0,
        executor: int | None = None,
    ) -> HeldPermit:
        """Return only if the gate permits the action, or a person approves it in time.

        Args:
            action: as for ``gate``.
            context: facts about it. What the kernel carries out has the facts of ``ACTIONS[action].facts``.
            timeout_s: for an answer of the gate, in seconds.
            wait_s: how long to wait for a person, if the gate leaves it to one, in seconds.
            executor: pid of the agent that is to carry it out and shows the permit; this one, if it is not given, or
                the kernel, if only it can.

        Returns:
            The permit. If it has a token, show it where the action is done: with ``effect``, or ``ctx.under``.

        Raises:
            GovernanceDenied: the gate denies, or the person refuses.
            GateDeferred: nobody has decided yet.
            GateUnavailable: it cannot be asked.
        """
        decision = self._decide(p.GateCheck(action, context or {}, executor=executor), timeout_s).decision
        if isinstance(decision, Defer) and decision.request is not None and wait_s > 0:
            return self.approval(decision.request, wait_s, action)
        require(decision, action)
        return HeldPermit(action=action)

    def approval(self, request: int, wait_s: float, action: str = "the action") -> HeldPermit:
        """Wait until a person has decided about a request.

        Args:
            request: its number.
            wait_s: in seconds.
            action: for the message.

        Raises:
            GovernanceDenied: refused.
            GateDeferred: not decided in time.
            GateUnavailable: the service cannot be asked.
        """
        deadline = time.monotonic() + wait_s
        while True:
            self.noticed.pop(request, None)
            held = held_from(self._approval_state(request), request, action)
            if held is not None:
                return held
            if time.monotonic() >= deadline:
                raise GateDeferred(f"{action}: request {request} was not decided within {wait_s:g} s; it still waits")
            again = min(time.monotonic() + limits.APPROVAL_LOOK_S, deadline)
            while request not in self.noticed and (left := again - time.monotonic()) > 0:
                self.pump(left)

    def _approval_state(self, request: int) -> dict[str, Any]:
        try:
            return self.ask(gp.AskApproval(request), p.Done, limits.SERVICE_TIMEOUT_S).values
        except GovernanceDenied:
            raise
        except WeftError as error:
            raise GateUnavailable(f"what became of request {request} cannot be asked: {error}") from error

    @contextmanager
    def effect(
        self,
        action: str,
        context: dict[str, Any] | None = None,
        permit: HeldPermit | bytes = b"",
        *,
        of: int | None = None,
        timeout_s: float = limits.GATE_TIMEOUT_S,
    ) -> Iterator[int | None]:
        """Do something in the body of a ``with``: a permit is used up first, and what came of it is told behind.

        Args:
            action: to be done.
            context: the very facts that were approved.
            permit: as ``require`` returned it, or its token. Without a token the gate is only asked.
            of: pid of the agent whose permit it is, if this agent is the executor for another one.
            timeout_s: for an answer of the gate, in seconds.

        Yields:
            The number of the record of the intent; ``None`` without a token.

        Raises:
            GovernanceDenied: the gate denies, or the permit gives nothing: it was used, altered, or is for something
                else.
            GateDeferred: it takes an approval.
            GateUnavailable: the gate cannot be asked.
        """
        token = permit.token if isinstance(permit, HeldPermit) else permit
        found = self._decide(p.GateCheck(action, context or {}, of, token, bool(token)), timeout_s)
        require(found.decision, action)
        try:
            yield found.record
        except BaseException as error:
            if token:
                self._tell(token, getattr(error, "code", type(error).__name__), str(error))
            raise
        if token:
            self._tell(token, "", "")

    def _tell(self, token: bytes, error: str, reason: str) -> None:
        self.ask(gp.TellOutcome(token, error, reason[:500]), p.Done, limits.SERVICE_TIMEOUT_S)

    def _decide(self, request: p.GateCheck, timeout_s: float) -> p.Decided:
        try:
            return self.ask(request, p.Decided, timeout_s)
        except WeftError as error:
            raise GateUnavailable(
                f"{request.action} must not be done, because the gate cannot be asked: {error}"
            ) from error

"""What the kernel does for agents, past the gate: asked before, told behind.

    async with core.gatekeeper.effect(agent.pid, "agent.stop", {"target": 7}):
        …                                  gate.intent is on the log; gate.outcome follows, whatever happens here

Why it is as it is: every privileged act takes the same way, so none can forget one of its parts. The service writes
the intent with its decision, so there is no permit without it; the outcome names it. A permit that the agent was given
travels with its request and is shown here, where the act is done.

Guaranteed: the body runs only on a permit. Not guaranteed: the outcome, if the kernel is killed in the body; the intent
without one shows that.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from weftos.errors import GateUnavailable, WeftError
from weftos.governance.gate import Permit, require
from weftos.kernel.service_host import ServiceHost
from weftos.service import protocol as p

__all__ = ["PRESENTED", "Gatekeeper"]

#: Token of the permit that came with the request which this task serves.
PRESENTED: Final[contextvars.ContextVar[bytes]] = contextvars.ContextVar("presented", default=b"")
_TEXT_CHARS: Final = 500


class Gatekeeper:
    """Asks the gate for what the kernel is to do.

    Args:
        service: gives the service process, which decides.
        append: puts an event on the log without waiting.
    """

    def __init__(
        self,
        service: Callable[[], ServiceHost],
        append: Callable[[p.Append], None],
    ) -> None:
        self._service = service
        self._append = append

    @asynccontextmanager
    async def effect(self, pid: int, action: str, context: dict[str, Any]) -> AsyncIterator[Permit]:
        """Do something in the body for an agent, if the gate permits it.

        Args:
            pid: of the agent; 0 for the kernel and its operator.
            action: name from ``governance.gate.ACTIONS``.
            context: facts about it, named as there.

        Yields:
            The decision, with the permit that was used up for it.

        Raises:
            GovernanceDenied: the gate denies, or the permit that was shown gives nothing.
            GateDeferred: it takes a person's approval; the message names the request.
            GateUnavailable: it cannot be asked.
        """
        token = PRESENTED.get()
        try:
            reply = await self._service().ask(p.GateCheck(action, context, pid, token, True))
        except WeftError as error:
            raise GateUnavailable(f"{action} was not done, because the gate cannot be asked: {error}") from error
        assert isinstance(reply, p.Decided)
        decision = require(reply.decision, action)
        told: dict[str, Any] = {"pid": pid, "action": action, "intent": reply.record, "result": "done"}
        if decision.permit:
            told["permit"] = decision.permit
        try:
            yield decision
        except BaseException as error:
            code = error.code if isinstance(error, WeftError) else type(error).__name__
            told |= {"result": "failed", "error": code, "reason": str(error)[:_TEXT_CHARS]}
            raise
        finally:
            if reply.record is not None:
                self._append(p.Append("gate.outcome", told, f"agent:{pid}", reply.record))

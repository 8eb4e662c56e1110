"""What the system refuses to agents, put on the log: the first of a kind at once, the rest as sums.

Calls come from the listener of each agent's filter, refused paths from the system's audit, where it is on. What the
runtime tries by itself to find out what is in force comes before the agent has said that it is confined, and is not
counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections import OrderedDict
from contextlib import suppress
from typing import Final

import msgspec

from weftos import limits
from weftos.ipc.frames import close_all
from weftos.kernel.audit_reader import AuditReader
from weftos.kernel.core import Agent, Core
from weftos.kernel.listener import Listener, Pace
from weftos.kernel.process import ProcessEntry, ProcessState
from weftos.kernel.state import LogLevel
from weftos.rpc.agent_types import RefusalInfo, Refusals
from weftos.sandbox import landlock
from weftos.sandbox.audit import Denial
from weftos.sandbox.audit_state import open_records, why_not
from weftos.sandbox.measure import Measure, MeasureState
from weftos.sandbox.notices import Notice, Source, is_listener
from weftos.sandbox.refusals import Refusal, Tally, of_call

__all__ = ["RefusalDesk"]

log = logging.getLogger(__name__)

_ALONE: Final = "seen by the agent alone, because "
_RECORDED: Final = "recorded"
_TRUSTED: Final = "the profile is trusted"


class RefusalDesk:
    """Takes notice of refusals.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pace = Pace()
        self._machine = platform.machine()
        self._sums: dict[int, asyncio.TimerHandle] = {}
        #: Agents whose processes ended last, by OS pid: the audit tells late.
        self._ended: OrderedDict[int, ProcessEntry] = OrderedDict()
        self.audit: AuditReader[ProcessEntry] = AuditReader(self._life_of, self._denied)

    # --- the kernel ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to read the system's audit, if that can be done."""
        closed = why_not()
        records = None
        with suppress(OSError):  # why it cannot be opened stands in ``closed``
            records = open_records() if landlock.logs() else None
        self.audit.begin(records, closed)
        log.info("refused paths are %s", _ALONE + closed if closed else _RECORDED)

    def close(self) -> None:
        """Read no more."""
        self.audit.end()
        for timer in self._sums.values():
            timer.cancel()

    # --- a life -------------------------------------------------------------------------------------------------------

    def begin(self, agent: Agent) -> None:
        """An incarnation is about to be forked."""
        entry = agent.entry
        self._sum(entry)
        entry.tally = Tally()
        entry.unheard, entry.paths_heard, entry.tried_at = "the kernel was not given its listener", False, 0.0

    def confined(self, agent: Agent, unheard: str, tried_at: float) -> list[Measure]:
        """An incarnation has been confined, and loads its program next.

        Args:
            agent: it.
            unheard: why the kernel is not shown its calls, as the agent found; empty for no reason.
            tried_at: when it had tried what is in force, in seconds since 1970.

        Returns:
            What of its refusals will be on the log, as far as can be told by now.
        """
        entry = agent.entry
        entry.tried_at = tried_at
        if unheard:
            entry.unheard = unheard[: limits.RIGHTS_NAME_CHARS]
        if _is_trusted(entry):
            return [Measure(name, "open", _TRUSTED) for name in ("refused calls", "refused paths")]
        # Whether the rules of the audit leave the agent out shows later.
        return [
            _measure("refused calls", entry.unheard, "enforced"),
            _measure("refused paths", self.audit.closed, "partial"),
        ]

    def end(self, agent: Agent, os_pid: int | None) -> None:
        """An incarnation has ended; what it was refused since the last sum goes on the log."""
        self._sum(agent.entry)
        if agent.listener is not None:
            agent.listener.close()
            agent.listener = None
        if self.audit.open and os_pid is not None:
            self._ended[os_pid] = agent.entry
            while len(self._ended) > limits.AUDIT_WAITING_MAX:
                self._ended.popitem(last=False)

    def shown(self, entry: ProcessEntry) -> Refusals:
        """Return what is known of the refusals to an agent, in its present incarnation or its last."""
        if _is_trusted(entry):
            return Refusals(calls=_TRUSTED, paths=_TRUSTED)
        paths = "" if entry.paths_heard else self.audit.closed or "the system's audit tells nothing of it"
        return Refusals(
            calls=_ALONE + entry.unheard if entry.unheard else _RECORDED,
            paths=_ALONE + paths if paths else _RECORDED,
            counts=[RefusalInfo(**msgspec.to_builtins(one)) for one in entry.tally.totals()],
        )

    # --- calls --------------------------------------------------------------------------------------------------------

    def listen(self, agent: Agent, fds: list[int]) -> None:
        """Take the listener of an agent's filter, before its program is loaded; later, nothing is taken any more."""
        entry = agent.entry
        early = entry.state is ProcessState.STARTING and not entry.measures and agent.listener is None
        if early and fds and is_listener(fds[0]):
            agent.listener = Listener(
                Source(fds.pop(0)),
                self._pace,
                lambda notice: self._refused(agent, notice),
                lambda reason: self._lost(agent, reason),
            )
            entry.unheard = ""
        close_all(fds)

    def _refused(self, agent: Agent, notice: Notice) -> int:
        refusal, code = of_call(notice, self._machine)
        if not agent.entry.measures and agent.link is not None:
            # Whether it is still trying by itself, or its program runs: it says so before that is loaded.
            agent.link.drain()
        if agent.entry.measures:
            self._note(agent.entry, refusal)
        return code

    def _lost(self, agent: Agent, reason: str) -> None:
        agent.entry.unheard = reason
        self._core.emit(log, LogLevel.WARN, f"refused calls of agent {agent.pid} are on no record any more: {reason}")

    # --- paths --------------------------------------------------------------------------------------------------------

    def _life_of(self, os_pid: int) -> ProcessEntry | None:
        """Return the agent that a process is, was, or belongs to by its session."""
        agent = self._core.by_os_pid.get(os_pid)
        if agent is None:
            with suppress(OSError):  # it has ended
                agent = self._core.by_os_pid.get(os.getsid(os_pid))
        if agent is not None:
            return agent.entry
        return self._ended.get(os_pid)

    def _denied(self, entry: ProcessEntry, denial: Denial) -> None:
        entry.paths_heard = True
        # By the audit's clock, which stands still for some milliseconds: what comes within those counts as tried by the
        # runtime. A life that is not confined yet has nothing to do with its agent's program.
        if entry.measures and denial.at_ms > int(entry.tried_at * 1000):
            about = denial.about[: limits.REFUSAL_ABOUT_CHARS]
            self._note(entry, Refusal(what=denial.what, name=denial.name, about=about))

    # --- the record ---------------------------------------------------------------------------------------------------

    def _note(self, entry: ProcessEntry, refusal: Refusal) -> None:
        tally = entry.tally
        tally.life = tally.life or entry.life_payload()
        if tally.note(refusal):
            payload = tally.life | refusal.payload()
            self._core.record("agent.refused", payload, source="supervisor", subject=entry.agent_id)
            log.debug("agent %d was refused %s %s", entry.pid, refusal.what, refusal.name)
        elif entry.pid not in self._sums:
            loop = asyncio.get_running_loop()
            self._sums[entry.pid] = loop.call_later(limits.REFUSALS_SUM_S, lambda: self._sum(entry))

    def _sum(self, entry: ProcessEntry) -> None:
        timer = self._sums.pop(entry.pid, None)
        if timer is not None:
            timer.cancel()
        if entry.tally.waiting:
            counts = [msgspec.to_builtins(one) for one in entry.tally.take_later()]
            payload = entry.tally.life | {"counts": counts}
            self._core.record("agent.refusals", payload, source="supervisor", subject=entry.agent_id)


def _is_trusted(entry: ProcessEntry) -> bool:
    return entry.spec.capabilities.sandbox.profile == "trusted"


def _measure(name: str, alone: str, otherwise: MeasureState) -> Measure:
    return Measure(name, "absent", _ALONE + alone) if alone else Measure(name, otherwise, _RECORDED)

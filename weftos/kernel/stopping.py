"""Ending agents and letting them pause: what is asked of a living one, and what the system says that it did.

Why it is as it is: asking and observing are kept apart. A stop is a message, a signal and a deadline; that the agent
has ended shows when it is reaped, in ``weftos.kernel.supervisor``. ``suspended`` is a state that the system reported.

Guaranteed: an agent that was asked to stop is killed when its deadline has passed. Not guaranteed: that a program which
is stuck cleans up.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from weftos import limits
from weftos.agent import frames as f
from weftos.errors import WeftTimeout, WrongState
from weftos.ipc.payloads import KernelSignal
from weftos.kernel.core import Agent, Core
from weftos.kernel.process import ProcessEntry, ProcessState

__all__ = ["Stops"]

log = logging.getLogger(__name__)


class Stops:
    """Stops, kills, suspends and resumes agents.

    Args:
        core: shared state.
        retire: buries an agent that has no process, with the reason.
    """

    def __init__(self, core: Core, retire: Callable[[Agent, str], None]) -> None:
        self._core = core
        self._retire = retire

    # --- stop ---------------------------------------------------------------------------------------------------------

    async def stop(self, pid: int, *, graceful: bool, reason: str, timeout_s: float | None = None) -> ProcessEntry:
        """End an agent for good and wait until it is reaped. Stopping an ended one changes nothing.

        Raises:
            ProcessNotFound: no agent has or had this pid.
        """
        core = self._core
        agent = core.agents.get(pid)
        if agent is None:
            return core.table.get(pid)
        entry = agent.entry
        gone = agent.gone
        self.request_stop(agent, graceful=graceful, reason=reason, timeout_s=timeout_s)
        if gone is not None and not gone.done():
            await asyncio.shield(gone)
        return entry

    def request_stop(self, agent: Agent, *, graceful: bool, reason: str, timeout_s: float | None = None) -> None:
        """Begin to end an agent, without waiting."""
        entry = agent.entry
        if entry.state is ProcessState.EXITED:
            agent.disarm()
            self._retire(agent, reason)
            return
        first = entry.stop_requested is None
        entry.stop_requested = reason
        if not graceful:
            self._core.record("agent.force_stop", entry.life_payload() | {"by": reason}, subject=entry.agent_id)
            self.kill(agent, f"forced stop: {reason}")
            return
        if not first:
            return
        was_suspended = entry.state is ProcessState.SUSPENDED
        if entry.state is not ProcessState.STOPPING:
            entry.move(ProcessState.STOPPING)
        log.info("agent %d (%s) is asked to stop: %s", entry.pid, entry.spec.name, reason)
        self._core.record("agent.stop", entry.life_payload() | {"by": reason}, subject=entry.agent_id)
        if agent.child is None:
            # Its spawn is being recorded. Whoever spawns it looks for this request before it forks.
            return
        agent.signal_frame(f.SignalFrame(KernelSignal.SHUTDOWN))
        agent.child.send_signal(signal.SIGTERM)
        if was_suspended:
            # SIGTERM stays pending in a stopped process until it continues.
            agent.child.signal_group(signal.SIGCONT)
        grace = entry.spec.stop_timeout_s if timeout_s is None else timeout_s
        agent.arm(grace, lambda: self.kill(agent, f"stop deadline of {grace:g} s passed"))

    def kill(self, agent: Agent, why: str) -> None:
        """End an incarnation at once; its restart policy decides what follows."""
        if agent.child is None or agent.entry.state is ProcessState.EXITED:
            return
        agent.entry.kill_reason = why
        log.warning("agent %d (%s) is killed: %s", agent.pid, agent.entry.spec.name, why)
        agent.child.signal_group(signal.SIGKILL)
        if agent.group is not None:
            agent.group.kill()

    # --- suspend, resume ----------------------------------------------------------------------------------------------

    async def suspend(self, pid: int) -> ProcessEntry:
        """Stop an agent's whole session where it stands; returns when the system says that it has stopped."""
        return await self._pause(pid, ProcessState.RUNNING, signal.SIGSTOP, "suspend")

    async def resume(self, pid: int) -> ProcessEntry:
        """Let a suspended agent go on."""
        return await self._pause(pid, ProcessState.SUSPENDED, signal.SIGCONT, "resume")

    async def _pause(self, pid: int, wanted: ProcessState, number: signal.Signals, verb: str) -> ProcessEntry:
        agent = self._core.agent(pid)
        if agent.entry.state is not wanted or agent.child is None:
            raise WrongState(f"agent {pid} is {agent.entry.state}, not {wanted}; it cannot be {verb}d")
        agent.paused = asyncio.get_running_loop().create_future()
        agent.child.signal_group(number)
        try:
            await asyncio.wait_for(agent.paused, limits.STOP_TIMEOUT_S)
        except TimeoutError:
            raise WeftTimeout(f"agent {pid} did not {verb} within {limits.STOP_TIMEOUT_S:g} s") from None
        return agent.entry

    def paused(self, os_pid: int, *, stopped: bool) -> None:
        """A process stopped or continued."""
        agent = self._core.by_os_pid.get(os_pid)
        if agent is None:
            return
        if stopped:
            self._paused(agent, ProcessState.RUNNING, ProcessState.SUSPENDED, "agent.suspend")
        else:
            self._paused(agent, ProcessState.SUSPENDED, ProcessState.RUNNING, "agent.resume")

    def _paused(self, agent: Agent, before: ProcessState, after: ProcessState, kind: str) -> None:
        # The state follows the observation, so a SIGSTOP from elsewhere shows as well.
        if agent.entry.state is before:
            agent.entry.move(after)
            log.info("agent %d is %s", agent.pid, after.value)
            self._core.record(kind, agent.entry.life_payload(), source="supervisor", subject=agent.entry.agent_id)
        if agent.paused is not None and not agent.paused.done():
            agent.paused.set_result(None)

    # --- all together -------------------------------------------------------------------------------------------------

    async def stop_all(self, timeout_s: float, reason: str) -> None:
        """End every agent, the youngest first, all within one deadline."""
        core = self._core
        waiting = []
        for agent in sorted(core.agents.values(), key=lambda a: -a.pid):
            if agent.gone is not None and agent.entry.alive:
                waiting.append(asyncio.shield(agent.gone))
            self.request_stop(agent, graceful=True, reason=reason, timeout_s=timeout_s)
        if waiting:
            # The deadline's SIGKILL is armed for each of them; this waits for the reaping alone.
            await asyncio.wait(waiting, timeout=timeout_s + limits.STOP_TIMEOUT_S)

"""Supervision: spawn, watch, restart, bury. Stopping and suspending is asked for in ``weftos.kernel.stopping``.

One routine for each turn of a life, and one place that reaps. An agent's end goes through ``_ended`` exactly once per
incarnation, in a fixed order: record it, kill what is left of its session, note what it died on, tell those who watch,
put it on the chain, then decide whether it lives again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from weftos.agent import frames as f
from weftos.agent.main import CONFINE_EXIT, run_agent
from weftos.errors import SandboxFailed, SpawnFailed, WeftError
from weftos.ipc.frames import FrameChannel, close_all, socket_pair
from weftos.ipc.payloads import KernelSignal
from weftos.kernel import confinement, inherit
from weftos.kernel.agent_boot import boot_of
from weftos.kernel.core import Agent, Core
from weftos.kernel.exits import classify
from weftos.kernel.fork import fork_child
from weftos.kernel.introduce import introduce
from weftos.kernel.lines import AgentLines
from weftos.kernel.link import FrameLink
from weftos.kernel.process import ProcessEntry, ProcessState
from weftos.kernel.restart import RestartTracker, wants_restart
from weftos.kernel.state import KernelState, LogLevel
from weftos.kernel.stopping import Stops
from weftos.service import protocol as p

__all__ = ["Supervisor"]

log = logging.getLogger(__name__)


class Supervisor:
    """Runs agents.

    Args:
        core: shared state.
        on_frame: takes what an agent sends: the agent, the frame, its descriptors.
        on_gone: called when an agent has ended for good, before its lines are closed.
        on_life: called when an incarnation ended or a new one began, so that rings can be offered again.
    """

    def __init__(
        self,
        core: Core,
        on_frame: Callable[[Agent, Any, list[int]], None],
        on_gone: Callable[[Agent], None],
        on_life: Callable[[Agent, bool], None],
    ) -> None:
        self._core = core
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._on_life = on_life
        #: Cuts an ended agent down to its parent, before it lives again; set by the kernel.
        self.fit: Callable[[ProcessEntry], Awaitable[None]]
        self.stops = Stops(core, self._retire)

    # --- spawn --------------------------------------------------------------------------------------------------------

    async def spawn(self, spec: f.SpawnSpec, requester: int) -> Agent:
        """Start a new agent and wait until it is ready.

        Raises:
            SpawnFailed: the program is unknown, not loaded in time, or stopped before it ran; the agent is gone again.
            CapabilityDenied, GovernanceDenied, ResourceLimitExceeded, WrongState: it was not started at all.
        """
        core = self._core
        core.life.require_running()
        log.debug("spawn of %s asked for by agent %d", spec.program, requester)
        try:
            spec = inherit.checked_spec(core.table, spec)
            asked = {"program": spec.program, "name": spec.name, "parent": spec.parent}
            async with core.gatekeeper.effect(requester, "agent.spawn", asked):
                return await self._admit(spec, requester)
        except WeftError as error:
            log.warning("%s was not spawned for agent %d: %s", spec.program, requester, error)
            raise

    async def _admit(self, spec: f.SpawnSpec, requester: int) -> Agent:
        core = self._core
        async with core.authority:
            # The parent may have ended, or lost rights, while the gate was asked. From here on it cannot.
            inherit.checked_spec(core.table, spec)
            core.life.require_running()
            entry = core.table.add(spec, time.time())
            agent = self._enter(entry, self._make_lines(entry.pid))
            told = core.acting.signed("agent.spawn", entry.spawn_payload(requester))
            request = p.Append("agent.spawn", told, entry.agent_id)
            recorded = core.service.submit(request)
        try:
            await core.on_disk(recorded)
        except BaseException:
            self._retire(agent, "it was not started")
            raise
        if (why := entry.stop_requested) is not None:
            self._retire(agent, why)
            raise SpawnFailed(f"agent {entry.pid} ({spec.name}) was stopped before it ran: {why}")
        try:
            self._start(agent)
        except SpawnFailed as error:
            self._retire(agent, str(error))
            raise
        await self._until_ready(agent)
        return agent

    def _make_lines(self, pid: int) -> AgentLines:
        core = self._core
        ids = (core.next_ring_id(), core.next_ring_id(), core.next_ring_id(), core.next_ring_id())
        return AgentLines(pid, core.fresh_bell_name(), ids, core.users.group)

    def _enter(self, entry: ProcessEntry, lines: AgentLines) -> Agent:
        core = self._core
        policy = core.config.supervisor
        tracker = RestartTracker(policy.max_restarts, policy.within_secs, policy.backoff_secs, policy.backoff_max_secs)
        log_path = str(core.home.agent_log(entry.pid))
        agent = Agent(entry, lines, tracker, log_path, core.service.take_slot())
        core.agents[entry.pid] = agent
        return agent

    def _start(self, agent: Agent) -> None:
        """Fork one incarnation."""
        core, entry, lines = self._core, agent.entry, agent.lines
        entry.started_at = time.time()
        entry.measures = []
        entry.stop_requested = entry.kill_reason = entry.note = entry.restart_due = None
        agent.started_monotonic = time.monotonic()
        agent.ready = asyncio.get_running_loop().create_future()
        agent.gone = asyncio.get_running_loop().create_future()
        agent.ready.add_done_callback(_retrieved)
        plan = confinement.plan(core, agent)
        ours, theirs = socket_pair()
        door: list[int] = []
        Path(agent.log_path).parent.mkdir(mode=0o700, exist_ok=True)
        log_fd = os.open(agent.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            door += confinement.door(agent)
            boot = boot_of(core, agent, plan, theirs, door)
            keep = [theirs.fileno(), core.service.segment.fd, *lines.inherited(), *door]
            agent.child = fork_child(lambda: run_agent(boot), keep=keep, log_fd=log_fd)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(log_fd)
            theirs.close()
            close_all(door)
        entry.os_pid = agent.child.os_pid
        log.info(
            "agent %d (%s) forked: OS process %d, incarnation %d, program %s, parent %d",
            entry.pid,
            entry.spec.name,
            entry.os_pid,
            entry.incarnation,
            entry.spec.program,
            entry.spec.parent,
        )
        core.by_os_pid[agent.child.os_pid] = agent
        channel: FrameChannel[Any] = FrameChannel(ours, f.FromAgent)
        agent.link = FrameLink(
            channel,
            lambda frame, fds: self._on_frame(agent, frame, fds),
            lambda reason: self._link_lost(agent, reason),
        )
        introduce(core, agent)
        agent.introduced = True
        self._on_life(agent, True)
        timeout = entry.spec.start_timeout_s
        agent.arm(timeout, lambda: self.stops.kill(agent, f"start deadline of {timeout:g} s passed"))

    async def _until_ready(self, agent: Agent) -> None:
        assert agent.ready is not None
        await asyncio.shield(agent.ready)

    def became_ready(self, agent: Agent, frame: f.Ready) -> None:
        """The agent's first frame: its program is loaded."""
        if agent.entry.state is not ProcessState.STARTING:
            return
        agent.disarm()
        agent.entry.isolation = list(frame.isolation)
        agent.entry.move(ProcessState.RUNNING)
        log.info("agent %d is ready after %.1f ms", agent.pid, (time.monotonic() - agent.started_monotonic) * 1000)
        self._core.record("agent.ready", agent.entry.life_payload(), subject=agent.entry.agent_id)
        if agent.ready is not None and not agent.ready.done():
            agent.ready.set_result(None)

    def _link_lost(self, agent: Agent, reason: str) -> None:
        # A closed control socket of a live process means that it cannot be reached any more; its end shows as SIGCHLD.
        if agent.entry.state is ProcessState.EXITED or agent.entry.stop_requested is not None:
            return
        pid = agent.entry.os_pid
        if pid is not None and os.path.exists(f"/proc/{pid}") and "gone" not in reason:
            self.stops.kill(agent, f"its control socket failed: {reason}")

    # --- restart ------------------------------------------------------------------------------------------------------

    async def restart(self, pid: int, reason: str) -> Agent:
        """End the present incarnation, if there is one, and run the program again under the same pid.

        Raises:
            ProcessNotFound: no agent has or had this pid.
            SpawnFailed: the new incarnation did not become ready.
        """
        core = self._core
        core.life.require_running()
        agent = core.agents.get(pid)
        if agent is None:
            await self.fit(core.table.get(pid))
            agent = self._revive(pid)
        else:
            agent.tracker.forgive()
            if agent.entry.alive:
                agent.restart_now = True
                gone = agent.gone
                self.stops.request_stop(agent, graceful=True, reason=reason)
                assert gone is not None
                await asyncio.shield(gone)
            else:
                agent.disarm()
        agent.restart_now = False
        self._again(agent, reason)
        await self._until_ready(agent)
        return agent

    def _revive(self, pid: int) -> Agent:
        entry = self._core.table.revive(pid, time.time())
        confinement.revived(self._core, entry)
        entry.quarantined = False
        if entry.spec.parent and self._core.table.live(entry.spec.parent) is None:
            entry.spec = msgspec.structs.replace(entry.spec, parent=0)
        return self._enter(entry, self._make_lines(pid))

    def _again(self, agent: Agent, reason: str) -> None:
        """Begin the next incarnation."""
        entry = agent.entry
        entry.move(ProcessState.STARTING)
        entry.incarnation += 1
        entry.restarts += 1
        payload = entry.life_payload() | {"because": reason, "parent_pid": entry.spec.parent}
        log.info("agent %d begins incarnation %d: %s", entry.pid, entry.incarnation, reason)
        self._core.record("agent.restart", payload, source="supervisor", subject=entry.agent_id)
        try:
            self._start(agent)
        except SpawnFailed as error:
            self._core.emit(log, LogLevel.ERROR, f"agent {entry.pid} cannot be restarted: {error}")
            entry.move(ProcessState.EXITED)
            self._retire(agent, str(error))

    # --- reaping ------------------------------------------------------------------------------------------------------

    def ended(self, os_pid: int, status: int, usage: resource.struct_rusage) -> bool:
        """A process was reaped; returns whether it was an agent."""
        agent = self._core.by_os_pid.get(os_pid)
        if agent is None:
            return False
        self._ended(agent, status, usage)
        return True

    def _ended(self, agent: Agent, status: int, usage: resource.struct_rusage) -> None:
        core, entry = self._core, agent.entry
        agent.disarm()
        assert agent.child is not None
        del core.by_os_pid[agent.child.os_pid]
        if agent.link is not None:
            agent.link.drain()
            agent.link.close()
            agent.link = None
        record = classify(
            status,
            usage,
            stop_requested=entry.stop_requested,
            kill_reason=entry.kill_reason,
            note=entry.note,
            started_at=entry.started_at,
            ended_at=time.time(),
            incarnation=entry.incarnation,
            out_of_memory=agent.group is not None and agent.group.out_of_memory(),
        )
        entry.cpu_before += record.cpu_user_secs + record.cpu_system_secs
        entry.last_exit = record
        entry.move(ProcessState.EXITED)
        entry.os_pid = None
        confinement.close(core, agent, agent.child.os_pid)
        agent.child.close()
        agent.child = None
        self._on_life(agent, False)
        core.emit(
            log,
            LogLevel.WARN if record.abnormal else LogLevel.INFO,
            f"agent {entry.pid} ({entry.spec.name}) ended: {record.message}",
        )
        payload = entry.life_payload() | {"exit": msgspec.to_builtins(record)}
        core.record("agent.exit", payload, source="supervisor", subject=entry.agent_id)
        self._decide(agent)
        for waiting in (agent.gone, agent.paused):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    def _decide(self, agent: Agent) -> None:
        """Restart now, restart later, give up, or bury."""
        core, entry, record = self._core, agent.entry, agent.entry.last_exit
        assert record is not None
        if agent.ready is not None and not agent.ready.done():
            # Also when it was asked to stop meanwhile: somebody still waits for it.
            kind = SandboxFailed if record.code == CONFINE_EXIT else SpawnFailed
            agent.ready.set_exception(kind(f"agent {entry.spec.name} did not become ready: {record.message}"))
            if entry.incarnation == 1 and not agent.restart_now:
                # It has never run: there is nothing to bring back.
                self._retire(agent, record.message)
                return
        if agent.restart_now:
            return
        running = core.life.state is KernelState.RUNNING
        again = wants_restart(
            entry.spec.restart, abnormal=record.abnormal, stop_requested=entry.stop_requested is not None
        )
        if not running or not again:
            self._retire(agent, record.message)
            return
        delay = agent.tracker.next_delay(time.monotonic(), time.monotonic() - agent.started_monotonic)
        if delay is None:
            self._quarantine(agent)
            return
        entry.restart_due = time.monotonic() + delay
        core.emit(log, LogLevel.WARN, f"agent {entry.pid} ({entry.spec.name}) is restarted in {delay:g} s")
        agent.arm(delay, lambda: self._restart_due(agent))

    def _restart_due(self, agent: Agent) -> None:
        agent.entry.restart_due = None
        if self._core.life.state is KernelState.RUNNING and agent.entry.last_exit is not None:
            self._again(agent, agent.entry.last_exit.message)
        else:
            self._retire(agent, "the kernel is shutting down")

    def _quarantine(self, agent: Agent) -> None:
        core, entry = self._core, agent.entry
        policy = core.config.supervisor
        entry.quarantined = True
        why = f"{policy.max_restarts} restarts within {policy.within_secs:g} s were not enough"
        core.emit(log, LogLevel.ERROR, f"agent {entry.pid} ({entry.spec.name}) is quarantined: {why}")
        payload = entry.life_payload() | {"why": why}
        core.record("agent.escalate", payload, source="supervisor", subject=entry.agent_id)
        parent = core.agents.get(entry.spec.parent)
        if parent is not None:
            parent.signal_frame(
                f.SignalFrame(KernelSignal.MONITOR_DOWN, {"pid": entry.pid, "reason": f"quarantined: {why}"})
            )
        self._retire(agent, why)

    def _retire(self, agent: Agent, reason: str) -> None:
        """The agent is gone for good: its rings close, its inbox goes to the dead letters, its children are stopped."""
        core, entry = self._core, agent.entry
        if core.agents.pop(entry.pid, None) is None:
            return
        log.debug("agent %d is gone for good: %s", entry.pid, reason)
        if entry.state is not ProcessState.EXITED:
            entry.move(ProcessState.EXITED)
        payload = entry.life_payload() | {"reason": reason}
        core.record("agent.gone", payload, source="supervisor", subject=entry.agent_id)
        for child in core.table.descendants(entry.pid):
            living = core.agents.get(child)
            if living is not None:
                self.stops.request_stop(living, graceful=True, reason=f"its parent, agent {entry.pid}, ended: {reason}")
        self._on_gone(agent)
        core.service.detach(entry.pid)
        agent.lines.close()
        core.scratch.remove(entry.pid)
        confinement.close(core, agent)
        core.table.retire(entry.pid)


def _retrieved(future: asyncio.Future[None]) -> None:
    """Look at an exception that nobody waits for, so that the event loop does not complain."""
    if not future.cancelled():
        future.exception()

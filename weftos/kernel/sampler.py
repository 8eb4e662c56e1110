"""Usage and limits: what agents really use, sampled by the kernel, and what happens at 80 and at more than 100 percent.

The system's own limits (``setrlimit``) bite by themselves; this catches what they do not: resident memory, processes
that root may fork without bound, messages. A breach ends the incarnation, with the numbers in the exit record and on
the chain.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from typing import Any, Final

from weftos import limits
from weftos.agent.frames import SignalFrame
from weftos.ipc.payloads import KernelSignal
from weftos.kernel.channels import RingRecord
from weftos.kernel.core import Agent, Core
from weftos.kernel.inspect import descriptor_count
from weftos.kernel.scratch_meter import ScratchMeter
from weftos.kernel.state import LogLevel
from weftos.kernel.supervisor import Supervisor
from weftos.sandbox.groups import GroupUsage
from weftos.shm import RingInspector, Segment

__all__ = ["Sampler", "session_sizes"]

log = logging.getLogger(__name__)

_PAGE: Final = resource.getpagesize()
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def session_sizes() -> dict[int, int]:
    """Count the processes of every session on this machine (proc(5), field 6 of stat); empty without /proc."""
    sizes: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return sizes
    for name in names:
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                after = file.read().rpartition(b")")[2].split()
        except OSError:
            # It ended between the listing and the look.
            continue
        session = int(after[3])
        sizes[session] = sizes.get(session, 0) + 1
    return sizes


def resident_bytes(os_pid: int) -> int:
    """Resident memory of a process, 0 when it has ended."""
    try:
        with open(f"/proc/{os_pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def cpu_seconds(os_pid: int) -> float:
    """CPU time of a process, 0 when it has ended."""
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            after = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(after[11]) + int(after[12])) / _TICKS


class Sampler:
    """Looks at every agent once per interval.

    Args:
        core: shared state.
        supervisor: ends incarnations that broke a limit.
    """

    def __init__(self, core: Core, supervisor: Supervisor) -> None:
        self._core = core
        self._supervisor = supervisor
        self._sessions: dict[int, int] = {}
        self._scratch = ScratchMeter()

    def usage(self, agent: Agent) -> dict[str, float]:
        """What an agent uses now, under the names of its limits."""
        os_pid = agent.entry.os_pid
        seen = agent.group.usage() if agent.group is not None else GroupUsage()
        kept: dict[str, float] = {
            "artifact_bytes": agent.artifacts.used,
            "scratch_bytes": self._scratch.used(agent.pid),
        }
        if os_pid is None:
            return dict.fromkeys(("memory_bytes", "cpu_seconds", "descriptors", "processes", "messages"), 0) | kept
        return kept | {
            "memory_bytes": resident_bytes(os_pid) if seen.memory_bytes is None else seen.memory_bytes,
            "cpu_seconds": cpu_seconds(os_pid) if seen.cpu_seconds is None else seen.cpu_seconds,
            "descriptors": descriptor_count(os_pid),
            "processes": self._sessions.get(os_pid, 1) if seen.tasks is None else seen.tasks,
            "messages": self.messages_sent(agent),
        }

    def messages_sent(self, agent: Agent) -> int:
        """Messages in all rings that the agent writes, counted in the rings."""
        total = RingInspector(agent.lines.from_agent).statistics().put
        segment = Segment.attach(os.dup(agent.lines.request_fd))
        try:
            total += RingInspector(segment).statistics().put
        finally:
            segment.close()
        for record in self._core.channels.outgoing(agent.pid):
            with record.inspect() as inspector:
                total += inspector.statistics().put
        return total

    def tick(self) -> None:
        """One round over all agents and rings."""
        self._sessions = session_sizes()
        self._scratch.look({pid: self._core.scratch.path(pid) for pid in self._core.agents})
        for agent in list(self._core.agents.values()):
            if agent.entry.os_pid is not None and agent.entry.stop_requested is None:
                self._check(agent)

    def _check(self, agent: Agent) -> None:
        wanted = agent.entry.spec.limits
        os_pid = agent.entry.os_pid
        assert os_pid is not None
        group = agent.group.usage() if agent.group is not None else GroupUsage()
        # The main process holds memory that was charged to whoever touched it first; the group holds its children's.
        used: dict[str, float] = {
            "memory_bytes": max(resident_bytes(os_pid), group.memory_bytes or 0) if wanted.memory_bytes else 0,
            "processes": max(self._sessions.get(os_pid, 1), group.tasks or 0),
            "cpu_seconds": max(cpu_seconds(os_pid), group.cpu_seconds or 0) if wanted.cpu_seconds else 0,
            "messages": self.messages_sent(agent) if wanted.messages else 0,
            "scratch_bytes": self._scratch.used(agent.pid),
        }
        for name, value in used.items():
            limit = getattr(wanted, name)
            if limit:
                self._compare(agent, name, value, limit)

    def _compare(self, agent: Agent, name: str, value: float, limit: int) -> None:
        data: dict[str, Any] = {"resource": name, "current": round(value, 3), "limit": limit}
        if value > limit:
            if agent.entry.kill_reason is None:
                self._core.record("resource.breach", {"pid": agent.pid, **data}, subject=agent.entry.agent_id)
                self._supervisor.stops.kill(agent, f"limit {name}: {value:g} is more than {limit}")
        elif value >= limit * limits.LIMIT_WARNING_RATIO:
            if name not in agent.warned:
                agent.warned.add(name)
                agent.signal_frame(SignalFrame(KernelSignal.RESOURCE_WARNING, data))
                self._core.record("resource.warning", {"pid": agent.pid, **data}, subject=agent.entry.agent_id)
                self._core.emit(log, LogLevel.WARN, f"agent {agent.pid} uses {value:g} of its {limit} {name}")
        else:
            agent.warned.discard(name)

    def rates(self, record: RingRecord) -> tuple[int, int, int]:
        """Messages, bytes and depth of a ring now; brings its rates up to date when the last sample is old enough."""
        with record.inspect() as inspector:
            seen = inspector.statistics()
            depth = seen.depth_bytes
        now = time.monotonic()
        then, messages, size = record.sampled
        if then == 0.0:
            record.sampled = (now, seen.put, seen.head)
        elif now - then >= limits.SAMPLE_INTERVAL_S / 2:
            record.messages_per_sec = (seen.put - messages) / (now - then)
            record.bytes_per_sec = (seen.head - size) / (now - then)
            record.sampled = (now, seen.put, seen.head)
        return seen.put, seen.head, depth

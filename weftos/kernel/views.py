"""What the kernel shows of itself: its records as the control socket's results. Reads only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from weftos.ids import KERNEL_PID
from weftos.ipc.payloads import payload_type
from weftos.kernel.channels import RingRecord
from weftos.kernel.core import Agent, Core
from weftos.kernel.exits import ExitRecord
from weftos.kernel.holding import held_by
from weftos.kernel.inspect import observe
from weftos.kernel.process import ProcessEntry
from weftos.kernel.registry import ServiceRegistry
from weftos.kernel.sampler import Sampler, cpu_seconds, resident_bytes
from weftos.rpc import agent_types as a
from weftos.rpc import kernel_types as kt
from weftos.rpc import message_types as mt
from weftos.rpc.state_types import KernelHeld
from weftos.shm import RingInspector

__all__ = ["Views"]


class Views:
    """Builds results.

    Args:
        core: shared state.
        registry: services.
        sampler: usage and rates.
        witnesses: names of those that run.
    """

    def __init__(
        self, core: Core, registry: ServiceRegistry, sampler: Sampler, witnesses: Callable[[], list[str]]
    ) -> None:
        self._core = core
        self._witnesses = witnesses
        self._registry = registry
        self._sampler = sampler

    def held(self, seq: int) -> KernelHeld:
        """What the kernel holds; ``seq`` is the record up to which the log says the same."""
        return held_by(self._core, self._registry, self._witnesses(), seq)

    def row(self, entry: ProcessEntry) -> a.ProcessInfo:
        """One row of the process table."""
        os_pid = entry.os_pid
        return a.ProcessInfo(
            pid=entry.pid,
            os_pid=os_pid,
            agent_id=entry.agent_id,
            name=entry.spec.name,
            program=entry.spec.program,
            state=entry.state.value,
            parent_pid=entry.spec.parent or None,
            incarnation=entry.incarnation,
            restarts=entry.restarts,
            rss_bytes=resident_bytes(os_pid) if os_pid else 0,
            cpu_seconds=round(entry.cpu_before + (cpu_seconds(os_pid) if os_pid else 0.0), 3),
            uptime_secs=round(time.time() - entry.started_at, 3) if os_pid else 0.0,
            last_exit=exit_view(entry.last_exit),
        )

    def rows(self, *, ended: bool) -> list[a.ProcessInfo]:
        """The process table, in order of pid."""
        entries = [*self._core.table, *(self._core.table.ended() if ended else ())]
        return [self.row(entry) for entry in sorted(entries, key=lambda entry: entry.pid)]

    def detail(self, pid: int) -> a.AgentDetail:
        """Everything about one agent, alive or remembered.

        Raises:
            ProcessNotFound: no agent has or had this pid.
        """
        entry = self._core.table.get(pid)
        agent = self._core.agents.get(pid)
        seen = observe(entry.os_pid, rollup=agent.rollup if agent is not None else -1) if entry.os_pid else None
        facts: dict[str, Any] = {}
        if seen is not None:
            names = ("uss_bytes", "pss_bytes", "threads", "open_files", "descriptors", "processes", "cgroup", "unknown")
            facts = {name: getattr(seen, name) for name in names}
            facts |= {"uid": seen.uid, "gid": seen.gid}
            facts["voluntary_switches"] = seen.voluntary_switches
            facts["involuntary_switches"] = seen.involuntary_switches
        wanted: dict[str, int] = msgspec.to_builtins(entry.spec.limits)
        usage = self._sampler.usage(agent) if agent is not None else {}
        row = msgspec.structs.asdict(self.row(entry))
        if seen is not None:
            row["rss_bytes"] = seen.rss_bytes
        return a.AgentDetail(
            **row,
            args=list(entry.spec.args),
            children=sorted(entry.children),
            **facts,
            started_at=entry.started_at,
            limits=wanted,
            usage=usage,
            usage_percent={
                name: round(100 * usage.get(name, 0) / limit, 1)
                for name, limit in wanted.items()
                if limit and name in usage
            },
            rings=self._rings(agent) if agent is not None else [],
            capabilities=msgspec.to_builtins(entry.spec.capabilities),
            role=entry.spec.role,
            epoch=entry.epoch,
            changed_by=entry.changed_by,
            changed_why=entry.changed_why,
            isolation=list(entry.isolation),
            profile=entry.spec.capabilities.sandbox.profile,
            confinement=[a.Confinement(name=m.name, state=m.state, detail=m.detail) for m in entry.measures],
            refusals=self._core.refusals.shown(entry),
            scratch=self._core.scratch.path(pid),
            topics=self._core.topics.topics_of(pid),
            services=self._registry.owned_by(pid),
            quarantined=entry.quarantined,
            log_path=str(self._core.home.agent_log(pid)),
        )

    def _rings(self, agent: Agent) -> list[a.RingInfo]:
        lines = agent.lines
        rings = []
        for direction, segment, ring_id in (
            ("in", lines.to_agent, lines.to_agent_id),
            ("out", lines.from_agent, lines.from_agent_id),
        ):
            seen = RingInspector(segment).statistics()
            rings.append(
                a.RingInfo(
                    ring_id=ring_id,
                    direction="in" if direction == "in" else "out",
                    peer_pid=KERNEL_PID,
                    capacity_bytes=seen.capacity,
                    depth_bytes=seen.depth_bytes,
                    messages=seen.put,
                    bytes=seen.head,
                )
            )
        rings.extend(self._ring(record, "in") for record in self._core.channels.incoming(agent.pid))
        rings.extend(self._ring(record, "out") for record in self._core.channels.outgoing(agent.pid))
        return rings

    def _ring(self, record: RingRecord, direction: str) -> a.RingInfo:
        messages, size, depth = self._sampler.rates(record)
        return a.RingInfo(
            ring_id=record.ring_id,
            direction="in" if direction == "in" else "out",
            peer_pid=record.src if direction == "in" else record.dst,
            capacity_bytes=record.capacity,
            depth_bytes=depth,
            messages=messages,
            bytes=size,
            messages_per_sec=round(record.messages_per_sec, 1),
            bytes_per_sec=round(record.bytes_per_sec, 1),
            topics=sorted(record.topics),
        )

    def services(self) -> list[kt.ServiceInfo]:
        """All services; those of the kernel first, in order of registration."""
        now = time.time()
        found = []
        host = self._core.service
        for record in self._registry.records():
            system = record.system is not None
            in_service = system and record.name == "service"
            owner = self._core.agents.get(record.owner_pid) if record.owner_pid is not None else None
            os_pid = (
                (host.child.os_pid if host.child else None) if in_service else owner.entry.os_pid if owner else None
            )
            started = host.started_at if in_service else record.registered_at
            if system:
                state = ("running" if host.ready else "failed") if in_service else "running"
                health = record.last.health.value
            else:
                state = owner.entry.state.value if owner else "stopped"
                health = "healthy" if state == "running" else "degraded"
            found.append(
                kt.ServiceInfo(
                    name=record.name,
                    service_type="system" if system else "agent",
                    state=state,
                    health=health,
                    os_pid=os_pid,
                    owner_pid=record.owner_pid,
                    restarts=max(host.incarnation - 1, 0) if in_service else owner.entry.restarts if owner else 0,
                    uptime_secs=round(now - started, 3),
                    methods=list(record.methods),
                )
            )
        return found

    def topics(self) -> list[mt.TopicInfo]:
        """Topics with their subscribers and publishers."""
        table = self._core.topics
        return [
            mt.TopicInfo(
                topic=topic,
                subscriber_count=len(table.subscribers(topic)),
                subscribers=table.subscribers(topic),
                publishers=table.publishers(topic),
            )
            for topic in table.topics()
        ]

    def dead_letters(self, count: int) -> list[mt.DeadLetterInfo]:
        """The newest dead letters, oldest first."""
        return [
            mt.DeadLetterInfo(
                message_id=letter.message_id,
                timestamp=letter.timestamp,
                sender=letter.sender,
                target=letter.target,
                reason=letter.reason.value,
                detail=letter.detail,
                payload_type=letter.payload_type,
                size_bytes=len(letter.data),
                preview=letter.data[:80].decode("utf-8", "replace"),
                deliveries=letter.deliveries,
            )
            for letter in self._core.dead_letters.newest(count)
        ]


def exit_view(record: ExitRecord | None) -> a.ExitRecord | None:
    """An exit record as the control socket shows it."""
    if record is None:
        return None
    return a.ExitRecord(**(msgspec.structs.asdict(record) | {"reason": record.reason.value}))


def reply_view(payload: Any) -> tuple[Any, str]:
    """A reply in a form that JSON holds, and the kind of its payload."""
    kind = payload_type(payload)
    if isinstance(payload, np.ndarray):
        return payload.tolist(), kind
    return payload, kind

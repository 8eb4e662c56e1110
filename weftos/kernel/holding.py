"""What the kernel holds at this moment, in the words of ``rpc.state_types``. Reads only."""

from __future__ import annotations

import msgspec

from weftos.kernel.access_folding import settings_held, token_held
from weftos.kernel.core import Agent, Core
from weftos.kernel.folding import SETTLED
from weftos.kernel.registry import ServiceRegistry
from weftos.rpc.state_types import AgentHeld, KernelHeld, RingHeld, ServiceHeld, TopicHeld

__all__ = ["held_by"]


def held_by(core: Core, registry: ServiceRegistry, witnesses: list[str], seq: int) -> KernelHeld:
    """Return what the kernel holds.

    Args:
        core: shared state.
        registry: services.
        witnesses: names of those that run.
        seq: number of the newest record that says something of it.
    """
    return KernelHeld(
        boot_id=core.boot_id.hex(),
        seq=seq,
        service_incarnation=core.service_on_log,
        agents=[_agent(core, core.agents[pid]) for pid in sorted(core.agents)],
        rings=[
            RingHeld(
                ring=one.ring_id,
                src=one.src,
                dst=one.dst,
                direct=one.direct,
                broadcast=one.broadcast,
                topics=sorted(one.topics),
                capacity_bytes=one.capacity,
            )
            for one in sorted(core.channels, key=lambda one: one.ring_id)
        ],
        topics=[
            TopicHeld(topic=topic, subscribers=core.topics.subscribers(topic), publishers=core.topics.publishers(topic))
            for topic in core.topics.topics()
        ],
        services=[
            ServiceHeld(name=one.name, pid=one.owner_pid, methods=list(one.methods))
            for one in sorted(registry.records(), key=lambda one: one.name)
            if one.owner_pid is not None
        ],
        witnesses=witnesses,
        dead_letters=len(core.dead_letters) + core.dead_letters.evicted,
        tokens=[token_held(one) for one in core.tokens.held()],
        settings=settings_held(core.settings.known),
    )


def _agent(core: Core, agent: Agent) -> AgentHeld:
    entry = agent.entry
    return AgentHeld(
        pid=entry.pid,
        agent_id=entry.agent_id,
        name=entry.spec.name,
        program=entry.spec.program,
        parent_pid=entry.spec.parent,
        restart=entry.spec.restart,
        state=entry.state.value,
        incarnation=entry.incarnation,
        os_pid=entry.os_pid if entry.state.value in SETTLED else None,
        watchers=sorted(pid for pid in agent.watchers if pid in core.agents),
        links=sorted(pid for pid in agent.links if pid in core.agents),
        role=entry.spec.role,
        epoch=entry.epoch,
        capabilities=msgspec.to_builtins(entry.spec.capabilities),
        limits=msgspec.to_builtins(entry.spec.limits),
        ceiling=msgspec.to_builtins(entry.ceiling),
    )

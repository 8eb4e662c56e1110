"""Who an agent is and what it may do, told to those who must know: the service, and the agent's own page."""

from __future__ import annotations

import msgspec

from weftos.agent.rights import RightsPage
from weftos.kernel.core import Agent, Core
from weftos.kernel.lines import SERVICE_SLOT
from weftos.service import protocol as p

__all__ = ["introduce"]


def introduce(core: Core, agent: Agent) -> None:
    """Tell what an agent may do now. The service counts by it from its next round on."""
    entry, lines = agent.entry, agent.lines
    spec = entry.spec
    page = RightsPage(entry.pid, spec.parent, spec.capabilities, spec.limits)
    lines.publish(entry.epoch, msgspec.msgpack.encode(page))
    frame = p.AttachClient(
        entry.pid,
        entry.agent_id,
        entry.incarnation,
        spec.capabilities,
        spec.parent,
        agent.service_slot,
        SERVICE_SLOT,
        lines.request_id,
        lines.bell_name,
        entry.scope,
    )
    core.service.attach(frame, [lines.request_fd, lines.reply_fd, lines.mailbox.fd])

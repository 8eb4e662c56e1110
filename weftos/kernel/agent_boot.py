"""What the kernel leaves for an agent's process at fork, put together."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from weftos.agent.boot import AgentBoot
from weftos.kernel.core import Agent, Core
from weftos.kernel.lines import KERNEL_SLOT, SERVICE_SLOT
from weftos.sandbox.plan import Plan
from weftos.service.memory_settings import embedding_settings

__all__ = ["boot_of"]


def boot_of(core: Core, agent: Agent, plan: Plan, control: socket.socket, door: Sequence[int]) -> AgentBoot:
    """Put together what one incarnation starts with.

    Args:
        core: shared state.
        agent: whose it is.
        plan: by what it is confined.
        control: its end of the control socket.
        door: descriptor by which it enters its control group, if it has one.
    """
    entry, lines = agent.entry, agent.lines
    return AgentBoot(
        pid=entry.pid,
        incarnation=entry.incarnation,
        spec=entry.spec,
        plan=plan,
        control=control,
        mailbox_fd=lines.mailbox.fd,
        bell_name=lines.bell_name,
        to_agent_fd=lines.to_agent.fd,
        from_agent_fd=lines.from_agent.fd,
        to_agent_ring=lines.to_agent_id,
        from_agent_ring=lines.from_agent_id,
        kernel_slot=KERNEL_SLOT,
        request_fd=lines.request_fd,
        reply_fd=lines.reply_fd,
        service_slot=SERVICE_SLOT,
        service_mailbox_fd=core.service.segment.fd,
        service_bell=core.service.bell.name,
        service_request_slot=agent.service_slot,
        kernel_os_pid=os.getpid(),
        group_fd=door[0] if door else -1,
        rights_fd=lines.page.fd if lines.page is not None else -1,
        durable=core.config.chain.durability == "durable",
        window_secs=core.config.ipc.window_secs,
        message_leaves=core.config.ipc.windows == "messages",
        proof_topics=tuple(core.config.ipc.proof_topics),
        embedding=embedding_settings(core.config.memory),
    )

"""What the kernel leaves for an agent's process at fork."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from weftos import limits
from weftos.agent.frames import SpawnSpec
from weftos.ecc.embedding.registry import EmbeddingSettings
from weftos.sandbox.plan import Plan

__all__ = ["AgentBoot"]


@dataclass(slots=True, kw_only=True)
class AgentBoot:
    """Identity, descriptors and places; read once, in the child.

    Attributes:
        pid, incarnation, spec: who it is and what it runs.
        control: the agent's end of the control socket.
        mailbox_fd, bell_name: its mailbox and doorbell.
        to_agent_fd, to_agent_ring, kernel_slot: the ring from the kernel, its number, and its ready byte.
        from_agent_fd, from_agent_ring: the ring to the kernel.
        request_fd, reply_fd, service_slot: the rings to and from the service process, and the ready byte of the latter.
        rights_fd: the page that says what it may do; -1 where the system has none.
        service_mailbox_fd, service_bell, service_request_slot: where the service process looks for requests.
        durable: whether its appends, unless they say otherwise, are answered only when they are on disk.
        audit: whether both ends of its rings hash what passes.
        window_secs: how often its open streams say how far they are, in seconds.
        message_leaves: whether windows of rings carry a Merkle root over their messages.
        proof_topics: topics whose windows do.
        plan: by what the process is confined.
        kernel_os_pid: OS process that forked it, with which it ends.
        group_fd: the door to its control group; -1 for none.
        embedding: what makes vectors of texts.
    """

    pid: int
    incarnation: int
    spec: SpawnSpec
    plan: Plan
    control: socket.socket
    mailbox_fd: int
    bell_name: str
    to_agent_fd: int
    from_agent_fd: int
    to_agent_ring: int
    from_agent_ring: int
    kernel_slot: int
    request_fd: int
    reply_fd: int
    service_slot: int
    service_mailbox_fd: int
    service_bell: str
    service_request_slot: int
    kernel_os_pid: int
    rights_fd: int = -1
    group_fd: int = -1
    durable: bool = True
    audit: bool = True
    window_secs: float = limits.WINDOW_SECS
    message_leaves: bool = False
    proof_topics: tuple[str, ...] = ()
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)

"""The shared memory of one agent that outlives its incarnations: mailbox, doorbell, rings to kernel and service.

::

    kernel ──to_agent──▶ ┌───────┐ ──request──▶ service
    kernel ◀─from_agent─ │ agent │ ◀──reply──── service
                         └───────┘ ◀── any number of granted rings (``weftos.kernel.channels``)

The kernel keeps the descriptors. What it has mapped itself is marked not to be inherited by forks, so an agent never
finds another agent's memory in its own address space.
"""

from __future__ import annotations

import mmap
import os

from weftos import limits
from weftos.errors import DoorbellLost, SharedMemoryError
from weftos.shm import Bulletin, Doorbell, MailboxPeer, RingConsumer, RingProducer, Segment, create_mailbox, create_ring
from weftos.shm.mailbox import READY

__all__ = ["FIRST_GRANT_SLOT", "KERNEL_SLOT", "SERVICE_SLOT", "AgentLines", "private_to_kernel"]

#: Ready bytes in an agent's mailbox: 0 is the control socket.
CONTROL_SLOT = 0
KERNEL_SLOT = 1
SERVICE_SLOT = 2
FIRST_GRANT_SLOT = 3


def private_to_kernel(segment: Segment) -> Segment:
    """Keep a mapping out of forked children (Linux ``MADV_DONTFORK``); returns the segment."""
    advice = getattr(mmap, "MADV_DONTFORK", None)
    if advice is not None:
        segment.map.madvise(advice)
    return segment


class AgentLines:
    """One agent's lines.

    Attributes:
        page: what it may do, for it to read; ``None`` where the system cannot keep others from writing.

    Args:
        pid: its kernel pid.
        bell_name: name for its doorbell; must not exist.
        ring_ids: four fresh ring ids: to agent, from agent, request, reply.
        group: of the agents that have a user of their own, so that they can ring; ``None`` if none has.
    """

    def __init__(self, pid: int, bell_name: str, ring_ids: tuple[int, int, int, int], group: int | None = None) -> None:
        self.bell_name = bell_name
        bell = Doorbell.create(bell_name, group=group)
        # Opened anew for each post: a mapping kept here would be inherited by every agent forked later.
        bell.close()
        self.mailbox = private_to_kernel(create_mailbox(owner_pid=pid))
        to_agent, from_agent, request, reply = ring_ids
        self.to_agent = private_to_kernel(create_ring(limits.KERNEL_RING_BYTES, ring_id=to_agent))
        self.from_agent = private_to_kernel(create_ring(limits.KERNEL_RING_BYTES, ring_id=from_agent))
        self.to_agent_id, self.from_agent_id, self.request_id, self.reply_id = ring_ids
        self.page = _page()
        self.request_fd = _descriptor_only(
            create_ring(limits.SERVICE_RING_BYTES, max_record=limits.SERVICE_RING_BYTES // 2, ring_id=request)
        )
        self.reply_fd = _descriptor_only(
            create_ring(limits.SERVICE_RING_BYTES, max_record=limits.SERVICE_REPLY_RECORD_BYTES, ring_id=reply)
        )
        self.producer = RingProducer(self.to_agent)
        self.consumer = RingConsumer(self.from_agent)

    def ring(self, slot: int) -> None:
        """Set a ready byte in the agent's mailbox and wake it if it sleeps."""
        try:
            bell = Doorbell.open(self.bell_name)
        except DoorbellLost:
            # Somebody removed the name. The agent looks by itself, a little later; what matters is in its rings.
            self.mailbox.map[READY + slot] = 1
            return
        with bell:
            MailboxPeer(self.mailbox, bell).notifier(slot)()

    def inherited(self) -> list[int]:
        """Descriptors that the agent's process keeps over the fork."""
        fds = [self.mailbox.fd, self.to_agent.fd, self.from_agent.fd, self.request_fd, self.reply_fd]
        return fds if self.page is None else [*fds, self.page.fd]

    def publish(self, epoch: int, data: bytes) -> None:
        """Put what the agent may do on its page, if there is one and it does not say so already."""
        if self.page is not None and self.page.epoch < epoch:
            self.page.publish(epoch, data)

    def close(self) -> None:
        """Release everything; the agent is gone for good."""
        try:
            with Doorbell.open(self.bell_name) as bell:
                bell.unlink()
        except DoorbellLost:
            # The name is gone already, which is what was wanted.
            pass
        if self.page is not None:
            self.page.close()
        self.mailbox.close()
        self.to_agent.close()
        self.from_agent.close()
        os.close(self.request_fd)
        os.close(self.reply_fd)


def _page() -> Bulletin | None:
    try:
        return Bulletin()
    except SharedMemoryError:
        # The agent asks instead of looking; what it may do is decided elsewhere in any case.
        return None


def _descriptor_only(segment: Segment) -> int:
    fd = segment.dup_fd()
    segment.close()
    return fd

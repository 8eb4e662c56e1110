"""The sending half of an agent: one ring for each process it writes to, opened by the kernel on first contact."""

from __future__ import annotations

from collections.abc import Callable

from weftos import limits
from weftos.agent.frames import ChannelGrant
from weftos.shm import Doorbell, Leaves, MailboxPeer, RingProducer, Segment

__all__ = ["Outgoing"]


class Outgoing:
    """One outgoing ring.

    Args:
        grant: which ring it is and where its receiver looks.
        ring: descriptor of the ring; owned from here on.
        mailbox: descriptor of the receiver's mailbox; owned from here on.
        own_bell: this process's doorbell, slept on while the ring is full.
        audit: hash what is written, for the audit windows.
        kick: what wakes the receiver where it has no mailbox (the kernel); replaces mailbox and doorbell.
        leaves: take each message, for windows with a Merkle root.
        on_window: called when audit windows wait.
    """

    __slots__ = ("_bell", "_mailbox", "easy_payload", "max_payload", "pid", "producer", "put", "ring_id")

    def __init__(
        self,
        grant: ChannelGrant,
        ring: int,
        mailbox: int | None,
        own_bell: Doorbell,
        *,
        audit: bool,
        kick: Callable[[], None] | None = None,
        leaves: Leaves | None = None,
        on_window: Callable[[], None] | None = None,
    ) -> None:
        self.pid = grant.pid
        self.ring_id = grant.ring_id
        self._bell: Doorbell | None = None
        self._mailbox: Segment | None = None
        wake = kick
        if mailbox is not None:
            self._mailbox = Segment.attach(mailbox, keep_fd=False)
            self._bell = Doorbell.open(grant.bell)
            wake = MailboxPeer(self._mailbox, self._bell).notifier(grant.slot)
        segment = Segment.attach(ring, keep_fd=False)
        self.producer = RingProducer(
            segment, wake=wake, space=own_bell, audit=audit, leaves=leaves, on_window=on_window
        )
        self.put = self.producer.put
        geometry = self.producer.geometry
        self.max_payload = geometry.max_payload
        #: Above this a larger ring pays: with few messages in flight, both ends wait for each other's wake-ups.
        self.easy_payload = self.max_payload
        if geometry.capacity < limits.MAX_GRANT_RING_BYTES and mailbox is not None:
            self.easy_payload = min(self.max_payload, geometry.capacity // limits.RING_MESSAGES_HINT)

    def close(self) -> None:
        """Detach; the kernel closed the ring, or this process ends."""
        self.producer.segment.close()
        if self._mailbox is not None:
            self._mailbox.close()
        if self._bell is not None:
            self._bell.close()

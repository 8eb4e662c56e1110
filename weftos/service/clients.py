"""The service's end of one agent's rings, and who the agent is.

Why it is as it is: an agent is known by the ring that its requests come from, which the kernel introduced; nothing in a
request can change that. Answers are never waited for: an agent that does not read loses them, by count, and is
reported, and no other agent notices.

Guaranteed: a request is committed only after its answer was put and what it asked for was written, so one that was not
answered is read again by the next incarnation of the service. Not guaranteed: that the answer is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weftos import limits
from weftos.errors import CapabilityDenied, ProtocolError, RingFull
from weftos.ipc.frames import close_all
from weftos.service import protocol as p
from weftos.shm import Doorbell, MailboxPeer, RingConsumer, RingProducer, Segment

__all__ = ["Caller", "Client", "only_kernel"]

#: Request ring, reply ring, mailbox.
_DESCRIPTORS = 3


class Caller:
    """Who asks, as the service knows it.

    Attributes:
        agent_id: subject for the gate; ``"0"`` is the kernel.
        source: what is stamped into the records.
        producer: names the stream of requests; with the position in it, the idempotency pair.
        kernel: whether all kinds and subjects are open to it.
        reply_bytes: longest answer that can be sent.
        scope: to which its keys belong, see ``keyed``.
    """

    __slots__ = ("agent_id", "kernel", "producer", "reply_bytes", "scope", "source")

    def __init__(
        self, agent_id: str, source: str, producer: str, *, kernel: bool, reply_bytes: int, scope: str
    ) -> None:
        self.agent_id = agent_id
        self.source = source
        self.producer = producer
        self.kernel = kernel
        self.reply_bytes = reply_bytes
        self.scope = scope


def only_kernel(caller: Caller) -> None:
    """Refuse an agent what the operator alone may do, through the kernel.

    Raises:
        CapabilityDenied: it is an agent.
    """
    if not caller.kernel:
        raise CapabilityDenied("only the kernel may ask the log for this; use `weaver chain`")


class Client:
    """One attached agent.

    Args:
        frame: the kernel's introduction.
        fds: request ring, reply ring, mailbox; owned by the client from here on, also when this raises.

    Attributes:
        caller: who it is.
        take: hands out its requests, ``take(limit) -> [(position, item)]``.
        commit: declares what was handed out done.
        replies: answers of this round, with the position of their request; in the order of the requests.
        quota: requests that are taken from its ring in one round.
        early: how many of ``replies`` lie before the first that waits for the disk; -1 if none waits.
        parked: waits for the disk of the memory; nothing is taken from its ring meanwhile.
        remembers: whether one of ``replies`` says that something is in memory.
        leaving: the kernel said that the agent ended; to be closed when its ring is empty.
        closed: given back; nothing of it may be used any more.
        requests: taken from the ring since attachment.
        dropped: answers that found no room.
        reported_at: monotonic time of the last report about dropped answers, in seconds.

    Raises:
        ProtocolError: not three descriptors.
        SharedMemoryError: a segment, ring, mailbox or doorbell is not what it should be.
    """

    __slots__ = (
        "_bell", "_put", "_put_many", "_segments", "caller", "closed", "commit", "dropped", "early", "leaving",
        "parked", "pid", "quota", "remembers", "replies", "reported_at", "requests", "ring_id", "slot", "take",
    )  # fmt: skip

    def __init__(self, frame: p.AttachClient, fds: list[int]) -> None:
        self._segments: list[Segment] = []
        self._bell: Doorbell | None = None
        self.closed = False
        left = list(fds)
        try:
            if len(left) != _DESCRIPTORS:
                raise ProtocolError(f"an agent comes with {_DESCRIPTORS} descriptors, not {len(left)}")
            while left:
                self._segments.append(Segment.attach(left.pop(0), keep_fd=False))
            request, reply, mailbox = self._segments
            self._bell = Doorbell.open(frame.bell)
            # A request is one record, so that nobody can make us put together what fills our memory.
            consumer = RingConsumer(request, space_bell=self._bell.post, fragments=False)
            producer = RingProducer(reply, wake=MailboxPeer(mailbox, self._bell).notifier(frame.reply_slot))
        except BaseException:
            close_all(left)
            self.close()
            raise
        self.pid = frame.pid
        self.ring_id = frame.ring_id
        self.slot = frame.slot
        self.take: Callable[[int], list[tuple[int, Any]]] = consumer.take
        self.commit: Callable[[], None] = consumer.commit
        self._put, self._put_many = producer.put, producer.put_many
        self.caller = Caller(
            str(frame.pid),
            f"agent:{frame.pid}",
            f"ring:{frame.ring_id}",
            kernel=False,
            reply_bytes=producer.geometry.max_payload,
            scope=frame.scope or frame.agent_id,
        )
        self.replies: list[tuple[int, p.Reply]] = []
        self.early = -1
        self.quota = limits.SERVICE_RING_QUOTA
        self.leaving = self.parked = self.remembers = False
        self.requests = self.dropped = 0
        self.reported_at = float("-inf")

    def deliver(self, frames: list[bytes]) -> int:
        """Put answers into the reply ring without waiting.

        Returns:
            How many found no room.

        Raises:
            SharedMemoryError: the ring or the doorbell is broken.
        """
        try:
            if len(frames) == 1:
                self._put(frames[0])
                return 0
            lost = len(frames) - self._put_many(frames)
        except RingFull:
            lost = len(frames)
        self.dropped += lost
        return lost

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.closed = True
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        while self._segments:
            self._segments.pop().close()

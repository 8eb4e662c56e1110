"""The streams of one agent: both kinds of ends, what they have closed, and when they speak.

Why apart from ``runtime``, ``inbox`` and ``outbox``: those move messages; this is what the log learns of it. They tell
it of rings that close, topics that end and messages to topics, and call ``send`` when they wait anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from weftos.agent import frames as f
from weftos.agent.boot import AgentBoot
from weftos.agent.leaves import LeafKeeper, StreamLeaves, topic_key
from weftos.agent.topic_streams import TopicEnd, TopicStreams
from weftos.agent.windows import WindowSender
from weftos.errors import ChannelClosed
from weftos.ipc.message import Message
from weftos.service.client import ServiceClient
from weftos.shm import ArrayRecord, Item, RingAudit, Window

__all__ = ["RingEnd", "Streams"]


class RingEnd(Protocol):
    """One end of a ring."""

    audit: RingAudit | None

    def audit_windows(self, *, flush: bool = False, final: bool = False) -> list[Window]:
        """Windows since the last call."""
        ...


#: Number of a ring, side of this agent, pid at the other end, and the end.
Place = tuple[int, str, int, RingEnd]


class Streams:
    """See above.

    Args:
        boot: who the agent is, and what is wanted.
        service: takes windows to the log.
    """

    def __init__(self, boot: AgentBoot, service: ServiceClient) -> None:
        self.audit = boot.audit
        self._incarnation = boot.incarnation
        self._message_leaves = boot.message_leaves
        self._keeper = LeafKeeper()
        self._topics = TopicStreams(boot.pid, boot.incarnation, boot.proof_topics, self._keeper)
        self._windows = WindowSender(service, boot.pid, boot.incarnation, boot.window_secs)
        #: Gives the rings of the agent; set by the runtime.
        self.places: Callable[[], Iterable[Place]] = tuple

    def leaves(self, ring_id: int, side: str) -> StreamLeaves | None:
        """Return what takes the messages of a ring, if its windows are to have a Merkle root."""
        return self._keeper.stream((ring_id, side)) if self._message_leaves else None

    # --- messages to topics -------------------------------------------------------------------------------------------

    def publication(self, topic: str) -> TopicEnd:
        """Return the stream of what this agent publishes to a topic."""
        return self._topics.publication(topic)

    def trail(self, message: Message, topic: str, ring_id: int, position: int, item: Item) -> None:
        """Note on a numbered message what it will take in its stream: its size, the key of its leaf, and its bytes."""
        head, array = (item.meta, item.array) if isinstance(item, ArrayRecord) else (item, None)
        assert isinstance(head, bytes), "a block of records is no message"
        data = b""
        if self._topics.proved(topic):
            data = head + array.tobytes() if array is not None else head
        size = len(head) + (array.nbytes if array is not None else 0)
        message.envelope.trail = size, topic_key(ring_id, position), data

    def received(self, message: Message) -> None:
        """A numbered message is handed to the program: its stream goes on."""
        trail, message.envelope.trail = message.envelope.trail, None
        topic = message.target_wire
        assert topic is not None, "only messages to topics have a trail"
        self._topics.received(topic[1:], message.sender, message.number, *trail)

    def left(self, topics: Iterable[str], publisher: int) -> None:
        """Nothing more comes to these topics from there."""
        for topic in topics:
            self._windows.topic(topic, publisher, self._topics.leave(topic, publisher))

    # --- windows ------------------------------------------------------------------------------------------------------

    def send(self, *, flush: bool = False, final: bool = False) -> None:
        """Commit closed windows of all streams to the log, and when it is time the open ones, with a heartbeat.

        Args:
            flush: the open ones now.
            final: likewise, and no stream goes on.
        """
        windows = self._windows
        due = windows.due()
        flush = flush or due or final
        if not windows.full or final:
            for place in self.places():
                self.collect(place, flush=flush, final=final)
            for topic, publisher, end in self._topics.items():
                if flush:
                    end.flush(final=final)
                if flush or end.closed:
                    closed, end.closed = end.closed, []
                    windows.topic(topic, publisher, closed)
        if due:
            windows.heartbeat()
        windows.send(force=flush)
        if final:
            windows.flush()

    @property
    def due_in(self) -> float:
        """Seconds after which ``send`` is to be called again."""
        return self._windows.due_in

    def collect(self, place: Place, *, flush: bool = False, final: bool = False) -> None:
        """Take the closed windows of a ring; with ``final`` it is about to be detached."""
        ring, side, peer, end = place
        if end.audit is not None:
            closed = end.audit_windows(flush=flush, final=final)
            if closed or flush:
                self._windows.ring(ring, side, peer, closed, resumed=end.audit.resumed)

    def nudged(self) -> None:
        """Windows wait, and the agent may be one that does nothing but write."""
        try:
            self.send()
        except ChannelClosed:
            # The service's ring is closed because this agent is to end. The message that we were called for is sent;
            # whoever waits next is told.
            return

    def find(self, frame: f.FindLeaf) -> f.LeafFrame:
        """Answer in which window a message lies, after committing to all that are open."""
        self.send(flush=True)
        self._windows.flush()
        found = self._keeper.find(frame.ring_id, frame.side, frame.position)
        if found is None:
            return f.LeafFrame(frame.serial)
        label, leaf = found
        return f.LeafFrame(
            frame.serial,
            list(label),
            self._incarnation,
            leaf.start,
            leaf.size,
            leaf.index,
            leaf.leaf,
            leaf.path,
            leaf.data,
        )

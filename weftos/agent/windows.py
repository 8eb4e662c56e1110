"""Windows of streams on their way to the chain: numbered, linked to the one before, sent several at a time.

A stream end is one side of a ring or of a topic. Each of its windows names its number in this life of the agent and the
hash of the window before, so one that is withheld, repeated or moved shows. Every ``every_s`` seconds what is open is
committed to as well, and streams that had nothing to say are listed in one heartbeat: how many windows they have, and
how far they are. So silence is told from loss, and hundreds of idle streams cost one record.

Nothing here waits: what finds no room in the ring to the service is sent the next time. The format is in
``docs/formats/windows.md``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import blake3
import msgspec

from weftos import limits
from weftos.agent.topic_streams import TopicWindow
from weftos.service.client import ServiceClient
from weftos.service.protocol import AppendBatch, Event
from weftos.shm import Window

__all__ = ["WindowSender", "window_hash"]

#: Windows travel in batches of this size, and at least this often (seconds) while there are any.
_BATCH: Final = 32
_EVERY_S: Final = 1.0
_NO_HASH: Final = bytes(32)
#: Parts of the agents' first periods: the golden ratio spreads any number of pids evenly, so not all speak at once.
_SPREAD: Final = 0.6180339887

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def window_hash(payload: bytes) -> bytes:
    """Return the hash by which the next window of a stream names this one, 32 bytes.

    Args:
        payload: of its record, encoded as on the log.
    """
    return blake3.blake3(b"weftos/window/v1\0" + payload).digest()


class _End:
    """What was said of one stream end."""

    __slots__ = ("counter", "label", "place", "prev", "spoke", "windows")

    def __init__(self, label: list[Any]) -> None:
        self.label = label
        self.windows = 0
        self.prev = _NO_HASH
        self.spoke = False
        self.place = self.counter = 0


class WindowSender:
    """Collects windows and commits them.

    Args:
        service: where they go.
        pid: of the agent.
        incarnation: of the agent.
        every_s: how often open streams speak, in seconds.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        service: ServiceClient,
        pid: int,
        incarnation: int,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._pid = pid
        self._incarnation = incarnation
        self._every_s = every_s
        self._clock = clock
        self._waiting: deque[tuple[Event, int]] = deque()
        self._ends: dict[tuple[Any, ...], _End] = {}
        self._sent_at = now = clock()
        self._due_at = now + every_s * (0.5 + pid * _SPREAD % 1 / 2)

    @property
    def full(self) -> bool:
        """Whether so many windows wait that no more should be collected."""
        return len(self._waiting) >= limits.WINDOWS_WAITING

    @property
    def due_in(self) -> float:
        """Seconds until ``due``."""
        return max(self._due_at - self._clock(), 0.0)

    def due(self) -> bool:
        """Whether it is time that every open stream speaks. True once in each period."""
        now = self._clock()
        if now < self._due_at:
            return False
        self._due_at = now + self._every_s
        return True

    # --- taking -------------------------------------------------------------------------------------------------------

    def ring(self, ring: int, side: str, peer: int, windows: Iterable[Window], *, resumed: bool) -> None:
        """Take windows of one side (``producer`` or ``consumer``) of a ring.

        Args:
            ring: its number.
            side: which end this agent is.
            peer: pid at the other end.
            windows: oldest first.
            resumed: an earlier incarnation was this end before.
        """
        key = (ring, side)
        end = self._ends.get(key)
        if end is None:
            end = self._ends[key] = _End([ring, side])
        producer, consumer = (self._pid, peer) if side == "producer" else (peer, self._pid)
        for window in windows:
            payload = {
                "ring": ring,
                "side": side,
                "producer": producer,
                "consumer": consumer,
                "from": window.start,
                "to": window.end,
                "first": window.first + 1,
                "last": window.first + window.count,
                "count": window.count,
                "bytes": window.bytes,
                "digest": window.digest,
                "lost": [list(one) for one in window.lost],
                "lost_count": window.lost_count,
                "complete": window.complete,
                "resumed": resumed,
                "final": window.final,
                "opened_ns": window.opened_ns,
                "closed_ns": window.closed_ns,
            }
            if window.root:
                payload |= {"root": window.root, "leaves": window.leaves}
            self._queue("ipc.window", end, payload)
            end.place, end.counter = window.end, window.first + window.count
            if window.final:
                del self._ends[key]

    def topic(self, topic: str, publisher: int, windows: Iterable[TopicWindow]) -> None:
        """Take windows of a topic from one publisher, which may be this agent."""
        side = "producer" if publisher == self._pid else "consumer"
        key = (topic, publisher, side)
        end = self._ends.get(key)
        if end is None:
            end = self._ends[key] = _End([])
        end.label = [topic, side, publisher]
        for window in windows:
            payload = {
                "topic": topic,
                "side": side,
                "publisher": publisher,
                "first": window.first,
                "last": window.last,
                "count": window.count,
                "bytes": window.bytes,
                "lost": [list(one) for one in window.lost],
                "lost_count": window.lost_count,
                "late": window.late,
                "complete": window.complete,
                "final": window.final,
                "opened_ns": window.opened_ns,
                "closed_ns": window.closed_ns,
            }
            if window.root:
                payload |= {"root": window.root, "leaves": window.count}
            self._queue("ipc.topic_window", end, payload)
            end.place = end.counter = window.last
            if window.final:
                # A later subscription goes on with the numbers of the windows, but until then there is nothing to say.
                end.label = []

    def _queue(self, kind: str, end: _End, payload: dict[str, Any]) -> None:
        payload |= {"incarnation": self._incarnation, "window": end.windows, "prev": end.prev}
        data = _encode(payload)
        end.windows += 1
        end.prev = window_hash(data)
        end.spoke = True
        self._waiting.append((Event(kind, payload), len(data)))

    def heartbeat(self) -> None:
        """List the streams that are open and said nothing since the last time."""
        rings, topics = [], []
        for end in self._ends.values():
            if end.label and not end.spoke:
                if len(end.label) == 2:
                    rings.append([*end.label, end.windows, end.place, end.counter])
                else:
                    topics.append([*end.label, end.windows, end.counter])
            end.spoke = False
        step = limits.HEARTBEAT_STREAMS
        for name, entries in (("rings", rings), ("topics", topics)):
            for start in range(0, len(entries), step):
                payload: dict[str, Any] = {
                    "heartbeat": True,
                    "count": 0,
                    "incarnation": self._incarnation,
                    "rings": [],
                    "topics": [],
                } | {name: entries[start : start + step]}
                self._waiting.append((Event("ipc.heartbeat", payload), len(_encode(payload))))

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, *, force: bool = False) -> None:
        """Hand a batch to the service if one is due; what finds no room waits for the next time."""
        if not self._waiting:
            return
        now = self._clock()
        if not force and len(self._waiting) < _BATCH and now - self._sent_at <= _EVERY_S:
            return
        batch: list[Event] = []
        room = limits.WINDOWS_REQUEST_BYTES
        for event, size in self._waiting:
            room -= size
            if batch and (room < 0 or len(batch) == _BATCH):
                break
            batch.append(event)
        if self._service.offer(AppendBatch(batch, durable=False)):
            for _ in batch:
                self._waiting.popleft()
            self._sent_at = now

    def flush(self) -> None:
        """Send everything that finds room now."""
        before = -1
        while self._waiting and len(self._waiting) != before:
            before = len(self._waiting)
            self.send(force=True)

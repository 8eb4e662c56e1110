"""Audit of a ring's byte stream: both ends hash what passed, in windows, and must come to the same digests.

Why it is as it is: hashing in large slices runs at memory speed; hashing or logging each message would cost more than
the message. The stream is cut on a grid of absolute positions: a window ends at the first record boundary at or after
the next multiple of the window size. Both ends see the same boundaries, so they cut alike without talking; an end that
was replaced midway falls back into step at the next grid line. The grid divides the ring's capacity, so a window is one
contiguous piece of the data area, and each end hashes it before the space can be used again: the producer as it closes
the window, the consumer before it publishes TAIL.

Guaranteed: equal (start, end, digest) on both sides means that both ends saw the same bytes in the ring when they
hashed. Not guaranteed: that a message was not changed between the copy handed to a reader and the hash; whoever can
write the ring can race the reader. An end that dies loses its open window: the other end's commitment for it then has
no partner, and ``reconcile`` says so.

A digest shows that a window is the same, not that one message lies in it. For that, an end can be given ``Leaves``:
then each record is also handed over singly, out of the ring, as its window is hashed. That costs a hash per message, so
it is for rings where somebody wants it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import blake3
import msgspec

from weftos import limits
from weftos.shm.layout import HEADER_BYTES, RECORD_WORD_BYTES, Geometry
from weftos.shm.segment import Segment

__all__ = ["Leaves", "Lost", "RingAudit", "Verdict", "Window", "reconcile"]

#: Not hidden by the property of the same name.
Bytes = bytes
#: A message that is known to be lost: its position, and why.
Lost = tuple[int, str]


class Leaves(Protocol):
    """Takes the records of a ring one by one, and has the Merkle root of a window's."""

    def take(self, positions: list[int], records: list[bytes], /) -> None:
        """Take records in order: their positions, and of each record word with payload."""
        ...

    def cut(self, *, complete: bool) -> tuple[bytes, int]:
        """Return root and number of the leaves since the last complete window; begin anew if this one is."""
        ...


class Window(msgspec.Struct, frozen=True):
    """One commitment to a piece of a ring's stream.

    Attributes:
        ring_id: the ring.
        start: position of the first byte.
        end: position after the last byte.
        count: messages whose record ends in the window.
        digest: BLAKE3 of the bytes, 32 bytes.
        complete: False for the open window as it stood at ``flush``.
        first: messages of the ring before the window.
        opened_ns: when this end began it, nanoseconds since 1970.
        closed_ns: when it committed to it.
        final: this end commits to nothing further.
        lost: messages of the window that this end did not hand on, the first of them.
        lost_count: all of them.
        root: Merkle root over its records, 32 bytes; empty without ``Leaves``.
        leaves: records.
    """

    ring_id: int
    start: int
    end: int
    count: int
    digest: Bytes
    complete: bool = True
    first: int = 0
    opened_ns: int = 0
    closed_ns: int = 0
    final: bool = False
    lost: tuple[Lost, ...] = ()
    lost_count: int = 0
    root: Bytes = b""
    leaves: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the stream in this window, record words and padding included."""
        return self.end - self.start


class Verdict(msgspec.Struct, frozen=True):
    """What two sets of windows say about one range of the stream.

    Attributes:
        ring_id: the ring.
        start: position of the first byte.
        end: position after the last byte.
        outcome: ``agreed``; ``differs`` (same range, different digest, counters or root); ``unmatched`` (only one end
            committed to exactly this range).
    """

    ring_id: int
    start: int
    end: int
    outcome: Literal["agreed", "differs", "unmatched"]


class RingAudit:
    """The audit of one end of a ring. The end feeds it; its owner calls ``windows``.

    Args:
        segment: of the ring.
        geometry: of the ring.
        start: position at which this end takes over.
        count: messages before it.
        leaves: takes each record, for windows with a Merkle root.
        clock: nanoseconds since 1970.

    Attributes:
        next_boundary: the grid line at which the open window ends.
        waiting: closed windows that nobody has fetched.
        dropped: closed windows that nobody fetched in time.
        resumed: whether somebody else was this end before.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_count",
        "_final",
        "_flushed",
        "_geometry",
        "_hashed",
        "_hasher",
        "_leaves",
        "_lost",
        "_lost_count",
        "_map",
        "_opened_ns",
        "_size",
        "_start",
        "_words",
        "dropped",
        "next_boundary",
        "resumed",
    )

    def __init__(
        self,
        segment: Segment,
        geometry: Geometry,
        start: int,
        count: int,
        leaves: Leaves | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._map = segment.map
        self._words = segment.words_from(HEADER_BYTES)
        self._leaves = leaves
        self._clock = clock
        self._opened_ns = clock()
        self._lost: list[Lost] = []
        self._lost_count = 0
        self._final = False
        self.resumed = count > 0
        self._geometry = geometry
        self._size = geometry.audit_window
        self._start = self._hashed = start
        self._count = count
        self._hasher = blake3.blake3()
        self._closed: deque[Window] = deque()
        self._flushed = -1
        self.dropped = 0
        self.next_boundary = (start // self._size + 1) * self._size

    def absorb(self, position: int) -> None:
        """Hash up to ``position``, which lies within the open window."""
        n = position - self._hashed
        if n > 0:
            at = (self._hashed & self._geometry.mask) + HEADER_BYTES
            with memoryview(self._map) as view, view[at : at + n] as piece:
                self._hasher.update(piece)
            if self._leaves is not None:
                self._leaves.take(*self._records(self._hashed, position))
            self._hashed = position

    def _records(self, start: int, end: int) -> tuple[list[int], list[bytes]]:
        """The records between two boundaries; up to where a peer has spoiled them, which the digest shows."""
        words, buffer, mask = self._words, self._map, self._geometry.mask
        most = self._geometry.max_payload
        positions, records = [], []
        while start < end:
            at = start & mask
            n = words[at >> 3] & 0xFFFFFFFF
            if n > most:
                break
            at += HEADER_BYTES
            positions.append(start)
            records.append(buffer[at : at + n + RECORD_WORD_BYTES])
            start += (n + 15) & -8
        return positions, records

    def lose(self, position: int, reason: str) -> None:
        """Note that a message was not handed on, in one or two words why."""
        self._lost_count += 1
        if len(self._lost) < limits.WINDOW_LOST_LISTED:
            self._lost.append((position, reason))

    def advance(self, boundary: int, count: int) -> None:
        """Close the open window at ``boundary``, the first record boundary at or after the grid line.

        Args:
            boundary: position.
            count: messages since the ring began whose records end at or before it.
        """
        self._close(boundary, count, complete=True, final=False)
        self._hasher = blake3.blake3()
        self._start = boundary
        self._count = count
        self._opened_ns = self._clock()
        self.next_boundary = (boundary // self._size + 1) * self._size

    def _close(self, end: int, count: int, *, complete: bool, final: bool) -> None:
        self.absorb(end)
        root, leaves = self._leaves.cut(complete=complete or final) if self._leaves is not None else (b"", 0)
        window = Window(
            ring_id=self._geometry.ring_id,
            start=self._start,
            end=end,
            count=count - self._count,
            digest=self._hasher.digest(),
            complete=complete,
            first=self._count,
            opened_ns=self._opened_ns,
            closed_ns=self._clock(),
            final=final,
            lost=tuple(self._lost),
            lost_count=self._lost_count,
            root=root,
            leaves=leaves,
        )
        if complete:
            # Read ahead of the window's end, or noted late: each is told once, with the window that closes next.
            self._lost, self._lost_count = [], 0
        self._keep(window)

    @property
    def waiting(self) -> int:
        """Closed windows that nobody has fetched."""
        return len(self._closed)

    @property
    def start(self) -> int:
        """Where the open window begins."""
        return self._start

    def _keep(self, window: Window) -> None:
        if len(self._closed) >= limits.AUDIT_WINDOWS_KEPT:
            self._closed.popleft()
            self.dropped += 1
        self._closed.append(window)

    def flush(self, position: int, count: int, *, final: bool = False) -> None:
        """Commit to the open window as far as it goes, without closing it: the complete window repeats what it holds.

        Args:
            position: record boundary up to which to commit; nothing happens if it was flushed before or holds nothing.
            count: messages since the ring began whose records end at or before it.
            final: commit even to an empty window, once: nothing further follows.
        """
        if final and not self._final:
            self._final = True
            self._close(position, count, complete=False, final=True)
        elif not final and position > self._start and position != self._flushed:
            self._flushed = position
            self._close(position, count, complete=False, final=False)

    def windows(self) -> list[Window]:
        """Return the windows closed or flushed since the last call, oldest first."""
        windows = list(self._closed)
        self._closed.clear()
        return windows


def reconcile(ours: Iterable[Window], theirs: Iterable[Window]) -> list[Verdict]:
    """Compare the windows of a ring's two ends.

    Windows over the same range are compared. A partial window is ignored where its end has also committed to a complete
    one that holds it; otherwise it counts like any other. A range to which only one end committed is ``unmatched``:
    evidence is missing there (an end died or has not got that far), which is neither agreement nor forgery.

    Returns:
        One verdict for each range, in the order of the stream.
    """
    left, right = _by_range(ours), _by_range(theirs)
    verdicts = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if a is None or b is None:
            outcome: Literal["agreed", "differs", "unmatched"] = "unmatched"
        else:
            same = (a.digest, a.count, a.first, a.root) == (b.digest, b.count, b.first, b.root)
            outcome = "agreed" if same else "differs"
        verdicts.append(Verdict(key[0], key[1], key[2], outcome))
    return verdicts


def _by_range(windows: Iterable[Window]) -> dict[tuple[int, int, int], Window]:
    ordered = list(windows)
    complete = {(w.ring_id, w.start) for w in ordered if w.complete}
    return {(w.ring_id, w.start, w.end): w for w in ordered if w.complete or (w.ring_id, w.start) not in complete}

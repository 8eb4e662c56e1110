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
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

import blake3
import msgspec

from weftos import limits
from weftos.shm.layout import HEADER_BYTES, Geometry
from weftos.shm.segment import Segment

__all__ = ["RingAudit", "Verdict", "Window", "reconcile"]


class Window(msgspec.Struct, frozen=True):
    """One commitment to a piece of a ring's stream.

    Attributes:
        ring_id: the ring.
        start: position of the first byte.
        end: position after the last byte.
        count: messages whose record ends in the window, as this end counted; an end that took over within a batch
            counts only its share, so ``reconcile`` compares digests alone.
        digest: BLAKE3 of the bytes, 32 bytes.
        complete: False for the open window as it stood at ``flush``.
    """

    ring_id: int
    start: int
    end: int
    count: int
    digest: bytes
    complete: bool = True

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
        outcome: ``agreed``; ``differs`` (same range, different digest); ``unmatched`` (only one end committed to
            exactly this range).
    """

    ring_id: int
    start: int
    end: int
    outcome: Literal["agreed", "differs", "unmatched"]


class RingAudit:
    """The audit of one end of a ring. The end feeds it; its owner calls ``windows``.

    Attributes:
        next_boundary: the grid line at which the open window ends.
        dropped: closed windows that nobody fetched in time.
    """

    __slots__ = (
        "_closed",
        "_count",
        "_flushed",
        "_geometry",
        "_hashed",
        "_hasher",
        "_map",
        "_size",
        "_start",
        "dropped",
        "next_boundary",
    )

    def __init__(self, segment: Segment, geometry: Geometry, start: int, count: int) -> None:
        self._map = segment.map
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
            self._hashed = position

    def advance(self, boundary: int, count: int) -> None:
        """Close the open window at ``boundary``, the first record boundary at or after the grid line.

        Args:
            boundary: position.
            count: messages since the ring began whose records end at or before it.
        """
        self.absorb(boundary)
        self._keep(Window(self._geometry.ring_id, self._start, boundary, count - self._count, self._hasher.digest()))
        self._hasher = blake3.blake3()
        self._start = boundary
        self._count = count
        self.next_boundary = (boundary // self._size + 1) * self._size

    def _keep(self, window: Window) -> None:
        if len(self._closed) >= limits.AUDIT_WINDOWS_KEPT:
            self._closed.popleft()
            self.dropped += 1
        self._closed.append(window)

    def flush(self, position: int, count: int) -> None:
        """Commit to the open window as far as it goes, without closing it: the complete window repeats what it holds.

        Args:
            position: record boundary up to which to commit; nothing happens if it was flushed before or holds nothing.
            count: messages since the ring began whose records end at or before it.
        """
        self.absorb(position)
        if position > self._start and position != self._flushed:
            self._flushed = position
            digest = self._hasher.digest()
            self._keep(
                Window(self._geometry.ring_id, self._start, position, count - self._count, digest, complete=False)
            )

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
            outcome = "agreed" if a.digest == b.digest else "differs"
        verdicts.append(Verdict(key[0], key[1], key[2], outcome))
    return verdicts


def _by_range(windows: Iterable[Window]) -> dict[tuple[int, int, int], Window]:
    ordered = list(windows)
    complete = {(w.ring_id, w.start) for w in ordered if w.complete}
    return {(w.ring_id, w.start, w.end): w for w in ordered if w.complete or (w.ring_id, w.start) not in complete}

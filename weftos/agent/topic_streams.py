"""Topics as streams: the publisher numbers what it publishes, and both ends sum up windows of these numbers.

Why it is as it is: a message to a topic goes through one ring for each subscriber, so no ring shows that a subscriber
was left out. The number in the message does: each publication has the next one, whoever took it, and a subscriber sees
a jump where it was skipped. Windows are cut on a grid of numbers, so both ends cut alike without talking, as on a ring.

The upper bits of a number are the publisher's incarnation, so numbers go on growing over its death. A subscriber begins
with the first number that it sees; what came before is no gap.

Content: the bytes are committed to by the windows of the rings. If the topic is one of ``[ipc] proof_topics``, its
windows carry a Merkle root over the messages too. Then equal windows mean equal messages, whichever subscriber, and one
message can be proved.

Guaranteed: memory is bounded by the number of streams. Not guaranteed: that a liar numbers honestly; what it says
stands on the log beside what others saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from weftos import limits
from weftos.agent.leaves import LeafKeeper, StreamLeaves

__all__ = ["NUMBER_BITS", "TopicEnd", "TopicStreams", "TopicWindow"]

#: Bits of a number below the publisher's incarnation.
NUMBER_BITS: Final = 40
#: The field ``bytes`` hides the type of this name.
Root: TypeAlias = bytes
_GRID: Final = limits.TOPIC_WINDOW_MESSAGES


class TopicWindow(msgspec.Struct, frozen=True):
    """What one end says about a range of a topic's numbers.

    Attributes:
        first: number that the window begins with.
        last: number that it ends with; ``first - 1`` if it is empty.
        count: messages published, or received.
        bytes: their size as they travelled, array data included.
        lost: publisher: (number, why, subscriber); subscriber: (first, last) of each gap. The first of them.
        lost_count: messages lost in all.
        late: messages whose number was seen or passed over before; they are not counted elsewhere.
        complete: False for the open window as it stood; the complete one repeats it.
        final: this end commits to nothing further, unless it begins anew.
        opened_ns, closed_ns: nanoseconds since 1970.
        root: Merkle root over the messages, 32 bytes; empty if there is none.
    """

    first: int
    last: int
    count: int
    bytes: int
    lost: tuple[tuple[Any, ...], ...]
    lost_count: int
    late: int
    complete: bool
    final: bool
    opened_ns: int
    closed_ns: int
    root: Root = b""


class TopicEnd:
    """One end of the stream of one topic from one publisher.

    Args:
        next_number: the number that is due.
        leaves: for windows with a Merkle root.
        clock: nanoseconds since 1970.
    """

    __slots__ = (
        "_bytes", "_clock", "_count", "_end", "_first", "_late", "_lost", "_lost_count", "_opened_ns", "_spoken",
        "closed", "leaves", "next",
    )  # fmt: skip

    def __init__(
        self, next_number: int, leaves: StreamLeaves | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.leaves = leaves
        self.closed: list[TopicWindow] = []
        self.next = next_number
        self._clock = clock
        self._begin()

    def _begin(self, late: int = 0) -> None:
        self._first = self.next
        self._end = (self.next // _GRID + 1) * _GRID
        self._count = self._bytes = self._lost_count = self._spoken = 0
        self._late = late
        self._lost: list[tuple[Any, ...]] = []
        self._opened_ns = self._clock()

    def note(self, number: int, size: int, key: int = 0, data: bytes = b"") -> None:
        """A message was published or received.

        Args:
            number: of it.
            size: in bytes.
            key: to find its leaf by.
            data: as it was sent; needed for a Merkle root only.
        """
        if number != self.next:
            self._jump(number)
            if number < self.next:
                return
        if number >= self._end:
            self._close(complete=True, final=False)
        self.next = number + 1
        self._count += 1
        self._bytes += size
        if self.leaves is not None:
            self.leaves.add(self._first, key, data)
        if self.next >= self._end:
            self._close(complete=True, final=False)

    def _jump(self, number: int) -> None:
        if number < self.next:
            self._late += 1
            return
        if number >= self._end:
            self._close(complete=True, final=False)
        if number >> NUMBER_BITS == self.next >> NUMBER_BITS:
            self.lose((self.next, number - 1), number - self.next)
            # What follows the gap belongs to the window of its own place.
            self._end = (number // _GRID + 1) * _GRID
        else:
            # Another life of the publisher begins with the first number that is seen of it.
            self.next = number
            self._begin(self._late)
        self.next = number

    def lose(self, what: tuple[Any, ...], count: int = 1) -> None:
        """Messages were lost."""
        self._lost_count += count
        if len(self._lost) < limits.WINDOW_LOST_LISTED:
            self._lost.append(what)

    def flush(self, *, final: bool = False) -> None:
        """Commit to the open window as far as it goes; if that is the end, even to an empty one."""
        said = self._count + self._late + self._lost_count
        if final or said > self._spoken:
            self._spoken = said
            self._close(complete=False, final=final)

    def _close(self, *, complete: bool, final: bool) -> None:
        if complete and self.next == self._first:
            # Nothing passed, so there is no range to speak of; what came late is told with the next.
            self._begin(self._late)
            return
        root = self.leaves.cut(complete=complete or final)[0] if self.leaves is not None else b""
        self.closed.append(
            TopicWindow(
                self._first,
                self.next - 1,
                self._count,
                self._bytes,
                tuple(self._lost),
                self._lost_count,
                self._late,
                complete,
                final,
                self._opened_ns,
                self._clock(),
                root,
            )
        )
        if complete:
            self._begin()


class TopicStreams:
    """All topics that an agent publishes to or receives.

    Args:
        pid: of the agent.
        incarnation: of the agent.
        proofs: topics whose windows carry a Merkle root.
        keeper: of what is needed to prove a message.
    """

    def __init__(self, pid: int, incarnation: int, proofs: Iterable[str], keeper: LeafKeeper) -> None:
        self._pid = pid
        self._base = incarnation << NUMBER_BITS
        self._proofs = frozenset(proofs)
        self._keeper = keeper
        self._ends: dict[tuple[str, int], TopicEnd] = {}

    def proved(self, topic: str) -> bool:
        """Whether messages of a topic become leaves, so that their bytes are needed."""
        return topic in self._proofs

    def publication(self, topic: str) -> TopicEnd:
        """The stream of what this agent publishes to a topic; ``next`` is the number that is due."""
        end = self._ends.get((topic, self._pid))
        if end is None:
            # Nobody asks the publisher for a proof: it does not know where in which ring a message lay.
            leaves = StreamLeaves(None) if topic in self._proofs else None
            end = self._ends[topic, self._pid] = TopicEnd(self._base + 1, leaves)
        return end

    def received(self, topic: str, publisher: int, number: int, size: int, key: int, data: bytes) -> None:
        """A message came."""
        end = self._ends.get((topic, publisher))
        if end is None:
            leaves = self._keeper.stream((topic, publisher)) if topic in self._proofs else None
            end = self._ends[topic, publisher] = TopicEnd(number, leaves)
        end.note(number, size, key, data)

    def leave(self, topic: str, publisher: int) -> list[TopicWindow]:
        """A subscription ended: return the last windows of the stream."""
        end = self._ends.pop((topic, publisher), None)
        if end is None:
            return []
        end.flush(final=True)
        return end.closed

    def items(self) -> list[tuple[str, int, TopicEnd]]:
        """All streams: topic, publisher, end."""
        return [(topic, publisher, end) for (topic, publisher), end in self._ends.items()]

"""The impulses of a queue and every change of them. Pure: no file, no clock, no policy.

Why it is as it is: strength halves with one half-life for all, so of two impulses the weaker one stays the weaker one.
Each has a fixed key, the logarithm of its strength at the time 0, and one heap by this key knows both the weakest and
the next to expire. Heaps are cleaned when something is taken from them; an entry says whether it is still in one.

Guaranteed: the changes of a journal, applied in order to what its snapshot says, give the state that it was written
from, but for leases: a lease is not kept, only how often there was one. ``emitted = ready + leased + done + dead + sum
of dropped`` at any time.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from weftos import limits
from weftos.ecc.hlc import unpack
from weftos.ecc.impulses.model import Cursor, Impulse, ImpulseType
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import ImpulseRefused

__all__ = [
    "Back",
    "Change",
    "Dead",
    "Done",
    "Drop",
    "Emit",
    "Entry",
    "Lease",
    "QueueState",
    "Revive",
    "key_of",
    "size_of",
]


class Emit(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """An impulse was queued. Numbers and bytes as in :class:`Impulse`."""

    id: int
    kind: int
    source_structure: int
    source_node: bytes
    target_structure: int
    hlc: int
    strength: float
    payload: bytes


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """Impulses were handed out: one attempt more for each."""

    ids: list[int]


class Back(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """Impulses came back untouched: their last attempt does not count."""

    ids: list[int]


class Revive(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Dead impulses wait again, as if they had never been handed out."""

    ids: list[int]


class Done(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """Impulses were worked off."""

    ids: list[int]


class Dead(msgspec.Struct, frozen=True, array_like=True, tag="k"):
    """Impulses were handed out too often."""

    ids: list[int]


class Drop(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """Impulses went without being done, for a reason of :class:`ImpulseStatistics`."""

    ids: list[int]
    reason: str


Change = Emit | Lease | Back | Revive | Done | Dead | Drop


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Everything that is kept. Impulses are pairs of what was emitted and how often it was handed out."""

    generation: int
    next_id: int
    hlc_last: int
    emitted: int
    delivered: int
    redelivered: int
    done: int
    dropped: dict[str, int]
    cursors: dict[int, tuple[int, int, int]]
    live: list[tuple[Emit, int]]
    dead: list[tuple[Emit, int]]


class Entry:
    """An impulse in the queue.

    Attributes:
        impulse: the impulse.
        size: bytes that it counts.
        key: logarithm (base 2) of its strength at the time 0.
        attempts: how often it was handed out.
        leased: number of the lease under which it is handed out; 0 when it waits or is dead.
        queued: whether it is in the heap of its structure.
        weighed: whether it is in the heap of the weakest.
    """

    __slots__ = ("attempts", "impulse", "key", "leased", "queued", "size", "weighed")

    def __init__(self, impulse: Impulse, key: float, attempts: int = 0) -> None:
        self.impulse = impulse
        self.size = size_of(impulse.payload)
        self.key = key
        self.attempts = attempts
        self.leased = 0
        self.queued = self.weighed = False


def size_of(payload: bytes) -> int:
    """Return the bytes that an impulse with this payload counts."""
    return len(payload) + limits.IMPULSE_OVERHEAD_BYTES


def key_of(strength: float, hlc: int, half_life_ms: int | None) -> float:
    """Return the logarithm (base 2) of the strength that would have become this one by ``hlc``, from the time 0."""
    return math.log2(strength) + (0.0 if half_life_ms is None else unpack(hlc).millis / half_life_ms)


class _Lane:
    """The impulses for one structure."""

    __slots__ = ("done", "heap", "hlc", "id", "leased", "ready")

    def __init__(self, hlc: int = 0, id_: int = 0, done: int = 0) -> None:
        self.heap: list[tuple[int, int]] = []
        self.ready = self.leased = 0
        self.hlc, self.id, self.done = hlc, id_, done


class QueueState:
    """The impulses, found by number, by order and by strength.

    Args:
        half_life_ms: milliseconds in which strength halves; None: it stays.
    """

    def __init__(self, half_life_ms: int | None) -> None:
        self._half_life_ms = half_life_ms
        self.next_id = 1
        self.hlc_last = 0
        self.emitted = self.delivered = self.redelivered = self.done = 0
        self.dropped: Counter[str] = Counter()
        #: Those that wait or are handed out; those that are dead, in the order in which they died.
        self.live: dict[int, Entry] = {}
        self.dead: dict[int, Entry] = {}
        self.size = 0
        self._lanes: dict[int, _Lane] = {}
        self._weak: list[tuple[float, int, int]] = []
        self._leases = 0

    # --- what StateFiles asks ----------------------------------------------------------------------------------------

    def dump(self, generation: int) -> bytes:
        """Return the body of a snapshot."""
        cursors = {tag: (lane.hlc, lane.id, lane.done) for tag, lane in sorted(self._lanes.items())}
        kept = [[(_emitted(one.impulse), one.attempts) for one in part.values()] for part in (self.live, self.dead)]
        counts = (self.emitted, self.delivered, self.redelivered, self.done, dict(sorted(self.dropped.items())))
        return msgspec.msgpack.encode(Snapshot(generation, self.next_id, self.hlc_last, *counts, cursors, *kept))

    def load(self, body: bytes) -> int:
        """Become what a snapshot says, from being empty; return its generation.

        Raises:
            ImpulseRefused: an impulse in it is none.
        """
        found = msgspec.msgpack.decode(body, type=Snapshot)
        assert not self.emitted, "only an empty state is filled"
        for tag, (hlc, id_, done) in found.cursors.items():
            self._lanes[tag] = _Lane(hlc, id_, done)
        for emit, attempts in found.live:
            self._admit(self._entry(emit, attempts))
        self.dead = {emit.id: self._entry(emit, attempts) for emit, attempts in found.dead}
        self.next_id, self.hlc_last = found.next_id, found.hlc_last
        self.emitted, self.delivered, self.redelivered = found.emitted, found.delivered, found.redelivered
        self.done, self.dropped = found.done, Counter(found.dropped)
        return found.generation

    def replay(self, content: bytes) -> None:
        """Make the changes of one record of the journal again.

        Raises:
            ImpulseRefused: one of them is about an impulse that is not there.
        """
        for change in msgspec.msgpack.decode(content, type=list[Change]):
            self.apply(change)

    # --- changes -----------------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Make a change.

        Raises:
            ImpulseRefused: it is about an impulse that is not there, or is none.
        """
        match change:
            case Emit():
                self._emit(change)
            case Lease(ids):
                for entry in map(self._found, ids):
                    self._lease(entry)
            case Back(ids):
                for entry in map(self._found, ids):
                    entry.attempts -= 1
                    self.back(entry)
            case Revive(ids):
                for entry in [self._taken(one) for one in ids]:
                    entry.attempts = 0
                    self._admit(entry)
            case Done(ids):
                for entry in [self._taken(one) for one in ids]:
                    self._settle(entry)
            case Dead(ids):
                for one in ids:
                    self.dead[one] = self._taken(one)
            case Drop(ids, reason):
                for one in ids:
                    self._taken(one)
                self.dropped[reason] += len(ids)

    def back(self, entry: Entry) -> None:
        """Let an impulse that was handed out wait again."""
        if not entry.leased:
            return
        entry.leased = 0
        lane = self._lanes[entry.impulse.target_structure]
        lane.leased -= 1
        self._queue(lane, entry)

    def _emit(self, change: Emit) -> None:
        if change.id != self.next_id:
            raise ImpulseRefused(f"impulse {change.id} does not follow impulse {self.next_id - 1}")
        self._admit(self._entry(change, 0))
        self.next_id += 1
        self.emitted += 1
        self.hlc_last = max(self.hlc_last, change.hlc)

    def _entry(self, change: Emit, attempts: int) -> Entry:
        if not 0 < change.strength <= 1:
            raise ImpulseRefused(f"a strength is above 0, at most 1, not {change.strength}")
        tags = StructureTag(change.source_structure), StructureTag(change.target_structure)
        node = UniversalNodeId(change.source_node)
        kind = ImpulseType(change.kind)
        key = key_of(change.strength, change.hlc, self._half_life_ms)
        impulse = Impulse(change.id, kind, tags[0], node, tags[1], change.hlc, change.strength, change.payload)
        return Entry(impulse, key, attempts)

    def _admit(self, entry: Entry) -> None:
        self.live[entry.impulse.id] = entry
        self.size += entry.size
        self._queue(self._lanes.setdefault(int(entry.impulse.target_structure), _Lane()), entry)

    def _queue(self, lane: _Lane, entry: Entry) -> None:
        impulse = entry.impulse
        lane.ready += 1
        if not entry.queued:
            entry.queued = True
            heapq.heappush(lane.heap, (impulse.hlc, impulse.id))
        if not entry.weighed:
            self.weigh(entry)

    def _lease(self, entry: Entry) -> None:
        lane = self._lanes[entry.impulse.target_structure]
        if not entry.leased:  # a lease that ran out is not on record, so the next one may come upon it
            lane.ready -= 1
            lane.leased += 1
        self._leases += 1
        entry.leased = self._leases
        entry.attempts += 1
        self.delivered += 1
        self.redelivered += entry.attempts > 1

    def _settle(self, entry: Entry) -> None:
        impulse = entry.impulse
        lane = self._lanes.setdefault(int(impulse.target_structure), _Lane())
        lane.done += 1
        self.done += 1
        lane.hlc, lane.id = max((lane.hlc, lane.id), (impulse.hlc, impulse.id))

    def _found(self, number: int) -> Entry:
        entry = self.live.get(number)
        if entry is None:
            raise ImpulseRefused(f"there is no impulse {number} that could be handed out")
        return entry

    def _taken(self, number: int) -> Entry:
        """Take an impulse out, live or dead."""
        entry = self.live.pop(number, None)
        if entry is None:
            entry = self.dead.pop(number, None)
            if entry is None:
                raise ImpulseRefused(f"there is no impulse {number}")
            return entry
        self.size -= entry.size
        lane = self._lanes[entry.impulse.target_structure]
        if entry.leased:
            lane.leased -= 1
            entry.leased = 0
        else:
            lane.ready -= 1
        return entry

    # --- questions ---------------------------------------------------------------------------------------------------

    def pick(self, limit: int, target: int | None) -> list[int]:
        """Return the numbers of the first that wait, in the order (hlc, id); take them from their heaps.

        Each must be handed out, for it is in no heap any more.

        Args:
            limit: how many at most.
            target: for one structure only; None: for all.
        """
        lanes = list(self._lanes.values()) if target is None else [self._lanes[target]] if target in self._lanes else []
        found: list[int] = []
        heads = [(head, number) for number, lane in enumerate(lanes) if (head := self._head(lane)) is not None]
        heapq.heapify(heads)
        while heads and len(found) < limit:
            (_, id_), number = heads[0]
            found.append(id_)
            self.live[id_].queued = False
            heapq.heappop(lanes[number].heap)
            head = self._head(lanes[number])
            if head is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (head, number))
        return found

    def _head(self, lane: _Lane) -> tuple[int, int] | None:
        while lane.heap:
            number = lane.heap[0][1]
            entry = self.live.get(number)
            if entry is not None and not entry.leased:
                return lane.heap[0]
            heapq.heappop(lane.heap)
            entry = entry or self.dead.get(number)
            if entry is not None:
                entry.queued = False
        return None

    def weakest(self) -> Iterator[Entry]:
        """The impulses that wait, from the weakest on; what was taken from here is given to ``weigh`` or dropped."""
        while self._weak:
            number = heapq.heappop(self._weak)[2]
            entry = self.live.get(number) or self.dead.get(number)
            if entry is None:
                continue
            entry.weighed = False
            if number in self.live and not entry.leased:
                yield entry

    def weigh(self, entry: Entry) -> None:
        """Put an impulse back that :meth:`weakest` gave."""
        entry.weighed = True
        heapq.heappush(self._weak, (entry.key, entry.impulse.hlc, entry.impulse.id))

    def lanes(self) -> dict[str, Cursor]:
        """How far the impulses for each structure were worked off."""
        return {
            str(StructureTag(tag)): Cursor(lane.hlc, lane.id, lane.ready, lane.leased, lane.done)
            for tag, lane in sorted(self._lanes.items())
        }


def _emitted(impulse: Impulse) -> Emit:
    numbers = int(impulse.id), int(impulse.type), int(impulse.source_structure)
    ends = bytes(impulse.source_node), int(impulse.target_structure)
    return Emit(*numbers, *ends, impulse.hlc, impulse.strength, impulse.payload)

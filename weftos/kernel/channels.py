"""The rings between agents: one per ordered pair, what each may carry, and its place in the receiver's mailbox.

Bookkeeping and descriptors, no policy: who may have a ring is decided in ``weftos.kernel.grants``. The kernel maps a
ring only for the moment in which it looks at it.
"""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from weftos import limits
from weftos.errors import ResourceLimitExceeded
from weftos.kernel.lines import FIRST_GRANT_SLOT
from weftos.shm import RingInspector, Segment, create_ring

__all__ = ["ChannelTable", "RingRecord", "ring_capacity"]


@dataclass(slots=True)
class RingRecord:
    """One ring from ``src`` to ``dst`` and what it may carry."""

    ring_id: int
    fd: int
    src: int
    dst: int
    slot: int
    capacity: int
    direct: bool = False
    broadcast: bool = False
    topics: set[str] = field(default_factory=set)
    #: The ring that this one replaced, and whether this one was replaced itself.
    after: int = 0
    replaced: bool = False
    #: Incarnation of each end that holds the ring.
    src_has: int = 0
    dst_has: int = 0
    #: Message at the commit position when its reader last died, and how often that has happened.
    suspect: int = -1
    deaths: int = 0
    #: Counters at the previous sample: (monotonic seconds, messages, bytes), and the rates from it.
    sampled: tuple[float, int, int] = (0.0, 0, 0)
    messages_per_sec: float = 0.0
    bytes_per_sec: float = 0.0

    @property
    def used(self) -> bool:
        """Whether it may carry anything at all."""
        return self.direct or self.broadcast or bool(self.topics)

    @contextmanager
    def inspect(self) -> Iterator[RingInspector]:
        """Map the ring for a look."""
        segment = Segment.attach(os.dup(self.fd))
        try:
            yield RingInspector(segment)
        finally:
            segment.close()


def ring_capacity(first_message_bytes: int) -> int:
    """Choose a ring's capacity from the size of its first message: room for several of them, a power of two, within
    limits.
    """
    wanted = first_message_bytes * limits.RING_MESSAGES_HINT
    capacity = limits.DEFAULT_RING_BYTES
    while capacity < wanted and capacity < limits.MAX_GRANT_RING_BYTES:
        capacity *= 2
    # Beyond that only as much as one message needs: a record may take half of a ring.
    while capacity < 2 * (first_message_bytes + _ENVELOPE_BYTES) and capacity < limits.MAX_RING_BYTES:
        capacity *= 2
    return capacity


#: Room in a record for what travels beside a message: record word, array header, alignment.
_ENVELOPE_BYTES = 4096


class ChannelTable:
    """All rings between agents.

    Args:
        next_ring_id: gives a number that was never used in this boot.
    """

    def __init__(self, next_ring_id: Callable[[], int]) -> None:
        self._next_ring_id = next_ring_id
        self._pairs: dict[tuple[int, int], RingRecord] = {}
        self._by_id: dict[int, RingRecord] = {}
        # By ring id, because a ring that was replaced stays until it is read out.
        self._in: defaultdict[int, dict[int, RingRecord]] = defaultdict(dict)
        self._out: defaultdict[int, dict[int, RingRecord]] = defaultdict(dict)
        #: Of closed rings as well, the newest.
        self._ends: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def between(self, src: int, dst: int) -> RingRecord | None:
        """The ring of a pair, if there is one."""
        return self._pairs.get((src, dst))

    def by_id(self, ring_id: int) -> RingRecord | None:
        """The ring with a number, if it exists."""
        return self._by_id.get(ring_id)

    def ends(self, ring_id: int) -> tuple[int, int] | None:
        """Writer and reader of a ring, even of one that was closed lately."""
        return self._ends.get(ring_id)

    def incoming(self, pid: int) -> list[RingRecord]:
        """Rings that an agent reads."""
        return list(self._in.get(pid, {}).values())

    def outgoing(self, pid: int) -> list[RingRecord]:
        """Rings that an agent writes."""
        return list(self._out.get(pid, {}).values())

    def create(self, src: int, dst: int, capacity: int) -> RingRecord:
        """Make the ring of a pair; one that is there already is replaced, and stays until it is removed.

        Raises:
            ResourceLimitExceeded: the receiver's mailbox has no free slot.
            SharedMemoryError: no memory for it.
        """
        taken = {record.slot for record in self._in[dst].values()}
        slot = next((n for n in range(FIRST_GRANT_SLOT, limits.MAILBOX_SLOTS) if n not in taken), None)
        if slot is None:
            raise ResourceLimitExceeded(f"agent {dst} has {len(taken)} incoming rings; a mailbox holds no more")
        ring_id = self._next_ring_id()
        segment = create_ring(capacity, max_record=capacity // 2, ring_id=ring_id)
        record = RingRecord(ring_id, segment.dup_fd(), src, dst, slot, capacity)
        segment.close()
        old = self._pairs.get((src, dst))
        self._pairs[src, dst] = self._by_id[ring_id] = record
        self._ends[ring_id] = src, dst
        while len(self._ends) > limits.RINGS_REMEMBERED:
            self._ends.popitem(last=False)
        self._in[dst][ring_id] = self._out[src][ring_id] = record
        if old is not None:
            record.direct, record.broadcast, record.topics = old.direct, old.broadcast, set(old.topics)
            record.after = old.ring_id
            old.replaced = True
        return record

    def remove(self, record: RingRecord) -> None:
        """Forget a ring and close its descriptor; both ends keep their mappings until they detach."""
        if self._pairs.get((record.src, record.dst)) is record:
            del self._pairs[record.src, record.dst]
        del self._by_id[record.ring_id]
        del self._in[record.dst][record.ring_id]
        del self._out[record.src][record.ring_id]
        for table, pid in ((self._in, record.dst), (self._out, record.src)):
            if not table[pid]:
                del table[pid]
        os.close(record.fd)

    def __iter__(self) -> Iterator[RingRecord]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

"""What is to be built, and how a built segment takes its place.

Why it is as it is: an order must stay true while the store changes. The delta that goes into it is frozen, the journals
that hold it are closed, and of the segments it says which rows were dead. What dies later is found when the segment is
adopted, by comparing the parts with what the order said, and is dead in the new segment too.

Guaranteed: parts of an order are in no other order. A segment is in the manifest before what it replaces is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from weftos import limits
from weftos.disk.files import Files
from weftos.ecc.vectors.collection import Collection
from weftos.ecc.vectors.orders import Sealed, SealOrder, Source
from weftos.ecc.vectors.recovery import Opened, load_segment, write_checkpoint
from weftos.ecc.vectors.segment import Segment
from weftos.ecc.vectors.table import Table
from weftos.ecc.vectors.tiers import Plan, Sizes, plan, whole
from weftos.errors import VectorRefused, VectorsDamaged

__all__ = ["Compaction"]


class _UnderWay(NamedTuple):
    order: SealOrder
    tables: list[Table]
    segments: list[Segment]


class Compaction:
    """The orders of one store.

    Args:
        fs: the calls on files.
        folder: of the store.
        opened: state and journals.
        clock: seconds that only grow.
    """

    def __init__(self, fs: Files, folder: str, opened: Opened, clock: Callable[[], float]) -> None:
        self._fs, self._folder, self._opened, self._clock = fs, os.path.abspath(folder), opened, clock
        self._orders: dict[int, _UnderWay] = {}
        self._numbers = 0
        #: Collections that are to become one segment, by their number.
        self.asked: set[int] = set()

    @property
    def under_way(self) -> int:
        """Orders that are neither adopted nor given up."""
        return len(self._orders)

    def wanted(self, *, beside: bool) -> SealOrder | None:
        """As ``VectorStore.wanted``."""
        state, journals = self._opened.state, self._opened.journals
        journals.check()
        only_tables = bool(self._orders)
        if only_tables and (not beside or any(one.tables for one in self._orders.values()) or len(self._orders) > 1):
            return None
        order = None if only_tables else self._asked_order()
        if order is not None:
            return order
        crowded = journals.size > limits.VECTOR_JOURNAL_BYTES
        for collection in state.by_uid.values():
            self._drop_empty(collection)
        # The fullest first, so that a busy one does not keep the others from their turn.
        for collection in sorted(state.by_uid.values(), key=_delta_rows, reverse=True):
            chosen = plan(self._sizes(collection, pinned=crowded), only_tables=only_tables)
            if chosen is not None:
                return self._order(collection, chosen)
        if (crowded or state.dropped) and not only_tables:
            journals.rotate(state.ledger.last_op + 1)
            write_checkpoint(self._fs, self._folder, self._opened)
        return None

    def _asked_order(self) -> SealOrder | None:
        for uid in sorted(self.asked):
            self.asked.discard(uid)
            collection = self._opened.state.by_uid.get(uid)
            if collection is None:
                continue
            chosen = whole(self._sizes(collection, pinned=False))
            if chosen is not None:
                return self._order(collection, chosen)
        return None

    def load(self, sealed: Sealed) -> Segment:
        """As ``VectorStore.load``."""
        collection = self._opened.state.by_uid.get(self._find(sealed.number).order.uid)
        if collection is None:
            raise VectorRefused(f"the collection of order {sealed.number} was dropped meanwhile")
        return load_segment(self._folder, sealed.file, sealed.digest, collection)

    def adopt(self, sealed: Sealed, loaded: Segment | None) -> None:
        """As ``VectorStore.adopt``."""
        one = self._find(sealed.number)
        state = self._opened.state
        collection = state.by_uid.get(one.order.uid)
        if collection is None:
            del self._orders[sealed.number]
            state.dropped.append(sealed.file)
            if loaded is not None:
                loaded.close()
            return
        try:
            segment = (
                loaded if loaded is not None else load_segment(self._folder, sealed.file, sealed.digest, collection)
            )
            if segment.head.rows != one.order.rows or segment.head.file != one.order.file:
                segment.close()
                raise VectorsDamaged(f"{sealed.file} is not the segment of order {sealed.number}")
        except VectorsDamaged:
            self.give_up(sealed.number)
            raise
        del self._orders[sealed.number]
        self._swap(collection, one, segment)
        write_checkpoint(self._fs, self._folder, self._opened)

    def give_up(self, number: int) -> None:
        """As ``VectorStore.give_up``."""
        file = self._find(number).order.file
        del self._orders[number]
        left = [name for name in (file, f"{file}.tmp") if os.path.lexists(os.path.join(self._folder, name))]
        self._opened.state.dropped += left

    def _find(self, number: int) -> _UnderWay:
        one = self._orders.get(number)
        if one is None:
            raise VectorRefused(f"there is no order {number} under way; it was given up, or is of another start")
        return one

    def _drop_empty(self, collection: Collection) -> None:
        """Leave out segments in which nothing counts any more; there is nothing to build from them."""
        busy = self._busy()
        for segment in [one for one in collection.segments if not one.live and id(one) not in busy]:
            collection.segments.remove(segment)
            self._opened.state.dropped.append(segment.head.file)
            segment.close()

    def _busy(self) -> set[int]:
        return {id(segment) for one in self._orders.values() for segment in one.segments}

    def _sizes(self, collection: Collection, *, pinned: bool) -> Sizes:
        busy = self._busy()
        tables = collection.tables()
        return Sizes(
            delta_rows=_delta_rows(collection),
            delta_bytes=sum(table.bytes for table in tables),
            segments=[(one.live, one.dead) if id(one) not in busy else None for one in collection.segments],
            is_quiet=self._clock() - collection.changed_at >= limits.VECTOR_QUIET_S,
            is_pinned=pinned,
        )

    def _order(self, collection: Collection, chosen: Plan) -> SealOrder | None:
        state, journals = self._opened.state, self._opened.journals
        tables: list[Table] = []
        if chosen.with_tables:
            if collection.active.live:
                journals.rotate(state.ledger.last_op + 1)
                state.journal = journals.current
                collection.freeze(state.ledger.last_op, journals.current)
            tables = [table for table, _through in collection.frozen]
        segments = [collection.segments[place] for place in chosen.segments]
        ops = np.sort(np.concatenate([np.empty(0, np.uint64), *(table.live_ops() for table in tables)]))
        rows = len(ops) + sum(segment.live for segment in segments)
        self._numbers += 1
        order = SealOrder(
            number=self._numbers,
            uid=collection.uid,
            spec=collection.spec,
            folder=self._folder,
            file=f"segment-{os.urandom(12).hex()}",
            journals=journals.closed_names() if len(ops) else [],
            ops=ops.astype("<u8").tobytes(),
            sources=[Source(one.head.file, one.digest, one.dead_bits()) for one in segments],
            rows=rows,
        )
        self._orders[order.number] = _UnderWay(order, tables, segments)
        return order

    def _swap(self, collection: Collection, one: _UnderWay, segment: Segment) -> None:
        """Put the segment in the place of its parts; what died since the order is dead in it."""
        for part, source in zip(one.segments, one.order.sources, strict=True):
            segment.kill_ops(part.ops[part.alive_in(source.dead) & ~part.alive])
        entries = [np.empty(0, np.uint64), *(table.live_ops() for table in one.tables)]
        segment.kill_ops(np.setdiff1d(np.frombuffer(one.order.ops, "<u8"), np.concatenate(entries), assume_unique=True))
        collection.segments = [part for part in collection.segments if part not in one.segments]
        collection.segments.append(segment)
        for part in one.segments:
            self._opened.state.dropped.append(part.head.file)
            part.close()
        taken = [through for table, through in collection.frozen if table in one.tables]
        collection.frozen = [pair for pair in collection.frozen if pair[0] not in one.tables]
        collection.sealed_through = max([collection.sealed_through, *taken])
        collection.generation += 1


def _delta_rows(collection: Collection) -> int:
    return sum(table.live for table in collection.tables())

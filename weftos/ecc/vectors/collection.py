"""One collection: the delta that is written, deltas that are being sealed, and segments; an entry is in one of them.

Guaranteed: a change is seen by the next search. A search gives the best of all parts, and as many as there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from weftos.ecc.vectors.batches import Batch
from weftos.ecc.vectors.digests import ContentSum, expansion, id_hash
from weftos.ecc.vectors.exact import Top, best_of
from weftos.ecc.vectors.filters import Filter
from weftos.ecc.vectors.manifest import CollectionState, SegmentState
from weftos.ecc.vectors.model import CollectionSpec, CollectionStatistics, Columns, Content
from weftos.ecc.vectors.segment import Segment
from weftos.ecc.vectors.table import Table

__all__ = ["Collection", "Place"]

T = TypeVar("T")
Floats = NDArray[np.float32]
#: Where an entry is: a part, and a slot or row of it.
Place: TypeAlias = tuple[Table | Segment, int]


class Collection:
    """The parts of a collection and what is known about them.

    Args:
        uid: number of the mutation that made it.
        spec: what it is.
        journal: number of the journal that is written now.

    Attributes:
        uid: as given.
        spec: as given.
        active: the table that is written.
        frozen: tables that are not written any more, oldest first, with the last mutation that may be in them.
        segments: sealed files.
        content: sum of the entries.
        sealed_through: entries written up to this mutation are in segments, or gone.
        upserts: entries written.
        deletes: entries deleted.
        searches: queries answered.
        generation: how often segments were swapped.
        changed_at: when the last change was made, on the store's clock.
    """

    def __init__(self, uid: int, spec: CollectionSpec, journal: int) -> None:
        self.uid, self.spec = uid, spec
        self.active = Table(spec.dimension, journal)
        self.frozen: list[tuple[Table, int]] = []
        self.segments: list[Segment] = []
        self.content = ContentSum()
        self.sealed_through = uid
        self.upserts = self.deletes = self.searches = self.generation = 0
        self.changed_at = 0.0

    def tables(self) -> list[Table]:
        """Return all tables, the one that is written last."""
        return [*(table for table, _through in self.frozen), self.active]

    def parts(self) -> list[Table | Segment]:
        """Return all tables and segments."""
        return [*self.tables(), *self.segments]

    @property
    def live(self) -> int:
        """Entries."""
        return sum(part.live for part in self.parts())

    def find(self, ids: Sequence[str]) -> list[Place | None]:
        """Return where each id is, or None."""
        found: list[Place | None] = [None] * len(ids)
        for table in self.tables():
            for place, identity in enumerate(ids):
                slot = table.slots.get(identity)
                if slot is not None:
                    found[place] = (table, slot)
        if self.segments:
            raw = [identity.encode() for identity in ids]
            hashes = np.fromiter(map(id_hash, raw), np.uint64, len(raw))
            for segment in self.segments:
                for place, row in segment.rows_of(hashes, raw).items():
                    found[place] = (segment, row)
        return found

    def remove(self, ids: Sequence[str], places: Sequence[Place | None]) -> None:
        """Take entries out of the parts that :meth:`find` said they are in; an id may occur again."""
        for identity, place in zip(ids, places, strict=True):
            match place:
                case (Table() as table, _slot) if identity in table.slots:
                    table.kill(identity)
                case (Segment() as segment, row) if segment.alive[row]:
                    segment.kill(row)

    def expansions(self, places: Sequence[Place | None]) -> list[bytes]:
        """Return what stands for the entries at these places in the sum; each place counts once."""
        distinct = {(id(part), at): (part, at) for part, at in filter(None, places)}
        return [part.expansion(at) for part, at in distinct.values()]

    def freeze(self, last_op: int, next_journal: int) -> None:
        """Write no more to the table that is written now, and begin another."""
        self.frozen.append((self.active, last_op))
        self.active = Table(self.spec.dimension, next_journal)

    def search(
        self, queries: Floats, k: int, condition: Filter | None, ef: int | None, content: Content
    ) -> tuple[Floats, Columns]:
        """Return the best entries for each query, best first: scores (queries, hits), and as much of the entries as
        is asked for.

        Raises:
            FilterInvalid: the condition cannot be evaluated.
            VectorsDamaged: an entry was altered on disk.
        """
        self.searches += len(queries)
        parts = [part for part in self.parts() if part.live]
        if len(parts) == 1:
            # As after every merge: what one part found is in order already.
            (part,) = parts
            best, places = self._search_part(part, queries, k, condition, ef)
            return best, part.entries(places.ravel(), content)
        scores, codes = [np.empty((len(queries), 0), np.float32)], [np.empty((len(queries), 0), np.int64)]
        for number, part in enumerate(parts):
            top = self._search_part(part, queries, k, condition, ef)
            scores.append(top[0])
            codes.append(top[1] * len(parts) + number)
        best, places = best_of(np.concatenate(scores, axis=1), np.concatenate(codes, axis=1), k)
        distinct = places.ravel()
        which: NDArray[np.intp] | slice = slice(None)
        if content != "none" and len(queries) > 1:
            # Each entry is read once, though several queries may have found it.
            distinct, which = np.unique(distinct, return_inverse=True)
        owners = distinct % max(len(parts), 1)
        order = np.argsort(owners, kind="stable")
        read = [part.entries(distinct[owners == number] // len(parts), content) for number, part in enumerate(parts)]
        at = np.empty_like(order)
        at[order] = np.arange(len(order))
        return best, _taken(read, at[which])

    def _search_part(
        self, part: Table | Segment, queries: Floats, k: int, condition: Filter | None, ef: int | None
    ) -> Top:
        if isinstance(part, Table):
            return part.search(queries, k, self.spec.metric, condition)
        return part.search(queries, k, condition, ef)

    def state(self, last_op: int) -> CollectionState:
        """Return what the manifest keeps of the collection after mutation ``last_op``."""
        if not any(table.live for table in self.tables()):
            self.sealed_through = last_op
        segments = [SegmentState(one.head.file, one.digest, one.dead_bits()) for one in self.segments]
        return CollectionState(
            self.uid,
            self.spec,
            self.sealed_through,
            segments,
            self.content.state,
            self.upserts,
            self.deletes,
            self.generation,
        )

    def statistics(self) -> CollectionStatistics:
        """Return what the collection holds and has done."""
        live = self.live
        return CollectionStatistics(
            spec=self.spec,
            live=live,
            tombstones=sum(segment.dead for segment in self.segments),
            delta_rows=sum(table.live for table in self.tables()),
            segments=len(self.segments),
            bytes=sum(segment.size for segment in self.segments),
            generation=self.generation,
            recall=min((segment.head.recall for segment in self.segments), default=1.0),
            searches=self.searches,
            upserts=self.upserts,
            deletes=self.deletes,
            content_root=self.content.root(live),
        )

    def close(self) -> None:
        """Close the files of the segments."""
        for segment in self.segments:
            segment.close()


def _taken(parts: Sequence[Columns], places: NDArray[np.int64]) -> Columns:
    """Return the entries at places of columns that are put behind each other; a place may occur again."""
    rows = places.tolist()

    def taken(columns: Iterable[list[T]]) -> list[T]:
        column = [*chain.from_iterable(columns)]
        return [column[row] for row in rows] if column else column

    return Columns(
        ids=taken(one.ids for one in parts),
        ops=np.concatenate([np.empty(0, np.uint64), *(one.ops for one in parts)])[places],
        raw=taken(one.raw for one in parts),
        documents=taken(one.documents for one in parts),
    )


def batch_expansions(batch: Batch) -> list[bytes]:
    """Return what stands for each entry of a batch in the sum."""
    vectors = batch.vectors.astype("<f4", copy=False).tobytes()
    size = len(vectors) // len(batch.ids)
    return [
        expansion(identity.encode(), vectors[at * size : (at + 1) * size], raw, document)
        for at, (identity, raw, document) in enumerate(zip(batch.ids, batch.raw, batch.documents, strict=True))
    ]

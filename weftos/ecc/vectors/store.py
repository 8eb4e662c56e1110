"""A store of vectors: several collections in one folder, written by one process.

Why it is as it is: new entries must be found by the very next search, deleted ones by none, and nobody may wait for an
index to be built. So entries are written to a delta that is scanned exactly, and a process beside builds segments with
graphs from it; see docs/decisions/0023-vector-segments.md.

Guaranteed: what :meth:`VectorStore.sync` returned for is there after a kill at any point. A batch is written as a whole
or not at all; after any error but ``JournalFailed`` the store is as it was. Not guaranteed: that a graph finds the very
nearest; that is what ``ef`` is about. The caller holds the lock of the folder and calls from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.files import Files
from weftos.ecc.vectors.batches import checked_batch, checked_id, checked_queries, decode_metadata
from weftos.ecc.vectors.changes import Commit, Create, Delete, Drop
from weftos.ecc.vectors.collection import Collection, Place
from weftos.ecc.vectors.compaction import Compaction
from weftos.ecc.vectors.filters import Filter, Value, check_filter
from weftos.ecc.vectors.looking import Facet, facets, select
from weftos.ecc.vectors.model import (
    CollectionSpec,
    CollectionStatistics,
    Content,
    Entry,
    Hit,
    Hits,
    OpProof,
    Stored,
    StoreStatistics,
    Uncommitted,
    check_spec,
)
from weftos.ecc.vectors.orders import Sealed, SealOrder
from weftos.ecc.vectors.recovery import Opened, open_folder
from weftos.ecc.vectors.segment import Segment
from weftos.ecc.vectors.state import upsert_of
from weftos.errors import CollectionExists, CollectionNotFound, DimensionMismatch, VectorRefused
from weftos.merkle.frontier import leaf_hash

__all__ = ["VectorStore"]


class VectorStore:
    """An open store. Made by :meth:`open`.

    Args:
        fs: the calls on files.
        folder: of the store.
        opened: what was read there.
        clock: seconds that only grow.
    """

    def __init__(self, fs: Files, folder: str, opened: Opened, clock: Callable[[], float]) -> None:
        self._state, self._journals, self._clock = opened.state, opened.journals, clock
        self._opened = opened
        self._compaction = Compaction(fs, folder, opened, clock)
        for collection in self._state.by_uid.values():
            collection.changed_at = clock()  # nobody is quiet before it was watched for a while

    @classmethod
    def open(cls, fs: Files, folder: str, clock: Callable[[], float] = time.monotonic) -> Self:
        """Read a store, or make one where there is none.

        Args:
            fs: the calls on files.
            folder: its folder, whose parent is there; the caller holds a lock on it.
            clock: seconds that only grow; it decides when a collection counts as quiet.

        Raises:
            JournalDamaged: a file is missing, altered or another's (``VectorsDamaged``). Nothing was changed.
            OSError: a call failed.
        """
        return cls(fs, folder, open_folder(fs, folder), clock)

    # --- collections --------------------------------------------------------------------------------------------------

    def create(self, spec: CollectionSpec) -> None:
        """Make a collection; if it is there with the same spec, that is all right.

        Raises:
            VectorRefused: the spec is not acceptable, or there are too many collections.
            CollectionExists: it is there with another spec.
            JournalFailed: the journal takes nothing more.
        """
        check_spec(spec)
        known = self._state.by_name.get(spec.name)
        if known is not None:
            if known.spec != spec:
                raise CollectionExists(
                    f"there is a collection {spec.name!r} with another spec; drop it, or name another"
                )
            return
        if len(self._state.by_name) >= limits.VECTOR_COLLECTIONS:
            raise VectorRefused(f"there are {limits.VECTOR_COLLECTIONS} collections, which is the most; drop one")
        op = self._state.ledger.last_op + 1
        self._journals.append(Create(op, spec))
        self._state.create(op, spec).changed_at = self._clock()

    def drop(self, name: str) -> int:
        """Remove a collection with all that is in it, and return how many entries that were.

        Raises:
            CollectionNotFound: it is not there.
            JournalFailed: the journal takes nothing more.
        """
        collection = self._collection(name)
        count, op = collection.live, self._state.ledger.last_op + 1
        self._journals.append(Drop(op, collection.uid))
        self._state.drop(op, collection)
        return count

    def collections(self) -> list[CollectionStatistics]:
        """Return what each collection holds and has done, by name."""
        return [one.statistics() for _name, one in sorted(self._state.by_name.items())]

    def spec(self, name: str) -> CollectionSpec:
        """Return what a collection was made as.

        Raises:
            CollectionNotFound: it is not there.
        """
        return self._collection(name).spec

    # --- entries ------------------------------------------------------------------------------------------------------

    def upsert(self, name: str, entries: Sequence[Entry]) -> int:
        """Write entries, in place of those that have their ids; all of them or none.

        Args:
            name: of the collection.
            entries: 1 to ``VECTOR_BATCH_ENTRIES``; of two with one id the last one stays.

        Returns:
            Number of the last mutation: each entry is one.

        Raises:
            CollectionNotFound: the collection is not there.
            DimensionMismatch: a vector of another dimension or type.
            VectorRefused: an entry cannot be kept; nothing was written.
            MetadataInvalid: metadata that no filter can look at, or too large; nothing was written.
            JournalFailed: the journal takes nothing more.
        """
        spec = self._collection(name).spec
        shapes = {getattr(entry.vector, "shape", None) for entry in entries} - {(spec.dimension,)}
        types = {getattr(entry.vector, "dtype", None) for entry in entries} - {np.dtype(np.float32)}
        if shapes or types:
            raise DimensionMismatch(
                f"each vector of {name!r} is an array of float32 of shape ({spec.dimension},), not "
                f"{', '.join(map(str, shapes | types))}"
            )
        vectors = (
            np.stack([entry.vector for entry in entries]) if entries else np.empty((0, spec.dimension), np.float32)
        )
        return self.upsert_arrays(
            name,
            [entry.id for entry in entries],
            vectors,
            [entry.metadata for entry in entries],
            [entry.document for entry in entries],
        )

    def upsert_arrays(
        self,
        name: str,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        metadata: Sequence[Mapping[str, Value]],
        documents: Sequence[bytes],
    ) -> int:
        """As :meth:`upsert`, with the entries in columns; ``vectors`` is (n, dimension), float32."""
        collection = self._collection(name)
        batch = checked_batch(collection.spec, ids, vectors, metadata, documents)
        prepared = self._state.prepare(collection, list(batch.ids), batch)
        op = self._state.ledger.last_op + 1
        self._journals.append(upsert_of(op, collection.uid, batch))
        self._state.upsert(op, collection, batch, prepared)
        collection.changed_at = self._clock()
        return self._state.ledger.last_op

    def delete(self, name: str, ids: Sequence[str]) -> int:
        """Delete entries, and return how many of the ids were there; each of these is one mutation.

        Raises:
            CollectionNotFound: the collection is not there.
            VectorRefused: an id is none, or there are too many.
            JournalFailed: the journal takes nothing more.
        """
        collection = self._collection(name)
        distinct = list(dict.fromkeys(self._checked_ids(ids)))
        present = [one for one, place in zip(distinct, collection.find(distinct), strict=True) if place is not None]
        if not present:
            return 0
        prepared = self._state.prepare(collection, present, None)
        op = self._state.ledger.last_op + 1
        self._journals.append(Delete(op, collection.uid, present))
        self._state.delete(op, collection, present, prepared)
        collection.changed_at = self._clock()
        return len(present)

    def get(self, name: str, ids: Sequence[str]) -> list[Stored | None]:
        """Return entries by their ids, with their vectors; None where there is none.

        Raises:
            CollectionNotFound: the collection is not there.
            VectorRefused: an id is none, or there are too many.
            VectorsDamaged: an entry was altered on disk.
        """
        collection = self._collection(name)
        wanted = self._checked_ids(ids)
        places = collection.find(wanted)
        return [None if at is None else self._stored(one, at) for one, at in zip(wanted, places, strict=True)]

    def select(
        self, name: str, condition: Filter | None = None, *, after: int = 0, limit: int = 1000
    ) -> list[tuple[int, str]]:
        """Return mutation and id of the first entries that were written after a mutation, in the order of writing.

        Args:
            name: of the collection.
            condition: what the metadata has to meet.
            after: number of a mutation; that of the last entry of a page gives the next page.
            limit: how many at most.

        Raises:
            CollectionNotFound: the collection is not there.
            FilterInvalid: the condition cannot be evaluated.
        """
        return select(self._collection(name), condition, after, limit)

    def facets(self, name: str, fields: Sequence[str], condition: Filter | None = None) -> list[Facet]:
        """Return which values some fields have together, and in how many entries; errors as for :meth:`select`."""
        return facets(self._collection(name), fields, condition)

    @property
    def last_op(self) -> int:
        """Number of the last mutation."""
        return self._state.ledger.last_op

    def search(
        self,
        name: str,
        queries: NDArray[np.float32],
        k: int,
        *,
        condition: Filter | None = None,
        ef: int | None = None,
        documents: bool = True,
        metadata: bool = True,
    ) -> list[list[Hit]]:
        """Find the nearest entries.

        Args:
            name: of the collection.
            queries: (n, dimension), float32.
            k: results for each query; fewer come only if fewer entries meet the condition.
            condition: what the metadata has to meet.
            ef: how many candidates a graph keeps while it searches: more find better and take longer. Without it each
                segment uses the number that it was calibrated to.
            documents: whether the hits bring their documents, and with them their metadata.
            metadata: whether they bring their metadata; without both nothing is read from the disk.

        Returns:
            The hits of each query, nearest first. Entries of one score have no order.

        Raises: as :meth:`search_columns`.
        """
        content: Content = "all" if documents else "metadata" if metadata else "none"
        hits = self.search_columns(name, queries, k, condition=condition, ef=ef, content=content)
        entries = hits.entries
        count = len(entries.ids)
        each = zip(
            entries.ids,
            hits.scores.ravel().tolist(),
            entries.ops.tolist(),
            hits.chain_seqs.tolist(),
            map(decode_metadata, entries.raw or [b""] * count),
            entries.documents or [b""] * count,
            strict=True,
        )
        found = [Hit(*one) for one in each]
        width = hits.scores.shape[1]
        return [found[at * width : (at + 1) * width] for at in range(len(queries))]

    def search_columns(
        self,
        name: str,
        queries: NDArray[np.float32],
        k: int,
        *,
        condition: Filter | None = None,
        ef: int | None = None,
        content: Content = "all",
    ) -> Hits:
        """As :meth:`search`, with the hits in columns; ``content`` says what is read from the disk.

        Raises:
            CollectionNotFound: the collection is not there.
            DimensionMismatch: queries of another shape or type.
            VectorRefused: a query that cannot be compared, or a number out of range.
            FilterInvalid: the condition cannot be evaluated.
            VectorsDamaged: an entry was altered on disk.
        """
        collection = self._collection(name)
        asked = checked_queries(collection.spec, queries, k, ef)
        if condition is not None:
            check_filter(condition)
        scores, entries = collection.search(asked, k, condition, ef, content)
        return Hits(scores, entries, self._state.ledger.chain_seqs(entries.ops))

    def sync(self) -> None:
        """Bring every change so far onto the disk, with one call for all of them.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._journals.sync()

    def begin_sync(self) -> Callable[[], None] | None:
        """Begin what :meth:`sync` does, so that another thread may wait for the disk; the store may be used meanwhile.

        Returns:
            To be called once, in any thread; :meth:`finish_sync` tells what came of it. None if nothing has to be done.

        Raises:
            JournalFailed: an earlier call failed.
        """
        return self._journals.begin_sync()

    def finish_sync(self) -> None:
        """Wait until what :meth:`begin_sync` gave was done. What was changed after that call is not on disk by it.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._journals.finish_sync()

    # --- commitment to the log ----------------------------------------------------------------------------------------

    def uncommitted(self) -> Uncommitted:
        """Return what no record of the log vouches for, with the Merkle root that a record would hold.

        Call :meth:`sync` before the record is written, or the log vouches for what a kill takes away.
        """
        return self._state.ledger.uncommitted()

    def committed(self, last_op: int, chain_seq: int) -> None:
        """Note that record ``chain_seq`` of the log vouches for the mutations up to ``last_op``.

        Those that a record vouches for already are passed over, so a record may be noted again.

        Raises:
            VectorRefused: they have not all happened.
            JournalFailed: the journal takes nothing more.
        """
        self._state.ledger.check_commit(last_op, chain_seq)
        if last_op <= self._state.ledger.committed_op:
            return
        self._journals.append(Commit(last_op, chain_seq))
        self._state.ledger.commit(last_op, chain_seq)

    def proof(self, op: int) -> OpProof:
        """Return leaf and path of a mutation that is committed. The leaves of all mutations are retained.

        Raises:
            VectorRefused: there is no such mutation, or it is not committed yet.
            VectorsDamaged: what is retained does not lead to the root.
        """
        proof = self._state.ledger.proof(op)
        content = self._state.content_of(op)
        return proof if leaf_hash(content) != proof.leaf else msgspec.structs.replace(proof, content=content)

    def content_root(self, name: str) -> bytes:
        """Return 32 bytes that are equal for equal content, however it came about and wherever it lies.

        Raises:
            CollectionNotFound: the collection is not there.
        """
        collection = self._collection(name)
        return collection.content.root(collection.live)

    # --- compaction ---------------------------------------------------------------------------------------------------

    def wanted(self, *, beside: bool = False) -> SealOrder | None:
        """Return what should be built now, if anything. Ask from time to time, outside of requests.

        Args:
            beside: also while an order to merge segments is under way, if a delta is full: then two builders work. By
                default there is no order while one is under way.

        Raises:
            JournalFailed: the journal takes nothing more.
        """
        return self._compaction.wanted(beside=beside)

    @property
    def compaction_asked(self) -> bool:
        """Whether :meth:`compact` was called and :meth:`wanted` has not answered it yet."""
        return bool(self._compaction.asked)

    def compact(self, name: str) -> None:
        """Have a collection become one segment, as soon as :meth:`wanted` is asked and nothing of it is being built.

        Raises:
            CollectionNotFound: the collection is not there.
        """
        self._compaction.asked.add(self._collection(name).uid)

    def load(self, sealed: Sealed) -> Segment:
        """Read and check a segment that was built, for :meth:`adopt`. May run in another thread.

        Raises:
            VectorsDamaged: it is not what was built.
        """
        return self._compaction.load(sealed)

    def adopt(self, sealed: Sealed, loaded: Segment | None = None) -> None:
        """Put a segment in the place of what it was built from; changes made meanwhile stay in force.

        Args:
            sealed: what the builder answered.
            loaded: what :meth:`load` returned; without it the segment is read now, which takes its time.

        Raises:
            VectorRefused: there is no such order.
            VectorsDamaged: it is not what was built; the order is given up, the store goes on as before.
            JournalFailed: the manifest could not be written; open the store again.
        """
        self._compaction.adopt(sealed, loaded)

    def give_up(self, order: SealOrder) -> None:
        """Note that an order was not carried out; the store goes on as before, and will ask again.

        Raises:
            VectorRefused: there is no such order.
        """
        self._compaction.give_up(order.number)

    def statistics(self) -> StoreStatistics:
        """Return what the store holds in all."""
        collections = self._state.by_uid.values()
        return StoreStatistics(
            collections=len(collections),
            live=sum(one.live for one in collections),
            last_op=self._state.ledger.last_op,
            committed_op=self._state.ledger.committed_op,
            journals=self._journals.count,
            journal_bytes=self._journals.size,
            segment_bytes=sum(segment.size for one in collections for segment in one.segments),
            under_way=self._compaction.under_way,
            generation=self._opened.generation,
        )

    def close(self) -> None:
        """Close the files; what was not synced is dropped."""
        self._journals.close()
        for collection in self._state.by_uid.values():
            collection.close()

    # --- within -------------------------------------------------------------------------------------------------------

    def _collection(self, name: str) -> Collection:
        collection = self._state.by_name.get(name)
        if collection is None:
            raise CollectionNotFound(f"there is no collection {name!r}; create it first")
        return collection

    def _checked_ids(self, ids: Sequence[str]) -> list[str]:
        if isinstance(ids, str) or len(ids) > limits.VECTOR_BATCH_ENTRIES:
            raise VectorRefused(f"give a list of at most {limits.VECTOR_BATCH_ENTRIES} ids")
        for one in ids:
            checked_id(one)
        return list(ids)

    def _stored(self, identity: str, place: Place) -> Stored:
        part, at = place
        op, (raw, document) = int(part.ops[at]), part.record(at)
        chain_seq = self._state.ledger.chain_seq(op)
        return Stored(identity, part.vectors[at].copy(), decode_metadata(raw), document, op, chain_seq)

"""The state of a store in memory, and how changes make it: the same way when they are asked for and when they are read.

Guaranteed: reading the journals again gives the state that was there, its roots included.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from weftos.ecc.vectors.batches import Batch
from weftos.ecc.vectors.changes import Begin, Change, Commit, Create, Delete, Drop, Upsert
from weftos.ecc.vectors.collection import Collection, Place, batch_expansions
from weftos.ecc.vectors.digests import blank_digest, op_content
from weftos.ecc.vectors.ledger import Ledger
from weftos.ecc.vectors.model import CollectionSpec, OpKind
from weftos.errors import EccError, VectorsDamaged
from weftos.merkle.frontier import leaf_hash

__all__ = ["Prepared", "State", "batch_of", "create_digest", "upsert_of"]


class Prepared(NamedTuple):
    """All that an upsert or a delete has to read, read before anything is changed.

    Attributes:
        places: where the ids are now.
        removed: what stands for the entries there in the sum.
        added: what stands for the new entries.
    """

    places: list[Place | None]
    removed: list[bytes]
    added: list[bytes]


def create_digest(spec: CollectionSpec) -> bytes:
    """Return the digest in the leaf of the mutation that makes a collection."""
    return blank_digest(msgspec.msgpack.encode(spec, order="sorted"))


def upsert_of(op: int, uid: int, batch: Batch) -> Upsert:
    """Return the record of a batch."""
    vectors = batch.vectors.astype("<f4", copy=False).tobytes()
    return Upsert(op, uid, batch.ids, vectors, batch.raw, batch.documents)


def batch_of(change: Upsert, dimension: int) -> Batch:
    """Return the batch of a record.

    Raises:
        VectorsDamaged: its parts do not fit each other.
    """
    count = len(change.ids)
    if len(change.vectors) != 4 * dimension * count or not count == len(change.raw) == len(change.documents):
        raise VectorsDamaged(f"the record of mutation {change.op} contradicts itself; restore the journal from a copy")
    vectors = np.frombuffer(change.vectors, "<f4").astype(np.float32, copy=False).reshape(count, dimension)
    return Batch(change.ids, vectors, change.raw, change.documents)


class State:
    """Collections and ledger.

    Args:
        ledger: of the store.
        collections: as the manifest describes them.
        journal: number of the journal that is read or written now.

    Attributes:
        by_name: collections.
        by_uid: the same ones.
        dropped: files of segments whose collection is gone, to be removed after the next manifest.
    """

    def __init__(self, ledger: Ledger, collections: list[Collection], journal: int) -> None:
        self.ledger = ledger
        self.journal = journal
        self.by_name = {one.spec.name: one for one in collections}
        self.by_uid = {one.uid: one for one in collections}
        self.dropped: list[str] = []
        #: Mutations up to this one are in the manifest; reading them again only brings back the delta.
        self._known = ledger.last_op

    def prepare(self, collection: Collection, ids: list[str], batch: Batch | None) -> Prepared:
        """Read what a change needs.

        Raises:
            VectorsDamaged: an entry that is to be replaced or deleted cannot be read.
        """
        places = collection.find(ids)
        removed = collection.expansions(places)
        return Prepared(places, removed, batch_expansions(batch) if batch is not None else [])

    def create(self, op: int, spec: CollectionSpec) -> Collection:
        """Make a collection."""
        collection = Collection(op, spec, self.journal)
        self.by_name[spec.name] = self.by_uid[op] = collection
        self._note("create", op, op, [create_digest(spec)])
        return collection

    def drop(self, op: int, collection: Collection) -> None:
        """Remove a collection; its files stay until the next manifest."""
        del self.by_name[collection.spec.name], self.by_uid[collection.uid]
        self.dropped += [segment.head.file for segment in collection.segments]
        collection.close()
        self._note("drop", op, collection.uid, [blank_digest(collection.spec.name.encode())])

    def upsert(self, op: int, collection: Collection, batch: Batch, prepared: Prepared) -> None:
        """Write the entries of a batch."""
        collection.remove(batch.ids, prepared.places)
        self._put(collection, batch, op)
        last = {identity: place for place, identity in enumerate(batch.ids)}
        collection.content.change([prepared.added[place] for place in last.values()], prepared.removed)
        collection.upserts += len(batch.ids)
        self._note("upsert", op, collection.uid, [expansion[:32] for expansion in prepared.added])

    def delete(self, op: int, collection: Collection, ids: list[str], prepared: Prepared) -> None:
        """Delete entries that are there."""
        collection.remove(ids, prepared.places)
        collection.content.change([], prepared.removed)
        collection.deletes += len(ids)
        self._note("delete", op, collection.uid, [blank_digest(identity.encode()) for identity in ids])

    def content_of(self, op: int) -> bytes:
        """Return what the leaf of a mutation is the hash of, if what it wrote is there; else nothing."""
        made = self.by_uid.get(op)
        if made is not None:
            return op_content(op, "create", op, create_digest(made.spec))
        for collection in self.by_uid.values():
            for part in collection.parts():
                at = part.row_of_op(op)
                if at is not None:
                    return op_content(op, "upsert", collection.uid, part.expansion(at)[:32])
        return b""

    def replay(self, change: Change) -> None:
        """Make a change that a journal says.

        Raises:
            VectorsDamaged: it cannot be made.
        """
        try:
            if isinstance(change, Commit):
                self.ledger.commit(change.last, change.chain_seq)
            elif not isinstance(change, Begin):
                (self._again if change.op <= self._known else self._anew)(change)
        except EccError as error:
            if isinstance(error, VectorsDamaged):
                raise
            raise VectorsDamaged(f"a change of the journal cannot be made again: {error}") from error

    def _anew(self, change: Create | Drop | Upsert | Delete) -> None:
        """A change that the manifest does not know."""
        if isinstance(change, Create):
            if change.spec.name in self.by_name:
                raise VectorsDamaged(f"mutation {change.op} makes {change.spec.name!r}, which is there")
            self.create(change.op, change.spec)
            return
        collection = self.by_uid.get(change.uid)
        if collection is None:
            raise VectorsDamaged(f"mutation {change.op} changes a collection that is not there; restore the journals")
        match change:
            case Drop():
                self.drop(change.op, collection)
            case Upsert():
                batch = batch_of(change, collection.spec.dimension)
                self.upsert(change.op, collection, batch, self.prepare(collection, list(batch.ids), batch))
            case Delete():
                ids = list(change.ids)
                prepared = self.prepare(collection, ids, None)
                if None in prepared.places:
                    raise VectorsDamaged(f"mutation {change.op} deletes an entry that is not there")
                self.delete(change.op, collection, ids, prepared)

    def _again(self, change: Create | Drop | Upsert | Delete) -> None:
        """A change that is in the manifest: of it only the entries that are in no segment have to come back."""
        if isinstance(change, Create | Drop):
            return
        collection = self.by_uid.get(change.uid)
        if collection is None or change.op <= collection.sealed_through:
            return
        for identity in set(change.ids) & collection.active.slots.keys():
            collection.active.kill(identity)
        if isinstance(change, Upsert):
            self._put(collection, batch_of(change, collection.spec.dimension), change.op)

    def _put(self, collection: Collection, batch: Batch, op: int) -> None:
        if not collection.active.live:
            collection.active.journal = self.journal
        collection.active.put(batch, op)

    def _note(self, kind: OpKind, op: int, uid: int, digests: list[bytes]) -> None:
        assert op == self.ledger.last_op + 1, "mutations are numbered without a gap"
        self.ledger.note(kind, [leaf_hash(op_content(op + at, kind, uid, digest)) for at, digest in enumerate(digests)])

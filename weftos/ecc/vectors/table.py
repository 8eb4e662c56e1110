"""The delta of a collection: entries that are in no segment yet, in a matrix that is scanned exactly.

Why it is as it is: while a segment is built from a table, the table is frozen: entries of it can still be deleted, but
none is written any more, so that what the builder was told stays true. New entries go to the next table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weftos.ecc.vectors.batches import Batch, decode_metadata
from weftos.ecc.vectors.digests import expansion
from weftos.ecc.vectors.exact import Top, empty_top, exact_top
from weftos.ecc.vectors.filters import Filter, MetadataColumns, Value
from weftos.ecc.vectors.model import Columns, Content, Metric

__all__ = ["Table"]


class Table:
    """Entries in memory.

    Args:
        dimension: of the vectors.
        journal: number of the first journal that has any of them.

    Attributes:
        journal: as given.
        slots: where each id is.
        vectors: (capacity, dimension).
        ops: number of the mutation that wrote each slot.
        raw: metadata of each slot.
        documents: of each slot.
        bytes: of metadata and documents.
    """

    def __init__(self, dimension: int, journal: int) -> None:
        self.journal = journal
        self.slots: dict[str, int] = {}
        self.vectors: NDArray[np.float32] = np.zeros((64, dimension), np.float32)
        self.ops: NDArray[np.uint64] = np.zeros(64, np.uint64)
        self.ids: list[str] = []
        self.raw: list[bytes] = []
        self.documents: list[bytes] = []
        self.bytes = 0
        self._alive: NDArray[np.bool_] = np.zeros(64, np.bool_)
        self._free: list[int] = []
        self._columns = MetadataColumns()

    @property
    def live(self) -> int:
        """Entries."""
        return len(self.slots)

    def put(self, batch: Batch, first_op: int) -> None:
        """Write entries whose ids are not in the table; of an id that occurs again the last one counts.

        Args:
            batch: the entries.
            first_op: number of the mutation that writes the first of them.
        """
        self._reserve(len(self.ids) + len(batch.ids))
        places = []
        for identity, raw, document in zip(batch.ids, batch.raw, batch.documents, strict=True):
            if identity in self.slots:
                self.kill(identity)
            slot = self._slot()
            self.slots[identity] = slot
            self.ids[slot], self.raw[slot], self.documents[slot] = identity, raw, document
            self.bytes += len(raw) + len(document)
            if raw:
                self._columns.set(slot, decode_metadata(raw))
            self._alive[slot] = True
            places.append(slot)
        self.vectors[places] = batch.vectors
        self.ops[places] = np.arange(first_op, first_op + len(places), dtype=np.uint64)

    def kill(self, identity: str) -> None:
        """Take out an entry that is there."""
        slot = self.slots.pop(identity)
        self.bytes -= len(self.raw[slot]) + len(self.documents[slot])
        if self.raw[slot]:
            self._columns.clear(slot)
        self.ids[slot], self.raw[slot], self.documents[slot] = "", b"", b""
        self._alive[slot] = False
        self._free.append(slot)

    def expansion(self, slot: int) -> bytes:
        """Return what stands for the entry of a slot in the sum of the content."""
        return expansion(
            self.ids[slot].encode(), self.vectors[slot].astype("<f4").tobytes(), self.raw[slot], self.documents[slot]
        )

    def live_ops(self) -> NDArray[np.uint64]:
        """Return the numbers of the mutations that wrote the entries, ascending."""
        return np.sort(self.ops[: len(self.ids)][self._alive[: len(self.ids)]])

    def row_of_op(self, op: int) -> int | None:
        """Return the slot that a mutation wrote, if its entry is still there."""
        found = np.flatnonzero((self.ops[: len(self.ids)] == op) & self._alive[: len(self.ids)])
        return int(found[0]) if len(found) else None

    def matching(self, condition: Filter | None) -> NDArray[np.intp]:
        """Return the slots of the entries that meet a condition.

        Raises:
            FilterInvalid: the condition cannot be evaluated.
        """
        rows = len(self.ids)
        allowed = self._alive[:rows]
        return np.flatnonzero(allowed if condition is None else allowed & self._columns.mask(condition, rows))

    def field(self, name: str) -> tuple[NDArray[np.int64], list[Value]]:
        """Return the code of a field for each slot, 0 for none, and the values of codes 1, 2, …"""
        return self._columns.column(name, len(self.ids))

    def search(self, queries: NDArray[np.float32], k: int, metric: Metric, condition: Filter | None) -> Top:
        """Return scores and slots of the best entries.

        Raises:
            FilterInvalid: the condition cannot be evaluated.
        """
        rows = len(self.ids)
        allowed = self._alive[:rows]
        if condition is not None:
            allowed = allowed & self._columns.mask(condition, rows)
        if not self.slots:
            return empty_top(len(queries))
        matrix = self.vectors[:rows]
        return exact_top(matrix, queries, k, metric, None if allowed.all() else allowed)

    def id_at(self, slot: int) -> bytes:
        """Return the id in a slot."""
        return self.ids[slot].encode()

    def record(self, slot: int, *, whole: bool = True) -> tuple[bytes, bytes]:
        """Return metadata and document of a slot; the document is empty if the record is not read ``whole``."""
        return self.raw[slot], self.documents[slot] if whole else b""

    def entries(self, slots: NDArray[np.int64], content: Content) -> Columns:
        """Return what is in slots."""
        places = slots.tolist()
        return Columns(
            ids=[self.ids[slot] for slot in places],
            ops=self.ops[slots],
            raw=[self.raw[slot] for slot in places] if content != "none" else [],
            documents=[self.documents[slot] for slot in places] if content == "all" else [],
        )

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        self.ids.append("")
        self.raw.append(b"")
        self.documents.append(b"")
        return len(self.ids) - 1

    def _reserve(self, rows: int) -> None:
        have = len(self.ops)
        if rows <= have:
            return
        size = max(rows, 2 * have)
        self.vectors = np.concatenate([self.vectors, np.zeros((size - have, self.vectors.shape[1]), np.float32)])
        self.ops = np.concatenate([self.ops, np.zeros(size - have, np.uint64)])
        self._alive = np.concatenate([self._alive, np.zeros(size - have, np.bool_)])

"""A causal graph on disk whose nodes are found by universal id, so that adding one twice gives one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weftos.ecc.causal.graph import CODES, Edge
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.tick.ports import Linked
from weftos.errors import CycleRefused

__all__ = ["NodesByUniversalId"]


class NodesByUniversalId:
    """What a tick asks of a graph (:class:`weftos.ecc.tick.ports.Graph`), over a store.

    Args:
        store: the graph.
    """

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    def number_of(self, universal_id: bytes) -> int | None:
        """Return the number of a node, if it is there."""
        return self._store.find(universal_id)

    def add_node(self, label: str, *, created_at: int, universal_id: bytes) -> int:
        """Add a node unless one with its universal id is there; return its number.

        Raises:
            GraphRefused: the label is too long, or the graph is full.
            JournalFailed: an earlier call on the files failed; open the store again.
        """
        number = self._store.find(universal_id)
        if number is None:
            # Exactly bytes: MessagePack takes no subclass.
            number = self._store.add_node(label, created_at=created_at, universal_id=bytes(universal_id))
        return number

    def link(self, edges: Sequence[Edge]) -> Linked:
        """Add edges in one batch, or replace the weight and time of those that are there.

        In a graph without cycles, those that would close one are left out and counted.

        Raises:
            GraphRefused: an end is not there, or the graph is full.
            JournalFailed: an earlier call on the files failed; open the store again.
        """
        try:
            return Linked(self._link(edges), 0)
        except CycleRefused:
            added = refused = 0
            for edge in edges:
                try:
                    added += self._link([edge])
                except CycleRefused:
                    refused += 1
            return Linked(added, refused)

    def _link(self, edges: Sequence[Edge]) -> int:
        rows = [(one.source, one.target, CODES[one.type], one.weight, one.created_at) for one in edges]
        forms = (np.uint64, np.uint64, np.uint8, np.float64, np.uint64)
        columns = zip(zip(*rows, strict=True), forms, strict=True)
        return self._store.link_arrays(*(np.array(column, form) for column, form in columns))

    def sync(self) -> None:
        """Bring every change so far onto the disk.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._store.sync()

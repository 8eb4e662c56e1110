"""A causal graph on disk whose nodes are found by universal id, so that adding one twice gives one."""

from __future__ import annotations

from weftos.ecc.causal.graph import EdgeType
from weftos.ecc.causal.store import GraphStore

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

    def link(self, source: int, target: int, kind: EdgeType, weight: float, *, created_at: int) -> int:
        """Add an edge, or replace its weight and time; return 1 if it is new.

        Raises:
            CycleRefused: it closes a cycle in a graph without cycles.
            GraphRefused: an end is not there, or the graph is full.
            JournalFailed: an earlier call on the files failed; open the store again.
        """
        return self._store.link(source, target, kind, weight, created_at=created_at)

    def sync(self) -> None:
        """Bring every change so far onto the disk.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._store.sync()

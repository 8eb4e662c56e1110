"""The causal graph: what follows from what, with how much weight, and from which record that is known.

Guaranteed: a call changes all it was asked for or nothing. One edge per source, target and type; adding it again
replaces weight and provenance. A graph made without cycles stays without: the check moves only the nodes between the
two ends in a topological order (Pearce and Kelly), not the whole graph. Not for several threads.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.causal.columns import Columns, keys_of
from weftos.ecc.causal.order import Order
from weftos.errors import GraphRefused

__all__ = ["CausalGraph", "Edge", "EdgeType", "Node"]


class EdgeType(enum.Enum):
    """What an edge says. The values are the words on the wire."""

    CAUSES = "Causes"
    INHIBITS = "Inhibits"
    CORRELATES = "Correlates"
    ENABLES = "Enables"
    FOLLOWS = "Follows"
    CONTRADICTS = "Contradicts"
    TRIGGERED_BY = "TriggeredBy"
    EVIDENCE_FOR = "EvidenceFor"
    CONTAINS = "Contains"
    IMPORTS = "Imports"
    REFERENCES = "References"


_TYPES: Final = tuple(EdgeType)
CODES: Final = {kind: code for code, kind in enumerate(_TYPES, start=1)}


class Node(msgspec.Struct, frozen=True):
    """A node: its number, label, time of making (hybrid logical clock), universal id and the change that added it."""

    id: int
    label: str
    created_at: int
    universal_id: bytes
    op: int


class Edge(msgspec.Struct, frozen=True):
    """An edge: weight from 0 to 1, time (hybrid logical clock), and the change that wrote it."""

    source: int
    target: int
    type: EdgeType
    weight: float
    created_at: int = 0
    op: int = 0


class CausalGraph:
    """A directed, typed, weighted graph.

    Args:
        acyclic: refuse every edge that would close a cycle.
    """

    def __init__(self, *, acyclic: bool = False) -> None:
        self.acyclic = acyclic
        self.columns = Columns()
        self.version = 0
        self._nodes: dict[int, Node] = {}
        self._next = 1
        self._order = Order(self.columns)

    @property
    def node_count(self) -> int:
        """Nodes that are there."""
        return len(self._nodes)

    @property
    def edge_count(self) -> int:
        """Edges that are there."""
        return self.columns.count

    @property
    def next_id(self) -> int:
        """The number of the next node."""
        return self._next

    def add_node(self, label: str, *, created_at: int, universal_id: bytes, op: int = 0) -> int:
        """Add a node and return its number, which no other node had or gets.

        Raises:
            GraphRefused: the label is too long, the id is not of 32 bytes, a number is out of range, or it is full.
        """
        if len(label.encode("utf-8", "surrogatepass")) > limits.CAUSAL_LABEL_BYTES:
            raise GraphRefused(f"a label has at most {limits.CAUSAL_LABEL_BYTES} bytes; shorten it")
        if len(universal_id) != 32:
            raise GraphRefused(f"a universal id has 32 bytes, not {len(universal_id)}")
        _check_u64(created_at, op)
        if self._next > limits.CAUSAL_NODES:
            raise GraphRefused(f"the graph has given out all {limits.CAUSAL_NODES} numbers of nodes; begin another")
        node = Node(self._next, label, created_at, universal_id, op)
        self._nodes[node.id] = node
        self._order.add(node.id)
        self._next += 1
        self.version += 1
        return node.id

    def restore_nodes(self, nodes: Iterable[Node], next_id: int) -> None:
        """Fill an empty graph with the nodes of a snapshot, ascending by number.

        Raises:
            GraphRefused: they are not in order, or a number is not below ``next_id``.
        """
        assert self._next == 1, "only an empty graph is restored"
        last = 0
        for node in nodes:
            if not last < node.id < next_id or len(node.universal_id) != 32:
                raise GraphRefused(f"the node {node.id} of a snapshot is out of order or malformed")
            last = node.id
            self._nodes[node.id] = node
            self._order.add(node.id)
        self._next = next_id
        self.version += 1

    def all_nodes(self) -> Iterable[Node]:
        """Every node, ascending by number."""
        return self._nodes.values()

    def node(self, number: int) -> Node:
        """Return a node.

        Raises:
            GraphRefused: there is none of this number.
        """
        found = self._nodes.get(number)
        if found is None:
            raise GraphRefused(f"there is no node {number}; it was removed or never added")
        return found

    def nodes(self) -> list[int]:
        """The numbers of all nodes, ascending."""
        return list(self._nodes)

    def link(self, edges: Iterable[Edge]) -> int:
        """Add edges; where one of the same ends and type exists, its weight and provenance are replaced.

        Returns:
            How many were new.

        Raises:
            GraphRefused: an end is missing, both ends are one node, or a number is out of range.
            CycleRefused: an edge closes a cycle in a graph without cycles. Nothing was added in either case.
        """
        rows = list(edges)
        for edge in rows:
            _check_u64(edge.created_at, edge.op, edge.source, edge.target)
        return self.link_arrays(
            np.array([edge.source for edge in rows], np.uint64),
            np.array([edge.target for edge in rows], np.uint64),
            np.array([CODES[edge.type] for edge in rows], np.uint8),
            np.array([edge.weight for edge in rows], np.float64),
            np.array([edge.created_at for edge in rows], np.uint64),
            np.array([edge.op for edge in rows], np.uint64),
        )

    def link_arrays(
        self,
        sources: NDArray[Any],
        targets: NDArray[Any],
        kinds: NDArray[Any],
        weights: NDArray[Any],
        created_at: NDArray[Any],
        op: NDArray[Any],
    ) -> int:
        """Add edges given column by column; types as in ``CODES``. As :meth:`link`; of duplicates the last counts."""
        arrays = (sources, targets, kinds, weights, created_at, op)
        if len({len(one) for one in arrays}) != 1:
            raise GraphRefused("the columns of a batch of edges differ in length")
        if not len(sources):
            return 0
        self._check_batch(sources, targets, kinds, weights)
        keys = keys_of(sources, targets, kinds)
        _, last = np.unique(keys[::-1], return_index=True)
        keep = len(keys) - 1 - last
        names = ("source", "target", "kind", "weight", "created_at", "op")
        forms = ("u4", "u4", "u1", "f4", "u8", "u8")
        rows = {name: one[keep].astype(form) for name, form, one in zip(names, forms, arrays, strict=True)}
        if self.columns.count + len(keep) > limits.CAUSAL_EDGES:
            raise GraphRefused(f"the graph has room for {limits.CAUSAL_EDGES} edges; remove some")
        if self.acyclic:
            self._order.admit(rows["source"], rows["target"])
        before = self.columns.put(keys[keep], rows)
        self.version += 1
        return int((before < 0).sum())

    def unlink(self, source: int, target: int, kind: EdgeType | None = None) -> int:
        """Remove the edges from one node to another, of one type or all; return how many there were."""
        found = self._positions(source, forward=True)
        match = self.columns.edge("target")[found] == target
        if kind is not None:
            match &= self.columns.edge("kind")[found] == CODES[kind]
        return self._bury(found[match])

    def remove_node(self, number: int) -> int:
        """Remove a node with all its edges; return how many edges went.

        Raises:
            GraphRefused: there is none of this number.
        """
        self.node(number)
        both = [self._positions(number, forward=forward) for forward in (True, False)]
        gone = self._bury(np.concatenate(both))
        del self._nodes[number]
        self._order.forget(number)
        self.version += 1
        return gone

    def edges(self, number: int, *, forward: bool = True, types: Iterable[EdgeType] | None = None) -> list[Edge]:
        """The edges that leave a node, or reach it, ordered by source, target and type."""
        self.node(number)
        found = self._positions(number, forward=forward)
        wanted = None if types is None else set(types)
        edges = [self._edge(int(position)) for position in found]
        return [edge for edge in edges if wanted is None or edge.type in wanted]

    def _edge(self, at: int) -> Edge:
        cell = self.columns.edge
        kind = _TYPES[int(cell("kind")[at]) - 1]
        numbers = (int(cell("created_at")[at]), int(cell("op")[at]))
        return Edge(int(cell("source")[at]), int(cell("target")[at]), kind, float(cell("weight")[at]), *numbers)

    def _positions(self, number: int, *, forward: bool) -> NDArray[np.int64]:
        return self.columns.touching(np.array([number]), forward=forward)

    def _bury(self, positions: NDArray[Any]) -> int:
        if len(positions):
            self.columns.remove(positions)
            self.version += 1
        return len(positions)

    def _check_batch(
        self, sources: NDArray[Any], targets: NDArray[Any], kinds: NDArray[Any], weights: NDArray[Any]
    ) -> None:
        ends = np.unique(np.concatenate([sources, targets]))
        missing = [end for end in ends.tolist() if end not in self._nodes]
        if missing:
            raise GraphRefused(f"there is no node {missing[0]}; add the nodes before the edges between them")
        if (sources == targets).any():
            raise GraphRefused(f"node {sources[sources == targets][0]} cannot be linked with itself")
        if not ((kinds >= 1) & (kinds <= len(_TYPES))).all():
            raise GraphRefused(f"types of edges are numbered 1 to {len(_TYPES)}")
        if not ((weights >= 0) & (weights <= 1)).all():
            raise GraphRefused("a weight is a number from 0 to 1")


def _check_u64(*numbers: int) -> None:
    if not all(0 <= number < 1 << 64 for number in numbers):
        raise GraphRefused("times and positions in the log are whole numbers from 0 to 2^64 - 1")

"""A topological order that is kept while edges come in, after Pearce and Kelly.

Why: whether an edge closes a cycle is then a search among the nodes between its two ends in the order; an edge that
agrees with the order costs nothing. Removing edges never spoils an order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from weftos.ecc.causal.columns import Columns
from weftos.errors import CycleRefused

__all__ = ["Order"]


class Order:
    """Ranks of nodes such that every edge goes from a lower to a higher one.

    Args:
        columns: the edges of the graph.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._rank: dict[int, int] = {}

    def add(self, node: int) -> None:
        """Put a new node, which has no edge, at the end."""
        self._rank[node] = node

    def forget(self, node: int) -> None:
        """Take out a node that has no edge any more."""
        del self._rank[node]

    def admit(self, sources: NDArray[Any], targets: NDArray[Any]) -> None:
        """Make the order agree with new edges, before they are added.

        Raises:
            CycleRefused: together with what is there, or among themselves, they close a cycle.
        """
        extra: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            if self._rank[source] > self._rank[target]:
                self._move(source, target, extra)
            extra[0].setdefault(source, []).append(target)
            extra[1].setdefault(target, []).append(source)

    def _move(self, source: int, target: int, extra: tuple[dict[int, list[int]], dict[int, list[int]]]) -> None:
        low, high = self._rank[target], self._rank[source]
        after = self._reach(target, extra[0], forward=True, low=low, high=high)
        if source in after:
            raise CycleRefused(f"an edge from node {source} to node {target} would close a cycle: {target} leads there")
        before = self._reach(source, extra[1], forward=False, low=low, high=high)
        moved = sorted(before, key=self._rank.__getitem__) + sorted(after, key=self._rank.__getitem__)
        ranks = sorted(self._rank[node] for node in moved)
        self._rank.update(zip(moved, ranks, strict=True))

    def _reach(self, start: int, extra: dict[int, list[int]], *, forward: bool, low: int, high: int) -> set[int]:
        seen, stack = {start}, [start]
        name = "target" if forward else "source"
        while stack:
            node = stack.pop()
            found = self._columns.touching(np.array([node]), forward=forward)
            for other in (*self._columns.edge(name)[found].tolist(), *extra.get(node, ())):
                if other not in seen and low <= self._rank[other] <= high:
                    seen.add(other)
                    stack.append(other)
        return seen

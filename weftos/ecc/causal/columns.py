"""The columns of a causal graph: nodes and edges as arrays, with an adjacency that is laid out anew now and then.

Why it is as it is: edges as objects cost an allocation and a hop each; as columns they lie side by side, for numpy to
walk. The base is sorted by (source, target, type): one order serves as forward adjacency, as index for duplicates and
as the order of the content root. What came since is in small tables (the delta) until it is worth sorting again. A
removed edge stays as a tombstone until then. Nodes are numbered from 1 and never numbered again.

Guaranteed: at most one edge per source, target and type. Pure memory; no checks of what is given, see ``graph``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weftos import limits

__all__ = ["Columns", "keys_of"]

_TYPE_BITS: Final = 4
_NODE_BITS: Final = 30
_FIELDS: Final[dict[str, str]] = {
    "source": "u4",
    "target": "u4",
    "kind": "u1",
    "weight": "f4",
    "created_at": "u8",
    "op": "u8",
    "alive": "?",
}


def keys_of(sources: NDArray[Any], targets: NDArray[Any], kinds: NDArray[Any]) -> NDArray[np.uint64]:
    """One number per edge, ordered as (source, target, type)."""
    keys: NDArray[np.uint64] = sources.astype(np.uint64) << np.uint64(_NODE_BITS + _TYPE_BITS)
    keys |= targets.astype(np.uint64) << np.uint64(_TYPE_BITS)
    keys |= kinds.astype(np.uint64)
    return keys


class Columns:
    """Edges in arrays. Fields are read by name: ``columns.edge("weight")``."""

    def __init__(self) -> None:
        self._cells: dict[str, NDArray[Any]] = {name: np.zeros(16, form) for name, form in _FIELDS.items()}
        self.used = 0
        self.dead = 0
        self._base = 0
        self._indexed = 0
        self._base_keys: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._reverse: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._reverse_targets: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._delta_keys: dict[int, int] = {}
        self._delta_out: dict[int, list[int]] = {}
        self._delta_in: dict[int, list[int]] = {}

    @property
    def count(self) -> int:
        """Edges that are there."""
        return self.used - self.dead

    def edge(self, name: str) -> NDArray[Any]:
        """One column, of all edges with the removed ones."""
        return self._cells[name][: self.used]

    def live(self) -> NDArray[np.intp]:
        """Positions of the edges that are there."""
        return np.flatnonzero(self.edge("alive"))

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Positions of the edges with these keys; -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        if self._base:
            place = np.minimum(np.searchsorted(self._base_keys, keys), self._base - 1)
            found = np.where(self._base_keys[place] == keys, place, -1)
        if self._delta_keys:
            delta = self._delta_keys
            rows = np.fromiter((delta.get(key, -1) for key in keys.tolist()), np.int64, len(keys))
            found = np.maximum(found, rows)
        there = found >= 0
        if there.any():
            found[there] = np.where(self.edge("alive")[found[there]], found[there], -1)
        return found

    def put(self, keys: NDArray[np.uint64], rows: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Add edges, or overwrite weight and provenance of those that exist.

        Args:
            keys: of the edges, each once.
            rows: every column but ``alive``.

        Returns:
            For each edge its position before, -1 if it is new. Positions hold until the next change.
        """
        before = self.find(keys)
        old = before >= 0
        for name in ("weight", "created_at", "op"):
            self._cells[name][before[old]] = rows[name][old]
        self._append(keys[~old], {name: column[~old] for name, column in rows.items()})
        return before

    def remove(self, positions: NDArray[Any]) -> None:
        """Bury edges that are there."""
        self._cells["alive"][positions] = False
        self.dead += len(positions)
        if self.dead > limits.CAUSAL_DELTA_EDGES + self.used // 4:
            self.lay_out()

    def touching(self, nodes: NDArray[Any], *, forward: bool) -> NDArray[np.int64]:
        """Positions of the living edges that leave (or reach) any of these nodes, in ascending order of the key."""
        parts = [self._base_touching(nodes, forward=forward)]
        self._index_delta()
        table = self._delta_out if forward else self._delta_in
        if table:
            rows = [row for node in nodes.tolist() if node in table for row in table[node]]
            parts.append(np.array(rows, np.int64))
        found: NDArray[np.int64] = np.concatenate(parts)
        found = found[self.edge("alive")[found]]
        if len(parts) > 1 or not forward:
            found = found[np.argsort(self._keys(found), kind="stable")]
        return found

    def rows(self) -> Iterator[tuple[int, int, int, float]]:
        """Every living edge as (source, target, type, weight)."""
        live = self.live()
        columns = (self.edge(name)[live].tolist() for name in ("source", "target", "kind", "weight"))
        return zip(*columns, strict=True)

    def ordered(self) -> dict[str, NDArray[Any]]:
        """The living edges in the order of their keys, column by column."""
        live = self.live()
        live = live[np.argsort(self._keys(live), kind="stable")]
        return {name: self.edge(name)[live] for name in _FIELDS if name != "alive"}

    def lay_out(self) -> None:
        """Drop the buried, sort the rest, and begin a new delta."""
        rows = self.ordered()
        count = len(rows["source"])
        for name, column in rows.items():
            self._cells[name] = np.concatenate([column, np.zeros(16, column.dtype)])
        self._cells["alive"] = np.concatenate([np.ones(count, bool), np.zeros(16, bool)])
        self.used = self._base = count
        self.dead = 0
        self._base_keys = self._keys(np.arange(count))
        self._reverse = np.argsort(rows["target"], kind="stable").astype(np.uint32)
        self._reverse_targets = rows["target"][self._reverse]
        self._indexed = count
        self._delta_keys, self._delta_out, self._delta_in = {}, {}, {}

    def _keys(self, positions: NDArray[Any]) -> NDArray[np.uint64]:
        return keys_of(*(self.edge(name)[positions] for name in ("source", "target", "kind")))

    def _append(self, keys: NDArray[np.uint64], rows: dict[str, NDArray[Any]]) -> None:
        first, count = self.used, len(keys)
        for name, column in self._cells.items():
            if len(column) < first + count:
                self._cells[name] = np.concatenate([column, np.zeros(max(count, len(column)), column.dtype)])
            self._cells[name][first : first + count] = True if name == "alive" else rows[name]
        self.used += count
        if self.used - self._base > limits.CAUSAL_DELTA_EDGES + self._base // 4:
            self.lay_out()
            return
        positions = range(first, first + count)
        self._delta_keys.update(zip(keys.tolist(), positions, strict=True))

    def _index_delta(self) -> None:
        """Enter what was added since the tables were last asked: adding many edges does not pay for it."""
        new = slice(self._indexed, self.used)
        for table, name in ((self._delta_out, "source"), (self._delta_in, "target")):
            for position, node in enumerate(self._cells[name][new].tolist(), self._indexed):
                table.setdefault(node, []).append(position)
        self._indexed = self.used

    def _base_touching(self, nodes: NDArray[Any], *, forward: bool) -> NDArray[np.int64]:
        ends = self.edge("source")[: self._base] if forward else self._reverse_targets
        sought = nodes.astype(np.uint32)
        starts = np.searchsorted(ends, sought, "left")
        lengths = np.searchsorted(ends, sought, "right") - starts
        total = int(lengths.sum())
        offsets = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places: NDArray[np.int64] = (np.repeat(starts, lengths) + offsets).astype(np.int64)
        if not forward:
            places = self._reverse[places].astype(np.int64)
        return places

"""Walks through a causal graph: what a node leads to, where it comes from, and how one node leads to another."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos.ecc.causal.graph import CODES, CausalGraph, EdgeType

__all__ = ["Reached", "effects", "roots", "shortest_path", "strongest_path", "walk"]


class Reached(msgspec.Struct, frozen=True):
    """A node that a walk found, and how many edges away it is."""

    id: int
    depth: int


def walk(
    graph: CausalGraph,
    start: int,
    *,
    forward: bool = True,
    depth: int = 3,
    types: Iterable[EdgeType] | None = None,
    limit: int = 1000,
) -> list[Reached]:
    """Find the nodes within ``depth`` edges, the nearest first, at one depth by number; ``start`` is not among them.

    Raises:
        GraphRefused: there is no node ``start``.
    """
    graph.node(start)
    codes = None if types is None else np.array(sorted(CODES[kind] for kind in types), np.uint8)
    seen = np.zeros(graph.next_id, bool)
    seen[start] = True
    frontier: NDArray[Any] = np.array([start])
    reached: list[Reached] = []
    for step in range(1, depth + 1):
        frontier = _next(graph, frontier, codes, forward=forward)
        frontier = frontier[~seen[frontier]]
        seen[frontier] = True
        reached += [Reached(node, step) for node in frontier[: limit - len(reached)].tolist()]
        if not len(frontier) or len(reached) >= limit:
            break
    return reached


def roots(graph: CausalGraph, start: int, *, depth: int = 64, limit: int = 1000) -> list[int]:
    """The nodes that lead to ``start`` within ``depth`` edges and that nothing leads to, ascending."""
    return _ends(graph, start, forward=False, depth=depth, limit=limit)


def effects(graph: CausalGraph, start: int, *, depth: int = 64, limit: int = 1000) -> list[int]:
    """The nodes that ``start`` leads to within ``depth`` edges and that lead nowhere, ascending."""
    return _ends(graph, start, forward=True, depth=depth, limit=limit)


def shortest_path(graph: CausalGraph, start: int, goal: int, *, depth: int = 64) -> list[int] | None:
    """A path of the fewest edges, of those of one length the one with the smallest numbers from its end; or none.

    Raises:
        GraphRefused: one of the nodes does not exist.
    """
    graph.node(start)
    graph.node(goal)
    seen = np.zeros(graph.next_id, bool)
    seen[start] = True
    layers: list[NDArray[Any]] = [np.array([start])]
    while not seen[goal]:
        if len(layers) > depth:
            return None
        frontier = _next(graph, layers[-1], None, forward=True)
        frontier = frontier[~seen[frontier]]
        if not len(frontier):
            return None
        seen[frontier] = True
        layers.append(frontier)
    path = [goal]
    for layer in reversed(layers[:-1]):
        before = _next(graph, np.array([path[-1]]), None, forward=False)
        path.append(int(np.intersect1d(before, layer)[0]))
    return path[::-1]


def strongest_path(graph: CausalGraph, start: int, goal: int) -> tuple[list[int], float] | None:
    """The path whose weights have the largest product, and that product; or none. Edges of weight 0 do not count.

    Raises:
        GraphRefused: one of the nodes does not exist.
    """
    graph.node(start)
    graph.node(goal)
    cell = graph.columns.edge
    best, came, done = {start: 0.0}, {start: 0}, set[int]()
    heap = [(0.0, start)]
    while heap:
        cost, node = heapq.heappop(heap)
        if node == goal:
            path = [goal]
            while path[-1] != start:
                path.append(came[path[-1]])
            return path[::-1], math.exp(-cost)
        if node in done:
            continue
        done.add(node)
        found = graph.columns.touching(np.array([node]), forward=True)
        for other, weight in zip(cell("target")[found].tolist(), cell("weight")[found].tolist(), strict=True):
            if weight > 0 and (after := cost - math.log(weight)) < best.get(other, math.inf):
                best[other], came[other] = after, node
                heapq.heappush(heap, (after, other))
    return None


def _next(
    graph: CausalGraph, frontier: NDArray[Any], codes: NDArray[np.uint8] | None, *, forward: bool
) -> NDArray[Any]:
    found = graph.columns.touching(frontier, forward=forward)
    if codes is not None:
        found = found[np.isin(graph.columns.edge("kind")[found], codes)]
    return np.unique(graph.columns.edge("target" if forward else "source")[found]).astype(np.intp)


def _ends(graph: CausalGraph, start: int, *, forward: bool, depth: int, limit: int) -> list[int]:
    nodes = np.array([one.id for one in walk(graph, start, forward=forward, depth=depth, limit=limit)], np.int64)
    found = graph.columns.touching(nodes, forward=forward)
    inner = np.unique(graph.columns.edge("source" if forward else "target")[found])
    ends: list[int] = np.setdiff1d(nodes, inner).tolist()
    return ends

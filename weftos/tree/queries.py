"""Questions about the scores of nodes, and counts over the tree."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from weftos.errors import NodeInvalid
from weftos.tree.entries import Entry
from weftos.tree.paths import ResourcePath
from weftos.tree.scoring import Scoring, aggregate

__all__ = ["Ranked", "TreeStatistics", "aggregate_below", "count", "most_similar", "ranked"]

#: A node and the figure by which it was chosen.
Ranked: TypeAlias = tuple[ResourcePath, float]


class TreeStatistics(msgspec.Struct, frozen=True):
    """Counts over a tree.

    Attributes:
        nodes: the root included.
        by_kind: nodes of each kind that occurs.
        depth: segments of the deepest path.
        widest: children of the node that has most.
        policies: on all nodes.
        metadata_bytes: keys and encoded values of all nodes.
        last_seq: number of the last record that was applied; -1 if none was.
    """

    nodes: int
    by_kind: dict[str, int]
    depth: int
    widest: int
    policies: int
    metadata_bytes: int
    last_seq: int


def most_similar(scoring: Scoring, entries: Iterable[Entry], limit: int) -> list[Ranked]:
    """Return the nodes whose scores point most nearly in the same direction, the nearest first, equals by path."""
    return _best(entries, lambda entry: scoring.cosine_similarity(entry.scoring), limit)


def ranked(weights: Sequence[float], entries: Iterable[Entry], limit: int) -> list[Ranked]:
    """Return the nodes with the largest weighted sums, the largest first, equals by path.

    Raises:
        NodeInvalid: the weights are not six finite numbers.
    """
    return _best(entries, lambda entry: entry.scoring.weighted_score(weights), limit)


def aggregate_below(entry: Entry) -> Scoring:
    """Return the scores of a node as its children have earned them: of one without children its own, else the mean.

    The recursion is as deep as a path has segments.
    """
    if not entry.children:
        return entry.scoring
    return aggregate(aggregate_below(child) for child in entry.children.values())


def count(entries: Iterable[Entry], last_seq: int) -> TreeStatistics:
    """Count over the given nodes."""
    by_kind: dict[str, int] = {}
    nodes = depth = widest = policies = size = 0
    for entry in entries:
        nodes += 1
        by_kind[str(entry.kind)] = by_kind.get(str(entry.kind), 0) + 1
        depth = max(depth, entry.path.depth)
        widest = max(widest, len(entry.children))
        policies += len(entry.policies)
        size += sum(len(key.encode()) + len(data) for key, data in entry.values.items())
    return TreeStatistics(nodes, dict(sorted(by_kind.items())), depth, widest, policies, size, last_seq)


def _best(entries: Iterable[Entry], figure: Callable[[Entry], float], limit: int) -> list[Ranked]:
    if limit < 0:
        raise NodeInvalid(f"a number of results is not negative, as {limit} is")
    rows = ((-figure(entry), entry.path) for entry in entries)
    return [(path, -value) for value, path in heapq.nsmallest(limit, rows)]

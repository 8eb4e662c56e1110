"""Communities of a causal graph: groups of nodes that hang together more than with the rest.

Weighted label propagation, asynchronous: each node in turn takes the label that weighs most among its neighbours, its
own if that is among equal ones, until nothing changes. Edges count in both directions; those between the same two nodes
add up. Nodes come in a shuffled order, and equal labels are chosen by one: in the order of numbers one label would run
through a whole graph of equal weights. Both are shuffled with a fixed seed, so the answer is the same for the same
graph.

Source: U. Raghavan, R. Albert, S. Kumara, Near linear time algorithm to detect community structures, 2007.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from weftos.ecc.causal.graph import CausalGraph

__all__ = ["communities"]

_SEED: Final = 20070911
#: Sums of the same weights in another order differ by their rounding.
_EQUAL: Final = 1e-9


def communities(graph: CausalGraph, rounds: int = 50) -> list[list[int]]:
    """Return the communities, the largest first, at one size by their smallest node; members ascending.

    Args:
        graph: the graph.
        rounds: after so many passes over all nodes it ends, whether or not anything changed.
    """
    live = graph.columns.live()
    sources, targets = graph.columns.edge("source")[live], graph.columns.edge("target")[live]
    weights = graph.columns.edge("weight")[live].astype(np.float64)
    ends, others = np.concatenate([sources, targets]), np.concatenate([targets, sources])
    both = np.concatenate([weights, weights])
    order = np.argsort(ends, kind="stable")
    ends, others, both = ends[order], others[order], both[order]
    nodes = np.array(graph.nodes(), np.int64)
    begins, stops = np.searchsorted(ends, nodes, "left"), np.searchsorted(ends, nodes, "right")
    labels = np.arange(graph.next_id, dtype=np.int64)
    shuffled = np.random.default_rng(_SEED)
    turns, chosen = shuffled.permutation(len(nodes)), shuffled.permutation(graph.next_id)
    for _ in range(rounds):
        changed = False
        for turn in turns.tolist():
            node, begin, stop = int(nodes[turn]), int(begins[turn]), int(stops[turn])
            if begin == stop:
                continue
            near, places = np.unique(labels[others[begin:stop]], return_inverse=True)
            sums = np.bincount(places, both[begin:stop])
            best = near[sums >= sums.max() * (1 - _EQUAL)]
            if labels[node] not in best:
                labels[node] = best[np.argmin(chosen[best])]
                changed = True
        if not changed:
            break
    groups: dict[int, list[int]] = {}
    for node in nodes.tolist():
        groups.setdefault(int(labels[node]), []).append(node)
    return sorted(groups.values(), key=lambda members: (-len(members), members[0]))

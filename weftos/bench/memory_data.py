"""Vectors that are like embeddings, questions about them, and the right answers.

Why it is as it is: points drawn evenly in many dimensions are all equally far from each other, and points in clusters
far apart are found by any graph at once; neither says how a graph does. So each point has a place in some thirty
dimensions, in one of many clusters of different width that overlap, is turned into as many dimensions as are asked for,
and gets noise in all of them. A tenth belongs to no cluster.

Guaranteed: equal arguments give equal vectors with one version of numpy. Questions are drawn as the vectors are, and
are none of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["K", "VectorSet", "clustered", "recall"]

Floats = NDArray[np.float32]
#: Results that are asked for.
K: Final = 10
_HIDDEN: Final = 32
_PER_CLUSTER: Final = 250
_ALONE: Final = 0.1
_NOISE: Final = 0.1
#: Rows that are made at once, so that a million of them need no second million in memory.
_ROWS: Final = 65_536


class VectorSet(NamedTuple):
    """Vectors of length 1 and questions.

    Attributes:
        vectors: (rows, dimension).
        queries: (questions, dimension).
        truth: (questions, ``K``), the rows that are nearest by inner product, nearest first.
        extra: (some, dimension), to be written later.
    """

    vectors: Floats
    queries: Floats
    truth: NDArray[np.int64]
    extra: Floats


def clustered(rows: int, dimension: int, questions: int, extra: int = 4096, seed: int = 2718) -> VectorSet:
    """Draw a set and find the right answers by comparing all with all."""
    # Here, because agents import this module, and an index has no room in an agent's limits.
    import faiss

    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(rows // _PER_CLUSTER, 4), _HIDDEN)).astype(np.float32)
    widths = rng.uniform(0.4, 0.9, len(centres)).astype(np.float32)
    turn = rng.normal(size=(_HIDDEN, dimension)).astype(np.float32) / np.sqrt(np.float32(_HIDDEN))
    count = rows + questions + extra
    whole = np.empty((count, dimension), np.float32)
    for begin in range(0, count, _ROWS):
        part = whole[begin : begin + _ROWS]
        chosen = rng.integers(0, len(centres), len(part))
        hidden = rng.standard_normal((len(part), _HIDDEN), np.float32)
        inside = (rng.random(len(part)) >= _ALONE)[:, None]
        places = np.where(inside, centres[chosen] + widths[chosen, None] * hidden, np.float32(1.3) * hidden)
        part[:] = places @ turn + np.float32(_NOISE) * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    vectors, queries, rest = whole[:rows], whole[rows : rows + questions], whole[rows + questions :]
    truth = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return VectorSet(vectors, queries, truth, rest)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the share of the right rows that were found; lines that begin with -1 were not asked.

    Args:
        found: (questions, ``K``), rows.
        truth: as in a set.
    """
    asked = np.flatnonzero(found[:, 0] != -1)
    return float(np.mean([np.isin(truth[line], found[line]).mean() for line in asked])) if len(asked) else 0.0

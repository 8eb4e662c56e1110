"""Exact search over rows of a matrix: for a delta, and for segments where a graph would miss or cost more.

Guaranteed: the best rows of those allowed, by the metric's score, larger is better. Equal scores have no order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from weftos.ecc.vectors.model import Metric

__all__ = ["Top", "best_of", "empty_top", "exact_top"]

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
#: Scores, (queries, at most k), and rows of the same shape; a score of -inf says that there is no such row.
Top = tuple[Floats, Rows]
#: Numbers of one block of scores: 16 MB, so that a large batch does not fill the memory.
_BLOCK: Final = 4 * 1024 * 1024
#: To copy a row that may be found takes as long as to compare with this many, by measurement.
_COPY_COST: Final = 3


def empty_top(queries: int) -> Top:
    """Return the result of a search over nothing."""
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def exact_top(matrix: Floats, queries: Floats, k: int, metric: Metric, allowed: NDArray[np.bool_] | None = None) -> Top:
    """Search rows of a matrix.

    Args:
        matrix: (n, dimension).
        queries: (queries, dimension).
        k: results for each query.
        metric: what the score is.
        allowed: which rows may be found; None for all.

    Returns:
        Scores and rows, (queries, min(k, rows that may be found)), best first.
    """
    count = len(matrix) if allowed is None else int(np.count_nonzero(allowed))
    if not count:
        return empty_top(len(queries))
    if allowed is None:
        return _top(matrix, queries, k, metric, None)
    if metric != "l2" and k <= count and count * _COPY_COST >= len(matrix):
        return _top(matrix, queries, k, metric, ~allowed)
    rows = np.flatnonzero(allowed)
    scores, found = _top(matrix[rows], queries, k, metric, None)
    return scores, rows[found]


def _top(matrix: Floats, queries: Floats, k: int, metric: Metric, barred: NDArray[np.bool_] | None) -> Top:
    step = max(1, _BLOCK // len(matrix))
    parts = [_block(matrix, queries[at : at + step], k, metric, barred) for at in range(0, len(queries), step)]
    if len(parts) < 2:
        return parts[0] if parts else empty_top(0)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _block(subset: Floats, queries: Floats, k: int, metric: Metric, barred: NDArray[np.bool_] | None) -> Top:
    if metric == "l2":
        return _squared(subset, queries, k)
    scores = queries @ subset.T
    if barred is not None:
        scores[:, barred] = -np.inf
    if scores.shape[1] <= k:
        return best_of(scores, np.tile(np.arange(scores.shape[1]), (len(scores), 1)), k)
    rows = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    return best_of(scores[_lines(scores), rows], rows, k)


def _squared(subset: Floats, queries: Floats, k: int) -> Top:
    """The best by squared distance, from differences: the product of the norms would cancel for near neighbours."""
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1 << 30  # never by that product
    faiss.omp_set_num_threads(1)
    distances, rows = faiss.knn(queries, np.ascontiguousarray(subset), min(k, len(subset)), metric=faiss.METRIC_L2)
    return -distances, rows


def _lines(scores: Floats) -> Rows:
    """Return what goes with columns to index a matrix: much less work than ``take_along_axis`` makes of it."""
    return np.arange(len(scores))[:, None]


def best_of(scores: Floats, rows: Rows, k: int) -> Top:
    """Return the ``k`` best columns of each line, best first.

    Args:
        scores: (queries, candidates).
        rows: what each candidate is, of the same shape.
        k: how many to keep.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    lines = _lines(scores)
    return scores[lines, order], rows[lines, order]

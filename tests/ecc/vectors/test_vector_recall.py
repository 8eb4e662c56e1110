"""How many of the true neighbours a search finds, with graphs, tombstones and filters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vectors_by_hand import UnsyncedFiles

from weftos.ecc.vectors.filters import Filter, Range
from weftos.ecc.vectors.model import CollectionSpec, Metric
from weftos.ecc.vectors.sealing import seal
from weftos.ecc.vectors.store import VectorStore

DIMENSION = 32


def _points(count: int, seed: int) -> np.ndarray:
    """Clusters in twelve of the dimensions, and noise in all."""
    shape = np.random.default_rng(1)
    basis, centres = shape.standard_normal((12, DIMENSION)), shape.standard_normal((200, 12))
    random = np.random.default_rng(seed)
    inner = centres[random.integers(0, 200, count)] + 0.6 * random.standard_normal((count, 12))
    return (inner @ basis + 0.3 * random.standard_normal((count, DIMENSION))).astype(np.float32)


def _truth(points: np.ndarray, queries: np.ndarray, metric: Metric, allowed: np.ndarray) -> list[set[str]]:
    rows = np.flatnonzero(allowed)
    left, right = queries.astype(np.float64), points[rows].astype(np.float64)
    if metric == "cosine":
        left, right = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (left, right))
    scores = left @ right.T
    if metric == "l2":
        scores = 2 * scores - (right * right).sum(axis=1)
    best = np.argpartition(-scores, 10, axis=1)[:, :10]
    return [{f"e{rows[place]}" for place in line} for line in best]


def _measure(folder: Path, count: int, metric: Metric) -> None:
    store = VectorStore.open(UnsyncedFiles(), str(folder / metric))
    store.create(CollectionSpec("c", DIMENSION, metric))
    points, queries = _points(count, 2), _points(100, 3)
    for begin in range(0, count, 5000):
        rows = range(begin, min(count, begin + 5000))
        ids, metadata = [f"e{row}" for row in rows], [{"n": row % 100} for row in rows]
        store.upsert_arrays("c", ids, points[rows.start : rows.stop], metadata, [b""] * len(rows))
    sealed = seal(store.wanted(), UnsyncedFiles(), threads=2)
    store.adopt(sealed)
    assert sealed.ef > 0
    assert store.collections()[0].delta_rows == 0
    assert store.collections()[0].recall == sealed.recall >= 0.95
    alive = np.ones(count, np.bool_)
    _check(store, points, queries, metric, alive, None)
    alive[::10] = False
    for begin in range(0, count, 100_000):
        store.delete("c", [f"e{row}" for row in range(begin, min(count, begin + 100_000), 10)])
    _check(store, points, queries, metric, alive, None)
    for most in (49, 9, 1):
        matching = alive & (np.arange(count) % 100 <= most)
        _check(store, points, queries, metric, matching, Range("n", high=most))
    store.close()


def _check(
    store: VectorStore, points: np.ndarray, queries: np.ndarray, metric: Metric, allowed: np.ndarray, condition: Filter
) -> None:
    found = store.search("c", queries, 10, condition=condition)
    truth = _truth(points, queries, metric, allowed)
    assert all(len(hits) == 10 for hits in found)
    right = [len({hit.id for hit in hits} & best) for hits, best in zip(found, truth, strict=True)]
    assert np.mean(right) / 10 >= 0.95


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner"])
def test_recall_at_ten(tmp_path: Path, metric: Metric) -> None:
    _measure(tmp_path, 20_000 if metric == "cosine" else 9000, metric)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner"])
def test_recall_at_ten_of_many(tmp_path: Path, metric: Metric) -> None:
    _measure(tmp_path, 120_000, metric)

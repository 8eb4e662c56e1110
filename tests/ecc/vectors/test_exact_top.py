"""The exact search against sorting all scores, whatever share of the rows may be found."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from weftos.ecc.vectors.exact import exact_top
from weftos.ecc.vectors.model import Metric


@pytest.mark.parametrize("metric", ["cosine", "inner", "l2"])
@given(
    rows=st.integers(1, 120),
    queries=st.integers(1, 4),
    k=st.integers(1, 20),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_best_rows_are_found(metric: Metric, rows: int, queries: int, k: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, 6)).astype(np.float32)
    asked = rng.standard_normal((queries, 6)).astype(np.float32)
    mask = None if share == 1 else rng.random(rows) < share
    allowed = np.arange(rows) if mask is None else np.flatnonzero(mask)
    scores, found = exact_top(matrix, asked, k, metric, mask)
    if metric == "l2":
        truth = -((asked[:, None, :].astype(float) - matrix[None, allowed].astype(float)) ** 2).sum(axis=2)
    else:
        truth = asked.astype(float) @ matrix[allowed].T.astype(float)
    width = min(k, len(allowed))
    assert scores.shape == found.shape == (queries, width)
    assert np.isin(found, allowed).all()
    best = -np.sort(-truth, axis=1)[:, :width]
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
    for line in found.tolist():
        assert len(set(line)) == width

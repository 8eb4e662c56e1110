"""Graphs for inner products: rows of very different lengths must all be found."""

from __future__ import annotations

import numpy as np

from weftos.ecc.vectors.graph import GraphSearch, build_graph, flat_storage


def test_what_is_large_by_inner_product_is_found_among_rows_of_all_lengths():
    random = np.random.default_rng(4)
    rows = random.standard_normal((6000, 16)) * np.exp(random.standard_normal((6000, 1)))
    queries = random.standard_normal((200, 16)).astype(np.float32)
    vectors = rows.astype(np.float32)
    storage, matrix = flat_storage(len(vectors), 16, "inner")
    matrix[:] = vectors
    search = GraphSearch(build_graph(vectors, "inner", 1), storage, "inner")
    scores, found = search.search(queries, 10, 256, None)
    truth = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    best = np.argsort(-truth, axis=1)[:, :10]
    right = [np.isin(line, wanted).mean() for line, wanted in zip(found, best, strict=True)]
    assert np.mean(right) >= 0.99
    np.testing.assert_allclose(scores, np.take_along_axis(truth, found, 1), rtol=1e-4)


def test_rows_that_are_all_zero_or_equal_have_a_graph():
    for vectors in (np.zeros((300, 4), np.float32), np.ones((300, 4), np.float32)):
        storage, matrix = flat_storage(300, 4, "inner")
        matrix[:] = vectors
        search = GraphSearch(build_graph(vectors, "inner", 1), storage, "inner")
        assert (search.search(np.ones((1, 4), np.float32), 5, 64, None)[1] >= 0).all()

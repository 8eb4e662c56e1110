"""The graph of a segment (HNSW), by faiss: the one module that loads it.

Why it is as it is: the vectors stay one matrix of ours, read straight into the memory that the graph searches, so that
there is no second copy of them; only the links are in faiss's own form. Nothing is quantised: distances are those of
the stored vectors, and to compute them again would give the same.

Guaranteed: a row that is not allowed is never returned. Not guaranteed: that as many are found as there are; the caller
looks, and scans.

Source: Y. Malkov, D. Yashunin, Efficient and robust approximate nearest neighbor search using HNSW, 2018; faiss.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.vectors.exact import Top
from weftos.ecc.vectors.model import Metric
from weftos.ecc.vectors.pages import want_large_pages
from weftos.errors import VectorsDamaged

__all__ = ["GraphSearch", "build_graph", "calibrated", "flat_storage"]

#: Its annotations do not know what its own wrappers add.
_FAISS: Any = faiss
Floats = NDArray[np.float32]


def _faiss_metric(metric: Metric) -> int:
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def flat_storage(rows: int, dimension: int, metric: Metric) -> tuple[Any, Floats]:
    """Return storage of faiss, and its memory as an empty matrix to be filled. The storage must outlive the matrix."""
    storage = faiss.IndexFlat(dimension, _faiss_metric(metric))
    storage.codes.resize(rows * dimension * 4)
    storage.ntotal = rows
    raw = faiss.rev_swig_ptr(storage.codes.data(), rows * dimension * 4)
    return storage, raw.view(np.float32).reshape(rows, dimension)


def build_graph(vectors: Floats, metric: Metric, threads: int) -> NDArray[np.uint8]:
    """Link vectors and return the links, as faiss writes them without vectors.

    Args:
        vectors: (n, dimension).
        metric: what is near.
        threads: how many work at it; with more than one, the links differ from run to run.
    """
    faiss.omp_set_num_threads(threads)
    per_row = limits.VECTOR_GRAPH_LINKS_INNER if metric == "inner" else limits.VECTOR_GRAPH_LINKS
    index = faiss.IndexHNSWFlat(vectors.shape[1], per_row, _faiss_metric(metric))
    is_small = len(vectors) < limits.VECTOR_GRAPH_SMALL_ROWS
    index.hnsw.efConstruction = limits.VECTOR_GRAPH_BUILD_EF_SMALL if is_small else limits.VECTOR_GRAPH_BUILD_EF
    index.add(vectors)
    links: NDArray[np.uint8] = faiss.serialize_index(index, faiss.IO_FLAG_SKIP_STORAGE)
    return links


class GraphSearch:
    """Links and vectors, ready to be searched with one thread.

    Args:
        links: as :func:`build_graph` gave them.
        storage: as :func:`flat_storage` gave it, with its matrix filled.
        metric: what is near.

    Raises:
        VectorsDamaged: the links are not of these vectors.
    """

    def __init__(self, links: NDArray[np.uint8], storage: Any, metric: Metric) -> None:
        try:
            index: Any = faiss.deserialize_index(links)
        except RuntimeError as error:
            raise VectorsDamaged(f"the graph of a segment cannot be read: {error}") from error
        if not isinstance(index, faiss.IndexHNSW) or (index.d, index.ntotal, index.metric_type) != (
            storage.d,
            storage.ntotal,
            _faiss_metric(metric),
        ):
            raise VectorsDamaged("the graph of a segment does not belong to its vectors")
        index.storage, index.own_fields = storage, False
        neighbors = _FAISS.downcast_index(index).hnsw.neighbors
        jumped = [faiss.rev_swig_ptr(one.data(), one.size()) for one in (storage.codes, neighbors)]
        want_large_pages(jumped, (index, storage))
        self._index: Any = index
        self._storage = storage
        self._larger_is_nearer = metric != "l2"
        self._one: _One | None = None
        #: For searches of all rows: to make one takes as long as some hundred comparisons of vectors.
        self._parameters = _FAISS.SearchParametersHNSW()

    def search(self, queries: Floats, k: int, ef: int, allowed: NDArray[np.uint8] | None) -> Top:
        """Return scores and rows, (queries, k); where too few were found, the row is -1 at the end of a line.

        Args:
            queries: (queries, dimension).
            k: results for each query.
            ef: length of the list of candidates.
            allowed: one bit for each row that may be found, lowest first; None for all.
        """
        faiss.omp_set_num_threads(1)
        parameters = self._parameters
        if allowed is not None:
            parameters = _FAISS.SearchParametersHNSW(sel=_FAISS.IDSelectorBitmap(allowed))
        parameters.efSearch = max(ef, k)
        if len(queries) == 1:
            scores, rows = self._search_one(queries, k, parameters)
        else:
            scores, rows = self._index.search(queries, k, params=parameters)
        if not self._larger_is_nearer:
            np.negative(scores, out=scores)
        return scores, rows

    def _search_one(self, query: Floats, k: int, parameters: Any) -> Top:
        if self._one is None or self._one.k != k:
            self._one = _One(query.shape[1], k)
        one = self._one
        one.query[:] = query
        at_query, at_scores, at_rows = one.pointers
        self._index.search_c(1, at_query, k, at_scores, at_rows, parameters)
        return one.scores.copy(), one.rows.copy()


class _One:
    """Memory that a single query and its results pass through: faiss's own wrapper takes as long to find out where
    theirs is as it takes to compare fifty vectors.

    Attributes:
        k: results.
        query: (1, dimension).
        scores: (1, k).
        rows: (1, k).
        pointers: to query, scores and rows, as faiss wants them; valid as long as these are.
    """

    def __init__(self, dimension: int, k: int) -> None:
        self.k = k
        self.query: Floats = np.empty((1, dimension), np.float32)
        self.scores: Floats = np.empty((1, k), np.float32)
        self.rows: NDArray[np.int64] = np.empty((1, k), np.int64)
        self.pointers = [faiss.swig_ptr(one) for one in (self.query, self.scores, self.rows)]


def calibrated(search: GraphSearch, vectors: Floats, metric: Metric) -> tuple[int, float]:
    """Find the shortest list of candidates with which the graph finds what it should.

    Rows of the segment, spread evenly, are the queries; the first result, which is the row itself, does not count.

    Returns:
        The list's length with a margin, because rows are easier queries than others; and the recall at ten that was
        enough, or that of the longest list tried.
    """
    sample = vectors[:: max(1, len(vectors) // limits.VECTOR_CALIBRATION_QUERIES)][: limits.VECTOR_CALIBRATION_QUERIES]
    faiss.omp_set_num_threads(1)
    truth = faiss.knn(sample, vectors, 11, metric=_faiss_metric(metric))[1][:, 1:]
    reached = 0.0
    for ef in limits.VECTOR_CALIBRATION_EFS:
        rows = search.search(sample, 11, ef, None)[1]
        reached = float(np.mean([np.isin(line, right).mean() for line, right in zip(truth, rows, strict=True)]))
        if reached >= limits.VECTOR_CALIBRATION_RECALL:
            break
    return ef * limits.VECTOR_CALIBRATION_MARGIN, reached

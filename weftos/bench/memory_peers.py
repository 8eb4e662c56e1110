"""faiss and hnswlib in the process of the benchmark: what memory is measured against.

Why it is as it is: both are built with the links and the list of the index itself (``limits.VECTOR_GRAPH_LINKS``,
``VECTOR_GRAPH_BUILD_EF``), over the same vectors in the same order, and searched with one thread, as the service does.
All questions in one call is the most that a library gives; one question in a call is what an agent would wait for if
the index were its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.bench.memory_data import K, VectorSet
from weftos.bench.model import Collector

__all__ = ["Peer", "ask_all", "peers"]

#: Its annotations do not know what its own wrappers add.
_FAISS: Final[Any] = faiss
Rows = NDArray[np.int64]


class Peer(NamedTuple):
    """A library with an index.

    Attributes:
        name: of the library.
        search: takes questions (n, dimension) and the length of the list; returns rows (n, ``K``).
    """

    name: str
    search: Callable[[NDArray[np.float32], int], Rows]


def peers(collector: Collector, case: str, data: VectorSet) -> list[Peer]:
    """Build the index of each library that is installed, and note how long that took."""
    found = []
    for name, build in (("faiss", _faiss), ("hnswlib", _hnswlib)):
        began = time.perf_counter()
        try:
            search = build(data)
        except ImportError:
            collector.skip(name, f"not installed: pip install {name}")
            continue
        collector.add(case, name, "index built", time.perf_counter() - began, "s")
        found.append(Peer(name, search))
    return found


def ask_all(peer: Peer, data: VectorSet, ef: int, seconds: float) -> tuple[float, Rows]:
    """Ask all questions in one call, again and again; return questions per second, and what was found."""
    found = peer.search(data.queries, ef)
    began = now = time.perf_counter()
    times = 0
    while now - began < seconds:
        peer.search(data.queries, ef)
        times += 1
        now = time.perf_counter()
    return times * len(data.queries) / (now - began), found


def _build_ef(rows: int) -> int:
    small = rows < limits.VECTOR_GRAPH_SMALL_ROWS
    return limits.VECTOR_GRAPH_BUILD_EF_SMALL if small else limits.VECTOR_GRAPH_BUILD_EF


def _faiss(data: VectorSet) -> Callable[[NDArray[np.float32], int], Rows]:
    rows, dimension = data.vectors.shape
    index = _FAISS.IndexHNSWFlat(dimension, limits.VECTOR_GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _build_ef(rows)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index.add(data.vectors)
    faiss.omp_set_num_threads(1)

    def search(queries: NDArray[np.float32], ef: int) -> Rows:
        found: Rows = index.search(queries, K, params=_FAISS.SearchParametersHNSW(efSearch=ef))[1]
        return found

    return search


def _hnswlib(data: VectorSet) -> Callable[[NDArray[np.float32], int], Rows]:
    import hnswlib

    rows, dimension = data.vectors.shape
    index: Any = hnswlib.Index("ip", dimension)
    index.init_index(rows, M=limits.VECTOR_GRAPH_LINKS, ef_construction=_build_ef(rows))
    index.add_items(data.vectors, num_threads=os.cpu_count() or 1)

    def search(queries: NDArray[np.float32], ef: int) -> Rows:
        index.set_ef(ef)
        return np.asarray(index.knn_query(queries, K, num_threads=1)[0], np.int64)

    return search

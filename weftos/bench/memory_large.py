"""A million vectors through the library of the index, with segments built by a process beside as in the service."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np

from weftos.bench.memory_data import K, VectorSet, clustered, recall
from weftos.bench.model import Collector, Settings
from weftos.bench.samples import percentiles
from weftos.disk.files import RealFiles
from weftos.ecc.vectors.model import CollectionSpec, CollectionStatistics
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import BenchFailed
from weftos.service.ecc_beside import Beside
from weftos.service.ecc_seals import Sealing
from weftos.service.side_work import SideWork

__all__ = ["measure_large"]

_ROWS: Final = 1_000_000
_BATCH: Final = 8192
_NAME: Final = "large"
#: Longest wait for the builder to say something, in seconds.
_SILENCE_S: Final = 1800.0


def measure_large(collector: Collector, settings: Settings, rows: int = _ROWS) -> None:
    """Write that many, have them made one segment, search, and open the folder again.

    Raises:
        BenchFailed: the index was not built.
    """
    data = clustered(rows, settings.dimension, 500)
    case = f"library, {rows} x {settings.dimension}"
    with tempfile.TemporaryDirectory(prefix="weftos-bench-") as folder:
        place = str(Path(folder, "vectors"))
        store = VectorStore.open(RealFiles(), place)
        try:
            _build(collector, case, store, data)
            _search(collector, case, store, data)
        finally:
            store.close()
        began = time.perf_counter()
        store = VectorStore.open(RealFiles(), place)
        try:
            store.search(_NAME, data.queries[:1], K)
            collector.add(case, "weftos", "opened, first answer", time.perf_counter() - began, "s")
        finally:
            store.close()


def _build(collector: Collector, case: str, store: VectorStore, data: VectorSet) -> None:
    store.create(CollectionSpec(_NAME, data.vectors.shape[1]))
    news = threading.Event()
    beside = Beside(SideWork(news.set))
    sealing = Sealing(beside)
    try:
        began = time.perf_counter()
        for first in range(0, len(data.vectors), _BATCH):
            part = data.vectors[first : first + _BATCH]
            ids = [str(number) for number in range(first, first + len(part))]
            metadata = [{"n": number} for number in range(first, first + len(part))]
            store.upsert_arrays(_NAME, ids, part, metadata, [b""] * len(part))
            store.sync()
            beside.turn()
            sealing.turn(store)
        written = time.perf_counter()
        while not _is_one(store.collections()[0]) or sealing.busy:
            if not sealing.busy:
                store.compact(_NAME)
            sealing.turn(store)
            if sealing.failures or not news.wait(_SILENCE_S):
                raise BenchFailed("a segment was not built; its builder said why")
            news.clear()
            beside.turn()
        done = time.perf_counter()
    finally:
        beside.close()
    collector.add(case, "weftos", "written", len(data.vectors) / (written - began), "1/s")
    collector.add(case, "weftos", "from the first entry to one segment", done - began, "s")


def _is_one(statistics: CollectionStatistics) -> bool:
    return statistics.segments == 1 and not statistics.delta_rows


def _search(collector: Collector, case: str, store: VectorStore, data: VectorSet) -> None:
    samples = []
    found = np.full(data.truth.shape, -1, np.int64)
    for at in range(len(data.queries)):
        began = time.perf_counter()
        hits = store.search(_NAME, data.queries[at : at + 1], K, documents=False, metadata=False)[0]
        samples.append(time.perf_counter() - began)
        found[at] = [int(hit.id) for hit in hits]
    figures = percentiles(samples)
    collector.add(case, "weftos", "recall@10", recall(found, data.truth), "")
    for metric in ("p50", "p99"):
        collector.add(case, "weftos", metric, figures[metric], "s")

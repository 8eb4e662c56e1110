"""The causal graph as a library: edges written in batches with their journal, and walks through many of them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weftos.bench.model import Collector, Settings
from weftos.bench.samples import percentiles
from weftos.disk.files import RealFiles
from weftos.ecc.causal.graph import CODES, EdgeType
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.causal.walks import walk
from weftos.service.memory_steps import node_id

__all__ = ["measure_graph", "random_edges"]

_EDGES, _QUICK_EDGES = 1_000_000, 50_000
_BATCH: Final = 4096
_PER_NODE: Final = 10
_WALKS: Final = 300


def random_edges(count: int, seed: int = 161) -> NDArray[np.int64]:
    """Return edges (count, 2) between a tenth as many nodes: few nodes are the target of many. None is a loop."""
    rng = np.random.default_rng(seed)
    nodes = max(count // _PER_NODE, 2)
    sources = rng.integers(0, nodes, count)
    targets = (nodes * rng.random(count) ** 2).astype(np.int64)
    return np.column_stack([sources, np.where(targets == sources, (targets + 1) % nodes, targets)])


def measure_graph(collector: Collector, settings: Settings) -> None:
    """Write a graph into a folder of its own, and walk through it from many nodes."""
    edges = random_edges(_QUICK_EDGES if settings.quick else _EDGES)
    with tempfile.TemporaryDirectory(prefix="weftos-bench-") as folder:
        for number in range(settings.rounds):
            place = Path(folder, str(number))
            place.mkdir()
            store = GraphStore(RealFiles(), str(place))
            try:
                _write(collector, store, edges)
                _walks(collector, store)
            finally:
                store.close()
            began = time.perf_counter()
            GraphStore(RealFiles(), str(place)).close()
            taken = time.perf_counter() - began
            collector.add(_case(store), "weftos", "opened from its journal", taken, "s")


def _case(store: GraphStore) -> str:
    return f"graph of {store.graph.node_count} nodes, {store.graph.edge_count} edges"


def _write(collector: Collector, store: GraphStore, edges: NDArray[np.int64]) -> None:
    nodes = int(edges.max()) + 1
    names = [(f"n{number}", node_id(f"n{number}")) for number in range(nodes)]
    began = time.perf_counter()
    numbers = np.array([store.add_node(label, created_at=1, universal_id=name) for label, name in names])
    store.sync()
    added = time.perf_counter()
    for at in range(0, len(edges), _BATCH):
        part = numbers[edges[at : at + _BATCH]]
        columns: tuple[NDArray[Any], ...] = (
            part[:, 0],
            part[:, 1],
            np.full(len(part), CODES[EdgeType.CAUSES]),
            np.full(len(part), 0.5),
            np.ones(len(part), np.int64),
        )
        store.link_arrays(*columns)
        store.sync()
    linked = time.perf_counter()
    collector.add(_case(store), "weftos", "nodes one by one", nodes / (added - began), "1/s")
    collector.add(_case(store), "weftos", f"edges in batches of {_BATCH}, synced", len(edges) / (linked - added), "1/s")


def _walks(collector: Collector, store: GraphStore) -> None:
    rng = np.random.default_rng(3)
    graph = store.graph
    everything = graph.next_id
    for name, limit in (("3 hops, 1000 nodes at most", 1000), ("3 hops, all nodes", everything)):
        samples, reached = [], []
        for start in rng.choice([node.id for node in graph.all_nodes()], _WALKS).tolist():
            began = time.perf_counter()
            found = walk(graph, start, depth=3, limit=limit)
            samples.append(time.perf_counter() - began)
            reached.append(len(found))
        figures = percentiles(samples)
        for metric in ("p50", "p99"):
            collector.add(f"{_case(store)}, {name}", "weftos", metric, figures[metric], "s")
        collector.add(f"{_case(store)}, {name}", "weftos", "nodes reached", float(np.median(reached)), "")

"""The measurements of a calibration: each on structures of its own, made for it and thrown away.

Every probe takes the clock and gives microseconds. Vectors come from a seed, have a mean of nothing in every
direction, and lie near a space of few dimensions, as those of texts do. faiss is kept to one thread meanwhile, as it is
where agents are forked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.clock import Clock
from weftos.disk.files import RealFiles
from weftos.ecc.causal.graph import CausalGraph, Edge, EdgeType
from weftos.ecc.causal.spectrum import spectrum
from weftos.ecc.journal import Journal

__all__ = [
    "IndexFigures",
    "Timings",
    "blake3_mb_s",
    "ed25519_signs_s",
    "impulse_timings",
    "journal_timings",
    "scratch_vectors",
    "spectrum_us",
]

_NS_PER_US: Final = 1000.0
_NS_PER_S: Final = 1_000_000_000
#: Dimensions of the space that vectors lie near, and how far beside it they are.
_LATENT: Final = 32
_BESIDE: Final = 0.1
#: Vectors that the index takes in one call while it grows; the time limit is looked at between them.
_GROWTH: Final = 250
_BLAKE3_BYTES: Final = 4 * 1024 * 1024
_SIGNED_BYTES: Final = 128


class Timings(msgspec.Struct, frozen=True):
    """Of several runs: the median and the 95th percentile, in microseconds (nearest rank)."""

    p50_us: float
    p95_us: float

    @classmethod
    def of(cls, samples_ns: list[int]) -> Timings:
        """Take them from runs in nanoseconds, one or more."""
        ordered = sorted(samples_ns)
        last = len(ordered) - 1
        return cls(*(ordered[min(last, len(ordered) * share // 100)] / _NS_PER_US for share in (50, 95)))


class IndexFigures(msgspec.Struct, frozen=True):
    """What an index of a size takes.

    Attributes:
        vectors: how many it had before the runs.
        insert: adding one vector.
        search: looking for the nearest of one.
        compute: the work of one impulse: both, an edge in the causal graph, and BLAKE3 of the vector.
    """

    vectors: int
    insert: Timings
    search: Timings
    compute: Timings


def scratch_vectors(count: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Return vectors of length 1, one in a row: the same for the same seed, their mean near 0."""
    rng = np.random.default_rng(seed)
    latent = min(_LATENT, dimensions)
    spread = rng.standard_normal((latent, dimensions), dtype=np.float32)
    found = rng.standard_normal((count, latent), dtype=np.float32) @ spread / np.float32(latent**0.5)
    found += np.float32(_BESIDE) * rng.standard_normal((count, dimensions), dtype=np.float32)
    scaled: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return scaled


def impulse_timings(
    clock: Clock, *, sizes: tuple[int, ...], dimensions: int, runs: int, warm_up: int, seed: int, until_ns: int
) -> list[IndexFigures]:
    """Measure the work of one impulse on one index that grows from size to size.

    Args:
        clock: what it is measured with.
        sizes: vectors in the index, ascending.
        dimensions: numbers in a vector.
        runs: measured runs at each size.
        warm_up: runs before them that are thrown away.
        seed: of the vectors.
        until_ns: monotonic time at which the index stops growing; it is measured at the size that it then has.

    Returns:
        The figures of each size that was reached, one at least.
    """
    import faiss

    each = runs + warm_up
    vectors = scratch_vectors(sizes[-1] + each * len(sizes), dimensions, seed)
    index = faiss.IndexHNSWFlat(dimensions, limits.CALIBRATION_HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = limits.CALIBRATION_HNSW_SEARCH
    graph = CausalGraph()
    found: list[IndexFigures] = []
    with _one_thread(faiss):
        at = 0
        for size in sizes:
            while index.ntotal < size and (index.ntotal == 0 or clock.mono_ns() < until_ns):
                count = min(_GROWTH, size - index.ntotal)
                index.add(vectors[at : at + count])
                at += count
            before = index.ntotal
            samples = [_impulse(clock, index, graph, vectors[at + one : at + one + 1]) for one in range(each)]
            at += each
            columns = zip(*samples[warm_up:], strict=True)
            found.append(IndexFigures(before, *(Timings.of(list(column)) for column in columns)))
            if before < size or clock.mono_ns() >= until_ns:
                break
    return found


def _impulse(clock: Clock, index: Any, graph: CausalGraph, vector: NDArray[np.float32]) -> tuple[int, int, int]:
    """Do the work of one impulse; return nanoseconds of adding, of searching, and of all of it."""
    begun = clock.mono_ns()
    index.search(vector, limits.CALIBRATION_NEIGHBOURS)
    searched = clock.mono_ns()
    index.add(vector)
    added = clock.mono_ns()
    digest = blake3(vector.tobytes()).digest()
    number = graph.add_node("calibration", created_at=0, universal_id=digest)
    if number > 1:
        graph.link([Edge(number, number - 1, EdgeType.FOLLOWS, 0.5)])
    return added - searched, searched - begun, clock.mono_ns() - begun


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _runs(clock: Clock, work: Callable[[], object], *, runs: int, warm_up: int) -> list[int]:
    """Nanoseconds of each run after the first ones."""
    samples = []
    for number in range(warm_up + runs):
        begun = clock.mono_ns()
        work()
        if number >= warm_up:
            samples.append(max(1, clock.mono_ns() - begun))
    return samples


def blake3_mb_s(clock: Clock, seed: int) -> float:
    """Megabytes (10^6) a second that one thread hashes, in pieces of 4 MiB."""
    data = np.random.default_rng(seed).bytes(_BLAKE3_BYTES)
    samples = _runs(clock, lambda: blake3(data).digest(), runs=5, warm_up=1)
    return _BLAKE3_BYTES / 1e6 * _NS_PER_S / sorted(samples)[len(samples) // 2]


def ed25519_signs_s(clock: Clock) -> float:
    """Signatures a second of 128 bytes each, with a key made for this."""
    key, data = Ed25519PrivateKey.generate(), bytes(_SIGNED_BYTES)
    samples = _runs(clock, lambda: key.sign(data), runs=100, warm_up=10)
    return _NS_PER_S * len(samples) / sum(samples)


def journal_timings(clock: Clock, folder: str, *, runs: int, warm_up: int) -> Timings:
    """Appending a record of 256 bytes to a journal and bringing it onto the disk.

    Raises:
        OSError: the journal cannot be made in the folder.
        JournalFailed: it cannot be written.
    """
    journal = Journal.create(RealFiles(), os.path.join(folder, "calibration.journal"), "calibration")

    def work() -> None:
        journal.append(bytes(256))
        journal.sync()

    try:
        return Timings.of(_runs(clock, work, runs=runs, warm_up=warm_up))
    finally:
        journal.close()


def spectrum_us(clock: Clock, nodes: int, seed: int) -> tuple[float, int]:
    """Microseconds of λ₂ of a connected graph with four edges a node, the median of three; and its edges."""
    rng = np.random.default_rng(seed)
    graph = CausalGraph()
    for _ in range(nodes):
        graph.add_node("calibration", created_at=0, universal_id=bytes(32))
    ring = [(one, one % nodes + 1) for one in range(1, nodes + 1)]
    more = rng.integers(1, nodes + 1, (3 * nodes, 2)).tolist()
    graph.link(
        Edge(source, target, EdgeType.CORRELATES, float(weight))
        for (source, target), weight in zip(ring + more, rng.uniform(0.1, 1.0, 4 * nodes), strict=True)
        if source != target
    )
    samples = _runs(clock, lambda: spectrum(graph), runs=3, warm_up=1)
    return sorted(samples)[1] / _NS_PER_US, graph.edge_count

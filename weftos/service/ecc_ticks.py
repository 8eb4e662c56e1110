"""Cognitive ticks: when impulses wait, and how much of the loop's time they take.

    emit ──▶ queue of the space ──▶ SENSE, EMBED, SEARCH, UPDATE ──▶ COMMIT: one record ``ecc.tick``, then the stores

Why it is as it is: each space has a queue and ticks of its own, so that a flood in one delays the others by one budget
at most. The loop does a tick only when impulses wait; without any, ticks cost nothing.

Guaranteed: as for ``CognitiveTick``: no impulse is lost, and what a tick adds is on the log before it is in a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.clock import Clock, SystemClock
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.crossrefs.store import CrossRefStore
from weftos.ecc.embedding.hashing import HashingProvider
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.tick.batch import TickBatch
from weftos.ecc.tick.controller import TickController
from weftos.ecc.tick.nodes import NodesByUniversalId
from weftos.ecc.tick.phases import CognitiveTick
from weftos.ecc.tick.ports import Hit, Ports
from weftos.ecc.vectors.model import CollectionSpec
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import CollectionNotFound, IdentityMismatch
from weftos.service.ecc_changes import Changes
from weftos.service.ecc_spaces import Spaces

__all__ = ["TICK_SOURCE", "Ticks"]

#: Who changed what a tick changes, as it stands in the records.
TICK_SOURCE = "tick"


class _Index:
    """What a tick asks of the collection of its space: vectors by universal id."""

    def __init__(self, vectors: VectorStore, space: str, embedder: HashingProvider, changes: Changes) -> None:
        self._vectors = vectors
        self._space = space
        self._embedder = embedder
        self._changes = changes

    def embed(self, texts: Sequence[str]) -> NDArray[Any]:
        """Turn texts into vectors, if those of the collection come from the same provider."""
        try:
            identity = self._vectors.spec(self._space).identity
        except CollectionNotFound:
            identity = self._embedder.identity
        if identity != self._embedder.identity:
            raise IdentityMismatch(f"the vectors of {self._space!r} are not of the provider that ticks use")
        return self._embedder.embed(texts)

    def search_batch(self, vectors: NDArray[Any], k: int) -> Sequence[Sequence[Hit]]:
        """Search the collection."""
        try:
            rows = self._vectors.search(self._space, vectors.astype(np.float32), k, documents=False)
        except CollectionNotFound:
            return [[] for _ in vectors]
        return [[Hit(name, hit.score) for hit in row if (name := _universal(hit.id)) is not None] for row in rows]

    def upsert_batch(
        self, ids: Sequence[bytes], vectors: NDArray[Any], metadata: Sequence[Mapping[str, str | int]]
    ) -> None:
        """Write into the collection; it is made if it is not there."""
        try:
            self._vectors.spec(self._space)
        except CollectionNotFound:
            identity = self._embedder.identity
            self._vectors.create(CollectionSpec(self._space, identity.dimension, "cosine", identity))
        names = [name.hex() for name in ids]
        rows = [dict(one) for one in metadata]
        self._vectors.upsert_arrays(self._space, names, vectors.astype(np.float32), rows, [b""] * len(names))
        self._changes.note(TICK_SOURCE, "vectors", upserts=len(names))

    def sync(self) -> None:
        """Bring it onto the disk."""
        self._vectors.sync()


def _universal(name: str) -> bytes | None:
    try:
        found = bytes.fromhex(name)
    except ValueError:
        return None
    return found if len(found) == 32 else None


class Ticks:
    """See the head of this file.

    Args:
        spaces: with the queues, graphs and cross-references.
        vectors: with the collections.
        changes: is told what changed.
        put: puts an event of a kind on the log and onto the disk; returns its number.
        clock: the time.

    Attributes:
        controller: decides the interval.
    """

    def __init__(self, spaces: Spaces, vectors: VectorStore, changes: Changes, put: Any, clock: Clock | None = None):
        self._spaces = spaces
        self._vectors = vectors
        self._changes = changes
        self._put = put
        self._clock = clock or SystemClock()
        self._embedder = HashingProvider()
        self._minds: dict[str, tuple[ImpulseQueue, CognitiveTick]] = {}
        self.controller = TickController()
        self._next_ns: int | None = None
        for space in spaces.impulses.names():
            queue = spaces.impulses.make(space)
            if len(queue):
                self._mind(space, queue)
                self._next_ns = self._clock.mono_ns()

    def wake(self, space: str) -> None:
        """Impulses wait in a space."""
        self._mind(space, self._spaces.impulses.make(space))
        self.controller.wake()
        if self._next_ns is None:
            self._next_ns = self._clock.mono_ns() + int(self.controller.interval_ms * 1e6)

    @property
    def wake_at(self) -> float | None:
        """Monotonic time at which ``turn`` has something to do, in seconds."""
        return None if self._next_ns is None else self._next_ns / 1e9

    def turn(self) -> None:
        """Do a tick in each space where impulses wait, if it is time."""
        if self._next_ns is None or self._clock.mono_ns() < self._next_ns:
            return
        self.tick()

    def tick(self, spaces: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Do a tick now; returns what each did, as plain values.

        Args:
            spaces: in which; all where impulses wait if ``None``.
        """
        told = []
        left = False
        for space in list(self._minds) if spaces is None else spaces:
            queue, mind = self._mind(space, self._spaces.impulses.make(space))
            if not len(queue):
                continue
            result = mind.tick(min(self.controller.budget_us, limits.ECC_ROUND_S * 1e6))
            self.controller.record(result.duration_us, now_ns=self._clock.mono_ns(), worked=result.worked)
            graph = f"causal:{space}"
            if result.nodes_added or result.edges_added:
                self._changes.note(TICK_SOURCE, graph, nodes=result.nodes_added, edges=result.edges_added)
            told.append({"space": space} | msgspec.to_builtins(result))
            left = left or len(queue) > 0
        self._next_ns = self._clock.mono_ns() + int(self.controller.next_delay_ms * 1e6) if left else None
        return told

    def statistics(self) -> dict[str, Any]:
        """Return the pace of ticks, and what waits in each space, as plain values."""
        queues = {}
        for space in self._spaces.impulses.names():
            queues[space] = msgspec.to_builtins(self._spaces.impulses.make(space).statistics())
        ticks = {space: msgspec.to_builtins(mind.statistics()) for space, (_, mind) in self._minds.items()}
        return {"pace": msgspec.to_builtins(self.controller.statistics()), "queues": queues, "ticks": ticks}

    def _mind(self, space: str, queue: ImpulseQueue) -> tuple[ImpulseQueue, CognitiveTick]:
        found = self._minds.get(space)
        if found is None:
            graph: GraphStore = self._spaces.graphs.make(space)
            crossrefs: CrossRefStore = self._spaces.crossrefs.make(space)
            index = _Index(self._vectors, space, self._embedder, self._changes)

            def commit(batch: TickBatch) -> int:
                return int(self._put("ecc.tick", {"space": space} | msgspec.structs.asdict(batch)))

            ports = Ports(queue, index, index, NodesByUniversalId(graph), crossrefs, commit)
            found = self._minds[space] = (queue, CognitiveTick(ports, self._clock))
        return found

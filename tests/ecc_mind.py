"""A whole cognitive layer for tests: real queue, graph and cross-references, an exact index, a log, all on one clock.

The text of an impulse says its vector: the payload ``{"v": [3, 4]}`` becomes (0.6, 0.8). Faults are calls by number:
the n-th call of any port raises.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dying_files import UnsyncedFiles
from virtual_clock import VirtualClock

from weftos.ecc.causal.store import GraphStore
from weftos.ecc.crossrefs.store import CrossRefStore
from weftos.ecc.hlc import HybridClock
from weftos.ecc.impulses.model import ImpulseSettings, ImpulseType
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.tick.batch import TickBatch
from weftos.ecc.tick.model import TickSettings
from weftos.ecc.tick.nodes import NodesByUniversalId
from weftos.ecc.tick.phases import CognitiveTick
from weftos.ecc.tick.ports import Hit, Ports
from weftos.ecc.universal import StructureTag
from weftos.errors import EccError, EmbeddingRefused

SOURCE = bytes(range(32))


class Killed(BaseException):
    """The process is gone."""


class VectorEmbedder:
    """Reads the vector from the text; refuses a payload with ``bad``. Takes its time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.cost_ms = 0.0
        self.down = False
        self.calls: list[int] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls.append(len(texts))
        self.clock.pass_ms(self.cost_ms * len(texts))
        if self.down:
            raise EccError("the model is away")
        payloads = [json.loads(text.partition(":")[2]) for text in texts]
        if any("bad" in payload for payload in payloads):
            raise EmbeddingRefused("nothing to embed")
        raw = np.array([payload["v"] for payload in payloads], np.float32)
        if any("raw" in payload for payload in payloads):
            return raw
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)


class ExactIndex:
    """Every vector in a dict; what was synced survives."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[Any, Mapping[str, str | int]]] = {}
        self.synced = copy.copy(self.rows)
        self.searches = 0

    def search_batch(self, vectors: Any, k: int) -> list[list[Hit]]:
        self.searches += len(vectors)
        found = []
        for vector in vectors:
            hits = [Hit(one, float(row @ vector)) for one, (row, _) in self.rows.items()]
            found.append(sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k])
        return found

    def upsert_batch(self, ids: Sequence[bytes], vectors: Any, metadata: Sequence[Mapping[str, str | int]]) -> None:
        for one, vector, about in zip(ids, vectors, metadata, strict=True):
            self.rows[bytes(one)] = (vector, about)

    def sync(self) -> None:
        self.synced = copy.copy(self.rows)

    def crash(self) -> None:
        self.rows = copy.copy(self.synced)


class Log:
    """Events, positions from 100."""

    def __init__(self) -> None:
        self.events: list[TickBatch] = []
        self.down = False

    def __call__(self, batch: TickBatch) -> int:
        if self.down:
            raise EccError("the log is away")
        self.events.append(batch)
        return 99 + len(self.events)


class Counted:
    """A port whose every call is counted, and fails when its turn comes: before it, or after it was done."""

    def __init__(self, inner: Any, turn: Callable[[], bool], error: type[BaseException], *, after: bool) -> None:
        self._inner, self._turn, self._error, self._after = inner, turn, error, after

    def __call__(self, *arguments: Any) -> Any:
        return self._call(self._inner, *arguments)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self._call(getattr(self._inner, name), *arguments, **named)

    def _call(self, method: Any, *arguments: Any, **named: Any) -> Any:
        turn = self._turn()
        if turn and not self._after:
            raise self._error("fault")
        result = method(*arguments, **named)
        if turn:
            raise self._error("fault")
        return result


class Mind:
    """All parts in a folder."""

    def __init__(
        self, folder: Path, *, acyclic: bool = False, queue: ImpulseSettings | None = None, **tick: Any
    ) -> None:
        self.folder, self.acyclic = folder, acyclic
        self.clock = VirtualClock()
        self.embedder, self.index, self.log = VectorEmbedder(self.clock), ExactIndex(), Log()
        self.queue_settings = queue or ImpulseSettings(half_life_ms=None, max_attempts=1000)
        self.settings = TickSettings(**tick)
        self.calls = 0
        self.open()

    def open(self, fault: int = -1, error: type[BaseException] = Killed, *, after: bool = False) -> None:
        """Open everything; the call number ``fault`` from now on fails."""
        for name in ("causal", "crossrefs", "impulses"):
            (self.folder / name).mkdir(exist_ok=True)
        fs = UnsyncedFiles()
        self.graph = GraphStore(fs, str(self.folder / "causal"), acyclic=self.acyclic)
        self.nodes = NodesByUniversalId(self.graph)
        self.refs = CrossRefStore.open(fs, str(self.folder / "crossrefs"))
        hlc = HybridClock(self.clock)
        self.queue = ImpulseQueue.open(fs, str(self.folder / "impulses"), self.clock, hlc, self.queue_settings)
        self.calls = 0

        def turn() -> bool:
            self.calls += 1
            return self.calls == fault

        parts = (self.queue, self.embedder, self.index, self.nodes, self.refs, self.log)
        self.ports = Ports(*(Counted(part, turn, error, after=after) for part in parts))
        next_op = self.log.events[-1].last_op + 1 if self.log.events else 1
        self.tick = CognitiveTick(self.ports, self.clock, self.settings, next_op=next_op)

    def close(self) -> None:
        for part in (self.graph, self.refs, self.queue):
            part.close()

    def kill(self) -> None:
        """Lose what was not synced."""
        self.close()
        self.index.crash()

    def emit(self, *vector: float, kind: ImpulseType = ImpulseType.NOVELTY_DETECTED, **payload: Any) -> int:
        return self.queue.emit(
            kind,
            source_structure=StructureTag.HNSW_INDEX,
            source_node=SOURCE,
            target_structure=StructureTag.CAUSAL_GRAPH,
            payload={"v": np.asarray(vector).tolist()} | payload,
        )

    def until_empty(self, budget_us: float = 1e9, most: int = 2000) -> int:
        """Tick until nothing waits, over failures and leases; return how many ticks there were."""
        for count in range(most):
            if not len(self.queue):
                return count
            result = self.tick.tick(budget_us)
            if not result.impulses_done:
                self.clock.pass_ms(6_000)
        raise AssertionError("the queue was never worked off")

    def content(self) -> tuple[Any, Any, Any]:
        """Labels, edges by label, and rows of cross-references without positions: what does not depend on the way."""
        graph = self.graph.graph
        labels = {node.id: node.label for node in graph.all_nodes()}
        edges = {
            (labels[edge.source], labels[edge.target], edge.type.value, round(edge.weight, 4))
            for number in labels
            for edge in graph.edges(number)
        }
        refs = {(ref.source, ref.target, int(ref.ref_type), ref.created_at) for ref in self.refs}
        return sorted(labels.values()), edges, refs

"""The cognitive tick: impulses become nodes, vectors, edges and cross-references, with one event on the log.

Five phases. SENSE takes impulses from the queue, as many as fit the budget by what the ticks before took. EMBED makes
vectors of them, SEARCH looks for their neighbours, UPDATE works out what is added; these three go chunk by chunk, and
the budget is looked at between chunks. COMMIT puts one event on the log, makes the changes, brings them onto
the disk, and settles the impulses.

Guaranteed:

- No impulse is lost: until all of COMMIT is done, it is handed out again, by its lease or after a crash. Planned again,
  it gives the same ids, so the structures hold it once. The log may have two events for it; the later one counts.
- Nothing is in a structure that is not on the log before (a log written ahead).
- A log that cannot be written costs no impulse an attempt: they wait again at once, and the ticks after it wait longer
  each time. What fails in a structure may be the fault of an impulse, so that counts, and only one impulse is tried
  until it works again: one that always fails ends as dead and holds up no others.
- Each tick that has work makes progress by at least one impulse, however small the budget is. What does not fit waits
  for the next tick in its place.
- A tick without work calls no structure and no log.

Not guaranteed: that the budget is kept. One call of an embedder takes what it takes; the next tick asks for less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from weftos.disk.clock import Clock
from weftos.ecc.causal.graph import Edge
from weftos.ecc.impulses.model import Delivery
from weftos.ecc.tick.batch import seal
from weftos.ecc.tick.model import TickCounts, TickResult, TickSettings, TickStatistics
from weftos.ecc.tick.plan import Planned, TickPlan, text_of
from weftos.ecc.tick.ports import Hit, Ports
from weftos.errors import EmbeddingRefused, WeftError

__all__ = ["CognitiveTick"]

_NS_PER_US: Final = 1000
_NS_PER_MS: Final = 1_000_000
#: Weight of the latest tick in the mean cost of an impulse.
_LATEST: Final = 0.25
#: How far the length of a vector may be from 1: rounding, not another way to scale.
_LENGTH_TOLERANCE: Final = 1e-3
_SUMS: Final = TickCounts.__struct_fields__

_Vector = NDArray[np.float32] | None


class CognitiveTick:
    """Does the work of ticks; when they come is for :class:`weftos.ecc.tick.controller.TickController`.

    Args:
        ports: what it works on.
        clock: its monotonic time is what the budget is measured with.
        settings: of the ticks; None: the defaults.
        next_op: number of the first operation: one behind the last one of the latest event on the log.
    """

    def __init__(self, ports: Ports, clock: Clock, settings: TickSettings | None = None, *, next_op: int = 1) -> None:
        self._ports = ports
        self._clock = clock
        self._settings = settings or TickSettings()
        self._totals = TickStatistics(next_op=next_op)
        #: Mean microseconds of an impulse; None before the first.
        self._cost_us: float | None = None
        self._failures = 0
        self._retry_at_ns = 0

    def tick(self, budget_us: float) -> TickResult:
        """Do one tick.

        Args:
            budget_us: microseconds that it should take at most.

        Returns:
            What was done. A structure or a log that failed is told in ``failure``, not raised: the ticks after it wait
            and try again.

        Raises:
            Exception: one that is no ``WeftError``: a mistake in a port. What was handed out comes again by its lease.
        """
        result = TickResult()
        start = self._clock.mono_ns()
        if start < self._retry_at_ns:
            result.waiting = True
            return self._finish(result, start, budget_us)
        try:
            self._work(result, budget_us)
            if result.impulses_sensed:
                self._failures = 0
        except WeftError as error:
            result.failure = f"{error.code}: {error}"
            delay_ms = min(self._settings.retry_max_ms, self._settings.retry_ms << min(self._failures, 20))
            self._failures += 1
            self._retry_at_ns = self._clock.mono_ns() + delay_ms * _NS_PER_MS
        return self._finish(result, start, budget_us)

    def statistics(self) -> TickStatistics:
        """What all ticks did; the object is the caller's."""
        return replace(self._totals)

    def _work(self, result: TickResult, budget_us: float) -> None:
        with self._timed(result, "sense"):
            sensed = self._ports.impulses.lease(self._fitting(budget_us), self._settings.target)
            if not sensed:
                return
            result.impulses_sensed = len(sensed)
            # On disk before they are worked on, so that an attempt that ends the process counts.
            self._ports.impulses.sync()
        plan = TickPlan(self._settings, lambda one: self._ports.graph.number_of(one) is not None)
        # What the syncs before and behind it cost does not grow with the impulses, so it must not count for each.
        planning = self._clock.mono_ns()
        slowest_us = 0.0
        while len(plan.items) < len(sensed):
            begun = self._elapsed_us(planning)
            if plan.items and begun + slowest_us > budget_us:
                break
            self._plan_chunk(plan, sensed[len(plan.items) :][: self._settings.chunk], result)
            slowest_us = max(slowest_us, self._elapsed_us(planning) - begun)
        cost_us = self._elapsed_us(planning) / len(plan.items)
        self._cost_us = cost_us if self._cost_us is None else self._cost_us + _LATEST * (cost_us - self._cost_us)
        result.ghosts = plan.ghosts
        with self._timed(result, "commit"):
            rest = [one.impulse.id for one in sensed[len(plan.items) :]]
            result.impulses_released = self._ports.impulses.release(rest) if rest else 0
            self._commit(plan, result)

    def _fitting(self, budget_us: float) -> int:
        """How many impulses fit the budget, by what they took so far; one at least, and one after a failure."""
        most = 1 if self._failures else self._settings.max_impulses_per_tick
        if not self._cost_us:
            return most
        return max(1, min(most, int(budget_us / self._cost_us)))

    def _plan_chunk(self, plan: TickPlan, chunk: Sequence[Delivery], result: TickResult) -> None:
        with self._timed(result, "embed"):
            vectors = self._embed([text_of(one.impulse) for one in chunk], result)
        with self._timed(result, "search"):
            hits = self._search(vectors, result)
        with self._timed(result, "update"):
            for delivery, vector, near in zip(chunk, vectors, hits, strict=True):
                plan.add(delivery, vector, near)

    def _embed(self, texts: list[str], result: TickResult) -> list[_Vector]:
        """Embed texts; where one of them is refused, each alone, so that it does not take the others with it."""
        vectors: list[_Vector]
        try:
            vectors = self._rows(texts, result)
        except EmbeddingRefused:
            vectors = []
            for text in texts:
                try:
                    vectors += self._rows([text], result)
                except WeftError as error:
                    result.embedding_failure = f"{error.code}: {error}"
                    vectors.append(None)
        except WeftError as error:
            result.embedding_failure = f"{error.code}: {error}"
            vectors = [None] * len(texts)
        failed = sum(vector is None for vector in vectors)
        result.embeddings_failed += failed
        result.embeddings_produced += len(vectors) - failed
        return vectors

    def _rows(self, texts: list[str], result: TickResult) -> list[_Vector]:
        """Embed texts, and leave out what is no vector of length 1."""
        found = np.asarray(self._ports.embedder.embed(texts), dtype=np.float32)
        if found.ndim != 2 or len(found) != len(texts):
            result.embedding_failure = f"the embedder gave an array of {found.shape} for {len(texts)} texts"
            return [None] * len(texts)
        lengths = np.linalg.norm(found.astype(np.float64), axis=1)
        sound = np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE  # no number is near 1 that is not finite
        if not sound.all():
            result.embedding_failure = f"the embedder gave a vector of length {lengths[~sound][0]}, not 1"
        return [row if good else None for row, good in zip(found, sound.tolist(), strict=True)]

    def _search(self, vectors: list[_Vector], result: TickResult) -> list[Sequence[Hit]]:
        asked = [vector for vector in vectors if vector is not None]
        if not asked:
            return [()] * len(vectors)
        # One more than needed: an impulse that is handed out again finds itself.
        found = iter(self._ports.index.search_batch(np.stack(asked), self._settings.search_k + 1))
        result.searches_performed += len(asked)
        return [() if vector is None else next(found) for vector in vectors]

    def _commit(self, plan: TickPlan, result: TickResult) -> None:
        impulses = [item.delivery.impulse for item in plan.items]
        latest = max(impulse.hlc for impulse in impulses)
        batch = seal(plan.operations(), first_op=self._totals.next_op, impulses=len(impulses), hlc=latest)
        try:
            seq = self._ports.commit(batch)
        except WeftError:
            # The event is of one size whatever is in it, so no impulse is to blame.
            self._ports.impulses.release([impulse.id for impulse in impulses])
            raise
        result.chain_seq = seq
        self._totals.next_op = batch.last_op + 1
        self._apply(plan.items, seq, result)
        result.impulses_done = self._ports.impulses.done([impulse.id for impulse in impulses])
        self._ports.impulses.sync()

    def _apply(self, items: list[Planned], seq: int, result: TickResult) -> None:
        ports = self._ports
        numbers = {}
        for item in items:
            own, hlc = bytes(item.universal_id), item.delivery.impulse.hlc
            numbers[own] = ports.graph.add_node(item.label, created_at=hlc, universal_id=own)
        result.nodes_added = len(items)
        embedded = [(item, item.vector) for item in items if item.vector is not None]
        if embedded:
            ports.index.upsert_batch(
                [bytes(item.universal_id) for item, _ in embedded],
                np.stack([vector for _, vector in embedded]),
                [_metadata(item) for item, _ in embedded],
            )
        edges = [edge for item in items for edge in self._edges(item, numbers)]
        if edges:
            result.edges_added, result.edges_refused = ports.graph.link(edges)
        for item in items:
            result.crossrefs_added += ports.crossrefs.insert(item.crossref(seq))
        syncs: list[Callable[[], None]] = [ports.graph.sync, ports.crossrefs.sync]
        for sync in [*syncs, ports.index.sync] if embedded else syncs:
            sync()

    def _edges(self, item: Planned, numbers: dict[bytes, int]) -> Iterator[Edge]:
        own, hlc = numbers[item.universal_id], item.delivery.impulse.hlc
        for link in item.links:
            target = numbers.get(link.target)
            if target is None:
                target = self._ports.graph.number_of(link.target)
                assert target is not None, "a neighbour was there when the tick was planned"
            yield Edge(own, target, link.kind, link.weight, hlc)

    def _elapsed_us(self, start: int) -> float:
        return (self._clock.mono_ns() - start) / _NS_PER_US

    @contextmanager
    def _timed(self, result: TickResult, phase: str) -> Iterator[None]:
        begun = self._clock.mono_ns()
        try:
            yield
        finally:
            result.phase_us[phase] += self._elapsed_us(begun)

    def _finish(self, result: TickResult, start: int, budget_us: float) -> TickResult:
        result.duration_us = self._elapsed_us(start)
        result.budget_exceeded = result.worked and (result.impulses_released > 0 or result.duration_us > budget_us)
        totals = self._totals
        for name in _SUMS:
            setattr(totals, name, getattr(totals, name) + getattr(result, name))
        totals.ticks += 1
        totals.worked += result.worked
        totals.over_budget += result.budget_exceeded
        if result.failure is not None:
            totals.failed += 1
            totals.last_failure = result.failure
        return result


def _metadata(item: Planned) -> dict[str, str | int]:
    impulse = item.delivery.impulse
    return {"impulse_id": impulse.id, "impulse_type": str(impulse.type), "hlc": impulse.hlc}

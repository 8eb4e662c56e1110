"""What a cognitive tick is set to, what one of them did, and what all of them did."""

from __future__ import annotations

import msgspec

from weftos import limits
from weftos.ecc.universal import StructureTag
from weftos.errors import ConfigError

__all__ = ["PHASES", "TickCounts", "TickResult", "TickSettings", "TickStatistics"]

#: The phases of a tick, in their order.
PHASES = ("sense", "embed", "search", "update", "commit")


class TickSettings(msgspec.Struct, frozen=True):
    """What ticks are set to.

    Attributes:
        max_impulses_per_tick: impulses that one tick works off at most; the others wait for the next.
        chunk: impulses that are embedded and searched for in one call; the budget is looked at between chunks.
        search_k: neighbours that an impulse is linked to at most.
        correlation_threshold: cosine from which the link says ``Correlates``.
        link_floor: cosine below which there is no link.
        target: the structure whose impulses are worked off; None: those for all.
        retry_ms: milliseconds without work after a tick that failed; doubled for each in a row.
        retry_max_ms: what they are doubled up to.
    """

    max_impulses_per_tick: int = limits.TICK_IMPULSES
    chunk: int = limits.TICK_CHUNK
    search_k: int = limits.TICK_NEIGHBOURS
    correlation_threshold: float = limits.TICK_CORRELATION
    link_floor: float = limits.TICK_LINK_FLOOR
    target: StructureTag | None = None
    retry_ms: int = limits.TICK_RETRY_MS
    retry_max_ms: int = limits.TICK_RETRY_MAX_MS

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a setting is out of its range.
        """
        least = {"max_impulses_per_tick": 1, "chunk": 1, "search_k": 0, "retry_ms": 0, "retry_max_ms": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} is {getattr(self, name)}; set it to {bound} or more")
        if self.chunk > limits.EMBED_BATCH:
            raise ConfigError(
                f"chunk is {self.chunk}; set it to {limits.EMBED_BATCH}, one call of an embedder, or less"
            )
        if not 0 <= self.link_floor <= self.correlation_threshold <= 1:
            raise ConfigError(
                f"link_floor is {self.link_floor}, correlation_threshold {self.correlation_threshold}; set them from 0 "
                "to 1, the floor not above the threshold"
            )


class TickCounts(msgspec.Struct, kw_only=True):
    """What is counted of a tick, and summed up over ticks. Times are in microseconds.

    Attributes:
        impulses_sensed: impulses that were handed out to it.
        impulses_done: those that were worked off.
        impulses_released: those that did not fit the budget and wait again.
        embeddings_produced: vectors that were made.
        embeddings_failed: impulses that have a node but no vector.
        searches_performed: vectors that neighbours were searched for.
        nodes_added: nodes in its event.
        edges_added: edges that are new in the graph.
        edges_refused: edges that a graph without cycles refused.
        crossrefs_added: cross-references that are new.
        ghosts: neighbours found that are in no graph, and were left out.
        duration_us: how long it took.
    """

    impulses_sensed: int = 0
    impulses_done: int = 0
    impulses_released: int = 0
    embeddings_produced: int = 0
    embeddings_failed: int = 0
    searches_performed: int = 0
    nodes_added: int = 0
    edges_added: int = 0
    edges_refused: int = 0
    crossrefs_added: int = 0
    ghosts: int = 0
    duration_us: float = 0.0


class TickResult(TickCounts, kw_only=True):
    """What one tick did.

    Attributes:
        chain_seq: position of its event in the log; None if there is none.
        failure: why it failed, with the code of the error; None if it did not. Its impulses are handed out again: at
            once if it was the log, when their leases run out if it was a structure.
        embedding_failure: why the last embedding failed.
        waiting: whether it did nothing because one before it failed.
        budget_exceeded: whether it took longer than its budget, or left impulses because of it.
        phase_us: how long each phase took, by name.
    """

    chain_seq: int | None = None
    failure: str | None = None
    embedding_failure: str | None = None
    waiting: bool = False
    budget_exceeded: bool = False
    phase_us: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @property
    def worked(self) -> bool:
        """Whether there was anything to do."""
        return self.impulses_sensed > 0 or self.failure is not None


class TickStatistics(TickCounts, kw_only=True):
    """What all ticks did; its counts are sums of those of :class:`TickResult`.

    Attributes:
        ticks: ticks, with and without work.
        worked: those with work.
        failed: those that failed.
        over_budget: those that exceeded their budget.
        last_failure: why the latest that failed did.
        next_op: number of the next operation.
    """

    ticks: int = 0
    worked: int = 0
    failed: int = 0
    over_budget: int = 0
    last_failure: str | None = None
    next_op: int = 1

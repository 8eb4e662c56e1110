"""What a cognitive tick needs of others, and no more: six small protocols, so that each can be a store or a test.

Whoever is behind them raises ``WeftError`` when it cannot do its part; any other exception is a mistake in it and ends
the tick as it is. What a tick adds may be added again, after a crash or a failure: each part must take it for the
same, by its universal id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from weftos.ecc.causal.graph import Edge
from weftos.ecc.crossrefs.model import CrossRef
from weftos.ecc.impulses.model import Delivery
from weftos.ecc.tick.batch import TickBatch
from weftos.ecc.universal import StructureTag

__all__ = ["Commit", "CrossRefs", "Embedder", "Graph", "Hit", "Impulses", "Linked", "Ports", "VectorIndex"]


class Impulses(Protocol):
    """Where impulses come from. :class:`weftos.ecc.impulses.queue.ImpulseQueue` is one."""

    def lease(self, limit: int, target: StructureTag | None = None) -> list[Delivery]:
        """Hand out the first that wait."""
        ...

    def done(self, ids: Iterable[int]) -> int:
        """Settle those that were worked off."""
        ...

    def release(self, ids: Iterable[int]) -> int:
        """Take those back that were not worked on."""
        ...

    def sync(self) -> None:
        """Bring all of that onto the disk."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors. :class:`weftos.ecc.embedding.provider.EmbeddingProvider` is one."""

    def embed(self, texts: Sequence[str]) -> NDArray[Any]:
        """Turn texts into vectors: one row each, of length 1.

        Raises:
            EmbeddingRefused: one of the texts cannot be embedded; the others are tried one by one.
            WeftError: nothing can be embedded now.
        """
        ...


class Hit(NamedTuple):
    """A neighbour: the universal id that it was entered with, and the cosine."""

    id: bytes
    score: float


class VectorIndex(Protocol):
    """Vectors by universal id."""

    def search_batch(self, vectors: NDArray[Any], k: int) -> Sequence[Sequence[Hit]]:
        """For each row the ``k`` nearest at most, best first."""
        ...

    def upsert_batch(
        self, ids: Sequence[bytes], vectors: NDArray[Any], metadata: Sequence[Mapping[str, str | int]]
    ) -> None:
        """Enter rows, or put them in the place of those with the same ids."""
        ...

    def sync(self) -> None:
        """Bring them onto the disk."""
        ...


class Linked(NamedTuple):
    """How many edges are new, and how many a graph without cycles refused."""

    added: int
    refused: int


class Graph(Protocol):
    """The causal graph, by universal id. See :class:`weftos.ecc.tick.nodes.NodesByUniversalId`."""

    def number_of(self, universal_id: bytes) -> int | None:
        """Return the number of a node, if it is there."""
        ...

    def add_node(self, label: str, *, created_at: int, universal_id: bytes) -> int:
        """Add a node unless one with its universal id is there; return its number."""
        ...

    def link(self, edges: Sequence[Edge]) -> Linked:
        """Add edges, or replace the weight and time of those that are there."""
        ...

    def sync(self) -> None:
        """Bring it onto the disk."""
        ...


class CrossRefs(Protocol):
    """Cross-references. :class:`weftos.ecc.crossrefs.store.CrossRefStore` is one."""

    def insert(self, ref: CrossRef) -> bool:
        """Add one unless it is there; return whether it is new."""
        ...

    def sync(self) -> None:
        """Bring them onto the disk."""
        ...


class Commit(Protocol):
    """The log."""

    def __call__(self, batch: TickBatch) -> int:
        """Put an event on the log; return its position once it is kept.

        Raises:
            WeftError: it is not kept, or that is not known.
        """
        ...


@dataclass(frozen=True)
class Ports:
    """All of them."""

    impulses: Impulses
    embedder: Embedder
    index: VectorIndex
    graph: Graph
    crossrefs: CrossRefs
    commit: Commit

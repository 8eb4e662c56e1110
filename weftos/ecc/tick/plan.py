"""What a tick is going to add, worked out before anything is changed. Pure.

Each impulse becomes a node, a vector if it could be embedded, edges to its nearest neighbours, and a cross-reference to
the node that it came from. Its neighbours are those of the index and the impulses before it in the same tick, so it
makes no difference how a burst falls into ticks: each impulse sees all before it, and none twice.

All ids follow from the impulse. Planned again, an impulse gives the same node, vector and cross-reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from weftos.ecc.causal.graph import EdgeType
from weftos.ecc.crossrefs.model import CrossRef, CrossRefType, to_row
from weftos.ecc.impulses.model import Delivery, Impulse, ImpulseType
from weftos.ecc.tick.batch import AddCrossRef, AddEdge, AddNode, AddVector, Operation
from weftos.ecc.tick.model import TickSettings
from weftos.ecc.tick.ports import Hit
from weftos.ecc.universal import StructureTag, UniversalNodeId

__all__ = ["Link", "Planned", "TickPlan", "label_of", "text_of", "universal_id_of"]

#: What a link says below the correlation threshold, by the type of the impulse; for all others it is ``Follows``.
_KINDS: Final = {
    ImpulseType.EDGE_CONFIRMED: EdgeType.CAUSES,
    ImpulseType.COHERENCE_ALERT: EdgeType.EVIDENCE_FOR,
    ImpulseType.EMBEDDING_REFINED: EdgeType.ENABLES,
}


class Link(msgspec.Struct, frozen=True):
    """An edge from the node of an impulse to a neighbour."""

    target: bytes
    kind: EdgeType
    weight: float


class Planned(msgspec.Struct, frozen=True):
    """What one impulse becomes. ``vector`` is None if it could not be embedded."""

    delivery: Delivery
    universal_id: UniversalNodeId
    label: str
    vector: NDArray[np.float32] | None
    links: tuple[Link, ...]

    def crossref(self, chain_seq: int) -> CrossRef:
        """The reference from its node to the one that the impulse is about."""
        impulse = self.delivery.impulse
        return CrossRef(
            source=self.universal_id,
            source_structure=StructureTag.CAUSAL_GRAPH,
            target=impulse.source_node,
            target_structure=impulse.source_structure,
            ref_type=CrossRefType.TRIGGERED_BY,
            created_at=impulse.hlc,
            chain_seq=chain_seq,
        )


def text_of(impulse: Impulse) -> str:
    """Return the text of an impulse that is embedded: its type and its payload."""
    return f"{impulse.type}:{impulse.payload.decode()}"


def label_of(impulse: Impulse) -> str:
    """Return the label of the node of an impulse."""
    return f"impulse:{impulse.type}:{impulse.id}"


def universal_id_of(impulse: Impulse) -> UniversalNodeId:
    """Return the universal id of the node of an impulse: the same each time it is handed out."""
    content = bytes(impulse.source_node) + blake3(impulse.payload).digest()
    return UniversalNodeId.v1(
        StructureTag.CAUSAL_GRAPH, label_of(impulse).encode(), impulse.hlc, content, UniversalNodeId.ZERO
    )


class TickPlan:
    """The impulses of a tick, as they are planned.

    Args:
        settings: of the ticks.
        is_node: whether a universal id is that of a node in the graph.
    """

    def __init__(self, settings: TickSettings, is_node: Callable[[bytes], bool]) -> None:
        self._settings = settings
        self._is_node = is_node
        self.items: list[Planned] = []
        self.ghosts = 0
        self._ids: list[bytes] = []
        #: The vectors of ``_ids``, one in a row, and room for more.
        self._vectors: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def add(self, delivery: Delivery, vector: NDArray[np.float32] | None, hits: Iterable[Hit]) -> None:
        """Plan an impulse.

        Args:
            delivery: the impulse.
            vector: its vector of length 1, or None.
            hits: its neighbours in the index; it may be among them itself.
        """
        own = universal_id_of(delivery.impulse)
        links = () if vector is None else self._links(delivery.impulse, own, vector, hits)
        self.items.append(Planned(delivery, own, label_of(delivery.impulse), vector, links))
        if vector is not None:
            if len(self._ids) == len(self._vectors):
                more = np.empty((max(1, len(self._ids)), len(vector)), np.float32)
                self._vectors = more if not self._ids else np.concatenate([self._vectors, more])
            self._vectors[len(self._ids)] = vector
            self._ids.append(bytes(own))  # exactly bytes: MessagePack takes no subclass

    def operations(self) -> list[Operation]:
        """What the tick adds, impulse by impulse."""
        found: list[Operation] = []
        for item in self.items:
            own, hlc = bytes(item.universal_id), item.delivery.impulse.hlc
            found.append(AddNode(own, item.label, hlc))
            if item.vector is not None:
                found.append(AddVector(own, blake3(item.vector.astype("<f4").tobytes()).digest()))
            found += [AddEdge(own, link.target, link.kind.value, link.weight, hlc) for link in item.links]
            found.append(AddCrossRef(to_row(item.crossref(0))))
        return found

    def _links(
        self, impulse: Impulse, own: bytes, vector: NDArray[np.float32], hits: Iterable[Hit]
    ) -> tuple[Link, ...]:
        scores = self._within(vector)
        for hit in hits:
            if hit.id == own or hit.id in scores:
                continue
            if self._is_node(hit.id):
                scores[bytes(hit.id)] = float(hit.score)
            else:
                self.ghosts += 1
        near = [(score, one) for one, score in scores.items() if score >= self._settings.link_floor]
        near.sort(key=lambda pair: (-pair[0], pair[1]))
        return tuple(self._link(impulse, one, score) for score, one in near[: self._settings.search_k])

    def _within(self, vector: NDArray[np.float32]) -> dict[bytes, float]:
        """The impulses before it in this tick that are near enough, with their cosines."""
        if not self._ids:
            return {}
        cosines = self._vectors[: len(self._ids)] @ vector
        near = np.flatnonzero(cosines >= self._settings.link_floor)
        return {self._ids[at]: float(cosines[at]) for at in near.tolist()}

    def _link(self, impulse: Impulse, target: bytes, score: float) -> Link:
        assert math.isfinite(score), "an index gives numbers"
        kind = EdgeType.CORRELATES
        if score < self._settings.correlation_threshold:
            kind = _KINDS.get(impulse.type, EdgeType.FOLLOWS)
        # As the graph keeps it: in 32 bits, and not above 1 by rounding.
        return Link(target, kind, min(1.0, float(np.float32(score))))

"""What one tick adds: its operations, and the one event on the log that stands for all of them.

The event has counts and the root of a Merkle tree (RFC 9162, :mod:`weftos.merkle`) whose leaves are the operations in
their order, so one of them can be proved to be in it. Operations are numbered from 1 over all ticks.
"""

from __future__ import annotations

import msgspec

from weftos.merkle.frontier import Frontier, leaf_hash

__all__ = ["AddCrossRef", "AddEdge", "AddNode", "AddVector", "Operation", "TickBatch", "leaf", "seal"]


class AddNode(msgspec.Struct, frozen=True, array_like=True, tag="node"):
    """A node of the causal graph: universal id, label, time (hybrid logical clock)."""

    universal_id: bytes
    label: str
    created_at: int


class AddVector(msgspec.Struct, frozen=True, array_like=True, tag="vector"):
    """A vector: universal id of its node, BLAKE3 of its numbers (32-bit floats, little-endian)."""

    universal_id: bytes
    digest: bytes


class AddEdge(msgspec.Struct, frozen=True, array_like=True, tag="edge"):
    """An edge of the causal graph, by universal ids: type as the word on the wire, weight, time."""

    source: bytes
    target: bytes
    kind: str
    weight: float
    created_at: int


class AddCrossRef(msgspec.Struct, frozen=True, array_like=True, tag="crossref"):
    """A cross-reference: its row (docs/formats/crossrefs.md) with position 0 in the log."""

    row: bytes


Operation = AddNode | AddVector | AddEdge | AddCrossRef


class TickBatch(msgspec.Struct, frozen=True):
    """The event of a tick.

    Attributes:
        first_op: number of its first operation.
        last_op: number of its last.
        impulses: how many impulses it worked off.
        nodes: how many nodes it adds.
        vectors: how many vectors.
        edges: how many edges; a graph without cycles may refuse some of them.
        crossrefs: how many cross-references.
        hlc: time of the latest impulse.
        root: of the Merkle tree over the operations, 32 bytes.
    """

    first_op: int
    last_op: int
    impulses: int
    nodes: int
    vectors: int
    edges: int
    crossrefs: int
    hlc: int
    root: bytes


def leaf(operation: Operation) -> bytes:
    """Return the hash of an operation as a leaf, 32 bytes: of its MessagePack."""
    return leaf_hash(msgspec.msgpack.encode(operation))


def seal(operations: list[Operation], *, first_op: int, impulses: int, hlc: int) -> TickBatch:
    """Make the event of a tick from its operations, one or more."""
    assert operations, "a tick that changes nothing has no event"
    tree = Frontier()
    tree.extend(leaf(one) for one in operations)

    def count(kind: type[Operation]) -> int:
        return sum(isinstance(one, kind) for one in operations)

    return TickBatch(
        first_op=first_op,
        last_op=first_op + len(operations) - 1,
        impulses=impulses,
        nodes=count(AddNode),
        vectors=count(AddVector),
        edges=count(AddEdge),
        crossrefs=count(AddCrossRef),
        hlc=hlc,
        root=tree.root(),
    )

"""Requests about memory: vectors, causes, cross-references, impulses; part of ``protocol.Request``.

Vectors travel as the bytes of one array of 32-bit floats, little-endian, row by row, and are never pickled. What
changes something may carry the token of a permit, for what a person approved.
"""

from __future__ import annotations

from struct import unpack
from typing import Any, Literal, TypeAlias

import msgspec

from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.ecc.vectors.filters import Filter, Value

__all__ = [
    "AskMemory",
    "DropCollection",
    "EccRequest",
    "EmbedMemory",
    "EmitImpulses",
    "ForgetMemory",
    "Found",
    "GetMemory",
    "LinkCauses",
    "LinkCrossRefs",
    "MakeCollection",
    "Match",
    "Remembered",
    "RunMemory",
    "SearchMemory",
    "UnlinkCauses",
]


class SearchMemory(msgspec.Struct, array_like=True, tag=80, gc=False):
    """Search a space for the ``k`` nearest to each of ``count`` vectors.

    ``identity`` of the provider that made them must be that of the collection. ``documents`` and ``metadata`` ask for
    those of what is found; without both nothing is read from the disk. ``ef`` is how many candidates a graph is
    searched for; the service's choice if it is ``None``.
    """

    space: str
    vectors: bytes
    count: int
    k: int
    condition: Filter | None = None
    identity: EmbeddingIdentity | None = None
    documents: bool = True
    ef: int | None = None
    metadata: bool = True


class EmbedMemory(msgspec.Struct, array_like=True, tag=81, gc=False):
    """Write entries into a space, in place of those of the same ids: all or none."""

    space: str
    ids: list[str]
    vectors: bytes
    metadata: list[dict[str, Value]]
    documents: list[bytes]
    identity: EmbeddingIdentity | None = None
    permit: bytes = b""


class ForgetMemory(msgspec.Struct, array_like=True, tag=82):
    """Take entries out of a space, by their ids."""

    space: str
    ids: list[str]
    permit: bytes = b""


class GetMemory(msgspec.Struct, array_like=True, tag=83):
    """Ask for entries by their ids; with their vectors if wanted."""

    space: str
    ids: list[str]
    vectors: bool = False


class MakeCollection(msgspec.Struct, array_like=True, tag=84):
    """Make the collection of vectors of a space; the same again changes nothing."""

    space: str
    dimension: int
    metric: Literal["cosine", "l2", "inner"] = "cosine"
    identity: EmbeddingIdentity | None = None
    permit: bytes = b""


class DropCollection(msgspec.Struct, array_like=True, tag=85):
    """Remove the collection of a space with all its entries."""

    space: str
    permit: bytes = b""


class LinkCauses(msgspec.Struct, array_like=True, tag=86):
    """Add nodes and edges to the causal graph of a space.

    A node is its universal id (32 bytes) and its label; one that is there stays as it is. An edge is the places of its
    ends in ``nodes``, its type and its weight.
    """

    space: str
    nodes: list[tuple[bytes, str]]
    edges: list[tuple[int, int, str, float]]
    permit: bytes = b""


class UnlinkCauses(msgspec.Struct, array_like=True, tag=87):
    """Remove the edges between two nodes, of one type or all; without a target the node itself with all its edges."""

    space: str
    source: bytes
    target: bytes | None = None
    kind: str | None = None
    permit: bytes = b""


class LinkCrossRefs(msgspec.Struct, array_like=True, tag=88):
    """Add cross-references (or take them away): source, its structure, target, its structure, type."""

    space: str
    refs: list[tuple[bytes, int, bytes, int, int]]
    remove: bool = False
    permit: bytes = b""


class EmitImpulses(msgspec.Struct, array_like=True, tag=89):
    """Give the cognitive tick something to take up: type, source structure, source node, target structure, payload."""

    space: str
    impulses: list[tuple[int, int, bytes, int, dict[str, Any]]]
    permit: bytes = b""


class AskMemory(msgspec.Struct, array_like=True, tag=90):
    """Ask about a space, or all of them: a question of ``ecc_questions.QUESTIONS``."""

    question: str
    space: str = ""
    params: dict[str, Any] = {}


class RunMemory(msgspec.Struct, array_like=True, tag=91):
    """Have the cognitive layer do something now: an order of ``ecc_orders.ORDERS``. Only the kernel may."""

    order: str
    params: dict[str, Any] = {}


EccRequest: TypeAlias = (
    SearchMemory
    | EmbedMemory
    | ForgetMemory
    | GetMemory
    | MakeCollection
    | DropCollection
    | LinkCauses
    | UnlinkCauses
    | LinkCrossRefs
    | EmitImpulses
    | AskMemory
    | RunMemory
)


class Match(msgspec.Struct, gc=False, frozen=True):
    """An entry that was found.

    Attributes:
        id: its name.
        score: cosine similarity, inner product or negative squared distance, as the collection's metric has it; larger
            is nearer.
        op: number of the change that wrote it.
        chain_seq: number of the record of the log that vouches for that change; 0 if none does yet.
        metadata: its fields.
        document: its content, as it was given.
    """

    id: str
    score: float
    op: int
    chain_seq: int
    metadata: dict[str, Value]
    document: bytes = b""


class Found(msgspec.Struct, array_like=True, tag=80, gc=False):
    """What was found, in columns: the matches of one vector behind those of another, the nearest first.

    In columns, because an answer for many vectors has hundreds of matches, and to make an object of each takes longer
    than to find it.

    Attributes:
        count: of vectors; each has equally many matches.
        ids: of the matches.
        scores: 32-bit floats, little-endian.
        ops: 64-bit numbers, little-endian.
        chain_seqs: likewise.
        metadata: a map for each match; none if it was not asked for.
        documents: one for each match; none if they were not asked for.
        cut: documents that did not fit were left out.
    """

    count: int
    ids: list[str]
    scores: bytes
    ops: bytes
    chain_seqs: bytes
    metadata: list[dict[str, Value]] = []
    documents: list[bytes] = []
    cut: bool = False

    def rows(self) -> list[list[Match]]:
        """Return the matches of each vector."""
        all_, width = len(self.ids), len(self.ids) // max(self.count, 1)
        found = list(
            map(
                Match,
                self.ids,
                unpack(f"<{all_}f", self.scores),
                unpack(f"<{all_}Q", self.ops),
                unpack(f"<{all_}Q", self.chain_seqs),
                self.metadata or [{} for _ in self.ids],
                self.documents or [b""] * all_,
            )
        )
        return [found[at * width : (at + 1) * width] for at in range(self.count)]


class Remembered(msgspec.Struct, array_like=True, tag=81, gc=False):
    """It is changed and on disk: number of the last change, how many things changed, and what else came of it."""

    op: int
    count: int
    values: dict[str, Any] = {}

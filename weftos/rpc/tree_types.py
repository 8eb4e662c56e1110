"""Parameters and answers of the methods about the resource tree."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = [
    "ResourceDetail",
    "ResourceNode",
    "ResourcePathParams",
    "ResourceRank",
    "ResourceRankParams",
    "ResourceScore",
    "ResourceScores",
    "ResourceStats",
    "ResourceTree",
]

_Limit = Annotated[int, msgspec.Meta(ge=1, le=2000)]
_Weight = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]


class ResourcePathParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node, and how many others at most.

    Attributes:
        path: of the node; ``/`` is all.
        limit: of rows.
    """

    path: str = "/"
    limit: _Limit = 1000


class ResourceRankParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rank.

    Attributes:
        weights: of trust, performance, difficulty, reward, reliability and velocity; empty weighs all alike.
        limit: of rows.
    """

    weights: Annotated[list[_Weight], msgspec.Meta(max_length=6)] = []
    limit: _Limit = 10


class ResourceScores(msgspec.Struct, frozen=True, kw_only=True):
    """The six figures of a node, each from 0 to 1; one half says that nothing is known.

    Attributes:
        trust: that it does what it should.
        performance: how well.
        difficulty: of what it does.
        reward: for it; weighs it among its siblings.
        reliability: that it is there.
        velocity: how fast it changes.
    """

    trust: float
    performance: float
    difficulty: float
    reward: float
    reliability: float
    velocity: float


class ResourceNode(msgspec.Struct, frozen=True, kw_only=True):
    """One resource.

    Attributes:
        path: where it is.
        kind: what it stands for.
        metadata: what is known of it.
        scoring: its figures.
        chain_seq: number of the record that changed it last; -1 for a root that nothing has changed.
        created_ns: time of the first record about it, nanoseconds since 1970 UTC.
        updated_ns: of the last.
        hash: of the node and all below it, 64 hex digits.
    """

    path: str
    kind: str
    metadata: dict[str, Any]
    scoring: ResourceScores
    chain_seq: int
    created_ns: int
    updated_ns: int
    hash: str


class ResourceTree(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the tree.

    Attributes:
        root_hash: of the whole tree, 64 hex digits.
        nodes: each before what is below it.
        complete: there are no more.
    """

    root_hash: str
    nodes: list[ResourceNode]
    complete: bool


class ResourceDetail(ResourceNode, frozen=True, kw_only=True):
    """One resource, with what is below it and the rules on it; otherwise as ``ResourceNode``.

    Attributes:
        children: paths.
        policies: rules by their names.
    """

    children: list[str]
    policies: dict[str, Any]


class ResourceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over the tree.

    Attributes:
        nodes: the root included.
        by_kind: nodes of each kind.
        depth: segments of the longest path.
        widest: children of the node that has most.
        policies: on all nodes.
        metadata_bytes: of all nodes.
        last_seq: number of the last record that changed the tree.
        root_hash: 64 hex digits.
    """

    nodes: int
    by_kind: dict[str, int]
    depth: int
    widest: int
    policies: int
    metadata_bytes: int
    last_seq: int
    root_hash: str


class ResourceScore(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a node.

    Attributes:
        path: of the node.
        scoring: its own.
        below: from all below it, weighted by reward.
        similar: paths and cosine similarity, the most similar first.
    """

    path: str
    scoring: ResourceScores
    below: ResourceScores
    similar: list[tuple[str, float]]


class ResourceRank(msgspec.Struct, frozen=True, kw_only=True):
    """The best.

    Attributes:
        ranked: paths with their weighted sums, the largest first.
    """

    ranked: list[tuple[str, float]]

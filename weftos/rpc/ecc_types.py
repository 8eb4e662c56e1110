"""Parameters and answers of the methods about memory: vectors, causes, ticks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from weftos import limits
from weftos.ecc.embedding.identity import EmbeddingIdentity
from weftos.ecc.vectors.conditions import Filter, Value

__all__ = [
    "CalibrationView",
    "CausalLink",
    "CausalNode",
    "CausalView",
    "CoherenceView",
    "CollectionView",
    "CrossRefView",
    "CrossRefsView",
    "EccCalibrateParams",
    "EccCausalParams",
    "EccCompactParams",
    "EccCompactResult",
    "EccCrossRefsParams",
    "EccEntriesParams",
    "EccEntry",
    "EccPage",
    "EccPutParams",
    "EccPutResult",
    "EccSearchParams",
    "EccSearchResult",
    "EccSpaceParams",
    "EccStatus",
    "EccTickResult",
    "SpaceView",
]

_Space = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ECC_SPACE_CHARS)]


class _Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class EccStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of the cognitive layer.

    Attributes:
        state: ``empty`` (nothing is kept), ``open`` or ``failed``.
        reason: why it failed.
        collections: of vectors.
        entries: in all of them.
        segments: files of sealed vectors.
        searches: queries since the service started.
        graphs: causal graphs.
        nodes: in all of them.
        edges: in all of them.
        crossrefs: cross-references in all spaces.
        impulses: that wait for a cognitive tick.
        commits: records that vouch for changes, since the service started.
        waiting: changes that no record vouches for yet.
        building: whether a segment is being built.
        built: segments built since the service started.
        build_failures: segments that could not be built.
        tick_interval_ms: between cognitive ticks while impulses wait, in milliseconds.
    """

    state: str
    reason: str
    collections: int
    entries: int
    segments: int
    searches: int
    graphs: int
    nodes: int
    edges: int
    crossrefs: int
    impulses: int
    commits: int
    waiting: int
    building: bool
    built: int
    build_failures: int
    tick_interval_ms: float


class CollectionView(msgspec.Struct, frozen=True, kw_only=True):
    """A collection of vectors.

    Attributes:
        dimension: numbers in a vector.
        metric: ``cosine``, ``l2`` or ``inner``.
        identity: of the provider that makes its vectors; ``None`` for vectors of somebody's own.
        owner: scope of the agent that made it; empty for the operator.
        live: entries.
        tombstones: rows of segments whose entry was replaced or deleted.
        delta_rows: entries in no segment yet.
        segments: sealed files.
        bytes: of these files.
        generation: how often segments were swapped.
        recall: share of the ten nearest that the graph of the worst segment found when it was built; 1 where all is
            scanned.
        content_root: hash of the content, hexadecimal.
    """

    dimension: int
    metric: str
    identity: EmbeddingIdentity | None
    owner: str
    live: int
    tombstones: int
    delta_rows: int
    segments: int
    bytes: int
    generation: int
    recall: float
    content_root: str


class SpaceView(msgspec.Struct, frozen=True, kw_only=True):
    """A memory space: its collection, if it has one, and its causal graph."""

    space: str
    nodes: int
    edges: int
    collection: CollectionView | None


class EccSpaceParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names a space."""

    space: _Space


class EccSearchParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search.

    Attributes:
        space: where.
        vector: 32-bit floats, little-endian; base64 on the wire.
        k: how many matches at most.
        condition: filter over metadata.
        identity: of the provider that made the vector.
        ef: candidates that a graph is searched for.
    """

    space: _Space
    vector: bytes
    k: Annotated[int, msgspec.Meta(ge=1, le=limits.ECC_SEARCH_K)] = 10
    condition: Filter | None = None
    identity: EmbeddingIdentity | None = None
    ef: Annotated[int, msgspec.Meta(ge=1, le=limits.ECC_SEARCH_EF)] | None = None


class EccEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a collection.

    Attributes:
        id: its name.
        score: how near it is to what was asked; 0 where nothing was.
        chain_seq: number of the record that vouches for it; 0 if there is none yet.
        metadata: its fields.
        text: its document, as text.
        vector: 32-bit floats, little-endian, where it was asked for.
    """

    id: str
    score: float = 0.0
    chain_seq: int = 0
    metadata: dict[str, Value] = {}
    text: str = ""
    vector: bytes = b""


class EccSearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the nearest first. ``cut``: texts that did not fit were left out."""

    matches: list[EccEntry]
    cut: bool = False


class EccEntriesParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of the entries of a space, in the order in which they were written, after a change."""

    space: _Space
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.ECC_SEARCH_K)] = 100
    vectors: bool = True


class EccPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries; ``more`` says whether others follow, after the change ``after``."""

    entries: list[EccEntry]
    after: int
    more: bool


class EccPutParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries to write into a space, all or none. The collection is made if it is not there."""

    space: _Space
    dimension: Annotated[int, msgspec.Meta(ge=1)]
    entries: Annotated[list[EccEntry], msgspec.Meta(max_length=limits.ECC_SEARCH_K)]
    metric: Literal["cosine", "l2", "inner"] = "cosine"
    identity: EmbeddingIdentity | None = None


class EccPutResult(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries were written, and the number of the last change."""

    count: int
    op: int


class EccCausalParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question about a causal graph.

    Attributes:
        space: whose graph.
        question: ``walk`` around a node, ``ends`` (roots or final effects), ``path`` between two, ``find`` by label.
        node: label of the node.
        goal: label of the other end of a path.
        text: what a label holds.
        direction: ``causes``, ``effects`` or ``both``.
        types: only along edges of these types.
        depth: how many edges away at most.
        limit: how many nodes at most.
        strongest: the path whose weights have the largest product, not the shortest.
    """

    space: _Space
    question: Literal["walk", "ends", "path", "find"] = "walk"
    node: str = ""
    goal: str = ""
    text: str = ""
    direction: Literal["causes", "effects", "both"] = "both"
    types: list[str] = []
    depth: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.ECC_WALK_NODES)] = 100
    strongest: bool = False


class CausalNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node; ``depth`` is how many edges away it is, negative against their direction."""

    id: int
    label: str
    universal_id: str
    created_at: int
    chain_seq: int
    depth: int = 0


class CausalLink(msgspec.Struct, frozen=True, kw_only=True):
    """An edge."""

    source: int
    target: int
    type: str
    weight: float
    created_at: int
    chain_seq: int


class CausalView(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes and edges that answer a question.

    Attributes:
        nodes: in the order of the answer.
        edges: between them.
        start: the node that was asked about.
        found: whether there is a path.
        strength: product of the weights along it.
        total: how many labels held the text.
    """

    nodes: list[CausalNode]
    edges: list[CausalLink] = []
    start: int = 0
    found: bool = True
    strength: float | None = None
    total: int = 0


class CoherenceView(msgspec.Struct, frozen=True, kw_only=True):
    """How a causal graph hangs together.

    It is computed beside the service's work: what is known is told at once, and what is out of date is computed anew.

    Attributes:
        known: whether anything is known.
        of_change: number of the change of the graph that it holds for.
        last_change: number of the last change.
        computed_at: when, seconds since 1970 UTC.
        computing: whether it is being computed.
        problem: why the last computation failed.
        components: sizes of the components, the largest first; 100 at most.
        component_count: how many there are.
        lambda_2: algebraic connectivity; 0 where there are several components.
        lambda_3: the next value of the spectrum.
        largest_lambda_2: algebraic connectivity of the largest component.
        communities: sizes of the communities, the largest first; 100 at most.
        community_count: how many there are.
    """

    known: bool
    of_change: int
    last_change: int
    computed_at: float
    computing: bool
    problem: str
    components: list[int] = []
    component_count: int = 0
    lambda_2: float = 0.0
    lambda_3: float = 0.0
    largest_lambda_2: float = 0.0
    communities: list[int] = []
    community_count: int = 0


class EccCalibrateParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``begin``: measure anew, beside the service's work; else only tell what is known."""

    begin: bool = True


class CalibrationView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest calibration of this machine (``None`` if there is none), and whether one is under way.

    Attributes:
        calibration: its figures, as in ``ecc.calibration.EccCalibration``.
        computing: whether it is being measured.
        problem: why the last one failed.
    """

    calibration: dict[str, Any] | None
    computing: bool
    problem: str


class EccCrossRefsParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The references from and to a node, by its universal id (64 hexadecimal digits); without one their counts."""

    space: _Space
    node: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.ECC_WALK_NODES)] = 100


class CrossRefView(msgspec.Struct, frozen=True, kw_only=True):
    """A cross-reference; ids in hexadecimal digits, the time in milliseconds since 1970 UTC."""

    source: str
    source_structure: str
    target: str
    target_structure: str
    type: str
    created_at: int
    chain_seq: int


class CrossRefsView(msgspec.Struct, frozen=True, kw_only=True):
    """Cross-references, how many there are, and how many of each type."""

    refs: list[CrossRefView]
    total: int
    types: dict[str, int]


class EccTickResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: the record that vouches for what had waited (``None`` if nothing had), and what each tick did.

    Attributes:
        record: number of the record.
        commits: such records since the service started.
        ticks: for each space in which impulses waited what its tick did.
    """

    record: int | None
    commits: int
    ticks: list[dict[str, Any]]


class EccCompactParams(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which space to compact; all without one."""

    space: str = ""


class EccCompactResult(msgspec.Struct, frozen=True, kw_only=True):
    """The spaces that will be compacted, beside the service's work."""

    spaces: list[str]

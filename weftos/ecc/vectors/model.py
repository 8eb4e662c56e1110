"""What a store of vectors takes and gives, as data. Light: whoever only talks about vectors loads no index.

Guaranteed: nothing here reads a file or searches; :func:`check_spec` alone says what a collection may be.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.ecc.vectors.filters import Value
from weftos.errors import VectorRefused

__all__ = [
    "CollectionSpec",
    "CollectionStatistics",
    "Columns",
    "Content",
    "Entry",
    "Hit",
    "Hits",
    "Metric",
    "OpKind",
    "OpProof",
    "StoreStatistics",
    "Stored",
    "Uncommitted",
    "check_spec",
    "is_name",
]

Metric: TypeAlias = Literal["cosine", "l2", "inner"]
#: 32 bytes.
Digest: TypeAlias = bytes
#: What a search reads of what it found: nothing, metadata, or documents as well.
Content: TypeAlias = Literal["none", "metadata", "all"]
OpKind: TypeAlias = Literal["create", "drop", "upsert", "delete"]
#: Names of agents, with those of whom they were started by, are part of the names of their spaces.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/-]{0,159}")


class CollectionSpec(msgspec.Struct, frozen=True):
    """What a collection is; fixed when it is made.

    Attributes:
        name: ``[A-Za-z0-9][A-Za-z0-9._~/-]{0,159}``.
        dimension: numbers in each vector.
        metric: what is near. For ``cosine`` vectors are normalised once, when they are inserted.
        identity: which vectors these are; None for vectors of the caller's own making.
        owner: kept and given back; what it means is the caller's affair.
    """

    name: str
    dimension: int
    metric: Metric = "cosine"
    identity: EmbeddingIdentity | None = None
    owner: str = ""


class Entry(msgspec.Struct, frozen=True, eq=False):
    """What is put into a collection.

    Attributes:
        id: 1 to ``VECTOR_ID_BYTES`` bytes of UTF-8.
        vector: (dimension,), float32.
        metadata: flat; filters look at it. At most ``VECTOR_METADATA_BYTES`` as MessagePack.
        document: opaque; at most ``VECTOR_DOCUMENT_BYTES``.
    """

    id: str
    vector: NDArray[np.float32]
    metadata: dict[str, Value]
    document: bytes = b""


class Stored(msgspec.Struct, frozen=True, eq=False):
    """An entry as it is kept.

    Attributes:
        id: as given.
        vector: (dimension,), float32; normalised where the metric is ``cosine``.
        metadata: as given.
        document: as given.
        op: number of the mutation that wrote it.
        chain_seq: number of the record of the log that vouches for that mutation; 0 while there is none.
    """

    id: str
    vector: NDArray[np.float32]
    metadata: dict[str, Value]
    document: bytes
    op: int
    chain_seq: int


class Hit(msgspec.Struct, frozen=True):
    """One result of a search.

    Attributes:
        id: of the entry.
        score: cosine similarity, inner product or negative squared distance: larger is nearer.
        op: number of the mutation that wrote the entry.
        chain_seq: number of the record of the log that vouches for that mutation; 0 while there is none.
        metadata: of the entry.
        document: of the entry; empty if the search was not to bring documents.
    """

    id: str
    score: float
    op: int
    chain_seq: int
    metadata: dict[str, Value]
    document: bytes


class Columns(NamedTuple):
    """Entries in columns: what was not asked for is an empty column.

    Attributes:
        ids: theirs.
        ops: numbers of the mutations that wrote them, uint64.
        raw: their metadata as MessagePack, empty for none.
        documents: theirs.
    """

    ids: list[str]
    ops: NDArray[np.uint64]
    raw: list[bytes]
    documents: list[bytes]


class Hits(NamedTuple):
    """The results of a search in columns: those of one query behind those of another, equally many for each.

    Attributes:
        scores: (queries, hits), float32; see ``Hit``.
        entries: queries * hits of them.
        chain_seqs: of the records that vouch for them, uint64; see ``Hit``.
    """

    scores: NDArray[np.float32]
    entries: Columns
    chain_seqs: NDArray[np.uint64]


class CollectionStatistics(msgspec.Struct, frozen=True):
    """What a collection holds and has done.

    Attributes:
        spec: of the collection.
        live: entries.
        tombstones: rows of segments whose entry was replaced or deleted, and which a merge will leave out.
        delta_rows: entries that are in no segment yet.
        segments: sealed files.
        bytes: of these files.
        generation: how often segments were swapped.
        recall: of the ten nearest, the share that the graph of the worst segment found when it was built, with the
            list of candidates that it is searched with; 1 where all is scanned.
        searches: queries answered since the store was opened.
        upserts: entries written since the collection was made.
        deletes: entries deleted since the collection was made.
        content_root: see ``VectorStore.content_root``.
    """

    spec: CollectionSpec
    live: int
    tombstones: int
    delta_rows: int
    segments: int
    bytes: int
    generation: int
    recall: float
    searches: int
    upserts: int
    deletes: int
    content_root: Digest


class StoreStatistics(msgspec.Struct, frozen=True):
    """What a store holds in all.

    Attributes:
        collections: how many there are.
        live: entries in all of them.
        last_op: number of the last mutation.
        committed_op: number of the last mutation that a record of the log vouches for.
        journals: files that a start has to read again.
        journal_bytes: of these files.
        segment_bytes: of all segments.
        under_way: builds that were ordered and are neither adopted nor given up.
        generation: of the manifest.
    """

    collections: int
    live: int
    last_op: int
    committed_op: int
    journals: int
    journal_bytes: int
    segment_bytes: int
    under_way: int
    generation: int


class Uncommitted(msgspec.Struct, frozen=True):
    """The mutations that no record of the log vouches for yet.

    Attributes:
        first_op: number of the first of them.
        last_op: number of the last; ``first_op - 1`` if there are none.
        root: of the Merkle tree (RFC 9162) over their leaves.
        counts: how many there are of each kind that occurs.
    """

    first_op: int
    last_op: int
    root: bytes
    counts: dict[OpKind, int]

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last_op - self.first_op + 1


class OpProof(msgspec.Struct, frozen=True):
    """That a mutation is under the root of its commitment; for :func:`weftos.merkle.proofs.verify_inclusion`.

    Attributes:
        op: number of the mutation.
        kind: what it was.
        leaf: hash of its leaf.
        index: of the leaf.
        size: leaves of the tree.
        path: hashes from the leaf to the root, lowest first.
        root: of the tree.
        chain_seq: number of the record of the log that holds the root.
        content: what the leaf is the hash of, while the entry that the mutation wrote is there; else empty.
    """

    op: int
    kind: OpKind
    leaf: bytes
    index: int
    size: int
    path: tuple[bytes, ...]
    root: bytes
    chain_seq: int
    content: bytes


def is_name(name: str) -> bool:
    """Return whether a collection can be called so."""
    return _NAME.fullmatch(name) is not None


def check_spec(spec: CollectionSpec) -> None:
    """Refuse what no collection can be made as.

    Raises:
        VectorRefused: name, dimension, metric, identity or owner is not acceptable.
    """
    if not is_name(spec.name):
        raise VectorRefused(f"{spec.name!r} is no name of a collection; it must match {_NAME.pattern}")
    if not 0 < spec.dimension <= limits.VECTOR_DIMENSION_MAX:
        raise VectorRefused(f"{spec.dimension} dimensions; a collection has 1 to {limits.VECTOR_DIMENSION_MAX}")
    if spec.metric not in ("cosine", "l2", "inner"):
        raise VectorRefused(f"the metric {spec.metric!r} is not known; there are cosine, l2 and inner")
    if spec.identity is not None and spec.identity.dimension != spec.dimension:
        raise VectorRefused(
            f"the provider {spec.identity.name} makes {spec.identity.dimension} dimensions, not {spec.dimension}"
        )
    try:
        size = len(spec.owner.encode())
    except UnicodeEncodeError as error:
        raise VectorRefused(f"the owner of {spec.name!r} is no Unicode text") from error
    if size > limits.VECTOR_ID_BYTES:
        raise VectorRefused(f"the owner has {size} bytes, at most {limits.VECTOR_ID_BYTES} are kept")

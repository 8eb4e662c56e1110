"""What comes from outside, checked before anything is changed: batches of entries, ids, and queries.

Guaranteed: what passes here can be written, searched and read again. A batch is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.vectors.filters import Metadata, Value, check_metadata
from weftos.ecc.vectors.model import CollectionSpec
from weftos.errors import DimensionMismatch, MetadataInvalid, VectorRefused

__all__ = ["Batch", "checked_batch", "checked_id", "checked_queries", "decode_metadata"]

#: Between these a sum of squares in 32 bits neither overflows nor loses numbers that are too small.
_LEAST_SQUARE: Final = 1e-12
_LARGEST_SQUARE: Final = min(1e12, limits.VECTOR_LENGTH_MAX**2)
_FLOAT32: Final = np.dtype(np.float32)
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_DECODER: Final[msgspec.msgpack.Decoder[dict[str, Value]]] = msgspec.msgpack.Decoder(dict[str, Value])
#: Metadata of an entry without any.
_NO_METADATA: Final = b""


class Batch(NamedTuple):
    """Entries that were checked.

    Attributes:
        ids: theirs, in order; an id may occur again, and the last one counts.
        vectors: (n, dimension), float32, as they are kept.
        raw: metadata as MessagePack; empty for none.
        documents: theirs.
    """

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    raw: Sequence[bytes]
    documents: Sequence[bytes]


def decode_metadata(raw: bytes) -> dict[str, Value]:
    """Return metadata from what a batch made of it."""
    return _DECODER.decode(raw) if raw else {}


def checked_id(identity: Any) -> bytes:
    """Return an id as UTF-8.

    Raises:
        VectorRefused: it is no text of 1 to ``VECTOR_ID_BYTES`` bytes.
    """
    if not isinstance(identity, str):
        raise VectorRefused(f"an id is text, not {type(identity).__name__}")
    try:
        raw = identity.encode()
    except UnicodeEncodeError as error:
        raise VectorRefused(f"the id {identity!r} is no Unicode text") from error
    if not 0 < len(raw) <= limits.VECTOR_ID_BYTES:
        raise VectorRefused(f"an id of {len(raw)} bytes; it has 1 to {limits.VECTOR_ID_BYTES}")
    return raw


def checked_batch(
    spec: CollectionSpec,
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    metadata: Sequence[Mapping[str, Value]],
    documents: Sequence[bytes],
) -> Batch:
    """Check entries against their collection and the limits.

    Raises:
        DimensionMismatch: vectors of another shape or type.
        VectorRefused: an id, a vector or a document that cannot be kept, or too many of them.
        MetadataInvalid: metadata that no filter can look at, or too large.
    """
    count = len(ids)
    if not 0 < count <= limits.VECTOR_BATCH_ENTRIES:
        raise VectorRefused(f"a batch of {count} entries; it has 1 to {limits.VECTOR_BATCH_ENTRIES}: split it")
    if not count == len(vectors) == len(metadata) == len(documents):
        raise VectorRefused(
            f"{count} ids, {len(vectors)} vectors, {len(metadata)} metadata and {len(documents)} documents do not match"
        )
    size = sum(len(checked_id(one)) for one in ids)
    kept = _checked_vectors(spec, vectors, "entry")
    raw = [_checked_metadata(one) for one in metadata]
    for number, document in enumerate(documents):
        if type(document) is not bytes:
            raise VectorRefused(f"document {number} is of type {type(document).__name__}; give bytes")
        if len(document) > limits.VECTOR_DOCUMENT_BYTES:
            raise VectorRefused(
                f"document {number} has {len(document)} bytes, at most {limits.VECTOR_DOCUMENT_BYTES} are kept"
            )
    size += kept.nbytes + sum(map(len, raw)) + sum(map(len, documents))
    if size > limits.VECTOR_BATCH_BYTES:
        raise VectorRefused(f"a batch of {size} bytes, at most {limits.VECTOR_BATCH_BYTES} are taken; split it")
    return Batch(tuple(ids), kept, raw, tuple(documents))


def checked_queries(spec: CollectionSpec, queries: NDArray[np.float32], k: int, ef: int | None) -> NDArray[np.float32]:
    """Check a search against its collection and the limits, and return the queries as they are compared.

    Raises:
        DimensionMismatch: queries of another shape or type.
        VectorRefused: a query that cannot be compared, or k, ef or the number of queries out of range.
    """
    if not 0 < k <= limits.VECTOR_RESULTS:
        raise VectorRefused(f"k is {k}; a search gives 1 to {limits.VECTOR_RESULTS} results for each query")
    if ef is not None and not 0 < ef <= limits.VECTOR_EF_MAX:
        raise VectorRefused(f"ef is {ef}; it is 1 to {limits.VECTOR_EF_MAX}")
    if len(queries) > limits.VECTOR_QUERIES:
        raise VectorRefused(f"{len(queries)} queries in one search, at most {limits.VECTOR_QUERIES}; split it")
    _check_form(spec, queries)
    # In 32 bits. Not so entries: a length that is summed in another way may differ in its last bits, and so would a
    # content root.
    if len(queries) == 1:
        # What NumPy needs to reduce a matrix is longer than the rest of it.
        squares = np.array([[queries[0].dot(queries[0])]])
        good = _LEAST_SQUARE < squares.item() < _LARGEST_SQUARE
    else:
        squares = np.einsum("ij,ij->i", queries, queries)[:, None]
        good = len(queries) > 0 and squares.min() > _LEAST_SQUARE and squares.max() < _LARGEST_SQUARE
    if not good:
        return _checked_vectors(spec, queries, "query")
    if spec.metric != "cosine":
        return np.ascontiguousarray(queries)
    unit: NDArray[np.float32] = queries / np.sqrt(squares)
    return unit


def _check_form(spec: CollectionSpec, given: Any) -> None:
    if not isinstance(given, np.ndarray) or given.dtype != _FLOAT32:
        kind = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise DimensionMismatch(f"vectors of {spec.name!r} are an array of float32, not {kind}; cast them")
    if given.ndim != 2 or given.shape[1] != spec.dimension:
        raise DimensionMismatch(f"an array of shape {given.shape} does not fit {spec.name!r}: (n, {spec.dimension})")


def _checked_vectors(spec: CollectionSpec, given: Any, what: str) -> NDArray[np.float32]:
    _check_form(spec, given)
    wide = given.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    # A sum of squares of 32-bit numbers is finite in 64 bits, so a length tells whether all numbers of a row are.
    longest = lengths.max(initial=0.0)
    if not longest < np.inf:
        raise VectorRefused(f"{what} {int(np.isfinite(lengths).argmin())} has a number that is not finite")
    if spec.metric != "cosine":
        if longest > limits.VECTOR_LENGTH_MAX:
            raise VectorRefused(f"{what} {int(lengths.argmax())} is longer than {limits.VECTOR_LENGTH_MAX:g}; scale it")
        return np.ascontiguousarray(given)
    if not lengths.all():
        raise VectorRefused(f"{what} {int(lengths.argmin())} has length zero, and no direction to compare by")
    unit: NDArray[np.float32] = (wide / lengths[:, None]).astype(np.float32)
    return unit


def _checked_metadata(metadata: Metadata) -> bytes:
    if not metadata:
        return _NO_METADATA
    if not isinstance(metadata, Mapping):
        raise MetadataInvalid(f"metadata is a mapping, not {type(metadata).__name__}")
    check_metadata(metadata)
    try:
        raw = _ENCODER.encode(dict(metadata))
    except (OverflowError, UnicodeEncodeError) as error:
        raise MetadataInvalid(f"metadata cannot be written: {error}") from error
    if len(raw) > limits.VECTOR_METADATA_BYTES:
        raise MetadataInvalid(f"metadata of {len(raw)} bytes, at most {limits.VECTOR_METADATA_BYTES} are kept")
    return raw

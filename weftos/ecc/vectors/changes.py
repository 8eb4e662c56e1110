"""The records of a store's journals. Format in docs/formats/vectors.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from weftos.ecc.vectors.model import CollectionSpec
from weftos.errors import VectorsDamaged

__all__ = ["JOURNAL_KIND", "Begin", "Change", "Commit", "Create", "Delete", "Drop", "Upsert", "decode_change"]

JOURNAL_KIND: Final = "vectors"


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The first record of each journal: its number, and the number of the mutation that comes next."""

    number: int
    op: int


class Create(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Mutation ``op`` makes a collection, whose ``uid`` it is from now on."""

    op: int
    spec: CollectionSpec


class Drop(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """Mutation ``op`` removes a collection with all that is in it."""

    op: int
    uid: int


class Upsert(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """The mutations from ``op`` on write one entry each.

    Attributes:
        op: number of the first.
        uid: of the collection.
        ids: of the entries.
        vectors: all of them, one after the other, float32 little-endian.
        raw: metadata.
        documents: of the entries.
    """

    op: int
    uid: int
    ids: Sequence[str]
    vectors: bytes
    raw: Sequence[bytes]
    documents: Sequence[bytes]


class Delete(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """The mutations from ``op`` on delete one entry each, which was there."""

    op: int
    uid: int
    ids: Sequence[str]


class Commit(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Record ``chain_seq`` of the log vouches for all mutations up to ``last``."""

    last: int
    chain_seq: int


Change: TypeAlias = Begin | Create | Drop | Upsert | Delete | Commit
_DECODER: Final[msgspec.msgpack.Decoder[Change]] = msgspec.msgpack.Decoder(Change)


def decode_change(content: bytes, path: str) -> Change:
    """Return what a record says.

    Raises:
        VectorsDamaged: it says nothing that is known.
    """
    try:
        return _DECODER.decode(content)
    except msgspec.MsgspecError as error:
        raise VectorsDamaged(f"{path}: a record cannot be understood: {error}; restore the file from a copy") from error

"""Digests of entries and of whole collections, and the leaves of mutations.

Why it is as it is: a root over the whole content has to follow each change without reading the rest, and must not
depend on the order of changes or on how rows are spread over segments. A sum of long hashes does that: each entry is
expanded to 1024 numbers of 16 bits, and the state of a collection is their sum. That it is hard to find two sets with
one sum is the argument of the source; 1024 numbers of 16 bits are its proposal for 200 bits of security.

Source: K. Lewi, W. Kim, I. Maykov, S. Weis, Securing Update Propagation with Homomorphic Hashing, 2019 (LtHash16).
Format in docs/formats/vectors.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from blake3 import blake3

from weftos.ecc.vectors.model import OpKind

__all__ = ["KINDS", "SUM_BYTES", "ContentSum", "blank_digest", "expansion", "id_hash", "op_content"]

SUM_BYTES: Final = 2048
_ENTRY: Final = blake3(derive_key_context="weftos.ecc.vectors entry v1")
_ROOT: Final = blake3(derive_key_context="weftos.ecc.vectors content root v1")
_PLAIN: Final = blake3(derive_key_context="weftos.ecc.vectors subject v1")
_LENGTHS: Final = struct.Struct("<4Q")
#: mark, number, kind, collection, digest.
_LEAF: Final = struct.Struct("<4sQBQ32s")
#: Kinds of mutations by their code on disk, from 1 on.
KINDS: Final[tuple[OpKind, ...]] = ("create", "drop", "upsert", "delete")


def expansion(identity: bytes, vector: bytes, metadata: bytes, document: bytes) -> bytes:
    """Return the 2048 bytes that stand for an entry; the first 32 are its digest."""
    hasher = _ENTRY.copy()
    lengths = _LENGTHS.pack(len(identity), len(vector), len(metadata), len(document))
    hasher.update(b"".join((lengths, identity, vector, metadata, document)))
    return hasher.digest(SUM_BYTES)


def blank_digest(subject: bytes) -> bytes:
    """Return the digest that stands in the leaf of a mutation without entry: 32 bytes over what it is about."""
    hasher = _PLAIN.copy()
    hasher.update(subject)
    return hasher.digest()


def op_content(op: int, kind: OpKind, uid: int, digest: bytes) -> bytes:
    """Return what the leaf of a mutation is the hash of.

    Args:
        op: number of the mutation.
        kind: what it is.
        uid: number of the mutation that made the collection.
        digest: of the entry, or :func:`blank_digest`; 32 bytes.
    """
    return _LEAF.pack(b"WVO1", op, KINDS.index(kind) + 1, uid, digest)


def id_hash(identity: bytes) -> int:
    """Return the 64 bits by which segments find an id."""
    return int.from_bytes(blake3(identity).digest(8), "little")


class ContentSum:
    """The sum of the entries of a collection.

    Args:
        state: as :attr:`state` gave it; without it, of no entries.
    """

    def __init__(self, state: bytes = bytes(SUM_BYTES)) -> None:
        self._sum = np.frombuffer(state, "<u2").astype(np.uint16)

    @property
    def state(self) -> bytes:
        """The sum, 2048 bytes."""
        return self._sum.astype("<u2").tobytes()

    def change(self, added: Sequence[bytes], removed: Sequence[bytes]) -> None:
        """Add and remove entries, given by their expansions. Sums wrap, so the order is of no matter."""
        if added:
            self._sum += _total(added)
        if removed:
            self._sum -= _total(removed)

    def root(self, count: int) -> bytes:
        """Return the root of a collection of ``count`` entries, 32 bytes."""
        hasher = _ROOT.copy()
        hasher.update(count.to_bytes(8, "little") + self.state)
        return hasher.digest()


def _total(expansions: Sequence[bytes]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    rows = np.frombuffer(b"".join(expansions), "<u2").reshape(len(expansions), -1)
    total: np.ndarray[tuple[int, ...], np.dtype[np.uint16]] = rows.sum(axis=0, dtype=np.uint16)
    return total

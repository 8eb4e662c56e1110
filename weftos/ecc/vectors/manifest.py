"""The manifest of a store: which files count, and all that the journals do not say any more.

Guaranteed: it is replaced as a whole. It describes the store as it was after mutation ``ledger.ops``; the entries that
are in no segment are in the journals from ``first_journal`` on. Format in docs/formats/vectors.md.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec
from blake3 import blake3

from weftos.disk.files import Files, ReadFile, replace_file
from weftos.ecc.vectors.ledger import LedgerState
from weftos.ecc.vectors.model import CollectionSpec
from weftos.errors import VectorsDamaged

__all__ = ["MANIFEST", "CollectionState", "Manifest", "SegmentState", "read_manifest", "write_manifest"]

MANIFEST: Final = "manifest"
_MAGIC: Final = b"WEFTVMF1"


class SegmentState(msgspec.Struct, frozen=True, array_like=True):
    """A segment: its name, the digest of its head, and one bit for each row that is dead (empty for none)."""

    file: str
    digest: bytes
    dead: bytes


class CollectionState(msgspec.Struct, frozen=True, array_like=True):
    """A collection.

    Attributes:
        uid: number of the mutation that made it.
        spec: of the collection.
        sealed_through: entries written up to this mutation are in segments, or gone.
        segments: of the collection.
        content: sum of the content, 2048 bytes.
        upserts: entries written.
        deletes: entries deleted.
        generation: how often segments were swapped.
    """

    uid: int
    spec: CollectionSpec
    sealed_through: int
    segments: list[SegmentState]
    content: bytes
    upserts: int
    deletes: int
    generation: int


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a store is made of."""

    generation: int
    first_journal: int
    ledger: LedgerState
    collections: list[CollectionState]


def write_manifest(fs: Files, folder: str, manifest: Manifest) -> None:
    """Put a manifest in the place of the one before.

    Raises:
        OSError: a call failed; the old one is there, or already the new one.
    """
    body = msgspec.msgpack.encode(manifest)
    replace_file(fs, os.path.join(folder, MANIFEST), _MAGIC + blake3(body).digest() + body)


def read_manifest(folder: str) -> Manifest:
    """Read the manifest.

    Raises:
        VectorsDamaged: it is none, or was altered.
        OSError: it cannot be read.
    """
    path = os.path.join(folder, MANIFEST)
    with ReadFile(path) as file:
        raw = file.read(0, file.size)
    body = raw[40:]
    if raw[:8] != _MAGIC or raw[8:40] != blake3(body).digest():
        raise VectorsDamaged(f"{path} is not the manifest that was written; restore it from a copy")
    try:
        return msgspec.msgpack.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise VectorsDamaged(f"{path} cannot be understood: {error}") from error

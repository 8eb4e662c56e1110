"""The bytes under each hash of the tree.

Why it is as it is: the hash of a node must change with everything that the node says, and two different contents must
never give the same bytes. So every part of variable length has its length in front, lists have their count, the four
things that are hashed (node without children, node with children, and the two parts of a set of children) differ in a
byte, and a tag separates all of them from other hashes of the system. A node binds its own path, so no node can be
taken for another, renamed or moved without a new root.

Guaranteed: the mapping from content to bytes is injective, so equal hashes mean equal content as long as nobody finds a
collision of BLAKE3. Not covered: the times and log positions of a node, because equal states must have equal roots
however they came about; a snapshot binds those by a digest of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import blake3

from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.scoring import Scoring

__all__ = ["EMPTY", "HASH_BYTES", "TAG", "branch_hash", "bucket_hash", "node_hash", "place_hash"]

#: In front of everything that is hashed here.
TAG: Final = b"exo/tree/v1"
HASH_BYTES: Final = 32
#: In a branch, the place of a part without members.
EMPTY: Final = bytes(HASH_BYTES)

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_HEAD: Final = _U32.pack(len(TAG)) + TAG
_LEAF, _INNER, _BUCKET, _BRANCH, _PLACE = (_HEAD + bytes((number,)) for number in range(5))


def node_hash(
    path: ResourcePath,
    kind: Kind,
    metadata: Mapping[str, bytes],
    scoring: Scoring,
    policies: Mapping[str, bytes],
    children: tuple[int, bytes] | None,
) -> bytes:
    """Return the hash of a node, 32 bytes.

    Args:
        path: of the node; its parent is bound as well.
        kind: of the node.
        metadata: canonically encoded values by key.
        scoring: of the node.
        policies: canonically encoded access policies by identifier.
        children: how many there are and the hash of the set of them; ``None`` for a node without.
    """
    parent = path.parent
    parts = [_LEAF if children is None else _INNER]
    for text in (str(path), "" if parent is None else str(parent), str(kind)):
        _add(parts, text.encode())
    _add_map(parts, metadata)
    parts.append(scoring.to_bytes())
    _add_map(parts, policies)
    if children is not None:
        count, hashed = children
        parts += (_U64.pack(count), hashed)
    return blake3.blake3(b"".join(parts)).digest()


def bucket_hash(members: Mapping[str, bytes]) -> bytes:
    """Return the hash of a few children: their hashes by name."""
    parts = [_BUCKET, _U32.pack(len(members))]
    for name in sorted(members):
        _add(parts, name.encode())
        parts.append(members[name])
    return blake3.blake3(b"".join(parts)).digest()


def branch_hash(count: int, hashes: Iterable[bytes]) -> bytes:
    """Return the hash of many children: their number, and sixteen hashes of parts, ``EMPTY`` for one without any."""
    return blake3.blake3(b"".join((_BRANCH, _U64.pack(count), *hashes))).digest()


def place_hash(name: str) -> bytes:
    """Return 32 bytes whose half-bytes, high half first, lead to the place of a child in the set of its siblings."""
    return blake3.blake3(_PLACE + name.encode()).digest()


def _add(parts: list[bytes], data: bytes) -> None:
    parts += (_U32.pack(len(data)), data)


def _add_map(parts: list[bytes], members: Mapping[str, bytes]) -> None:
    parts.append(_U32.pack(len(members)))
    # Code points sort as their UTF-8 bytes do.
    for key in sorted(members):
        _add(parts, key.encode())
        _add(parts, members[key])

"""The hash of a set of siblings, cheap to bring up to date however many they are.

Why it is as it is: hashing the list of all children would cost 10 000 hashes per change below a node with 10 000 of
them. So the set is a trie of sixteen ways over a hash of the name: a change touches one bucket and the branches above
it, which are as many as the number of siblings has hexadecimal digits. A balanced tree would do the same, but its shape
would tell in which order the siblings came, and equal sets must have equal hashes.

Guaranteed: the shape, and so the hash, is a function of the set alone: a part of at most ``BUCKET`` members is one
bucket, a larger one is a branch. Hashes are computed when they are asked for, once for all changes since. Not
guaranteed: that nobody can make the trie deep; but names that do so must be searched, and each level costs sixteen
times the search.
"""

from __future__ import annotations

from typing import Final

from weftos.tree.hashing import EMPTY, branch_hash, bucket_hash, place_hash

__all__ = ["BUCKET", "SiblingSet"]

#: Members of a bucket at most: hashing that many names and hashes costs about as much as a branch.
BUCKET: Final = 16
_WAYS: Final = 16


class _Part:
    """A part of the set: a bucket, or a branch over sixteen parts.

    Attributes:
        count: members in it.
        members: hash by name, if it is a bucket.
        parts: if it is a branch, else ``None``.
        hashed: ``None`` if it must be computed again.
    """

    __slots__ = ("count", "hashed", "members", "parts")

    def __init__(self) -> None:
        self.count = 0
        self.members: dict[str, bytes] = {}
        self.parts: list[_Part | None] | None = None
        self.hashed: bytes | None = None

    def put(self, name: str, node: bytes, place: bytes, level: int) -> bool:
        """Add or replace a member; tell whether it is new."""
        if self.parts is None:
            new = name not in self.members
            if self.members.get(name) != node:
                self.members[name] = node
                self.hashed = None
            self.count = len(self.members)
            if self.count > BUCKET:
                self._split(level)
            return new
        way = _way(place, level)
        part = self.parts[way]
        if part is None:
            part = self.parts[way] = _Part()
        new = part.put(name, node, place, level + 1)
        self.count += new
        if part.hashed is None:
            self.hashed = None
        return new

    def discard(self, name: str, place: bytes, level: int) -> bool:
        """Take a member away; tell whether it was there."""
        if self.parts is None:
            gone = self.members.pop(name, None) is not None
            self.count = len(self.members)
            if gone:
                self.hashed = None
            return gone
        way = _way(place, level)
        part = self.parts[way]
        if part is None or not part.discard(name, place, level + 1):
            return False
        self.hashed = None
        self.count -= 1
        if part.count == 0:
            self.parts[way] = None
        if self.count <= BUCKET:
            self.members = self._collect()
            self.parts = None
        return True

    def digest(self) -> bytes:
        """Return the hash of the part."""
        if self.hashed is None:
            if self.parts is None:
                self.hashed = bucket_hash(self.members)
            else:
                hashes = (EMPTY if part is None else part.digest() for part in self.parts)
                self.hashed = branch_hash(self.count, hashes)
        return self.hashed

    def _split(self, level: int) -> None:
        self.parts = [None] * _WAYS
        members, self.members, self.count = self.members, {}, 0
        for name, node in members.items():
            self.put(name, node, place_hash(name), level)
        self.hashed = None

    def _collect(self) -> dict[str, bytes]:
        if self.parts is None:
            return self.members
        return {name: node for part in self.parts if part is not None for name, node in part._collect().items()}


class SiblingSet:
    """Names with the hashes of the nodes that have them; ``len`` counts them."""

    __slots__ = ("_top",)

    def __init__(self) -> None:
        self._top = _Part()

    def __len__(self) -> int:
        return self._top.count

    def put(self, name: str, node: bytes) -> None:
        """Add a sibling, or give one another hash.

        Args:
            name: of the sibling.
            node: hash of the node, 32 bytes.
        """
        self._top.put(name, node, place_hash(name), 0)

    def discard(self, name: str) -> None:
        """Take a sibling out of the set, if it is in it."""
        self._top.discard(name, place_hash(name), 0)

    def digest(self) -> bytes:
        """Return the hash of the set, 32 bytes."""
        return self._top.digest()


def _way(place: bytes, level: int) -> int:
    byte = place[level // 2]
    return byte & 15 if level % 2 else byte >> 4

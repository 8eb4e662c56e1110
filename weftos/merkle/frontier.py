"""The right edge of a Merkle tree that grows: as many hashes as its size has bits, and the root from them.

Why it is as it is: a log of millions of records cannot hash all of them again for each checkpoint. Of a tree that only
grows on the right, all that can still change is known by the roots of its complete subtrees. They are built level by
level for many leaves at once, because a loop per leaf costs more than its hashes.

A frontier may also begin in the middle of a log. Then it keeps, on its left, the subtrees that lack their left sibling,
and can be appended to the frontier of what lies before it; so parts of a log can be hashed by different processes.

Source: RFC 9162, section 2.1 (the tree of RFC 6962 with SHA-256).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

__all__ = ["EMPTY_ROOT", "Frontier", "leaf_hash", "node_hash"]

#: Root of the tree without leaves.
EMPTY_ROOT: Final = sha256(b"").digest()

Emit = Callable[[int, int, list[bytes]], None]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children, 32 bytes."""
    return sha256(b"\1" + left + right).digest()


def parents(row: list[bytes]) -> list[bytes]:
    """Return the hashes of the nodes above a row of nodes, as far as they have both children."""
    children = iter(row)
    return [sha256(b"\1" + left + right).digest() for left, right in zip(children, children, strict=False)]


class Frontier:
    """The complete subtrees of the leaves from ``begin`` to ``size``.

    Args:
        begin: number of the first leaf.

    Attributes:
        begin: as given.
        size: number of the leaf that comes next.
    """

    __slots__ = ("_left", "_right", "begin", "size")

    def __init__(self, begin: int = 0) -> None:
        self.begin = self.size = begin
        #: Subtrees whose left sibling lies before ``begin``: (level, hash), levels ascending.
        self._left: list[tuple[int, bytes]] = []
        #: Subtrees that wait for their right sibling, by level.
        self._right: dict[int, bytes] = {}

    @classmethod
    def restore(cls, size: int, subtrees: Sequence[bytes]) -> Frontier:
        """Return the frontier of a tree from the hashes that ``subtrees`` gave.

        Args:
            size: leaves.
            subtrees: one for each bit of ``size`` that is set, largest first.

        Raises:
            ValueError: their number does not fit the size.
        """
        levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
        if len(levels) != len(subtrees):
            raise ValueError(f"a tree of {size} leaves has {len(levels)} complete subtrees, not {len(subtrees)}")
        frontier = cls()
        frontier.size = size
        frontier._right = dict(zip(levels, subtrees, strict=True))
        return frontier

    def extend(self, leaves: Iterable[bytes], emit: Emit | None = None) -> None:
        """Append leaves.

        Args:
            leaves: their hashes, 32 bytes each.
            emit: called for each level that grew with the level, the index of the first new node there, and the hashes
                of the new nodes.
        """
        nodes, level, right = list(leaves), 0, self._right
        start = self.size
        self.size += len(nodes)
        digest_of = sha256
        while nodes:
            if emit is not None:
                emit(level, start, nodes)
            if start & 1:
                sibling = right.pop(level, None)
                if sibling is None:
                    self._left.append((level, nodes[0]))
                    nodes = nodes[1:]
                    start += 1
                else:
                    nodes = [sibling, *nodes]
                    start -= 1
            if len(nodes) & 1:
                right[level] = nodes[-1]
            nodes = [digest_of(b"\1" + a + b).digest() for a, b in zip(nodes[0::2], nodes[1::2], strict=False)]
            start >>= 1
            level += 1

    def append(self, later: Frontier) -> None:
        """Append what follows; ``later`` is used up.

        Raises:
            ValueError: it does not begin where this ends.
        """
        if later.begin != self.size:
            raise ValueError(f"leaf {later.begin} does not follow leaf {self.size - 1}")
        # Each of them begins where the one before ended, so its level is that of the lowest bit at most.
        for level, node in later._left:
            self._push(level, node)
        for level in sorted(later._right, reverse=True):
            self._push(level, later._right[level])
        assert self.size == later.size, "the subtrees cover all leaves"

    def _push(self, level: int, node: bytes) -> None:
        at = self.size >> level
        self.size += 1 << level
        while at & 1:
            sibling = self._right.pop(level, None)
            if sibling is None:
                self._left.append((level, node))
                return
            node = node_hash(sibling, node)
            level += 1
            at >>= 1
        self._right[level] = node

    @classmethod
    def of_parts(
        cls, begin: int, size: int, left: Sequence[tuple[int, bytes]], right: Sequence[tuple[int, bytes]]
    ) -> Frontier:
        """Return a frontier from what ``parts`` gave."""
        frontier = cls(begin)
        frontier.size = size
        frontier._left, frontier._right = list(left), dict(right)
        return frontier

    def parts(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """Return level and hash of the subtrees at both sides, as plain values."""
        return list(self._left), sorted(self._right.items())

    def pending(self) -> list[tuple[int, bytes]]:
        """Return level and hash of the subtrees that wait for their right sibling, largest first."""
        return sorted(self._right.items(), reverse=True)

    def subtrees(self) -> list[bytes]:
        """Return the hashes of the complete subtrees of a tree that begins at leaf 0, largest first."""
        assert self.begin == 0, "a tree begins with its first leaf"
        return [self._right[level] for level in sorted(self._right, reverse=True)]

    def root(self) -> bytes:
        """Return the root of a tree that begins at leaf 0, 32 bytes."""
        subtrees = self.subtrees()
        if not subtrees:
            return EMPTY_ROOT
        root = subtrees.pop()
        while subtrees:
            root = node_hash(subtrees.pop(), root)
        return root

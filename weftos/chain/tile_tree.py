"""The Merkle tree as it can be read from the tiles: any complete subtree, any older size."""

from __future__ import annotations

import os
from collections import OrderedDict

from weftos.chain.tile_paths import TILE_WIDTH, bundle_entry, entries_path
from weftos.chain.tile_store import read_tile
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier, parents

__all__ = ["TileTree", "frontier_at", "root_at"]

_KEPT_TILES = 64


class TileTree:
    """Read access to the tree of a log.

    Args:
        directory: of the log.
        size: leaves of the tree whose tiles were published, as a checkpoint says.
    """

    def __init__(self, directory: str, size: int) -> None:
        self._directory = directory
        self.size = size
        self._tiles: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, 32 bytes.

        Args:
            level: 0 for a leaf; the subtree has ``2**level`` leaves.
            index: which of its level.

        Raises:
            ChainCorrupted: a tile is missing or has another size.
        """
        assert (index + 1) << level <= self.size, "a complete subtree of this tree"
        tile_level, above = divmod(level, 8)
        first = index << above
        rows = self._tile(tile_level, first // TILE_WIDTH)
        while len(rows) <= above:
            rows.append(parents(rows[-1]))
        return rows[above][first % TILE_WIDTH >> above]

    def entry(self, index: int) -> bytes:
        """Return an entry.

        Raises:
            ChainCorrupted: its bundle is missing or malformed.
        """
        assert 0 <= index < self.size, "an entry of this tree"
        bundle, at = divmod(index, TILE_WIDTH)
        width = min(TILE_WIDTH, self.size - bundle * TILE_WIDTH)
        path = os.path.join(self._directory, entries_path(bundle, width))
        try:
            with open(path, "rb") as file:
                return bundle_entry(file.read(), at)
        except OSError as error:
            raise ChainCorrupted(f"{path} cannot be read: {error.strerror or error}", path=path) from error

    def _tile(self, level: int, index: int) -> list[list[bytes]]:
        """Return the rows of a tile that were needed so far: its own hashes, those above them, and so on."""
        key = level, index
        found = self._tiles.get(key)
        if found is None:
            width = min(TILE_WIDTH, (self.size >> 8 * level) - index * TILE_WIDTH)
            found = self._tiles[key] = [read_tile(self._directory, level, index, width)]
            if len(self._tiles) > _KEPT_TILES:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end(key)
        return found


def frontier_at(directory: str, size: int, published: int) -> Frontier:
    """Return the frontier of an older tree.

    Args:
        directory: of the log.
        size: leaves of the older tree.
        published: leaves of the tree whose tiles are there.

    Raises:
        ChainCorrupted: a tile is missing, or ``size`` is larger than what was published.
    """
    if size > published:
        raise ChainCorrupted(f"the tiles reach {published} records, not {size}")
    tree = TileTree(directory, published)
    levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
    return Frontier.restore(size, [tree.node(level, (size >> level) - 1) for level in levels])


def root_at(directory: str, size: int, published: int) -> bytes:
    """Return the root of an older tree, 32 bytes; otherwise as ``frontier_at``."""
    return frontier_at(directory, size, published).root()

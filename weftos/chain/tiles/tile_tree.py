"""The Merkle tree as it can be read from the tiles: any complete subtree, any older size."""

from __future__ import annotations

import os
from collections import OrderedDict

from weftos.chain.tiles.tile_paths import (
    TILE_WIDTH,
    bundle_entry,
    edge_paths,
    encode_bundle,
    entries_path,
    parse_tile_path,
    tile_path,
)
from weftos.chain.tiles.tile_store import read_tile
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier, parents

__all__ = ["TileTree", "damaged_tile", "frontier_at", "root_at"]

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

    def edge(self, size: int) -> dict[str, bytes]:
        """Return the partial tiles of the tree of an older size, and its bundle of entries, by their paths.

        Raises:
            ChainCorrupted: a tile or bundle is missing or has another size.
        """
        assert size <= self.size, "an older tree"
        found = {}
        for path in edge_paths(size):
            level, index, width = parse_tile_path(path)
            if level is None:
                entries = [self.entry(index * TILE_WIDTH + at) for at in range(width)]
                found[path] = encode_bundle(entries)
            else:
                found[path] = b"".join(self.hashes(level, index)[:width])
        return found

    def hashes(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile, as many as it has at this size; errors as for ``node``."""
        return self._tile(level, index)[0]

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


def damaged_tile(directory: str, size: int) -> str:
    """Compare every full tile of a tree with the hash over it.

    Args:
        directory: of the log.
        size: leaves of the tree, of which every tile is there, partial ones too.

    Returns:
        The path of the first tile that does not fit; empty if all do.

    Raises:
        ChainCorrupted: a tile is missing or has another size.
    """
    tree = TileTree(directory, size)
    level, count = 0, size // TILE_WIDTH
    while count:
        for index in range(count):
            part = Frontier()
            part.extend(tree.hashes(level, index))
            if part.root() != tree.hashes(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH]:
                return tile_path(level, index)
        level, count = level + 1, count // TILE_WIDTH
    return ""

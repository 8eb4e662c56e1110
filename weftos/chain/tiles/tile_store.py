"""The tiles of a log as files: written as the log grows, read again when it is opened.

Why it is as it is: tiles are what a stranger's tool reads, and what makes proofs cheap. But everything in them follows
from the records, so they may be lost: no tile is synced, and a log whose tiles are missing or stale after a loss of
power gets them again from its segments. In memory are only the tiles that are not full, one for each level.

Guaranteed: a file under a tile's name has its whole content; full tiles never change. The tiles that a checkpoint needs
are there before the checkpoint is. Not guaranteed: that they are there after a loss of power.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256

from weftos.chain.tiles.tile_paths import TILE_WIDTH, decode_bundle, edge_paths, encode_bundle, entries_path, tile_path
from weftos.disk.files import Files, ReadFile, write_all
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier

__all__ = ["TileStore", "read_tile"]

_HASH = 32


class TileStore:
    """Tree and tiles of a log, for its writer.

    Args:
        fs: file calls.
        directory: of the log.

    Attributes:
        tree: the right edge of the tree.
    """

    def __init__(self, fs: Files, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self.tree = Frontier()
        #: Hashes of the tiles that are not full, by tile level.
        self._edges: dict[int, list[bytes]] = {}
        self._entries: list[bytes] = []
        self._folders: set[str] = set()
        #: Names of partial tiles that were published, newest last; older ones are removed.
        self._partials: list[list[str]] = []
        #: Names of partial tiles that stay: the tree of a pruned beginning cannot be made again without them.
        self._kept: frozenset[str] = frozenset()

    @classmethod
    def resume(cls, fs: Files, directory: str, size: int) -> TileStore:
        """Read the right edge of a tree back from its tiles.

        Raises:
            ChainCorrupted: a tile that must be there is not, or has another size.
        """
        store = cls(fs, directory)
        right: dict[int, bytes] = {}
        published: list[str] = []
        level, count = 0, size
        while count:
            index, width = divmod(count, TILE_WIDTH)
            if width:
                store._edges[level] = hashes = read_tile(directory, level, index, width)
                published.append(tile_path(level, index, width))
                part = Frontier()
                part.extend(hashes)
                for below, node in part.pending():
                    right[8 * level + below] = node
            level, count = level + 1, index
        index, width = divmod(size, TILE_WIDTH)
        if width:
            path = entries_path(index, width)
            published.append(path)
            store._entries = decode_bundle(_read(directory, path), width)
        store._partials = [published]
        store.tree = Frontier.restore(size, [right[at] for at in sorted(right, reverse=True)])
        return store

    @property
    def size(self) -> int:
        """Leaves."""
        return self.tree.size

    def extend(self, entries: Sequence[bytes]) -> None:
        """Append entries, and write the tiles that are full now.

        Raises:
            OSError: a tile cannot be written; the tree is further than the tiles then.
        """
        hash_of = sha256
        self._entries += entries
        self.tree.extend([hash_of(b"\0" + entry).digest() for entry in entries], self._emit)
        while len(self._entries) >= TILE_WIDTH:
            full, self._entries = self._entries[:TILE_WIDTH], self._entries[TILE_WIDTH:]
            index = (self.tree.size - len(self._entries)) // TILE_WIDTH - 1
            self._write(entries_path(index), encode_bundle(full))

    def _emit(self, level: int, start: int, nodes: list[bytes]) -> None:
        if level % 8:
            return
        tile_level = level // 8
        edge = self._edges.setdefault(tile_level, [])
        edge += nodes
        if len(edge) >= TILE_WIDTH:
            end = start + len(nodes)
            first = (end - len(edge)) // TILE_WIDTH
            whole = len(edge) // TILE_WIDTH
            for number in range(whole):
                tile = b"".join(edge[number * TILE_WIDTH : (number + 1) * TILE_WIDTH])
                self._write(tile_path(tile_level, first + number), tile)
            del edge[: whole * TILE_WIDTH]

    def publish(self) -> Callable[[], bytes]:
        """Write the tiles at the right edge, so that a checkpoint of this size can be verified from the files.

        Returns:
            Gives the root of the tree as it is now.

        Raises:
            OSError: one cannot be written.
        """
        names = []
        for level, edge in self._edges.items():
            if edge:
                index = (self.tree.size >> 8 * level) // TILE_WIDTH
                names.append(tile_path(level, index, len(edge)))
                self._write(names[-1], b"".join(edge))
        if self._entries:
            names.append(entries_path(self.tree.size // TILE_WIDTH, len(self._entries)))
            self._write(names[-1], encode_bundle(self._entries))
        if not self._partials or self._partials[-1] != names:
            self._partials.append(names)
        root = self.tree.root()
        return lambda: root

    def forget_old(self) -> None:
        """Remove partial tiles of all but the two newest checkpoints; call it when the newest one is in its place.

        Raises:
            OSError: one cannot be removed.
        """
        while len(self._partials) > 2:
            kept = {name for names in self._partials[1:] for name in names}
            for name in self._partials[0]:
                if name not in kept and name not in self._kept:
                    path = os.path.join(self._directory, name)
                    if os.path.lexists(path):
                        self._fs.unlink(path)
            del self._partials[0]

    def keep_edge(self, size: int) -> None:
        """Never remove the partial tiles of the tree of this size."""
        self._kept |= frozenset(edge_paths(size))

    def close(self) -> None:
        """Nothing is held between two calls."""

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._directory, name)
        folder = os.path.dirname(path)
        if folder not in self._folders:
            self._make(folder)
        temporary = f"{path}.tmp"
        if os.path.lexists(temporary):
            self._fs.unlink(temporary)  # left over by a crash
        fd = self._fs.create(temporary)
        try:
            write_all(self._fs, fd, data)
        finally:
            self._fs.close(fd)
        self._fs.rename(temporary, path)

    def _make(self, folder: str) -> None:
        if not os.path.isdir(folder):
            self._make(os.path.dirname(folder))
            with suppress(FileExistsError):  # made by a pruning, which runs beside the writer
                self._fs.make_dir(folder)
        if len(self._folders) > 4096:
            self._folders.clear()
        self._folders.add(folder)


def read_tile(directory: str, level: int, index: int, width: int = TILE_WIDTH) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        ChainCorrupted: it is not there, or has another size.
    """
    path = tile_path(level, index, width)
    data = _read(directory, path)
    if len(data) != width * _HASH:
        raise ChainCorrupted(f"{path} has {len(data)} bytes, not {width * _HASH}", path=os.path.join(directory, path))
    return [data[at : at + _HASH] for at in range(0, len(data), _HASH)]


def _read(directory: str, name: str) -> bytes:
    path = os.path.join(directory, name)
    try:
        with ReadFile(path) as file:
            return file.read(0, file.size)
    except OSError as error:
        raise ChainCorrupted(f"{name} cannot be read: {error.strerror or error}", path=path) from error

"""What pruning does to the tiles: hashes are made to last, entries of what was pruned go.

Why it is as it is: tiles are not synced, because they can be made again from the records. Those over pruned records
cannot. So before any record goes, the hash tiles over it are brought onto the disk, and with them the partial tiles
that the tree of exactly this size has: from those the tree goes on, should all later ones be lost. The bundles of
entries hold the header parts of the records, half of what was to be pruned; C2SP's tlog-tiles lets a log drop them.

Guaranteed: after ``sync_tiles`` a loss of power takes none of these tiles. ``drop_bundles`` removes only bundles whose
records are all pruned, and may be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from weftos.chain.folder.segments import TILES_NAME
from weftos.chain.tiles.tile_paths import TILE_WIDTH, entries_path, tile_path
from weftos.disk.files import Files, replace_file

__all__ = ["drop_bundles", "sync_tiles"]


def sync_tiles(
    fs: Files,
    directory: str,
    begin: int,
    size: int,
    edge: dict[str, bytes],
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Bring onto the disk what the tree of the first ``size`` records needs.

    Args:
        fs: file calls.
        directory: of the log.
        begin: records for which this was done before.
        size: records that are about to be pruned.
        edge: partial tiles of the tree of that size, by their paths.
        go_on: called between two files; may raise to stop.

    Raises:
        OSError: a tile is missing or cannot be synced.
    """
    folders: set[str] = set()
    for name in _full_tiles(begin, size):
        go_on()
        path = os.path.join(directory, name)
        fd = fs.open_append(path)
        try:
            fs.sync_file(fd)
        finally:
            fs.close(fd)
        folders.add(os.path.dirname(path))
    for name, data in edge.items():
        go_on()
        path = os.path.join(directory, name)
        _make(fs, os.path.dirname(path))
        replace_file(fs, path, data)
        folders.add(os.path.dirname(path))
    _sync_folders(fs, directory, folders)


def drop_bundles(fs: Files, directory: str, begin: int, size: int) -> None:
    """Remove the full bundles of entries of pruned records.

    Args:
        fs: file calls.
        directory: of the log.
        begin: number of the first record that was pruned by this act.
        size: number of the record behind the last.

    Raises:
        OSError: one cannot be removed.
    """
    folders: set[str] = set()
    for index in range(begin // TILE_WIDTH, size // TILE_WIDTH):
        path = os.path.join(directory, entries_path(index))
        if os.path.lexists(path):
            fs.unlink(path)
            folders.add(os.path.dirname(path))
    for folder in sorted(folders):
        fs.sync_dir(folder)


def _full_tiles(begin: int, size: int) -> Iterator[str]:
    """Yield the paths of the full tiles that hold a node over one of the records from ``begin`` to ``size``."""
    level = 0
    while size:
        for index in range(begin // TILE_WIDTH, size // TILE_WIDTH):
            yield tile_path(level, index)
        begin, size, level = begin // TILE_WIDTH, size // TILE_WIDTH, level + 1


def _make(fs: Files, folder: str) -> None:
    if not os.path.isdir(folder):
        _make(fs, os.path.dirname(folder))
        with suppress(FileExistsError):  # the writer makes its own, beside this
            fs.make_dir(folder)


def _sync_folders(fs: Files, directory: str, folders: set[str]) -> None:
    """Bring the names in these folders onto the disk, and those of the folders themselves."""
    top = os.path.join(directory, TILES_NAME)
    every = set()
    for folder in folders:
        while folder not in every:
            every.add(folder)
            if folder == top:
                break
            folder = os.path.dirname(folder)  # noqa: PLW2901
    for folder in sorted(every, reverse=True):
        fs.sync_dir(folder)
    fs.sync_dir(directory)

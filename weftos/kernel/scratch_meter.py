"""How much an agent keeps in its scratch folder, counted a little at each sample.

Why it is as it is: a tree that a hostile agent made can be larger than anybody wants to walk through at once. So each
sample takes the next few entries, and a sum stands when the walk has come to its end; as long as it has not, the sum so
far counts if it is larger than the last whole one. A file that is open and has no name any more is not seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from weftos import limits

__all__ = ["ScratchMeter"]

_BLOCK: Final = 512  # of st_blocks, stat(2)
#: Deeper than this nothing is walked into: such a path is longer than the system takes.
_DEEPEST: Final = 2048


class ScratchMeter:
    """Adds up the folders of all agents."""

    def __init__(self) -> None:
        self._whole: dict[int, int] = {}
        self._walks: dict[int, tuple[Iterator[int], int]] = {}

    def used(self, pid: int) -> int:
        """Return the bytes on the disk, as far as they are known."""
        return max(self._whole.get(pid, 0), self._walks[pid][1] if pid in self._walks else 0)

    def look(self, folders: Mapping[int, str], entries: int = limits.SCRATCH_ENTRIES) -> None:
        """Go on.

        Args:
            folders: of the agents there are, by pid; others are forgotten.
            entries: to look at for each.
        """
        for gone in (self._whole.keys() | self._walks.keys()) - folders.keys():
            self._whole.pop(gone, None)
            self._walks.pop(gone, None)
        for pid, folder in folders.items():
            walk, total = self._walks.get(pid) or (_sizes(folder), 0)
            sizes = list(islice(walk, entries))
            total += sum(sizes)
            if len(sizes) == entries:
                self._walks[pid] = walk, total
            else:
                self._walks.pop(pid, None)
                self._whole[pid] = total


def _sizes(folder: str) -> Iterator[int]:
    """Yield the size on disk of each entry below a folder; those that vanish meanwhile are left out."""
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    yield _size(entry)
                    if depth < _DEEPEST and entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
        except OSError:
            continue  # it was removed, or made unreadable; what is in it was seen, or will be


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    except OSError:
        return 0

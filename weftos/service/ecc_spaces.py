"""The stores of memory spaces in their folders: causal graphs, cross-references, impulses.

    ecc/causal/SPACE/  ecc/crossrefs/SPACE/  ecc/impulses/SPACE/       SPACE quoted as in a URL

Why it is as it is: a space of one agent must neither hold up nor fill those of others, so each has files of its own.
They are opened when they are first needed.

Guaranteed: a name of a space is one folder, whatever characters it has. What cannot be opened raises, and is left as it
is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import quote, unquote

from weftos.disk.clock import Clock, SystemClock
from weftos.disk.files import Files
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.crossrefs.store import CrossRefStore
from weftos.ecc.hlc import HybridClock
from weftos.ecc.impulses.queue import ImpulseQueue

__all__ = ["Shelf", "Spaces"]


class _Store(Protocol):
    def sync(self) -> None: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=_Store)

_NAMES: Final = ("causal", "crossrefs", "impulses")


class Shelf(Generic[S]):
    """The stores of one kind, by space.

    Args:
        fs: the calls on files.
        folder: of all of them.
        open_one: opens the store of a folder, or makes it.
    """

    def __init__(self, fs: Files, folder: str, open_one: Callable[[str], S]) -> None:
        self._fs = fs
        self._folder = folder
        self._open = open_one
        self._stores: dict[str, S] = {}

    def get(self, space: str) -> S | None:
        """Return the store of a space, if there is one.

        Raises:
            EccError, OSError: it cannot be opened.
        """
        found = self._stores.get(space)
        if found is None and os.path.isdir(self._path(space)):
            found = self._stores[space] = self._open(self._path(space))
        return found

    def make(self, space: str) -> S:
        """Return the store of a space, made if it is not there; errors as for ``get``."""
        found = self.get(space)
        if found is None:
            self._fs.make_dir(self._path(space))
            found = self._stores[space] = self._open(self._path(space))
        return found

    def names(self) -> list[str]:
        """Return the spaces that have a store, in order."""
        return sorted(unquote(name) for name in os.listdir(self._folder))

    def close(self) -> None:
        """Close all stores."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def _path(self, space: str) -> str:
        return os.path.join(self._folder, quote(space, safe=""))


class Spaces:
    """All of them.

    Args:
        fs: the calls on files.
        folder: of memory, which is there and locked.
        clock: the time.

    Attributes:
        graphs: causal graphs.
        crossrefs: cross-references.
        impulses: queues of impulses.
        hlc: the hybrid clock that stamps what is kept.
    """

    def __init__(self, fs: Files, folder: str, clock: Clock | None = None) -> None:
        now = clock or SystemClock()
        self.hlc = HybridClock(now)
        paths = [os.path.join(folder, name) for name in _NAMES]
        for path in paths:
            if not os.path.isdir(path):
                fs.make_dir(path)
        self.graphs = Shelf(fs, paths[0], lambda path: GraphStore(fs, path))
        self.crossrefs = Shelf(fs, paths[1], lambda path: CrossRefStore.open(fs, path))
        self.impulses = Shelf(fs, paths[2], lambda path: ImpulseQueue.open(fs, path, now, self.hlc))

    def close(self) -> None:
        """Close all stores; what was not synced is dropped."""
        for shelf in (self.graphs, self.crossrefs, self.impulses):
            shelf.close()

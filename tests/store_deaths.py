"""A store whose process dies at each of its calls on files in turn, opened again after each death."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from dying_files import DyingFiles, UnsyncedFiles

from weftos.disk.files import Files
from weftos.errors import JournalFailed


class Store(Protocol):
    """What is opened and closed."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Store)
H = TypeVar("H")


def die_at_every_call(
    folder: Path,
    open_store: Callable[[Files, str], S],
    work: Callable[[S, list[H]], None],
    held: Callable[[S], H],
) -> None:
    """Let the process die at every call of ``work``, and check that nothing is lost that was synced.

    Args:
        folder: an empty one.
        open_store: opens the store of a folder, or makes it.
        work: changes the store, and before each sync adds to the list what the store then holds.
        held: what a store holds.
    """
    calls, finished = 0, False
    while not finished:
        place = folder / str(calls)
        place.mkdir()
        seen: list[H] = []
        store = None
        try:
            store = open_store(DyingFiles(calls), str(place))
            seen.append(held(store))
            work(store, seen)
            finished = True
        except (JournalFailed, OSError):
            pass
        if store is not None:
            store.close()
        again = open_store(UnsyncedFiles(), str(place))
        try:
            # The newest belongs to a change that was perhaps not synced; the one before was.
            assert not seen or held(again) in seen[-2:]
        finally:
            again.close()
        shutil.rmtree(place)
        calls += 1
    assert calls > 25

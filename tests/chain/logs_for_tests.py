"""Logs for the tests: small, with a clock that ticks, and a disk that can fail at any call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ticking import Ticking

from weftos import chain
from weftos.chain.records.frames import FRAME_OVERHEAD, LENGTH
from weftos.chain.tiles.tile_store import TileStore

BOOT = bytes(range(16))


class Crash(BaseException):
    """The process or the machine ends here."""


def root_now(writer: chain.ChainWriter) -> bytes:
    """Root of the tree over what was flushed."""
    tiles = writer.checkpoints._tiles
    assert isinstance(tiles, TileStore)
    return tiles.tree.root()


class FaultyDisk(chain.RealFiles):
    """Real files that fail, or stop the world, at one chosen call; and that know what a loss of power would take.

    ``trip(name)`` decides for the n-th changing call: ``None`` to go on, an ``OSError``, or ``Crash``.
    """

    CHANGING = ("make_dir", "create", "write", "sync_data", "sync_file", "sync_dir", "truncate", "rename", "unlink")

    def __init__(self, at: int = -1, what: BaseException | None = None) -> None:
        self.at, self.what, self.calls = at, what, 0
        self.names: list[str] = []
        self.paths: dict[int, str] = {}
        self.synced: dict[str, int] = {}
        self.unsynced_names: list[tuple[str, Callable[[], None]]] = []

    def _step(self, name: str) -> BaseException | None:
        number, self.calls = self.calls, self.calls + 1
        self.names.append(name)
        return self.what if number == self.at else None

    def _check(self, name: str) -> None:
        if (error := self._step(name)) is not None:
            raise error

    def make_dir(self, path):
        self._check("make_dir")
        super().make_dir(path)
        self.unsynced_names.append((os.path.dirname(path), lambda: shutil.rmtree(path)))

    def create(self, path):
        self._check("create")
        fd = super().create(path)
        self.paths[fd] = path
        self.synced[path] = 0
        return fd

    def open_append(self, path):
        fd = super().open_append(path)
        self.paths[fd] = path
        self.synced.setdefault(path, os.path.getsize(path))
        return fd

    def open_overwrite(self, path):
        fd = super().open_overwrite(path)
        self.paths[fd] = path
        self.synced.setdefault(path, os.path.getsize(path))
        return fd

    def write(self, fd, data):
        error = self._step("write")
        if error is None:
            # Short writes all the time, so that the loop behind them is used.
            return super().write(fd, bytes(data[: max(1, len(data) * 2 // 3)]))
        super().write(fd, bytes(data[: len(data) // 2]))
        raise error

    def sync_data(self, fd):
        self._check("sync_data")
        self.synced[self.paths[fd]] = os.fstat(fd).st_size

    def sync_file(self, fd):
        self._check("sync_file")
        self.synced[self.paths[fd]] = os.fstat(fd).st_size

    def sync_dir(self, path):
        self._check("sync_dir")
        self.unsynced_names = [(folder, undo) for folder, undo in self.unsynced_names if folder != path]

    def truncate(self, fd, size):
        self._check("truncate")
        super().truncate(fd, size)
        self.synced[self.paths[fd]] = min(size, self.synced[self.paths[fd]])

    def rename(self, source, target):
        self._check("rename")
        old = Path(target).read_bytes() if os.path.exists(target) else None

        def undo() -> None:
            if not os.path.exists(target):
                return  # removed since, and the removal is on the disk
            os.rename(target, source)
            if old is not None:
                Path(target).write_bytes(old)

        super().rename(source, target)
        self.synced[target] = self.synced.pop(source)
        self.paths = {fd: target if path == source else path for fd, path in self.paths.items()}
        self.unsynced_names.append((os.path.dirname(target), undo))

    def unlink(self, path):
        self._check("unlink")
        super().unlink(path)

    def lose_power(self, keep: float) -> None:
        """Forget what was not synced: names wholly, and of each file's last bytes all but a share."""
        for path, synced in self.synced.items():
            if os.path.exists(path) and (size := os.path.getsize(path)) > synced:
                os.truncate(path, synced + int((size - synced) * keep))
        for _, undo in reversed(self.unsynced_names):
            undo()

    def shut(self) -> None:
        """Close what the ended process had open."""
        for fd in self.paths:
            try:
                os.close(fd)
            except OSError:
                continue


def note(number: int, **more: object) -> chain.NewEvent:
    """An event that is told apart by its number."""
    return chain.NewEvent("agent:7", "app.note", {"n": number}, **more)


def open_log(directory: Path, **settings) -> chain.ChainWriter:
    settings.setdefault("boot_id", BOOT)
    settings.setdefault("clock", Ticking())
    return chain.ChainWriter.open(directory, **settings)


def numbers(directory: Path) -> list[int]:
    """The numbers of the notes in a log, in order."""
    return [record.payload["n"] for record in chain.read(directory) if record.kind == "app.note"]


def frames(path: Path) -> list[tuple[int, int]]:
    """Offset and length of each frame of an undamaged segment."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = LENGTH.unpack_from(data, at)[0] + FRAME_OVERHEAD
        found.append((at, size))
        at += size
    return found

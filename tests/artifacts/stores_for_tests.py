"""A disk for the artifact store that can fail at any call, and knows what a loss of power would take."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from blake3 import blake3

from weftos.artifacts import RealArtifactFiles


class Crash(BaseException):
    """The process or the machine ends here."""


class FaultyFiles(RealArtifactFiles):
    """Real files; the call with number ``at`` raises ``what``, and after a crash nothing is done any more."""

    def __init__(self, at: int = -1, what: BaseException | None = None) -> None:
        self.at, self.what, self.calls, self.dead = at, what, 0, False
        self.names: list[str] = []
        self.open: dict[int, str] = {}
        self.synced: dict[str, int] = {}
        self.unsynced_names: list[tuple[str, object]] = []

    def _step(self, name):
        if self.dead:
            raise Crash
        number, self.calls = self.calls, self.calls + 1
        self.names.append(name)
        if number == self.at and self.what is not None:
            self.dead = isinstance(self.what, Crash)
            return self.what
        return None

    def _check(self, name):
        if (error := self._step(name)) is not None:
            raise error

    def make_dir(self, path):
        self._check("make_dir")
        super().make_dir(path)
        self.unsynced_names.append((os.path.dirname(path), lambda: shutil.rmtree(path, ignore_errors=True)))

    def create(self, path):
        self._check("create")
        fd = super().create(path)
        self.open[fd], self.synced[path] = path, 0
        return fd

    def lock(self, path, *, wait):
        self._check("lock")
        fd = super().lock(path, wait=wait)
        self.open[fd] = path
        return fd

    def lock_open(self, fd):
        self._check("lock_open")
        super().lock_open(fd)

    def write(self, fd, data):
        error = self._step("write")
        if error is None:
            # Short writes all the time, so that the loop behind them is used.
            return super().write(fd, bytes(data[: max(1, len(data) * 2 // 3)]))
        super().write(fd, bytes(data[: len(data) // 2]))
        raise error

    def sync_file(self, fd):
        self._check("sync_file")
        self.synced[self.open[fd]] = os.fstat(fd).st_size

    def sync_dir(self, path):
        self._check("sync_dir")
        self.unsynced_names = [(folder, undo) for folder, undo in self.unsynced_names if folder != path]

    def rename(self, source, target):
        self._check("rename")
        shadow = None
        if os.path.exists(target):
            shadow = f"{os.path.dirname(os.path.dirname(target))}-shadow-{self.calls}"
            os.link(target, shadow)
        super().rename(source, target)
        self.synced[target] = self.synced.pop(source, 0)
        self.open = {fd: target if path == source else path for fd, path in self.open.items()}

        def undo():
            os.rename(target, source)
            if shadow is not None:
                os.link(shadow, target)

        self.unsynced_names.append((os.path.dirname(target), undo))

    def touch(self, path, t_ns):
        self._check("touch")
        super().touch(path, t_ns)

    def unlink(self, path):
        self._check("unlink")
        super().unlink(path)

    def close(self, fd):
        self.open.pop(fd, None)
        super().close(fd)

    def shut(self):
        """Close what the ended process had open, which also lets go of its locks."""
        for fd in list(self.open):
            self.close(fd)

    def lose_power(self):
        """Forget what was not synced: names, and the ends of files."""
        for path, synced in self.synced.items():
            if os.path.exists(path) and os.path.getsize(path) > synced:
                os.truncate(path, synced)
        for _, undo in reversed(self.unsynced_names):
            undo()


def name_of(content: bytes) -> str:
    return blake3(content).hexdigest()


def files_in(directory: Path) -> list[str]:
    """Names of all files below a folder, relative to it."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())

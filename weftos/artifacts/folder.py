"""The folder of a store: its names, its one lock, and the files that are moved in it and out of it.

Why it is as it is: several processes name, remove and set aside files in one folder, and each of these acts looks
first and then does something. So all of them hold one advisory lock (``flock``) on the folder, for a few system calls
each, which the system lets go when its holder dies. An unfinished file is locked by its writer for as long as that
lives: whoever finds it unlocked may remove it, and needs neither ages nor process numbers to know.

Guaranteed: an act under the lock is alone. Not guaranteed: progress while its holder is stopped by a signal.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from weftos.artifacts.files import ArtifactFiles
from weftos.artifacts.form import check_hash, is_hash
from weftos.errors import ArtifactCorrupted

__all__ = ["Folder", "identity_of"]

_SHARD = re.compile(r"[0-9a-f]{2}")
_UNFINISHED = re.compile(r"put-[0-9a-f]{16}\.tmp")
_DAMAGED: Final = ".damaged-"


class Folder:
    """The folder of a store. Every method may raise ``OSError``.

    Args:
        path: of the folder; it is made if it is missing, its parent is not.
        fs: file calls.
    """

    def __init__(self, path: str, fs: ArtifactFiles) -> None:
        self.path, self._fs = path, fs
        self._synced: set[str] = set()
        if not os.path.isdir(path):
            with suppress(FileExistsError):  # another process was quicker
                fs.make_dir(path)
        fs.sync_dir(os.path.dirname(path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock."""
        fd = self._fs.lock(self.path, wait=True)
        try:
            yield
        finally:
            self._fs.close(fd)

    def path_of(self, digest: str) -> str:
        """Return where an artifact is kept.

        Raises:
            InvalidRequest: this is no hash.
        """
        return os.path.join(self.path, check_hash(digest)[:2], digest)

    def names(self) -> Iterator[tuple[str, str]]:
        """Give hash and path of everything kept, ordered by hash."""
        for shard in sorted(filter(_SHARD.fullmatch, os.listdir(self.path))):
            for name in sorted(os.listdir(os.path.join(self.path, shard))):
                if is_hash(name) and name.startswith(shard):
                    yield name, os.path.join(self.path, shard, name)

    def size(self) -> int:
        """Return the size of all files, unfinished and damaged ones too, in bytes."""
        total = 0
        for shard in (".", *filter(_SHARD.fullmatch, os.listdir(self.path))):
            with os.scandir(os.path.join(self.path, shard)) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # removed since its name was read
                        total += 0 if entry.is_dir() else entry.stat(follow_symlinks=False).st_size
        return total

    def begin(self) -> tuple[str, int]:
        """Make an unfinished file that is locked while its writer lives; return its path and a descriptor."""
        path = os.path.join(self.path, f"put-{secrets.token_hex(8)}.tmp")
        with self.locked():  # so that nobody sweeps it between the two calls
            fd = self._fs.create(path)
            try:
                self._fs.lock_open(fd)
            except OSError:
                self._fs.close(fd)
                self._fs.unlink(path)
                raise
        return path, fd

    def make_shard(self, path: str) -> None:
        """Make the part of the folder that a file belongs into, and bring its name onto the disk, once per object.

        Also if it is there: whoever made it may have been killed before its name was on the disk.
        """
        shard = os.path.dirname(path)
        if shard not in self._synced:
            with suppress(FileExistsError):
                self._fs.make_dir(shard)
            self._fs.sync_dir(self.path)
            self._synced.add(shard)

    def set_aside(self, damage: ArtifactCorrupted) -> str:
        """Give a damaged file another name and return that; nothing if it is no longer under its own."""
        aside = f"{damage.path}{_DAMAGED}{secrets.token_hex(4)}"
        with self.locked():
            if identity_of(damage.path) != damage.identity:
                return ""
            self._fs.rename(damage.path, aside)
        self._fs.sync_dir(os.path.dirname(aside))
        return aside

    def sweep(self) -> int:
        """Remove unfinished files whose writers are gone; return how many."""
        swept = 0
        with self.locked():
            for name in filter(_UNFINISHED.fullmatch, os.listdir(self.path)):
                path = os.path.join(self.path, name)
                try:
                    fd = self._fs.lock(path, wait=False)
                except (BlockingIOError, FileNotFoundError):
                    continue  # its writer lives, or has just finished with it
                try:
                    self._fs.unlink(path)
                    swept += 1
                finally:
                    self._fs.close(fd)
        return swept


def identity_of(path: str) -> tuple[int, int] | None:
    """Return device and inode of what has this name, or ``None`` if nothing has."""
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino

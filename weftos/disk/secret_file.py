"""A small secret file that is replaced by its successor, whole or not at all, and whose old content is overwritten.

Why it is as it is: a key that evolves is worth something only if its past is gone. Removing a name leaves the bytes on
the disk, so the old file is kept under a second name until its successor is on the disk, then overwritten in place and
only then removed; whatever a crash leaves of that is finished the next time. The calls go through an object, so that a
test can let each of them fail.

Guaranteed: at every moment, and after every crash, the file is the old one or the new one, complete; a leftover with
secret bytes is overwritten before it is removed. Not guaranteed: that the overwritten bytes are gone from the medium. A
file system that copies on write (btrfs, ZFS, a snapshot), a journal of data, an SSD that spreads its writes, and every
backup keep older blocks that no program reaches through the file. Python gives no way to clear its memory either.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Protocol

from weftos.disk.files import Files, RealFiles, write_all
from weftos.errors import ConfigError

__all__ = [
    "RealSecretFiles",
    "SecretFiles",
    "create_secret",
    "finish_replacing",
    "read_secret",
    "replace_secret",
    "wipe",
]


class SecretFiles(Files, Protocol):
    """The log's file calls, and two more. Every method may raise ``OSError``."""

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; fail if that name is taken."""


class RealSecretFiles(RealFiles):
    """The operating system's files."""

    def link(self, source: str, target: str) -> None:
        """``link``."""
        os.link(source, target, follow_symlinks=False)


def read_secret(path: str, most: int) -> bytes:
    """Read a secret file, up to ``most`` bytes and one more if it is longer.

    Raises:
        ConfigError: it is no regular file, may be read by others or belongs to another user.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"{path} is no regular file")
        if state.st_mode & 0o077:
            raise ConfigError(
                f"{path} may be read by others (mode {stat.S_IMODE(state.st_mode):04o}); consider its keys known to "
                "them, and if they are not, run: chmod 600"
            )
        if state.st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to user {state.st_uid}, not to {os.geteuid()}")
        return os.pread(fd, most + 1, 0)
    finally:
        os.close(fd)


def create_secret(fs: SecretFiles, path: str, data: bytes) -> None:
    """Make a secret file that must not exist yet.

    Raises:
        FileExistsError: it exists.
        OSError: a call failed; there is no such file, or already the whole one.
    """
    finish_replacing(fs, path)
    temporary = _write_temporary(fs, path, data)
    try:
        fs.link(temporary, path)  # unlike a rename, it fails if the name is taken
    finally:
        fs.unlink(temporary)
    fs.sync_dir(_folder(path))


def replace_secret(fs: SecretFiles, path: str, data: bytes) -> None:
    """Put new content in the place of a secret file's and overwrite the old one.

    Raises:
        OSError: a call failed. The file is the old or the new one; ``finish_replacing`` does what is left to do.
    """
    finish_replacing(fs, path)
    temporary = _write_temporary(fs, path, data)
    fs.link(path, _old(path))
    fs.rename(temporary, path)
    # Before the old key is destroyed, the new one must survive a loss of power.
    fs.sync_dir(_folder(path))
    wipe(fs, _old(path))


def finish_replacing(fs: SecretFiles, path: str) -> None:
    """Overwrite and remove what an interrupted replacement left beside the file.

    Raises:
        OSError: a call failed.
    """
    old = _old(path)
    # Without the file itself, nobody can say whether this is its past: then it stays.
    if _exists(old) and _exists(path):
        if os.path.samestat(os.lstat(old), os.lstat(path)):
            fs.unlink(old)  # the crash came between the second name and the new file: this is the current key
        else:
            # The new file may have its name only in memory yet, if whoever renamed it was killed.
            fs.sync_dir(_folder(path))
            wipe(fs, old)
    temporary = _temporary(path)
    if _exists(temporary):
        if _exists(path) and os.path.samestat(os.lstat(temporary), os.lstat(path)):
            fs.unlink(temporary)  # left by a creation that was interrupted when the file had its name already
        else:
            wipe(fs, temporary)


def wipe(fs: Files, path: str) -> None:
    """Overwrite a secret file with zeros, bring that onto the disk and remove the name; the folder is not synced.

    Raises:
        FileNotFoundError: there is none.
        OSError: a call failed.
    """
    fd = fs.open_overwrite(path)
    try:
        write_all(fs, fd, bytes(os.fstat(fd).st_size))
        fs.sync_file(fd)
    finally:
        fs.close(fd)
    fs.unlink(path)


def _write_temporary(fs: SecretFiles, path: str, data: bytes) -> str:
    temporary = _temporary(path)
    fd = fs.create(temporary)
    try:
        write_all(fs, fd, data)
        fs.sync_file(fd)
    except OSError:
        # Best effort on a disk that has just failed; what stays is wiped by whoever opens the file next.
        with suppress(OSError):
            wipe(fs, temporary)
        raise
    finally:
        fs.close(fd)
    return temporary


def _temporary(path: str) -> str:
    return f"{path}.tmp"


def _old(path: str) -> str:
    return f"{path}.old"


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def _exists(path: str) -> bool:
    return os.path.lexists(path)

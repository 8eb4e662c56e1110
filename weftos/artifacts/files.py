"""What the artifact store does to files beyond what a log does: locks on files, and times.

Why it is as it is: what is promised about a crash or a full disk can only be tested if every call that changes the disk
passes one object, which a test can let fail; see ``weftos.disk.files``.

Guaranteed: each method is one system call, or one loop over it; nothing is buffered here. Errors are ``OSError``.
"""

from __future__ import annotations

import fcntl
import os
from typing import Protocol

from weftos.disk.files import Files, RealFiles

__all__ = ["ArtifactFiles", "RealArtifactFiles"]


class ArtifactFiles(Files, Protocol):
    """What the store does to files. Paths are strings, descriptors numbers; every method may raise ``OSError``."""

    def lock(self, path: str, *, wait: bool) -> int:
        """Lock a file or directory for this caller alone; return a descriptor that holds the lock until closed."""

    def lock_open(self, fd: int) -> None:
        """Lock a file that is open already, for its writer alone."""

    def touch(self, path: str, t_ns: int) -> None:
        """Set a file's times, in nanoseconds since 1970 UTC."""


class RealArtifactFiles(RealFiles):
    """The operating system's files."""

    def lock(self, path: str, *, wait: bool) -> int:
        """Take an advisory lock (``flock``); ``BlockingIOError`` if it is taken and ``wait`` is false."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lock_open(self, fd: int) -> None:
        """Take an advisory lock without waiting."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def touch(self, path: str, t_ns: int) -> None:
        """``utimensat``."""
        os.utime(path, ns=(t_ns, t_ns), follow_symlinks=False)

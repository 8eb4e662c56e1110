"""The calls on files that the artifact store makes, as an object, so that a test can let each of them fail.

Why it is as it is: what is promised about a crash or a full disk can only be tested if every call that changes the disk
passes one place. The log has such an object too, but neither room imports the other, and the store needs locks and
times where the log needs to append and to cut.

Guaranteed: each method is one system call, or one loop over it; nothing is buffered here. Errors are ``OSError``.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Protocol

__all__ = ["ArtifactFiles", "RealArtifactFiles", "write_all"]


class ArtifactFiles(Protocol):
    """What the store does to files. Paths are strings, descriptors numbers; every method may raise ``OSError``."""

    def make_dir(self, path: str) -> None:
        """Make a directory that only its owner may enter."""

    def create(self, path: str) -> int:
        """Make a new file, private and empty, opened for writing; fail if it exists."""

    def lock(self, path: str, *, wait: bool) -> int:
        """Lock a file or directory for this caller alone; return a descriptor that holds the lock until closed."""

    def lock_open(self, fd: int) -> None:
        """Lock a file that is open already, for its writer alone."""

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Write once and return the number of bytes written, which may be less than asked."""

    def sync_file(self, fd: int) -> None:
        """Bring a file with all its attributes onto the disk."""

    def sync_dir(self, path: str) -> None:
        """Bring the names in a directory onto the disk."""

    def rename(self, source: str, target: str) -> None:
        """Put a file in the place of another, at once."""

    def touch(self, path: str, t_ns: int) -> None:
        """Set a file's times, in nanoseconds since 1970 UTC."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""


class RealArtifactFiles:
    """The operating system's files."""

    def make_dir(self, path: str) -> None:
        """Make a directory with mode 0700."""
        os.mkdir(path, 0o700)

    def create(self, path: str) -> int:
        """Make a new file with mode 0600."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

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

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Write once."""
        return os.write(fd, data)

    def sync_file(self, fd: int) -> None:
        """``fsync``, or what the system has in its place."""
        full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's cache
        if full is not None:
            fcntl.fcntl(fd, full)
        else:
            os.fsync(fd)

    def sync_dir(self, path: str) -> None:
        """``fsync`` on the directory."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        """``rename``."""
        os.rename(source, target)

    def touch(self, path: str, t_ns: int) -> None:
        """``utimensat``."""
        os.utime(path, ns=(t_ns, t_ns), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        """``unlink``."""
        os.unlink(path)

    def close(self, fd: int) -> None:
        """``close``."""
        os.close(fd)


def write_all(fs: ArtifactFiles, fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``, in as many calls as it takes.

    Raises:
        OSError: a call failed, or wrote nothing; an unknown part of ``data`` is in the file.
    """
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            with view[done:] as rest:
                written = fs.write(fd, rest)
            if written <= 0:
                raise OSError(errno.EIO, "a write made no progress")
            done += written

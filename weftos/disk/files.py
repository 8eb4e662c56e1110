"""The calls on files, as an object, so that a test can let each of them fail.

Why it is as it is: what is promised about a crash or a full disk can only be tested if every call that changes the
disk passes one place. So whoever keeps something makes no system call itself. Reading goes by offset and never through
a mapping: a file that is shortened under a mapping kills the reader with SIGBUS.

Guaranteed: each method is one system call, or one loop over it; nothing is buffered here. Errors are ``OSError``; the
callers say what they mean.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Protocol, Self

__all__ = ["Files", "ReadFile", "RealFiles", "replace_file", "write_all"]


class Files(Protocol):
    """What is done to files. Paths are strings, descriptors numbers; every method may raise ``OSError``."""

    def make_dir(self, path: str) -> None:
        """Make a directory that only its owner may enter."""

    def lock_dir(self, path: str) -> int:
        """Take the one writer's lock on a directory and return a descriptor that holds it until closed."""

    def create(self, path: str) -> int:
        """Make a new file, private and empty, opened for appending; fail if it exists."""

    def open_append(self, path: str) -> int:
        """Open an existing file for appending."""

    def open_overwrite(self, path: str) -> int:
        """Open an existing file to write over its content from the beginning; its size stays."""

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Write once and return the number of bytes written, which may be less than asked."""

    def sync_data(self, fd: int) -> None:
        """Bring a file's content onto the disk."""

    def sync_file(self, fd: int) -> None:
        """Bring a file with all its attributes onto the disk."""

    def sync_dir(self, path: str) -> None:
        """Bring the names in a directory onto the disk."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to ``size`` bytes."""

    def rename(self, source: str, target: str) -> None:
        """Put a file in the place of another, at once."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""


class RealFiles:
    """The operating system's files."""

    def make_dir(self, path: str) -> None:
        """Make a directory with mode 0700."""
        os.mkdir(path, 0o700)

    def lock_dir(self, path: str) -> int:
        """Take an advisory lock (``flock``) without waiting."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def create(self, path: str) -> int:
        """Make a new file with mode 0600."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open_append(self, path: str) -> int:
        """Open an existing file for appending."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def open_overwrite(self, path: str) -> int:
        """Open for writing, without truncation."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        """Write once."""
        return os.write(fd, data)

    def sync_data(self, fd: int) -> None:
        """``fdatasync``, or what the system has in its place."""
        full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's cache
        if full is not None:
            fcntl.fcntl(fd, full)
        else:
            os.fdatasync(fd)

    def sync_file(self, fd: int) -> None:
        """``fsync``."""
        full = getattr(fcntl, "F_FULLFSYNC", None)
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

    def truncate(self, fd: int, size: int) -> None:
        """``ftruncate``."""
        os.ftruncate(fd, size)

    def rename(self, source: str, target: str) -> None:
        """``rename``."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """``unlink``."""
        os.unlink(path)

    def close(self, fd: int) -> None:
        """``close``."""
        os.close(fd)


def write_all(fs: Files, fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``, in as many calls as it takes.

    Raises:
        OSError: a call failed, or wrote nothing; an unknown part of ``data`` is in the file.
    """
    done = fs.write(fd, data)
    if done == len(data):
        return
    with memoryview(data) as view:
        while done < len(view):
            with view[done:] as rest:
                written = fs.write(fd, rest)
            if written <= 0:
                raise OSError(errno.EIO, "a write made no progress")
            done += written


def replace_file(fs: Files, path: str, data: bytes) -> None:
    """Put a file with this content in place of another, so that after a crash there is the old or the new one.

    Raises:
        OSError: a call failed; the old file is still there, or already the new one.
    """
    temporary = f"{path}.tmp"
    if os.path.lexists(temporary):
        fs.unlink(temporary)  # left over by a crash
    fd = fs.create(temporary)
    try:
        write_all(fs, fd, data)
        fs.sync_file(fd)
    finally:
        fs.close(fd)
    fs.rename(temporary, path)
    fs.sync_dir(os.path.dirname(path))


class ReadFile:
    """A file opened for reading by offset. A context manager.

    Args:
        path: what to open.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file; once is enough, more does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read from ``offset`` into memory that is there, without a copy.

        Returns:
            Bytes read; fewer than the buffer has only at the end of the file.
        """
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        data = os.pread(self._fd, count, offset)
        while data and len(data) < count:
            more = os.pread(self._fd, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

"""Content that one process hands to another: memory without a name, sealed so that nobody can change it any more.

Why it is as it is: whoever stores for others must not be held up or killed by what they hand over. A pipe or a file on
a file system of the giver's own can keep a reader waiting for ever; a file can shrink under it; a device can be
anything. Sealed memory (memfd_create(2)) is none of these: it is there, it has its size, and it stays as it is. It is
read with ``pread`` and never mapped, because touching a page that the system cannot back would kill the toucher.

Guaranteed: what ``sealed_size`` accepts can be read without waiting for anybody, twice with the same result. Not
guaranteed: that it can be read at all; its giver may have opened it for writing only.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from typing import Final

from weftos import limits
from weftos.errors import ArtifactStorageFailed, BackendNotAvailable, InvalidRequest, MessageTooLarge

__all__ = ["SealedSource", "make_sealed", "sealed_size"]

_NEEDED: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE if hasattr(fcntl, "F_SEAL_WRITE") else 0


def sealed_size(fd: int) -> int:
    """Return the size of what a descriptor from another process names, having checked that it is sealed memory.

    Asks for the seals first: that question reaches no file system but the one of the memory itself.

    Raises:
        InvalidRequest: it is something else, or not sealed.
        MessageTooLarge: it is larger than ``limits.ARTIFACT_PUT_BYTES``.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS) if _NEEDED else 0
    except OSError as error:
        raise InvalidRequest(
            f"content is handed over as sealed memory (memfd), not as this: {error.strerror}"
        ) from error
    if seals & _NEEDED != _NEEDED or not _NEEDED:
        raise InvalidRequest("content is handed over as memory that is sealed against writing, growing and shrinking")
    size = os.fstat(fd).st_size
    if size > limits.ARTIFACT_PUT_BYTES:
        raise MessageTooLarge(
            f"an artifact of {size} bytes; {limits.ARTIFACT_PUT_BYTES} can be put through the kernel, "
            "`weaver artifact put` takes more",
            size=size,
            limit=limits.ARTIFACT_PUT_BYTES,
        )
    return size


class SealedSource:
    """Reads such memory from its beginning, wherever its giver left the descriptor; a ``Source`` for the store.

    Args:
        fd: checked with ``sealed_size``; stays the caller's.
        size: what that returned, in bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size, self._offset = fd, size, 0

    def read(self, count: int, /) -> bytes:
        """Return the next bytes; nothing only at the end.

        Raises:
            InvalidRequest: the descriptor is not open for reading.
            ArtifactStorageFailed: the memory cannot be read.
        """
        try:
            data = os.pread(self._fd, min(count, self._size - self._offset), self._offset)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise InvalidRequest("content was handed over with a descriptor that cannot be read") from error
            raise ArtifactStorageFailed(f"what was handed over cannot be read: {error.strerror}") from error
        self._offset += len(data)
        return data


def make_sealed(blocks: Iterable[bytes | bytearray | memoryview]) -> int:
    """Write content into memory, seal it, and return a descriptor that the caller closes.

    Raises:
        MessageTooLarge: it is larger than ``limits.ARTIFACT_PUT_BYTES``.
        ArtifactStorageFailed: there is no memory for it, or a limit of this process forbids it.
        BackendNotAvailable: this system has no such memory.
    """
    if not _NEEDED or not hasattr(os, "memfd_create"):
        raise BackendNotAvailable("this system has no sealed memory (memfd_create); `weaver artifact put` works")
    try:
        fd = os.memfd_create("weftos-artifact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise ArtifactStorageFailed(f"no memory for an artifact: {error.strerror}") from error
    try:
        _fill(fd, blocks)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _NEEDED | fcntl.F_SEAL_SEAL)
    except OSError as error:
        os.close(fd)
        raise ArtifactStorageFailed(f"no memory for an artifact: {error.strerror}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _fill(fd: int, blocks: Iterable[bytes | bytearray | memoryview]) -> None:
    total = 0
    for block in blocks:
        with memoryview(block) as view:
            total += len(view)
            if total > limits.ARTIFACT_PUT_BYTES:
                raise MessageTooLarge(
                    f"an artifact put through the kernel has at most {limits.ARTIFACT_PUT_BYTES} bytes",
                    size=total,
                    limit=limits.ARTIFACT_PUT_BYTES,
                )
            done = 0
            while done < len(view):
                with view[done:] as rest:
                    done += os.write(fd, rest)

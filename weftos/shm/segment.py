"""Segments: anonymous shared memory of a fixed size, passed by descriptor.

Why it is as it is: a named object can be opened by anyone who learns the name and outlives a crash; a ``memfd`` can do
neither. Its pages are allocated at creation, because touching a page that the system cannot back kills the toucher with
SIGBUS, and it is sealed against shrinking, because a peer that truncates a mapping kills the other side the same way.
Possession of the descriptor is the capability.

Guaranteed: the mapping stays valid for its whole size as long as the object is open. Not guaranteed: anything about the
content, which every holder of the descriptor may write at any time. Where the system has no ``memfd`` (macOS) the
segment is a POSIX shared memory object, unlinked before anyone else can see it; seals do not exist there, and
``sealed`` says so.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import stat
from types import TracebackType
from typing import Final, Self

from weftos import limits
from weftos.errors import ResourceLimitExceeded, SegmentInvalid, SharedMemoryError, SharedMemoryExhausted

__all__ = ["Segment"]

_HAS_MEMFD: Final = hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")
_PAGE: Final = mmap.PAGESIZE
_OUT_OF: Final = frozenset((errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EDQUOT))


def _typed(error: OSError, doing: str) -> SharedMemoryError:
    """Turn an operating system error into ours; running out of something is a class of its own."""
    kind = SharedMemoryExhausted if error.errno in _OUT_OF else SharedMemoryError
    return kind(f"{doing}: {error.strerror or error}")


def _create_fd(size: int, label: str) -> int:
    if _HAS_MEMFD:
        fd = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        import posix_ipc

        memory = posix_ipc.SharedMemory(f"/w{secrets.token_hex(10)}", posix_ipc.O_CREX, mode=0o600)
        posix_ipc.unlink_shared_memory(memory.name)
        fd = int(memory.fd)
        os.set_inheritable(fd, False)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
        if _HAS_MEMFD:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _checked_size(fd: int) -> int:
    """Return the size of what ``fd`` names, having checked that it can no longer change."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) and _HAS_MEMFD:
        raise SegmentInvalid("the descriptor is not shared memory")
    if status.st_size < _PAGE or status.st_size % _PAGE:
        raise SegmentInvalid(f"a segment is a positive number of pages, not {status.st_size} bytes")
    if status.st_size > limits.MAX_SEGMENT_BYTES:
        raise SegmentInvalid(f"a segment of {status.st_size} bytes is above the limit of {limits.MAX_SEGMENT_BYTES}")
    if _HAS_MEMFD:
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            raise SegmentInvalid(f"the descriptor is not sealable memory: {error.strerror}") from error
        needed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        if seals & needed != needed:
            raise SegmentInvalid("the segment is not sealed: its creator could still truncate it under us")
        if seals & fcntl.F_SEAL_WRITE:
            raise SegmentInvalid("the segment is sealed against writing")
    return status.st_size


class Segment:
    """A mapped piece of shared memory.

    Attributes:
        size: bytes, a multiple of the page size.
        map: the mapping; slices read and write bytes with one copy.
        words: the mapping as native u64; reads and writes of one element are single 8-byte loads and stores.
        sealed: whether the system guarantees the size.
    """

    __slots__ = ("_fd", "_views", "map", "sealed", "size", "words")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self.sealed = _HAS_MEMFD
        try:
            self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise _typed(error, f"mapping {size} bytes") from error
        self.words = memoryview(self.map).cast("Q")
        self._views = {0: self.words}

    @classmethod
    def create(cls, size: int, *, label: str = "weftos") -> Self:
        """Allocate a new segment, zeroed, sealed and mapped.

        Args:
            size: bytes wanted, rounded up to pages.
            label: shown in ``/proc/<pid>/maps``; no name in any directory.

        Raises:
            ResourceLimitExceeded: above ``limits.MAX_SEGMENT_BYTES``.
            SharedMemoryExhausted: no memory, no descriptor or no space in tmpfs.
            SharedMemoryError: another refusal of the system.
        """
        assert size > 0, "a segment has a size"
        if size > limits.MAX_SEGMENT_BYTES:
            raise ResourceLimitExceeded(f"a segment of {size} bytes; the limit is {limits.MAX_SEGMENT_BYTES}")
        size = -(-size // _PAGE) * _PAGE
        try:
            fd = _create_fd(size, label)
        except OSError as error:
            raise _typed(error, f"allocating a segment of {size} bytes") from error
        try:
            return cls(fd, size)
        except SharedMemoryError:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, *, keep_fd: bool = True) -> Self:
        """Map a segment received from another process.

        Args:
            fd: its descriptor, owned by the segment from here on, also when this raises.
            keep_fd: keep it for ``dup_fd``; an agent that passes nothing on saves a descriptor by saying no.

        Raises:
            SegmentInvalid: not shared memory, not sealed, or of no acceptable size.
            SharedMemoryError: the system refuses to map it.
        """
        try:
            segment = cls(fd, _checked_size(fd))
        except OSError as error:
            os.close(fd)
            raise SegmentInvalid(f"the descriptor cannot be examined: {error.strerror}") from error
        except SharedMemoryError:
            os.close(fd)
            raise
        if not keep_fd:
            os.close(fd)
            segment._fd = -1
        return segment

    def words_from(self, offset: int) -> memoryview:
        """Return a view of the mapping as u64 from a byte offset on; it is released when the segment is closed."""
        view = self._views.get(offset)
        if view is None:
            view = self._views[offset] = self.words[offset // 8 :]
        return view

    @property
    def fd(self) -> int:
        """The descriptor.

        Raises:
            SharedMemoryError: the segment is closed or did not keep it.
        """
        if self._fd < 0:
            raise SharedMemoryError("the segment holds no descriptor any more")
        return self._fd

    def dup_fd(self) -> int:
        """Return a new descriptor of the same segment, close-on-exec, owned by the caller."""
        return fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, 0)

    def close(self) -> None:
        """Give the mapping and the descriptor back. Idempotent. Rings over the segment must not be used afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for view in self._views.values():
            view.release()
        try:
            self.map.close()
        except BufferError:
            # A zero-copy view into the segment is still alive. The mapping cannot go before it; it goes with it.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

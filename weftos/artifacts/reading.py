"""Reading an artifact's file, and never believing it: everything handed out was hashed first.

Why it is as it is: the name of an artifact is a promise about its content, and disks, backups and people break it. A
reader that hashes along could tell only at the end, when its caller has used the beginning, so a stream is hashed once
before its first byte is given out and once more while it is read. The second time it comes from memory, mostly.

Guaranteed: ``read_content`` returns content with the promised hash or raises; an ``ArtifactStream`` gives nothing out
of a file that was damaged when it was opened. Memory: one block, except for ``read_content``, which returns it all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Self

from blake3 import blake3

from weftos import limits
from weftos.artifacts.form import HEADER_BYTES, decode_header
from weftos.errors import ArtifactCorrupted

__all__ = ["ArtifactFile", "ArtifactStream"]


class ArtifactFile:
    """One open file of the store. A context manager.

    Args:
        path: the file.
        digest: the hash that its content must have, 64 hex digits.
        fd: open on it already; see ``of_descriptor``.

    Attributes:
        path: the file.
        identity: device and inode.
        size: bytes of the content; negative if not even the header is there.
        mtime_ns: when it was put last, nanoseconds since 1970 UTC.

    Raises:
        ArtifactCorrupted: there is something else than a file under this name.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, digest: str, *, fd: int | None = None) -> None:
        self._fd = _open(path) if fd is None else fd
        state = os.fstat(self._fd)
        self.path = path
        self.identity = (state.st_dev, state.st_ino)
        if not stat.S_ISREG(state.st_mode):
            if fd is None:
                os.close(self._fd)
            raise ArtifactCorrupted("it is no regular file", path=path, identity=self.identity)
        self.size, self.mtime_ns = state.st_size - HEADER_BYTES, state.st_mtime_ns
        self._digest = digest

    @classmethod
    def of_descriptor(cls, fd: int, digest: str) -> Self:
        """Take an open file that somebody handed over; it is closed with this object, also when this raises.

        Raises:
            ArtifactCorrupted: it is no file.
            OSError: it cannot be examined.
        """
        try:
            return cls(f"/proc/self/fd/{fd}", digest, fd=fd)
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return its descriptor, which stays this object's."""
        return self._fd

    def close(self) -> None:
        """Close the file; doing it again does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def header(self) -> tuple[str, int]:
        """Return content type and time of the first put.

        Raises:
            ArtifactCorrupted: the header is not the one that was written.
            OSError: it cannot be read.
        """
        found = decode_header(os.pread(self._fd, HEADER_BYTES, 0))
        if found is None:
            raise ArtifactCorrupted("its header is damaged", path=self.path, identity=self.identity)
        return found

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes of the content from ``offset``; nothing only at its end."""
        return os.pread(self._fd, count, HEADER_BYTES + offset)

    def blocks(self) -> Iterator[bytes]:
        """Give the content in blocks, from the beginning."""
        offset = 0
        while block := self.read_at(offset, limits.ARTIFACT_CHUNK_BYTES):
            yield block
            offset += len(block)

    def check(self) -> None:
        """Read and hash everything.

        Raises:
            ArtifactCorrupted: header or content are not what was put.
            OSError: it cannot be read.
        """
        self.header()
        hasher = blake3()
        for block in self.blocks():
            hasher.update(block)
        self.compare(hasher.hexdigest())

    def read_content(self) -> bytes:
        """Return the content.

        Raises:
            ArtifactCorrupted: header or content are not what was put.
            OSError: it cannot be read.
        """
        self.header()
        content = b"".join(self.blocks())
        self.compare(blake3(content).hexdigest())
        return content

    def compare(self, digest: str) -> None:
        """Raise ``ArtifactCorrupted`` if this is not the hash that the content must have."""
        if digest != self._digest:
            raise ArtifactCorrupted(f"its content hashes to {digest}", path=self.path, identity=self.identity)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        state = os.lstat(path)
        identity = (state.st_dev, state.st_ino)
        raise ArtifactCorrupted("it is a symbolic link", path=path, identity=identity) from error


class ArtifactStream:
    """The content of an artifact, read bit by bit. A context manager, and an iterator over blocks.

    Made by ``ArtifactStore.open_stream``, which has hashed the whole file already.

    Attributes:
        size: bytes of the content.
        content_type: given with the first put.
    """

    def __init__(
        self, file: ArtifactFile, content_type: str, corrupted: Callable[[ArtifactCorrupted], ArtifactCorrupted]
    ) -> None:
        self._file, self._corrupted = file, corrupted
        self.size, self.content_type = file.size, content_type
        self._offset, self._hasher = 0, blake3()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(limits.ARTIFACT_CHUNK_BYTES):
            yield block

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes; nothing only at the end.

        Args:
            count: how many at most; all that are left if negative.

        Raises:
            ArtifactCorrupted: the end was reached, and what was read is not what was put: the file was changed after
                it was opened. It is told instead of the last piece.
            OSError: the file cannot be read.
        """
        if count < 0:
            return b"".join(self)
        piece = self._file.read_at(self._offset, min(count, max(self.size - self._offset, 0)))
        self._offset += len(piece)
        self._hasher.update(piece)
        if count and (not piece or self._offset == self.size):
            try:
                self._file.compare(self._hasher.hexdigest())
            except ArtifactCorrupted as damage:
                raise self._corrupted(damage) from damage
        return piece

    def close(self) -> None:
        """Close the file; doing it again does nothing."""
        self._file.close()

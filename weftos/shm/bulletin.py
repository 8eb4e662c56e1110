"""A page that one process writes and others only read: a few kilobytes with an epoch.

Why it is as it is: a reader asks "has it changed?" millions of times and "what does it say?" once for each change. So
the epoch is one word, read with one load, and the content behind it is copied only when the epoch is another. The
writer's mapping is the only writable one that there can ever be: the memory is sealed against further ones
(``F_SEAL_FUTURE_WRITE``) before its descriptor leaves the writer, and a fork does not inherit the mapping.

Guaranteed: a reader gets a content whole and as of one epoch, never two halves; epochs only grow. Not guaranteed: that
a reader sees every epoch. Where the system knows no such seal ``create`` says so, and there is no page.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
import zlib
from typing import Final, Self

from weftos import limits
from weftos.errors import SegmentInvalid, SharedMemoryError

__all__ = ["Bulletin", "BulletinReader"]

#: "WEFTRGT1" as a little-endian word.
MAGIC: Final = int.from_bytes(b"WEFTRGT1", "little")
#: Words of the head: format, epoch, epoch that is being written, length and CRC-32 of the content.
_MAGIC, _EPOCH, _BEGUN, _LENGTH, _CRC = range(5)
_HEAD_BYTES: Final = 64
_F_SEAL_FUTURE_WRITE: Final = 0x0010


class Bulletin:
    """The writer's end.

    Attributes:
        fd: to hand to readers; they can map it for reading only.

    Raises:
        SharedMemoryError: there is no memory, or the system knows no such seal.
    """

    def __init__(self, size: int = limits.RIGHTS_PAGE_BYTES) -> None:
        if not (hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS") and hasattr(mmap, "MADV_DONTFORK")):
            raise SharedMemoryError("this system has no memory that can be sealed against further writers")
        self._size = size
        try:
            self.fd = os.memfd_create("weftos-rights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.posix_fallocate(self.fd, 0, size)
                self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                self._map.madvise(mmap.MADV_DONTFORK)
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
            except OSError:
                os.close(self.fd)
                raise
        except OSError as error:
            raise SharedMemoryError(f"a page for readers cannot be made: {error.strerror or error}") from error
        self._words = memoryview(self._map).cast("Q")
        self._words[_MAGIC] = MAGIC

    @property
    def epoch(self) -> int:
        """Of the present content; 0 before the first."""
        return int(self._words[_EPOCH])

    def publish(self, epoch: int, data: bytes) -> None:
        """Put up a new content.

        Args:
            epoch: larger than the one before.
            data: at most the page without its head of 64 bytes.
        """
        words = self._words
        assert epoch > words[_EPOCH], "epochs grow"
        assert len(data) <= self._size - _HEAD_BYTES, "whoever publishes keeps to the size of the page"
        words[_BEGUN] = epoch
        self._map[_HEAD_BYTES : _HEAD_BYTES + len(data)] = data
        words[_LENGTH] = len(data)
        words[_CRC] = zlib.crc32(data)
        words[_EPOCH] = epoch

    def close(self) -> None:
        """Give it up; readers keep what they have mapped."""
        self._words.release()
        self._map.close()
        os.close(self.fd)


class BulletinReader:
    """A reader's end.

    Args:
        fd: of the page; owned by the reader from here on, also when this raises.

    Attributes:
        words: the head; ``words[1]`` is the epoch.

    Raises:
        SegmentInvalid: it is no such page.
    """

    __slots__ = ("_map", "words")

    def __init__(self, fd: int) -> None:
        try:
            size = os.fstat(fd).st_size
            if size < _HEAD_BYTES:
                raise SegmentInvalid(f"a page has {_HEAD_BYTES} bytes or more, not {size}")
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise SegmentInvalid(f"the page of rights cannot be mapped: {error}") from error
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("Q")
        if self.words[_MAGIC] != MAGIC:
            self.close()
            raise SegmentInvalid("the descriptor is no page of rights")

    @property
    def epoch(self) -> int:
        """Of the present content; 0 before the first."""
        return int(self.words[_EPOCH])

    def read(self) -> tuple[int, bytes]:
        """Return the epoch and the content that belongs to it.

        Raises:
            SegmentInvalid: its writer died while writing, or it is broken.
        """
        words = self.words
        deadline = 0.0
        while True:
            epoch, length, crc = words[_EPOCH], words[_LENGTH], words[_CRC]
            data = self._map[_HEAD_BYTES : _HEAD_BYTES + length]
            if words[_BEGUN] == epoch == words[_EPOCH] and zlib.crc32(data) == crc:
                return int(epoch), data
            # Its writer was put aside in the middle of it, for it needs a microsecond.
            now = time.monotonic()
            deadline = deadline or now + limits.RIGHTS_READ_S
            if now >= deadline:
                raise SegmentInvalid("the page of rights is half written: its writer has died, or it is broken")
            time.sleep(limits.POLL_FIRST_S)

    def close(self) -> None:
        """Give it up. Idempotent."""
        self.words.release()
        self._map.close()

    @classmethod
    def open(cls, fd: int) -> Self | None:
        """Return a reader, or ``None`` when there is no page (-1)."""
        return None if fd < 0 else cls(fd)

"""An append-only file of records that survives a kill at any byte: what the stores of the cognitive layer write first.

Why it is as it is: after a crash the end of a file may hold anything, the middle may not. To tell the two apart every
record says how much of the file was on disk before it was written. A broken record is a torn tail, and is cut off,
unless a whole record behind it proves that the place had been synced: that is damage, and nothing is cut.
Format in docs/formats/causal.md.

Guaranteed: what :meth:`Journal.sync` returned for is read again, in order and unchanged, or the opening fails. Content
is bytes; what they mean is the caller's affair. One writer; the caller holds the lock of the folder.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from weftos import limits
from weftos.disk.files import Files, ReadFile, write_all
from weftos.errors import JournalDamaged, JournalFailed

__all__ = ["HEADER_BYTES", "RECORD_HEAD_BYTES", "Journal", "JournalHead", "read_closed", "read_head"]

_MAGIC: Final = b"WEFTJNL1"
_MARK: Final = b"\xf5REC"
#: magic, kind, identity, generation; then 16 bytes of BLAKE3 over them.
_HEADER: Final = struct.Struct("<8s16s16sQ")
#: mark, bytes of content, offset of this record, bytes known to be on disk; then 16 bytes of BLAKE3.
_HEAD: Final = struct.Struct("<4sIQQ")
_DIGEST: Final = 16
HEADER_BYTES: Final = _HEADER.size + _DIGEST
RECORD_HEAD_BYTES: Final = _HEAD.size + _DIGEST


class JournalHead(NamedTuple):
    """What the header of a journal says."""

    identity: bytes
    generation: int


class _Found(NamedTuple):
    content: bytes
    synced: int


def _digest(*parts: bytes) -> bytes:
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest(_DIGEST)


def read_head(path: str, kind: str) -> JournalHead:
    """Read and check the header of a journal.

    Args:
        path: the file.
        kind: what it must hold, the name given to :meth:`Journal.create`.

    Raises:
        JournalDamaged: it is no journal of this kind, or its header was altered.
        OSError: it cannot be read.
    """
    with ReadFile(path) as file:
        return _head_of(file, kind)


def _head_of(file: ReadFile, kind: str) -> JournalHead:
    raw = file.read(0, HEADER_BYTES)
    if len(raw) < HEADER_BYTES or raw[_HEADER.size :] != _digest(raw[: _HEADER.size]):
        raise JournalDamaged(f"{file.path}: the header is not that of a journal; restore the file from a copy")
    magic, found, identity, generation = _HEADER.unpack_from(raw)
    if magic != _MAGIC or found != _kind_bytes(kind):
        name = found.rstrip(b"\0").decode("ascii", "replace")
        raise JournalDamaged(f"{file.path}: a journal of {name!r} is in the place of one of {kind!r}; put it back")
    return JournalHead(identity, generation)


def read_closed(path: str, kind: str) -> Iterator[bytes]:
    """Read a journal that nothing is appended to any more, without changing it.

    Args:
        path: the file.
        kind: what it must hold.

    Yields:
        The content of each record, in order.

    Raises:
        JournalDamaged: it does not end with a whole record: a closed journal has no torn tail.
        OSError: it cannot be read.
    """
    with ReadFile(path) as file:
        reader = _Reader(file, _head_of(file, kind))
        end = HEADER_BYTES
        while (found := reader.record(end)) is not None:
            end += RECORD_HEAD_BYTES + len(found.content)
            yield found.content
        if end != file.size:
            raise JournalDamaged(f"{path}: the record at byte {end} is damaged; restore the file from a copy")


def _kind_bytes(kind: str) -> bytes:
    raw = kind.encode("ascii")
    assert 0 < len(raw) <= 16, f"the kind {kind!r} has not 1 to 16 characters"
    return raw.ljust(16, b"\0")


class _Flight:
    """Records on their way to the disk, in another thread."""

    def __init__(self, content: bytearray) -> None:
        self.content = content
        self.landed = threading.Event()
        self.error: OSError | None = None


class Journal:
    """A journal open for appending. Made by :meth:`create` or :meth:`open`.

    Args:
        fs: the calls on files.
        path: where it lies.
        kind: what it holds, at most 16 ASCII characters.
        head: its header.
        fd: its descriptor for appending.
        size: bytes of it, all on disk.
    """

    def __init__(self, fs: Files, path: str, kind: str, head: JournalHead, fd: int, size: int) -> None:
        self._fs = fs
        self._path = path
        self._kind = kind
        self._head = head
        self._fd = fd
        self._synced = size
        self._pending = bytearray()
        self._flight: _Flight | None = None
        self._failed: OSError | None = None

    @classmethod
    def create(cls, fs: Files, path: str, kind: str, generation: int = 0) -> Journal:
        """Make an empty journal, in place of one that is there; after a crash there is the old or the new one.

        Args:
            fs: the calls on files.
            path: where to make it.
            kind: what it holds.
            generation: the snapshot that it follows.

        Raises:
            OSError: a call failed; the file that was there is still there, or already the new one.
        """
        identity = os.urandom(16)
        fields = _HEADER.pack(_MAGIC, _kind_bytes(kind), identity, generation)
        temporary = f"{path}.tmp"
        if os.path.lexists(temporary):
            fs.unlink(temporary)  # left over by a crash
        fd = fs.create(temporary)
        try:
            write_all(fs, fd, fields + _digest(fields))
            fs.sync_file(fd)
            fs.rename(temporary, path)
            fs.sync_dir(os.path.dirname(path))
        except OSError:
            fs.close(fd)
            raise
        return cls(fs, path, kind, JournalHead(identity, generation), fd, HEADER_BYTES)

    @classmethod
    def open(cls, fs: Files, path: str, kind: str, apply: Callable[[bytes], None]) -> Journal:
        """Read every record in order, cut off a torn tail, and go on behind it.

        Args:
            fs: the calls on files.
            path: the file.
            kind: what it must hold.
            apply: called with the content of each record. What it raises ends the opening; the file stays as it is.

        Raises:
            JournalDamaged: something that had been synced is not there any more; nothing was changed.
            OSError: a call failed.
        """
        with ReadFile(path) as file:
            head = _head_of(file, kind)
            reader = _Reader(file, head)
            end = HEADER_BYTES
            while (found := reader.record(end)) is not None:
                apply(found.content)
                end += RECORD_HEAD_BYTES + len(found.content)
            size = file.size
            if end < size and (witness := reader.proof_of_damage(end)) is not None:
                raise JournalDamaged(
                    f"{path}: the record at byte {end} is damaged, for the record at byte {witness} was written after "
                    "it was on disk; restore the file from a copy"
                )
        fd = fs.open_append(path)
        try:
            if end < size:
                fs.truncate(fd, end)
            # What was read may be in the cache alone: the kill came between write and sync.
            fs.sync_file(fd)
        except OSError:
            fs.close(fd)
            raise
        return cls(fs, path, kind, head, fd, end)

    @property
    def generation(self) -> int:
        """The snapshot that this journal follows."""
        return self._head.generation

    @property
    def size(self) -> int:
        """Bytes of the file once everything appended is written."""
        return self._synced + len(self._pending) + (len(self._flight.content) if self._flight is not None else 0)

    @property
    def synced(self) -> int:
        """Bytes that are on disk."""
        return self._synced

    def append(self, content: bytes) -> None:
        """Add a record; it is in memory until :meth:`sync`.

        Args:
            content: 1 to ``ECC_JOURNAL_RECORD_BYTES`` bytes.

        Raises:
            JournalFailed: an earlier call on the file failed, or the record is too large.
        """
        self._check()
        if not 0 < len(content) <= limits.ECC_JOURNAL_RECORD_BYTES:
            raise JournalFailed(
                f"a record of {len(content)} bytes does not fit a journal; it takes 1 to "
                f"{limits.ECC_JOURNAL_RECORD_BYTES}: make the batch smaller"
            )
        fields = _HEAD.pack(_MARK, len(content), self.size, self._synced)
        self._pending += fields + _digest(self._head.identity, fields, content)
        self._pending += content

    def sync(self) -> int:
        """Bring all appended records onto the disk.

        Returns:
            Bytes on disk.

        Raises:
            JournalFailed: it did not work. What is on disk is unknown, so this journal takes nothing more: open again.
        """
        self._check()
        self.finish_sync()
        bring = self.begin_sync()
        if bring is not None:
            bring()
            self.finish_sync()
        return self._synced

    def begin_sync(self) -> Callable[[], None] | None:
        """Begin what :meth:`sync` does, so that another thread may wait for the disk while records are appended here.

        Returns:
            To be called once, in any thread, and raises nothing; :meth:`finish_sync` tells what came of it. None if
            everything is on disk.

        Raises:
            JournalFailed: an earlier call failed.
        """
        self._check()
        self.finish_sync()
        if not self._pending:
            return None
        flight = self._flight = _Flight(self._pending)
        self._pending = bytearray()
        fs, fd = self._fs, self._fd

        def bring() -> None:
            try:
                write_all(fs, fd, flight.content)
                fs.sync_data(fd)
            except OSError as error:
                flight.error = error
            finally:
                flight.landed.set()

        return bring

    def finish_sync(self) -> None:
        """Wait until what :meth:`begin_sync` gave was done, and take note of it; without one there is nothing to do.

        Raises:
            JournalFailed: it did not work; as for :meth:`sync`.
        """
        flight = self._flight
        if flight is None:
            return
        flight.landed.wait()
        self._flight = None
        if flight.error is not None:
            self._failed = flight.error
            raise self._failure(flight.error) from flight.error
        self._synced += len(flight.content)

    def cut(self, generation: int) -> None:
        """Begin anew behind a snapshot that is on disk and holds all that was appended.

        Args:
            generation: that of the snapshot; larger than this journal's.

        Raises:
            JournalFailed: it did not work; the records are still there, or the new journal is. Open again.
        """
        self._check()
        self.finish_sync()
        assert generation > self.generation, "a snapshot is newer than the journal before it"
        try:
            fresh = Journal.create(self._fs, self._path, self._kind, generation)
        except OSError as error:
            self._failed = error
            raise self._failure(error) from error
        old = self._fd
        self._fd, self._head, self._synced, self._pending = fresh._fd, fresh._head, fresh._synced, bytearray()
        self._fs.close(old)

    def close(self) -> None:
        """Close the file. What was not synced is dropped, as by a crash."""
        if self._flight is not None:
            # Its thread has the descriptor, whose number may be another file's as soon as this one is closed.
            self._flight.landed.wait()
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1

    def _failure(self, error: OSError) -> JournalFailed:
        return JournalFailed(f"{self._path}: {error.strerror}; free the disk and open the store again")

    def _check(self) -> None:
        assert self._fd >= 0, "the journal is closed"
        if self._failed is not None:
            raise JournalFailed(f"{self._path}: failed before ({self._failed.strerror}); open the store again")


class _Reader:
    """Records by offset, read ahead."""

    def __init__(self, file: ReadFile, head: JournalHead) -> None:
        self._file = file
        self._identity = head.identity
        self._start = 0
        self._buffer = b""

    def _bytes(self, offset: int, count: int) -> bytes:
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._buffer):
            self._start, begin = offset, 0
            self._buffer = self._file.read(offset, max(count, limits.CHAIN_READ_BYTES))
        return self._buffer[begin : begin + count]

    def record(self, offset: int) -> _Found | None:
        """Return the whole record at ``offset``, or none."""
        raw = self._bytes(offset, RECORD_HEAD_BYTES)
        if len(raw) < RECORD_HEAD_BYTES:
            return None
        mark, length, own, synced = _HEAD.unpack_from(raw)
        if mark != _MARK or own != offset or not 0 < length <= limits.ECC_JOURNAL_RECORD_BYTES or synced > offset:
            return None
        content = self._bytes(offset + RECORD_HEAD_BYTES, length)
        if len(content) < length or _digest(self._identity, raw[: _HEAD.size], content) != raw[_HEAD.size :]:
            return None
        return _Found(content, synced)

    def proof_of_damage(self, broken: int) -> int | None:
        """Return the offset of a whole record behind ``broken`` that was written after that place was synced."""
        at = broken + 1
        end = self._file.size
        while at < end:
            chunk = self._file.read(at, limits.CHAIN_READ_BYTES)
            place = chunk.find(_MARK)
            while place >= 0:
                found = self.record(at + place)
                if found is not None and found.synced > broken:
                    return at + place
                place = chunk.find(_MARK, place + 1)
            at += max(1, len(chunk) - len(_MARK) + 1)
        return None

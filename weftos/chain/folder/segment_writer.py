"""The segment file that is being written: bytes to the end of it, onto the disk, and over to the next file.

Why it is as it is: a segment gets its name only when its header is on the disk, and only when the segment before it is
complete there. So an unfinished write can be nowhere but at the end of the last file, and a crash between any two
calls leaves a log that can be opened. After a failed call nothing is known about the file any more: Linux reports a
failed sync once and then forgets it, so trying again would pretend. The log stops instead.

Guaranteed: after ``sync`` returned, everything written survives a loss of power, as far as the drive keeps its word.
After any error every further call raises. Nothing that is in the file is ever changed.
"""

from __future__ import annotations

import os
import time
from typing import NoReturn

from weftos.chain.folder.segments import segment_path
from weftos.chain.records.frames import encode_segment_header
from weftos.disk.files import Files, write_all
from weftos.errors import ChainError, StorageFailed

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """The last segment of a log.

    Args:
        fs: file calls.
        directory: of the log.
        log_id: names the log, 16 bytes.

    Attributes:
        number: of the segment; 0 before the first.
        size: bytes of it that were written.
        total: bytes of all segments.
        failed: the error after which nothing can be written any more, or ``""``.
        stopped: why nothing can be written, be it an error or that the file was closed; or ``""``.
        closed: the descriptor was given up.
        syncs: syncs since opening.
        last_sync_s: duration of the last one, in seconds.
    """

    def __init__(self, fs: Files, directory: str, log_id: bytes) -> None:
        self._fs = fs
        self._directory = directory
        self._log_id = log_id
        self._fd = -1
        self._dirty = False
        self.number = self.size = self.total = 0
        self.failed = self.stopped = ""
        self.closed = False
        self.syncs = 0
        self.last_sync_s = 0.0

    def resume(self, number: int, size: int, torn: int, total: int) -> None:
        """Open an existing segment and cut off what is torn.

        Args:
            number: of the last segment.
            size: its good bytes.
            torn: bytes behind them; a copy of them is on the disk already.
            total: good bytes of all segments.

        Raises:
            StorageFailed: a call failed.
        """
        try:
            # A writer killed between giving a file its name and bringing that onto the disk left a name that a loss of
            # power takes back, with all that would be written to the file from now on.
            self._fs.sync_dir(self._directory)
            self._fd = self._fs.open_append(segment_path(self._directory, number))
            if torn:
                self._fs.truncate(self._fd, size)
                self._fs.sync_file(self._fd)
            else:
                # What a crashed writer left may be in the system's memory only; what follows must not outlive it.
                self._fs.sync_data(self._fd)
        except OSError as error:
            self.fail("opening the last segment", error)
        self.number, self.size, self.total = number, size, total

    def begin(self, first_seq: int, prev_hash: bytes, t_ns: int) -> None:
        """Close the segment, with everything in it on the disk, and begin the next.

        Args:
            first_seq: number of the record that comes next.
            prev_hash: hash of the record before it, 32 bytes.
            t_ns: wall clock, nanoseconds since 1970 UTC.

        Raises:
            StorageFailed: a call failed, now or before.
        """
        self.sync()
        path = segment_path(self._directory, self.number + 1)
        header = encode_segment_header(self._log_id, self.number + 1, first_seq, prev_hash, t_ns)
        try:
            fd = self._fs.create(f"{path}.tmp")
            previous, self._fd = self._fd, fd
            if previous >= 0:
                self._fs.close(previous)
            write_all(self._fs, fd, header)
            self._fs.sync_file(fd)
            self._fs.rename(f"{path}.tmp", path)
            self._fs.sync_dir(self._directory)
        except OSError as error:
            self.fail("beginning a segment", error)
        self.number += 1
        self.size = len(header)
        self.total += len(header)

    def write(self, data: bytes | bytearray) -> None:
        """Write to the end of the segment.

        Raises:
            StorageFailed: a call failed, now or before; a part of ``data`` may be in the file.
        """
        if self.stopped:
            raise StorageFailed(self.stopped)
        self._dirty = True
        try:
            write_all(self._fs, self._fd, data)
        except OSError as error:
            self.fail("writing", error)
        self.size += len(data)
        self.total += len(data)

    def sync(self) -> None:
        """Bring what was written onto the disk; errors as for ``write``."""
        if self.stopped:
            raise StorageFailed(self.stopped)
        if not self._dirty:
            return
        started = time.perf_counter()
        try:
            self._fs.sync_data(self._fd)
        except OSError as error:
            self.fail("syncing", error)
        self.last_sync_s = time.perf_counter() - started
        self.syncs += 1
        self._dirty = False

    def fail(self, doing: str, error: OSError | ChainError) -> NoReturn:
        """Stop for good.

        Raises:
            StorageFailed: always.
        """
        self.failed = self.stopped = f"the log stopped: {doing} failed: {getattr(error, 'strerror', None) or error}"
        raise StorageFailed(self.failed) from error

    def close(self) -> None:
        """Give up the descriptor."""
        self.closed = True
        self.stopped = self.failed or "the log is closed"
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            self._fs.close(fd)
        except OSError as error:
            if not self.failed:
                self.fail("closing", error)


def set_aside(fs: Files, directory: str, name: str, data: bytes) -> None:
    """Put bytes that will be cut off into a file of their own, on the disk under its final name or not at all.

    Raises:
        OSError: a call failed.
    """
    path = os.path.join(directory, name)
    fd = fs.create(f"{path}.tmp")
    try:
        write_all(fs, fd, data)
        fs.sync_file(fd)
    finally:
        fs.close(fd)
    fs.rename(f"{path}.tmp", path)
    fs.sync_dir(directory)

"""Verifying segments in several processes.

Why it is as it is: a process per worker takes every n-th segment and sends what it found through a pipe, as msgpack;
the parent reads in the order of the log. Only a program without threads may fork, so with threads, or where fork is
missing, one process does all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from weftos.chain.folder.segments import Listing
from weftos.chain.verification.verify_segment import SegmentFindings, verify_segment
from weftos.errors import ChainError

__all__ = ["segment_findings"]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SegmentFindings).decode


def segment_findings(
    listing: Listing,
    numbers: Sequence[int],
    cuts: tuple[int, ...],
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[SegmentFindings]:
    """Yield what is found in each segment, in the order of the log.

    Args:
        listing: files of the log.
        numbers: segments to verify.
        cuts: as for ``verify_segment``.
        workers: processes at most.
        progress: if this process does all, called with the good records of the segment so far.

    Raises:
        OSError: a file cannot be read.
        ChainError: a worker ended without an answer.
    """
    last = listing.segments[-1]
    workers = min(workers, len(numbers))
    if workers < 2 or threading.active_count() > 1 or not hasattr(os, "fork"):
        for number in numbers:
            yield verify_segment(listing.path(number), number, last=number == last, cuts=cuts, progress=progress)
        return
    crew: list[tuple[int, int]] = []
    try:
        for index in range(workers):
            crew.append(_start(listing, numbers[index::workers], cuts, [fd for _, fd in crew]))
        for index, number in enumerate(numbers):
            answer = _read_answer(crew[index % workers][1])
            if answer is None:
                raise ChainError(f"the process that verified segment {number} ended without an answer")
            yield answer
    finally:
        for pid, fd in crew:
            os.close(fd)  # a worker that still writes ends with a broken pipe
            os.waitpid(pid, 0)


def _start(listing: Listing, numbers: Sequence[int], cuts: tuple[int, ...], others: list[int]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        for fd in (reading, *others):
            os.close(fd)
        with os.fdopen(writing, "wb") as pipe:
            for number in numbers:
                found = verify_segment(listing.path(number), number, last=number == listing.segments[-1], cuts=cuts)
                data = _encode(found)
                pipe.write(len(data).to_bytes(8, "little") + data)
                pipe.flush()
        code = 0
    except OSError as error:
        # The parent finds no answer, and reads the file itself no more; the reason goes where a user sees it.
        os.write(2, f"weaver: a segment cannot be verified: {error}\n".encode())
    finally:
        os._exit(code)


def _read_answer(fd: int) -> SegmentFindings | None:
    length = _read(fd, 8)
    if length is None:
        return None
    data = _read(fd, int.from_bytes(length, "little"))
    return None if data is None else _decode(data)


def _read(fd: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

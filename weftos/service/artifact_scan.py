"""Reads a log for what it says about artifacts. Files alone; for the service, and for ``weaver``.

Why it is as it is: a long log takes seconds of pure interpreter, and a thread of the service that runs it would make
every append wait its turn. So a long log is read by a process of its own, at low priority, which is told a folder and
answers with hashes. It ends when its parent does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from weftos import limits
from weftos.artifacts.holding import REFERENCE, Holdings
from weftos.chain.folder.reader import read_whole
from weftos.errors import ChainCorrupted, ChainError, ServiceUnavailable, WeftError, error_for_code

__all__ = ["held_hashes", "scan_holdings"]

_OURS: Final = "artifact."
_MARK: Final = REFERENCE.encode()
#: Records between two looks whether to go on.
_STRIDE: Final = 1024
#: Pause between two looks whether to go on while a process reads, in seconds.
_LOOK_S: Final = 0.2
#: Records that are read here rather than by a process, whose start takes as long as reading these.
_FEW: Final = 20_000


class _Found(msgspec.Struct):
    """What the process answers: hashes, or an error."""

    hashes: list[str] = []
    code: str = ""
    message: str = ""


def held_hashes(directory: str, stop: int, given_up: Callable[[], bool]) -> set[str]:
    """Return the hashes of what is held, without keeping the other threads of this process from their work.

    Args:
        directory: of the log.
        stop: number of the first record that does not count.
        given_up: asked now and then; when it is true the scan ends.

    Raises:
        ServiceUnavailable: it was given up.
        RecordPruned: the beginning of the log was pruned, so nobody knows what its records hold.
        ChainError: the log cannot be read.
    """
    if stop <= _FEW:
        return scan_holdings(directory, stop, given_up).hashes()
    # -P: what lies in the working directory is not ours.
    command = [sys.executable, "-P", "-m", __name__, directory, str(stop), str(os.getpid())]
    try:
        reader = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603 -- ourselves
    except OSError as error:
        raise ChainError(f"no process to read the log with: {error}") from error
    with reader:
        while True:
            try:
                data, _ = reader.communicate(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if given_up():
                    reader.kill()
                    raise ServiceUnavailable("the service process is ending; ask again") from None
    try:
        found = msgspec.msgpack.decode(data, type=_Found)
    except msgspec.MsgspecError as error:
        raise ChainError(f"the process that was to read the log ended with status {reader.returncode}") from error
    if found.code:
        raise error_for_code(found.code, found.message)
    return set(found.hashes)


def scan_holdings(
    directory: str | os.PathLike[str], stop: int | None = None, given_up: Callable[[], bool] = lambda: False
) -> Holdings:
    """Add up a log.

    Args:
        directory: of the log.
        stop: number of the first record that does not count; ``None`` for all.
        given_up: asked now and then; when it is true the scan ends.

    Raises:
        ServiceUnavailable: it was given up.
        RecordPruned: the beginning of the log was pruned, so nobody knows what its records hold.
        ChainError: the log cannot be read.
    """
    for left in reversed(range(limits.ARTIFACT_SCANS)):
        try:
            return _scan(directory, stop, given_up)
        except ChainCorrupted:
            # A redaction puts a new file in the place of the one that is being read, and overwrites the old.
            if not left:
                raise
    raise AssertionError("the last attempt returns or raises")


def _scan(directory: str | os.PathLike[str], stop: int | None, given_up: Callable[[], bool]) -> Holdings:
    holdings = Holdings()
    seen = 0
    # What a pruned record names must not be taken for loose.
    for record in read_whole(directory, stop=stop):
        seen += 1
        if seen % _STRIDE == 0 and given_up():
            raise ServiceUnavailable("the service process is ending; ask again")
        # Most records have nothing to do with artifacts, and decoding is what takes the time.
        if record.kind.startswith(_OURS) or _MARK in record.salted:
            holdings.take(record.seq, record.header.boot_id, record.kind, record.payload)
    if stop is not None and seen < stop:
        raise ChainError(f"the log in {directory} has {seen} records where {stop} were written")
    return holdings


def main(directory: str, stop: int, parent: int) -> int:
    """Be the process that reads: write the answer to standard output.

    Args:
        directory: of the log.
        stop: number of the first record that does not count.
        parent: process that waits for the answer; without it there is no need for one.

    Returns:
        The exit code.
    """
    os.nice(10)
    try:
        found = _Found(sorted(scan_holdings(directory, stop, lambda: os.getppid() != parent).hashes()))
    except WeftError as error:
        found = _Found(code=error.code, message=str(error))
    try:
        sys.stdout.buffer.write(msgspec.msgpack.encode(found))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 1  # the service is gone, and nobody waits for this
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

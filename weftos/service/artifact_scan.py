"""Reads a log for what it says about artifacts. Files alone; for a thread of the service, and for ``weaver``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from weftos import chain, limits
from weftos.artifacts.holding import REFERENCE, Holdings
from weftos.errors import ChainCorrupted, ServiceUnavailable

__all__ = ["scan_holdings"]

_OURS: Final = "artifact."
_MARK: Final = REFERENCE.encode()
#: Records between two looks whether to go on.
_STRIDE: Final = 1024


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
    for record in chain.read(directory, stop=stop):
        if record.seq % _STRIDE == 0 and given_up():
            raise ServiceUnavailable("the service process is ending; ask again")
        # Most records have nothing to do with artifacts, and decoding is what takes the time.
        if record.kind.startswith(_OURS) or _MARK in record.salted:
            holdings.take(record.seq, record.header.boot_id, record.kind, record.payload)
    return holdings

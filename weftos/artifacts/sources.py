"""Small words around the store: where content comes from, errors of the disk, grace periods."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from weftos import limits
from weftos.errors import ArtifactStorageFailed, InvalidRequest

__all__ = ["Source", "blocks_of", "bytes_of", "grace_border_ns", "storage"]


class Source(Protocol):
    """What content is read from: a file opened for reading bytes, or anything with the same ``read``."""

    def read(self, count: int, /) -> bytes:
        """Return up to ``count`` bytes; nothing only at the end."""


def grace_border_ns(now_s: float, older_than_s: float) -> int:
    """Return the time before which an artifact must have been put to be old enough, nanoseconds since 1970 UTC.

    Raises:
        InvalidRequest: the period is negative or no number.
    """
    if not (older_than_s >= 0 and math.isfinite(now_s - older_than_s)):
        raise InvalidRequest(f"a grace period is a number of seconds from 0 on, not {older_than_s}")
    return int((now_s - older_than_s) * 1e9)


def bytes_of(view: memoryview) -> memoryview:
    """Return a view of single bytes.

    Raises:
        InvalidRequest: the memory is not contiguous.
    """
    if not view.c_contiguous:
        raise InvalidRequest("an artifact is taken from contiguous memory")
    return view.cast("B")


def blocks_of(source: Source) -> Iterator[bytes]:
    """Read a source to its end.

    Raises:
        ArtifactStorageFailed: it cannot be read.
        InvalidRequest: it gives something else than bytes.
    """
    while True:
        try:
            block = source.read(limits.ARTIFACT_CHUNK_BYTES)
        except OSError as error:
            raise ArtifactStorageFailed(f"what was to be stored cannot be read: {error}") from error
        if not isinstance(block, bytes | bytearray):
            raise InvalidRequest(f"an artifact is read as bytes, not as {type(block).__name__}")
        if not block:
            return
        yield block


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn an operating system error into ``ArtifactStorageFailed``, with what was attempted in front."""
    try:
        yield
    except OSError as error:
        raise ArtifactStorageFailed(f"{what}: {error}") from error

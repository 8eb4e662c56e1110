"""Walks a segment in large steps: batches of good records, and every frame that needs a closer look.

Why it is as it is: opening and verifying walk the same way and differ in what they do with what is odd. So the walk
stands here once: the fast loop as far as it goes, then one frame for the caller, then the fast loop again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from weftos import limits
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FRAME_OVERHEAD, MAX_FRAME, frame_problem, read_frame_at
from weftos.chain.records.good_run import Picked, pass_good_records
from weftos.disk.files import ReadFile

__all__ = ["Batch", "OddFrame", "Scanner"]


class Batch(NamedTuple):
    """Good records in a row.

    Attributes:
        first_seq: number of the first.
        entries: their header parts as stored.
        picked: those that were asked for; ``at`` counts from ``base``.
        base: an offset in the file.
    """

    first_seq: int
    entries: list[bytes]
    picked: list[Picked]
    base: int


class OddFrame(NamedTuple):
    """A whole frame that the fast loop did not pass. Its caller moves the cursor on."""

    body: bytes
    offset: int


class Scanner:
    """One walk; iterate over it once, or again from another place after ``go_to``.

    Args:
        file: the segment.
        offset: of the first frame behind its header.
        cursor: the place in the log; moved on with each batch.
        kinds: kinds to pick.
        boot_id: of which all records are picked, 16 bytes, or ``None``.

    Attributes:
        offset: of the frame that comes next; at the end, of the first byte that is no whole frame.
        problem: at the end, ``""`` if the walk ended with the file; otherwise as of ``FrameReader``.
    """

    def __init__(
        self, file: ReadFile, offset: int, cursor: Cursor, *, kinds: frozenset[str], boot_id: bytes | None = None
    ) -> None:
        self._file = file
        self._cursor = cursor
        self._kinds = kinds
        self._boot_id = boot_id
        self._data = b""
        self._base = offset
        self.offset = offset
        self.problem = ""

    def go_to(self, offset: int) -> None:
        """Go on from another place, behind damage."""
        self.offset, self.problem = offset, ""

    def _window(self) -> int:
        """Return where ``offset`` lies in the window, which holds a whole frame from there or the end of the file."""
        at = self.offset - self._base
        if not 0 <= at <= len(self._data) - MAX_FRAME:
            self._base, self._data = self.offset, self._file.read(self.offset, limits.CHAIN_READ_BYTES)
            at = 0
        return at

    def __iter__(self) -> Iterator[Batch | OddFrame]:
        """Yield until the file ends or a frame is not whole."""
        cursor, kinds, boot_id = self._cursor, self._kinds, self._boot_id
        while True:
            at = self._window()
            first, begin = cursor.seq, self.offset
            entries: list[bytes] = []
            picked: list[Picked] = []
            stop = pass_good_records(self._data, at, cursor, entries, picked, kinds=kinds, boot_id=boot_id)
            if stop > at:
                self.offset = self._base + stop
                yield Batch(first, entries, picked, self._base)
                continue
            body = read_frame_at(self._data, at)
            if body is None:
                self.problem = frame_problem(self._data, at)
                return
            self.offset += len(body) + FRAME_OVERHEAD
            yield OddFrame(body, begin)

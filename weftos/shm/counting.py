"""Message counters of a ring that survive the death of an end: how many messages lie before a position.

Why it is as it is: a successor takes over at a position, and its audit windows must go on with the counters of its
predecessor. A word that is raised with each message is one behind when a kill falls between HEAD and it, and costs each
message a store. So an end writes a *mark* now and then (position, and messages before it), and a successor counts the
records from the newest mark to its place. Two marks are written in turn, the position of each last, so that a kill in
the middle leaves the other one.

Guaranteed: between two honest ends the counters agree, whoever was killed when. Not guaranteed: anything about words or
records that a peer has spoiled: then the count is wrong, and the windows of both ends disagree on the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from weftos.errors import RingCorrupted
from weftos.shm import layout
from weftos.shm.arrays import copy_array
from weftos.shm.batches import unpack_batch
from weftos.shm.layout import Geometry
from weftos.shm.segment import Segment

__all__ = ["Marks", "count_before", "count_between", "records_between"]

_BYTES: Final = layout.HEADER_BYTES + layout.RECORD_WORD_BYTES


class Marks:
    """The marks of one end.

    Args:
        segment: of the ring.
        first: index of the first of its four words: ``layout.PUT_MARKS`` or ``layout.GET_MARKS``.
    """

    __slots__ = ("_at", "_first", "_words")

    def __init__(self, segment: Segment, first: int) -> None:
        self._words = segment.words
        self._first = first
        self._at = first

    def write(self, position: int, count: int) -> None:
        """Say that ``count`` messages lie before ``position``."""
        words, at = self._words, self._at
        self._at = 2 * self._first + 2 - at
        words[at] = layout.NOBODY
        words[at + 1] = count & layout.NOBODY
        words[at] = position

    def newest(self, position: int) -> tuple[int, int]:
        """Return the newest mark at or before ``position``, and write the next one over the other."""
        words, first = self._words, self._first
        marks = [(words[at], words[at + 1], at) for at in (first, first + 2)]
        at, count, index = max((mark for mark in marks if mark[0] <= position), default=(0, 0, first))
        self._at = 2 * first + 2 - index
        return at, count


def count_before(segment: Segment, geometry: Geometry, marks: Marks, position: int) -> int:
    """Return how many messages lie before ``position``, a record boundary behind which nothing was overwritten yet."""
    at, count = marks.newest(position)
    count &= layout.NOBODY >> 1  # whoever spoils it shall not make it overflow
    if position - at > geometry.capacity:
        return count  # no mark of an honest end is that old
    return count + count_between(segment, geometry, at, position)


def count_between(segment: Segment, geometry: Geometry, start: int, end: int) -> int:
    """Count the messages whose records end between two boundaries; up to where the bytes make sense."""
    count = 0
    for position, word in records_between(segment, geometry, start, end):
        count += _messages(segment, geometry, position, word)
    return count


def records_between(segment: Segment, geometry: Geometry, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield position and record word of each record between two boundaries; ends early where the bytes make no sense.

    Both ends can write them. What is read here was read before and decides nothing but what is claimed about it.
    """
    words, mask, most = segment.words, geometry.mask, geometry.max_payload
    while start < end:
        word = words[((start & mask) >> 3) + layout.DATA_WORD]
        n = word & 0xFFFFFFFF
        if n > most:
            return
        yield start, word
        start += (n + 15) & -8


def _messages(segment: Segment, geometry: Geometry, position: int, word: int) -> int:
    """How many messages a record holds; a message in fragments is in its last one."""
    kind, n = word >> 32 & 0xFF, word & 0xFFFFFFFF
    at = (position & geometry.mask) + _BYTES
    try:
        if kind in (layout.BATCH_UNIFORM, layout.BATCH_TABLE):
            return len(unpack_batch(kind, segment.map[at : at + n]))
        if kind == layout.RECORDS:
            return len(copy_array(segment, at, n).array)
    except (RingCorrupted, TypeError):
        # Spoiled after it was read; it will not be read again, and the two ends' windows will differ.
        return 0
    if kind == layout.FRAGMENT:
        return int(bool(word >> 40 & layout.FRAG_LAST))
    return 1

"""Remembers what each producer has already put into the log, so that what is submitted again is not logged again.

Why it is as it is: a producer's stream has positions that only grow, and it repeats at most what its ring still holds.
So a window of recent positions per producer is enough, and what lies before the window was either answered long ago
or is a mistake: it is refused rather than logged twice. A producer that floods loses only positions of its own.

Guaranteed: memory stays below ``limits.CHAIN_INDEX_ENTRIES`` entries; an accepted (producer, position) is answered with
the same acknowledgement for as long as it is remembered, and refused afterwards. Not guaranteed: refusal after a
restart of what the rebuilt window does not reach; see ``recovery``.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import Final

from weftos import limits
from weftos.chain.record import Ack
from weftos.errors import AppendRefused

__all__ = ["ProducerIndex"]

#: Stands for the newest record of a producer of which nothing is remembered any more.
_NEVER: Final = Ack(-1, b"", 0)


class ProducerIndex:
    """Windows of recent positions, one per producer.

    Args:
        window: positions remembered per producer.
        entries: positions remembered in all.
    """

    __slots__ = ("_count", "_entries", "_floors", "_window", "_windows")

    def __init__(self, window: int = limits.CHAIN_PRODUCER_WINDOW, entries: int = limits.CHAIN_INDEX_ENTRIES) -> None:
        self._window = window
        self._entries = entries
        self._windows: dict[str | int, dict[int, Ack]] = {}
        self._floors: dict[str | int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, producer: str | int, position: int) -> Ack | None:
        """Return the acknowledgement that this position got, or ``None`` if it is new.

        Raises:
            AppendRefused: the position lies before what is remembered.
        """
        self.check(producer, position)
        return self.recall(producer, position)

    def check(self, producer: str | int, position: int) -> None:
        """Refuse what cannot be told new from old.

        Raises:
            AppendRefused: the position lies before what is remembered.
        """
        if position < self._floors.get(producer, 0) and self.recall(producer, position) is None:
            raise AppendRefused(f"position {position} of {producer!r} lies before what is remembered of it")

    def recall(self, producer: str | int, position: int) -> Ack | None:
        """Return the acknowledgement that this position got, or ``None`` if none is remembered."""
        known = self._windows.get(producer)
        return None if known is None else known.get(position)

    def add(self, producer: str | int, position: int, ack: Ack) -> None:
        """Remember a position."""
        known = self._windows.get(producer)
        if known is None:
            if len(self._windows) >= limits.CHAIN_PRODUCERS:
                self._drop_quietest()
            known = self._windows[producer] = {}
        known[position] = ack
        self._count += 1
        if len(known) > self._window:
            self._drop_half(producer)
        elif self._count > self._entries:
            self._drop_half(max(self._windows, key=lambda name: len(self._windows[name])))

    def forget_before(self, producer: str | int, position: int) -> None:
        """Forget the positions below ``position``: the producer will not submit them again."""
        known = self._windows.get(producer)
        if known is None:
            return
        # Positions arrive in order, with rare exceptions; an exception that stays is dropped with its window.
        old = list(takewhile(lambda known_position: known_position < position, known))
        self._drop(known, old)
        self._raise_floor(producer, position)

    def _drop_half(self, producer: str | int) -> None:
        known = self._windows[producer]
        old = list(islice(known, (len(known) + 1) // 2))
        self._drop(known, old)
        self._raise_floor(producer, max(old) + 1)

    def _drop_quietest(self) -> None:
        """Drop the producer whose newest record is the oldest."""
        name = min(self._windows, key=lambda name: next(reversed(self._windows[name].values()), _NEVER).seq)
        self._count -= len(self._windows.pop(name))
        self._floors.pop(name, None)

    def _drop(self, known: dict[int, Ack], old: list[int]) -> None:
        for position in old:
            del known[position]
        self._count -= len(old)

    def _raise_floor(self, producer: str | int, position: int) -> None:
        self._floors[producer] = max(position, self._floors.get(producer, 0))

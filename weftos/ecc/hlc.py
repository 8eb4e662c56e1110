"""A hybrid logical clock: times that are close to the wall clock and never contradict what follows from what.

Source: Kulkarni, Demirbas, Madappa, Avva, Leone, *Logical Physical Clocks*, OPODIS 2014. A time is one number of 64
bits: 48 bits of milliseconds since 1970 UTC, then 16 bits that count within the millisecond, so times compare as
numbers.

Guaranteed: each time is larger than every one given out or observed before, also when the wall clock is set back or
stands still, and over a restart when the clock is told the last time (:meth:`HybridClock.restore`). A full counter
carries into the milliseconds, so no time is given twice; it runs ahead of the wall clock until that catches up. A time
of another node that is further ahead than the bound is refused, because one node with a wrong clock would pull along
all others for good. Not for several threads.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weftos import limits
from weftos.disk.clock import Clock
from weftos.errors import ClockRefused

__all__ = ["COUNTER_BITS", "HybridClock", "HybridTime", "pack", "unpack"]

COUNTER_BITS: Final = 16
_COUNTERS: Final = 1 << COUNTER_BITS
_LARGEST: Final = (1 << 64) - 1
_NS_PER_MS: Final = 1_000_000


class HybridTime(NamedTuple):
    """A time in its parts: milliseconds since 1970 UTC, and the count within the millisecond."""

    millis: int
    counter: int


def pack(millis: int, counter: int = 0) -> int:
    """Put a time together.

    Raises:
        ClockRefused: a part does not fit its 48 or 16 bits.
    """
    if not (0 <= millis < 1 << 48 and 0 <= counter < _COUNTERS):
        raise ClockRefused(f"{millis} ms and count {counter} make no time; they have 48 and 16 bits")
    return millis << COUNTER_BITS | counter


def unpack(time: int) -> HybridTime:
    """Take a time apart.

    Raises:
        ClockRefused: it is no number of 64 bits.
    """
    if not 0 <= time <= _LARGEST:
        raise ClockRefused(f"{time} is no time; one is a whole number from 0 to 2^64 - 1")
    return HybridTime(time >> COUNTER_BITS, time & (_COUNTERS - 1))


class HybridClock:
    """The clock of one node.

    Args:
        clock: the wall clock beneath.
        last: the last time that this node has given out or seen, from what it keeps; 0 on its first start.
        max_drift_ms: how far a time of another node may be ahead of the wall clock, in milliseconds.

    Raises:
        ClockRefused: ``last`` is no time.
    """

    def __init__(self, clock: Clock, *, last: int = 0, max_drift_ms: int = limits.HLC_DRIFT_MS) -> None:
        assert max_drift_ms >= 0, "a bound is not negative"
        unpack(last)
        self._clock = clock
        self._last = last
        self._max_drift_ms = max_drift_ms

    @property
    def last(self) -> int:
        """The largest time so far: what a node keeps for its next start."""
        return self._last

    @property
    def ahead_ms(self) -> int:
        """Milliseconds by which the last time is ahead of the wall clock; 0 when it is not."""
        return max(0, (self._last >> COUNTER_BITS) - self._wall_ms())

    def now(self) -> int:
        """Return a new time, larger than all before.

        Raises:
            ClockRefused: the 64 bits are used up.
        """
        return self._step(max(self._last + 1, self._wall_ms() << COUNTER_BITS))

    def observe(self, remote: int) -> int:
        """Take note of a time of another node, and return a new one, larger than it and all before.

        Raises:
            ClockRefused: it is no time, or further ahead of the wall clock than the bound. Nothing was noted.
        """
        wall = self._wall_ms()
        ahead = unpack(remote).millis - wall
        if ahead > self._max_drift_ms:
            raise ClockRefused(
                f"the time of another node is {ahead} ms ahead of this one's clock, more than the "
                f"{self._max_drift_ms} ms that are taken; set the clocks of both (NTP)"
            )
        return self._step(max(self._last + 1, remote + 1, wall << COUNTER_BITS))

    def restore(self, last: int) -> None:
        """Go on behind a time of this node's own past, however far ahead it is: it was given out.

        Raises:
            ClockRefused: it is no time.
        """
        unpack(last)
        self._last = max(self._last, last)

    def _step(self, time: int) -> int:
        if time > _LARGEST:
            raise ClockRefused("the hybrid clock has given out its largest time; the clock it was told of is wrong")
        self._last = time
        return time

    def _wall_ms(self) -> int:
        return self._clock.wall_ns() // _NS_PER_MS

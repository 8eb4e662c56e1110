"""When the next cognitive tick comes: often enough to be quick, rarely enough to stay within its share of the time.

Why it is as it is: an interval that follows each tick runs away. One that shrinks by a tenth on every tick without work
is at its least within a second, and then burns the processor for nothing. So the interval changes at most once in a
window, from the ticks that had work; a load in the band between half the budget and a tenth above it changes nothing;
and when it changes, it goes where the load would be at four fifths of the budget, at most to the double or the half.
Ticks without work do not change it: they come at intervals that double, up to the longest, until there is work again.
Intervals are floating-point milliseconds, so that a small one does not round to itself.

Pure: time comes in, an interval comes out.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from weftos import limits
from weftos.errors import ConfigError

__all__ = ["TickController", "TickControllerStatistics", "TickPace"]

#: Share of the budget that an adapted interval aims at, and the band of loads that are left alone.
_AIM: Final = 0.8
_LOW, _HIGH = 0.5, 1.1
#: By how much the interval changes at most, in one window.
_STEP: Final = 2.0
_US_PER_MS: Final = 1000.0
_NS_PER_S: Final = 1_000_000_000


class TickPace(msgspec.Struct, frozen=True):
    """What a controller is set to.

    Attributes:
        tick_interval_ms: the interval at the start, in milliseconds.
        tick_budget_ratio: share of the interval that a tick may take, above 0 to 1.
        adaptive_tick: whether the interval adapts.
        adaptive_window_s: seconds of ticks with work that one adaptation looks at.
        min_ms: shortest interval.
        max_ms: longest interval, and the longest wait when there is no work.
    """

    tick_interval_ms: float = limits.TICK_INTERVAL_MS
    tick_budget_ratio: float = limits.TICK_BUDGET_RATIO
    adaptive_tick: bool = True
    adaptive_window_s: float = limits.TICK_WINDOW_S
    min_ms: float = limits.TICK_MIN_MS
    max_ms: float = limits.TICK_MAX_MS

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a setting is out of its range.
        """
        for name in ("tick_interval_ms", "adaptive_window_s", "min_ms", "max_ms"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"{name} is {getattr(self, name)}; set it above 0")
        if not 0 < self.tick_budget_ratio <= 1:
            raise ConfigError(f"tick_budget_ratio is {self.tick_budget_ratio}; set it above 0, at most to 1")
        if not self.min_ms <= self.tick_interval_ms <= self.max_ms:
            raise ConfigError(
                f"tick_interval_ms is {self.tick_interval_ms}; set it from min_ms ({self.min_ms}) to max_ms "
                f"({self.max_ms})"
            )


class TickControllerStatistics(msgspec.Struct, frozen=True):
    """What a controller has seen.

    Attributes:
        tick_count: ticks, with and without work.
        idle_count: those without.
        current_interval_ms: the interval between ticks with work.
        next_delay_ms: the wait until the next tick.
        avg_compute_us: mean time of the ticks with work.
        max_compute_us: longest of them.
        drift_count: how many took longer than their budget.
        adaptations: how often the interval changed.
    """

    tick_count: int
    idle_count: int
    current_interval_ms: float
    next_delay_ms: float
    avg_compute_us: float
    max_compute_us: float
    drift_count: int
    adaptations: int


class TickController:
    """Decides the interval of ticks. Tell it of each tick with :meth:`record`, then wait for ``next_delay_ms``.

    Args:
        pace: what it is set to.
    """

    def __init__(self, pace: TickPace | None = None) -> None:
        self._pace = pace or TickPace()
        self._interval_ms = float(self._pace.tick_interval_ms)
        self._idle_in_row = 0
        self._ticks = self._idle = self._drifts = self._adaptations = 0
        self._sum_us = self._max_us = 0.0
        self._window_start_ns: int | None = None
        self._window_sum_us = 0.0
        self._window_ticks = 0

    @property
    def interval_ms(self) -> float:
        """The interval between ticks with work."""
        return self._interval_ms

    @property
    def budget_us(self) -> float:
        """What a tick may take, in microseconds."""
        return self._interval_ms * _US_PER_MS * self._pace.tick_budget_ratio

    @property
    def next_delay_ms(self) -> float:
        """How long to wait until the next tick: the interval, doubled for each tick in a row without work."""
        doublings = min(self._idle_in_row, 64)
        return min(self._pace.max_ms, self._interval_ms * 2.0**doublings)

    def record(self, compute_us: float, *, now_ns: int, worked: bool) -> None:
        """Take note of a tick.

        Args:
            compute_us: how long it took, in microseconds.
            now_ns: when it ended, on a monotonic clock, in nanoseconds.
            worked: whether there was anything to do.
        """
        assert compute_us >= 0, "time does not go back"
        self._ticks += 1
        if not worked:
            self._idle += 1
            self._idle_in_row += 1
            return
        self._idle_in_row = 0
        self._sum_us += compute_us
        self._max_us = max(self._max_us, compute_us)
        self._drifts += compute_us > self.budget_us
        if self._pace.adaptive_tick:
            self._adapt(compute_us, now_ns)

    def wake(self) -> None:
        """There is work: the next tick comes after one interval, however long there was none."""
        self._idle_in_row = 0

    def reset(self) -> None:
        """Go back to the interval that was set; counts stay."""
        self.set_interval(self._pace.tick_interval_ms)

    def set_interval(self, interval_ms: float) -> None:
        """Take another interval, as a calibration found it, kept within the bounds; the window begins anew.

        Raises:
            ConfigError: it is not above 0.
        """
        if not (math.isfinite(interval_ms) and interval_ms > 0):
            raise ConfigError(f"an interval of {interval_ms} ms is none; take one above 0")
        self._interval_ms = min(self._pace.max_ms, max(self._pace.min_ms, float(interval_ms)))
        self._window_start_ns = None

    def statistics(self) -> TickControllerStatistics:
        """What it has seen."""
        worked = self._ticks - self._idle
        return TickControllerStatistics(
            tick_count=self._ticks,
            idle_count=self._idle,
            current_interval_ms=self._interval_ms,
            next_delay_ms=self.next_delay_ms,
            avg_compute_us=self._sum_us / worked if worked else 0.0,
            max_compute_us=self._max_us,
            drift_count=self._drifts,
            adaptations=self._adaptations,
        )

    def _adapt(self, compute_us: float, now_ns: int) -> None:
        if self._window_start_ns is None:
            self._window_start_ns, self._window_sum_us, self._window_ticks = now_ns, 0.0, 0
        self._window_sum_us += compute_us
        self._window_ticks += 1
        if now_ns - self._window_start_ns < self._pace.adaptive_window_s * _NS_PER_S:
            return
        load = self._window_sum_us / self._window_ticks / self.budget_us
        self._window_start_ns, self._window_sum_us, self._window_ticks = now_ns, 0.0, 0
        if _LOW <= load <= _HIGH:
            return
        factor = min(_STEP, max(1 / _STEP, load / _AIM))
        wanted = min(self._pace.max_ms, max(self._pace.min_ms, self._interval_ms * factor))
        self._adaptations += wanted != self._interval_ms
        self._interval_ms = wanted

"""A clock for tests that stands still until it is moved."""

from __future__ import annotations


class VirtualClock:
    """Wall and monotonic time, moved by :meth:`pass_ms` together, or each alone."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self.wall = wall_ms * 1_000_000
        self.mono = 5_000_000_000

    def wall_ns(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.mono

    def pass_ms(self, millis: float) -> None:
        self.wall += int(millis * 1_000_000)
        self.mono += int(millis * 1_000_000)

"""A clock for tests, under which the same work gives the same bytes."""

from __future__ import annotations


class Ticking:
    """A clock that moves by a fixed step, which may be negative."""

    def __init__(self, start: int = 1_700_000_000_000_000_000, step: int = 1000) -> None:
        self.now, self.step = start, step

    def wall_ns(self) -> int:
        self.now += self.step
        return self.now

    def mono_ns(self) -> int:
        return abs(self.now) % 10**15

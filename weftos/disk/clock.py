"""The clock that stamps records, as an object, so that a test or a simulation can set it."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time, in nanoseconds. Never less than 0: the format has no sign."""

    def wall_ns(self) -> int:
        """Return the wall clock, nanoseconds since 1970 UTC. It may be set back; the writer copes."""

    def mono_ns(self) -> int:
        """Return the machine's monotonic clock, nanoseconds."""


class SystemClock:
    """The operating system's clocks. The calls are the system's own, without a Python frame between."""

    wall_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)

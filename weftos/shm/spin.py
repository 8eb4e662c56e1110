"""Spinning before sleeping, only where it pays.

Why it is as it is: waking an idle virtual CPU costs about 40 microseconds, more than everything else on a message's
way. A waiter that looks again for about that long answers a quick peer without a sleep. But on one CPU, or when the
peer takes its time, spinning only takes the CPU from those who have work. So a waiter counts how often spinning found
something, and stops after ``limits.SPIN_PATIENCE`` failures in a row; from then on it tries every
``limits.SPIN_PROBE``-th time. It yields between looks, so that a peer on the same CPU gets on. But who yields comes
back only when the others' time is over, and who is woken comes first: so a waiter that was kept for long by those to
whom it yielded sleeps at once, and spins again only after twice as many waits as the last time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from weftos import limits

__all__ = ["Patience", "Pauses", "cpus"]


def cpus() -> int:
    """Return the number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pauses:
    """The growing pauses of a waiter that has nothing to be woken by."""

    __slots__ = ("_length", "_made")

    def __init__(self) -> None:
        self._length = limits.POLL_FIRST_S
        self._made = 0

    def sleep(self, at_most_s: float) -> None:
        """Pause, at most ``at_most_s`` seconds."""
        time.sleep(min(self._length, at_most_s))
        self._made += 1
        if self._made % limits.POLL_STEADY == 0:
            self._length = min(self._length * 2, limits.POLL_LONGEST_S)


class Patience:
    """Decides whether to spin, and spins.

    Args:
        allowed: whether it may at all; by default where there is more than one CPU.
        spin_s: how long, in seconds.

    Attributes:
        hits: spins that found what they waited for.
        misses: spins that did not.
    """

    __slots__ = ("_allowed", "_failures", "_probe", "_skipped", "_spin_s", "hits", "misses")

    def __init__(self, *, allowed: bool | None = None, spin_s: float = limits.SPIN_S) -> None:
        self._spin_s = spin_s
        self._allowed = cpus() > 1 if allowed is None else allowed
        self._failures = 0
        self._skipped = 0
        self._probe = limits.SPIN_PROBE
        self.hits = 0
        self.misses = 0

    def spin(self, done: Callable[[], bool], deadline: float) -> bool:
        """Look until ``done()`` or for ``spin_s``, if it is worth it.

        Args:
            done: the condition; also asked when no spin takes place, once.
            deadline: monotonic time in seconds that ends the spin early.

        Returns:
            Whether ``done()`` held.
        """
        if done():
            return True
        if not self._allowed:
            return False
        if self._failures >= limits.SPIN_PATIENCE:
            self._skipped += 1
            if self._skipped < self._probe:
                return False
            self._skipped = 0
        now, pause = time.monotonic, os.sched_yield
        at = now()
        end = min(at + self._spin_s, deadline)
        while at < end:
            pause()
            # Several looks per yield: the clock and the system call cost as much as a look each.
            if done() or done() or done() or done():
                self._failures = 0
                self.hits += 1
                if now() - at < limits.SPIN_CROWDED_S:
                    self._probe = limits.SPIN_PROBE
                else:
                    self._give_way()
                return True
            before, at = at, now()
            if at - before >= limits.SPIN_CROWDED_S:
                self._give_way()
                break
        self._failures += 1
        self.misses += 1
        return False

    def _give_way(self) -> None:
        self._failures = limits.SPIN_PATIENCE
        self._skipped = 0
        self._probe = min(2 * self._probe, limits.SPIN_PROBE_MAX)

"""The listener of one agent's filter in the kernel's event loop: refused calls in, errors out, at a bounded pace.

Why it is as it is: an agent waits in its refused call until it is answered here, so an agent that does nothing but make
refused calls would have the kernel do nothing but answer. Each has a bucket of tokens; one that is empty is refilled
after a pause, during which the agent's calls wait and cost nobody anything. The pauses grow with the number of agents
that are in one, so that all floods together get no more than one would.

Guaranteed: every call is answered with an error, sooner or later; the loop never waits. When a listener fails, it is
closed, and what is refused then fails with ENOSYS, on no record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from weftos import limits
from weftos.sandbox.notices import Notice, Source

__all__ = ["Listener", "Pace"]


class Pace:
    """What the listeners of a kernel share: how many of them are in a pause."""

    def __init__(self) -> None:
        self.pausing = 0

    def pause_s(self) -> float:
        """Return how long one more has to pause for the calls of one turn, in seconds."""
        return limits.REFUSALS_PER_TURN / limits.REFUSALS_PER_S * (self.pausing + 1)


class Listener:
    """Answers refused calls.

    Args:
        source: owned by the listener from here on.
        pace: shared by all listeners.
        on_refused: called with each call, before it is answered; returns the errno that it gets.
        on_lost: called once, with a reason, when the source failed. Not when all processes have ended.
    """

    def __init__(
        self, source: Source, pace: Pace, on_refused: Callable[[Notice], int], on_lost: Callable[[str], None]
    ) -> None:
        self._source = source
        self._pace = pace
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._tokens = limits.REFUSALS_BURST
        self._filled = time.monotonic()
        self._pause: asyncio.TimerHandle | None = None
        self._open = True
        self._loop.add_reader(source.fd, self._readable)

    def close(self) -> None:
        """Give the source up; calls that wait fail with ENOSYS."""
        if not self._open:
            return
        self._open = False
        self._resume()
        self._loop.remove_reader(self._source.fd)
        self._source.close()

    def _readable(self) -> None:
        self._fill()
        try:
            for _ in range(min(limits.REFUSALS_PER_TURN, self._tokens)):
                notice = self._source.take()
                if notice is None:
                    return
                self._tokens -= 1
                self._source.refuse(notice, self._on_refused(notice))
        except EOFError:
            self.close()
            return
        except OSError as error:
            self.close()
            self._on_lost(f"the listener failed: {error.strerror}")
            return
        if not self._tokens:
            self._loop.remove_reader(self._source.fd)
            self._pause = self._loop.call_later(self._pace.pause_s(), self._go_on)
            self._pace.pausing += 1

    def _fill(self) -> None:
        now = time.monotonic()
        earned = int((now - self._filled) * limits.REFUSALS_PER_S)
        if earned and self._pause is None:
            self._filled = now
            self._tokens = min(limits.REFUSALS_BURST, self._tokens + earned)

    def _go_on(self) -> None:
        self._resume()
        self._tokens = limits.REFUSALS_PER_TURN
        self._filled = time.monotonic()
        self._loop.add_reader(self._source.fd, self._readable)

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._pace.pausing -= 1

"""When an ended agent runs again: policy, back-off and budget. Pure; the clock is passed in.

Vocabulary of Erlang/OTP under the reference's manifest names: ``always`` is OTP's *permanent*, ``on-failure`` is
*transient*, ``never`` is
*temporary*. The budget belongs to the agent, not to one incarnation, so that a crash loop adds up.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from weftos import limits

__all__ = ["POLICIES", "RestartTracker", "wants_restart"]

POLICIES: Final = ("never", "on-failure", "always")


def wants_restart(policy: str, *, abnormal: bool, stop_requested: bool) -> bool:
    """Tell whether the policy asks for a new incarnation. An agent that was asked to stop is never restarted."""
    assert policy in POLICIES
    if stop_requested or policy == "never":
        return False
    return policy == "always" or abnormal


class RestartTracker:
    """Counts restarts of one agent in a sliding window and gives the delay before the next.

    Args:
        max_restarts: restarts allowed within the window.
        window_s: length of the window, seconds.
        backoff_s: delay before the first restart, doubled for each further one up to ``backoff_max_s``.
        stable_s: a run at least this long forgets the past.
    """

    def __init__(
        self,
        max_restarts: int = limits.RESTART_MAX,
        window_s: float = limits.RESTART_WINDOW_S,
        backoff_s: float = limits.RESTART_BACKOFF_S,
        backoff_max_s: float = limits.RESTART_BACKOFF_MAX_S,
        stable_s: float = limits.RESTART_STABLE_S,
    ) -> None:
        self._max = max_restarts
        self._window = window_s
        self._backoff = backoff_s
        self._backoff_max = backoff_max_s
        self._stable = stable_s
        self._times: deque[float] = deque()
        self._streak = 0

    def next_delay(self, now: float, ran_for: float) -> float | None:
        """Record one more restart.

        Args:
            now: monotonic time, seconds.
            ran_for: how long the ended incarnation had run, seconds.

        Returns:
            Seconds to wait before starting again, or ``None`` when the budget is spent and the agent is to be
            quarantined.
        """
        if ran_for >= self._stable:
            self._streak = 0
            self._times.clear()
        while self._times and now - self._times[0] > self._window:
            self._times.popleft()
        if len(self._times) >= self._max:
            return None
        self._times.append(now)
        delay = min(self._backoff * 2.0 ** min(self._streak, 30), self._backoff_max)
        self._streak += 1
        return delay

    def forgive(self) -> None:
        """Forget the past: an operator restarted the agent by hand."""
        self._times.clear()
        self._streak = 0

    @property
    def remaining(self) -> int:
        """Restarts left in the window as of the last one."""
        return max(0, self._max - len(self._times))

"""One thread beside the service's loop, for work that takes milliseconds to seconds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["Beside"]


class Beside:
    """Runs one function at a time; the thread is made when it is first needed.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._work: Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether something was started and not collected."""
        return self._work is not None

    def start(self, work: Callable[[], Any]) -> None:
        """Begin with something; what was before has been collected."""
        assert self._work is None, "one at a time"
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, self._name)
        self._work = self._pool.submit(work)

    def is_done(self) -> bool:
        """Whether there is something to collect."""
        return self._work is not None and self._work.done()

    def collect(self) -> Any:
        """Wait for what is under way, and return its result.

        Raises:
            Exception: whatever the function raised.
        """
        assert self._work is not None, "something was started"
        work, self._work = self._work, None
        return work.result()

    def close(self) -> None:
        """End the thread; what is under way is finished, and not collected."""
        self._work = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

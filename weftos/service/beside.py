"""One thread beside the service's loop, for work on files that takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Beside"]


class Beside:
    """Runs one function at a time; the thread is made when it is first needed.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._todo = threading.Semaphore(0)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._work: Callable[[], Any] | None = None
        self._result: Any = None
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether something was started and not collected."""
        return self._work is not None

    def start(self, work: Callable[[], Any]) -> None:
        """Begin with something; what was before has been collected."""
        assert self._work is None, "one at a time"
        self._work, self._result, self._failure = work, None, None
        self._done.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._todo.release()

    def is_done(self) -> bool:
        """Whether there is something to collect."""
        return self._work is not None and self._done.is_set()

    def collect(self) -> Any:
        """Wait for what is under way, and return its result.

        Raises:
            Exception: whatever the function raised.
        """
        assert self._work is not None, "something was started"
        self._done.wait()
        self._work = None
        if self._failure is not None:
            raise self._failure
        return self._result

    def close(self) -> None:
        """End the thread; what is under way is finished, and not collected."""
        if self._thread is not None:
            if self._work is not None:
                self._done.wait()
            self._work = None
            self._todo.release()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            self._todo.acquire()
            work = self._work
            if work is None:
                return
            try:
                self._result = work()
            except Exception as error:  # whatever it is, it is raised again where somebody collects
                self._failure = error
            self._done.set()

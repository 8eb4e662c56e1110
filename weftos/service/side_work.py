"""Work of the service that takes long, done in threads beside the loop while everything that decides stays in the loop.

A job is a generator. What it yields is a function, which a thread carries out; what that returns comes back as the
value of the ``yield``, what it raises is raised there. So between two yields a job runs in the loop, alone, and may
look at and change what the loop owns; and in a function it may wait for the disk.

    loop:    job ──yield f──▶            ──yield g──▶           return reply
    thread:            f ───▶ wake loop          g ──▶ wake loop

Why it is as it is: hashing a gigabyte takes seconds and everybody's appends would wait for it. Threads suffice, for
hashing and disk calls let go of the interpreter. A thread that finds something which the log must know first asks for
it with ``in_loop`` and waits.

Guaranteed: a job's parts run one after the other. At the end (``close``) no part is begun any more, and those under way
are waited for. Not guaranteed: any order between jobs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeAlias

from weftos import limits
from weftos.errors import ServiceUnavailable, WeftError

__all__ = ["Job", "SideWork"]

Job: TypeAlias = Generator[Callable[[], Any], Any, Any]
OnDone: TypeAlias = Callable[[Any, WeftError | None], None]

#: Longest pause between two looks for what a thread has done, in seconds, while closing.
_LOOK_S: Final = 0.05


class SideWork:
    """Threads, made when they are first needed, and the jobs they work for. All methods but ``in_loop`` are the loop's.

    Args:
        wake: wakes the loop; called from threads.

    Attributes:
        closing: no part is begun any more; long parts look at it and end early.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._pool: ThreadPoolExecutor | None = None
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._under_way = 0
        self.closing = False

    @property
    def active(self) -> int:
        """Jobs that are not done."""
        return self._under_way

    def begin(self, job: Job, on_done: OnDone) -> None:
        """Run a job up to its first part.

        Args:
            job: the generator.
            on_done: called in the loop with what the job returned, or with the error it ended with.
        """
        self._under_way += 1
        self._step(job, on_done, lambda: next(job))

    def turn(self) -> None:
        """Take what threads have done."""
        while True:
            try:
                news = self._news.get_nowait()
            except queue.Empty:
                return
            news()

    def in_loop(self, act: Callable[[], None]) -> None:
        """From a thread: have something done in the loop, and wait for it.

        Raises:
            WeftError: what ``act`` raised.
        """
        done = threading.Event()
        failure: list[WeftError] = []

        def run() -> None:
            try:
                act()
            except WeftError as error:
                failure.append(error)
            finally:
                done.set()

        self._tell(run)
        done.wait()
        if failure:
            raise failure[0]

    def close(self) -> None:
        """End all jobs: parts under way are finished, what would follow them is refused. Idempotent."""
        self.closing = True
        while self._under_way:
            try:
                self._news.get(timeout=_LOOK_S)()
            except queue.Empty:
                continue
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _tell(self, news: Callable[[], None]) -> None:
        self._news.put(news)
        self._wake()

    def _step(self, job: Job, on_done: OnDone, resume: Callable[[], Callable[[], Any]]) -> None:
        try:
            part = resume()
            if self.closing:
                part = job.throw(ServiceUnavailable("the service process is ending; ask again"))
        except StopIteration as end:
            self._under_way -= 1
            on_done(end.value, None)
            return
        except WeftError as error:
            self._under_way -= 1
            on_done(None, error)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(limits.ARTIFACT_THREADS, "side-work")
        self._pool.submit(part).add_done_callback(lambda future: self._tell(lambda: self._resume(job, on_done, future)))

    def _resume(self, job: Job, on_done: OnDone, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            self._step(job, on_done, lambda: job.send(future.result()))
        else:
            self._step(job, on_done, lambda: job.throw(error))

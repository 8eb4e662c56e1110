"""The processes of one measurement: forked, watched, and ended whatever happens.

Why it is as it is: a sender that waits for room in a queue that nobody reads cannot be asked to end, so after the
figures are in, the workers are killed; those whose package leaves files behind when killed get the chance to end by
themselves first. A worker also dies with its parent, so Ctrl-C and even ``kill -9`` of the benchmark leave none.

Guaranteed: when the ``with`` block is left, every worker has been reaped. Not guaranteed: anything about the state of
what they shared; it is thrown away with them.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from weftos.errors import BenchFailed

__all__ = ["Crew", "die_with_parent"]

_PR_SET_PDEATHSIG: Final = 1
#: How long workers may take to end by themselves, in seconds: removing a few files takes milliseconds.
_GRACE_S: Final = 2.0


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG; Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Crew:
    """Workers of one measurement.

    Args:
        graceful: let the workers end by themselves before they are killed.

    Attributes:
        stop: one byte of shared memory; not 0 once the measurement is over.
    """

    def __init__(self, *, graceful: bool = False) -> None:
        self.stop = mmap.mmap(-1, mmap.PAGESIZE)
        self._graceful = graceful
        self._pidfds: dict[int, int] = {}
        self._answers: list[int] = []

    def start(
        self, run: Callable[[], Any], *, answers: bool = False, afterwards: Callable[[], Any] | None = None
    ) -> int:
        """Fork a worker.

        Args:
            run: what it does; its answer is encoded in at most 4096 bytes.
            answers: whether what ``run`` returns is a result, waited for by ``results``.
            afterwards: what it does again and again when it has answered, until it is stopped.

        Returns:
            Its process id.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._work(run, writer, parent, afterwards)
        os.close(writer)
        self._pidfds[pid] = os.pidfd_open(pid)
        if answers:
            self._answers.append(reader)
        else:
            os.close(reader)
        return pid

    def _work(self, run: Callable[[], Any], writer: int, parent: int, afterwards: Callable[[], Any] | None) -> None:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent()
            if os.getppid() == parent:
                gc.collect()
                gc.freeze()
                answer = run()
                if answer is not None:
                    os.write(writer, msgspec.msgpack.encode(answer))
                while afterwards is not None and not self.stop[0]:
                    afterwards()
                code = 0
        except BaseException:
            # The parent sees a worker without an answer; why is told here, because nobody else knows.
            if not self.stop[0]:
                traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def results(self, timeout_s: float) -> list[Any]:
        """Wait for the answers of all workers that give one, in the order of their start.

        Raises:
            BenchFailed: one ended without an answer, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        found = []
        for reader in self._answers:
            if not select.select([reader], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise BenchFailed(f"no result within {timeout_s:g} s")
            # One write of less than PIPE_BUF arrives in one piece (pipe(7)).
            data = os.read(reader, select.PIPE_BUF)
            if not data:
                raise BenchFailed("a worker ended without a result")
            found.append(msgspec.msgpack.decode(data))
        return found

    def close(self) -> None:
        """End and reap all workers. Idempotent."""
        self.stop[0] = 1
        deadline = time.monotonic() + (_GRACE_S if self._graceful else 0)
        for pid, handle in self._pidfds.items():
            select.select([handle], [], [], max(deadline - time.monotonic(), 0))
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(handle)
        self._pidfds.clear()
        for reader in self._answers:
            os.close(reader)
        self._answers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

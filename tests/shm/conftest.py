"""Children of a test: forked, watched through pidfds, never outliving it."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

import pytest


class Child:
    """A forked process that runs one function and exits with 0, or 1 after a traceback."""

    def __init__(self, run: Callable[[], None]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                run()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        self.pidfd = os.pidfd_open(self.pid)
        self.code: int | None = None

    def alive(self) -> bool:
        return self.code is None and not select.select([self.pidfd], [], [], 0)[0]

    def wait(self, timeout: float = 30.0) -> int:
        """Return the exit code, negative for a signal."""
        if self.code is None:
            assert select.select([self.pidfd], [], [], timeout)[0], (
                f"child {self.pid} is still running after {timeout} s"
            )
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
        return self.code

    def kill(self) -> None:
        if self.code is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.wait()


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], None]], Child]]:
    children: list[Child] = []

    def start(run: Callable[[], None]) -> Child:
        children.append(Child(run))
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.fixture
def bell_name() -> str:
    return f"/weftos-test{os.getpid()}-{os.urandom(4).hex()}"

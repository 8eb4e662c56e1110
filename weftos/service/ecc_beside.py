"""Work of the cognitive layer that takes seconds, done by a process of its own for each piece.

Why it is as it is: building a graph over a hundred thousand vectors takes a core for seconds; in this process everybody
would wait for the interpreter or the processor. A new interpreter is started for each piece, which costs half a second:
a fork would copy the locks that other threads hold.

Guaranteed: the process ends when this one does. What it answers has the form that was asked for, or the piece failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from weftos.errors import SealFailed, WeftError
from weftos.service.side_work import Job, SideWork

__all__ = ["Beside"]

R = TypeVar("R")


class Beside:
    """Starts such processes. All methods but ``run`` are the loop's.

    Args:
        work: carries out the waiting.
    """

    def __init__(self, work: SideWork) -> None:
        self._work = work
        self._processes: set[subprocess.Popen[bytes]] = set()

    @property
    def closing(self) -> bool:
        """Whether nothing is begun any more."""
        return self._work.closing

    def turn(self) -> None:
        """Take in what is done."""
        self._work.turn()

    def begin(self, job: Job, on_done: Callable[[Any, WeftError | None], None]) -> None:
        """Begin a job; see ``SideWork.begin``."""
        self._work.begin(job, on_done)

    def close(self) -> None:
        """End the processes and wait for them."""
        self._work.closing = True
        for process in list(self._processes):
            process.kill()
        self._work.close()

    def run(self, work: str, order: Any, answer: type[R]) -> R:
        """In a thread: have a piece of work done.

        Args:
            work: a name of ``ecc_builder``.
            order: what it takes.
            answer: type of what it answers.

        Raises:
            SealFailed: it was not done, and why.
        """
        command = [sys.executable, "-m", "weftos.service.ecc_builder", work, str(os.getpid())]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        except OSError as error:
            raise SealFailed(f"no process for the work {work!r}: {error.strerror}") from error
        self._processes.add(process)
        try:
            if self._work.closing:
                process.kill()
            told, _ = process.communicate(msgspec.msgpack.encode(order))
        finally:
            self._processes.discard(process)
        if process.returncode != 0:
            reason = told.decode(errors="replace")[-300:]
            raise SealFailed(f"the process for {work!r} ended with status {process.returncode}: {reason}")
        try:
            return msgspec.msgpack.decode(told, type=answer)
        except msgspec.MsgspecError as error:
            raise SealFailed(f"the process for {work!r} answered what is none: {error}") from error

"""Forking: how the kernel makes a child, and the handle it keeps.

The kernel forks from its only thread. The child runs the steps of ``weftos.agent.confine`` and then one function, and
leaves by ``os._exit``: nothing of the kernel's stack, exit handlers or event loop runs twice. The handle signals
through a pidfd, so a recycled OS pid is never hit.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable

from weftos.agent import confine
from weftos.errors import SpawnFailed

__all__ = ["ChildHandle", "fork_child"]


class ChildHandle:
    """A child that has been forked and not yet been reaped.

    Args:
        os_pid: its pid in the operating system; also its process group and session.
    """

    def __init__(self, os_pid: int) -> None:
        self.os_pid = os_pid
        self._pidfd: int | None = os.pidfd_open(os_pid) if hasattr(os, "pidfd_open") else None

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the child alone; nothing happens if it has ended."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.os_pid, number)
        except ProcessLookupError:
            return

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the child's process group. Only valid until the child is reaped: until then its number cannot be
        reused.
        """
        try:
            os.killpg(self.os_pid, number)
        except ProcessLookupError:
            # Between fork and setsid the group does not exist yet.
            self.send_signal(number)

    def close(self) -> None:
        """Give up the pidfd, after reaping."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def fork_child(
    run: Callable[[], int],
    *,
    keep: Iterable[int],
    log_fd: int,
    death_signal: signal.Signals = signal.SIGKILL,
) -> ChildHandle:
    """Fork a child that runs one function and exits with what it returns.

    Args:
        run: called in the child, after the hygiene; what it raises is printed to the log and ends the child with status
            1.
        keep: descriptors that the child may keep, besides its log.
        log_fd: where its standard output and error go.
        death_signal: what the child gets when the kernel dies.

    Raises:
        SpawnFailed: the system refuses to fork.
    """
    assert threading.active_count() == 1, "the kernel forks from its only thread"
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [*keep, log_fd]
    parent = os.getpid()
    # What exists now stays untouched by the child's collector, so its pages stay shared.
    gc.freeze()
    # Until the child has signals of its own, one that reaches it would run our handlers there, and those wake our event
    # loop through a socket that both share: a child told to stop would stop the kernel. ``reset_signals`` unblocks.
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    os_pid = -1
    try:
        os_pid = os.fork()
    except OSError as error:
        raise SpawnFailed(f"the system refuses to fork: {error.strerror}") from error
    finally:
        if os_pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if os_pid:
        gc.unfreeze()
        return ChildHandle(os_pid)
    code = 1
    try:
        confine.enter_session()
        confine.die_with_parent(parent, death_signal)
        confine.reset_signals()
        confine.standard_streams(log_fd)
        confine.close_descriptors(kept)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

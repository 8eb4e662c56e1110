"""The one place that reaps. SIGCHLD is only a hint: each time, everything that has changed is taken.

The kernel is a child subreaper: processes that an agent leaves behind come to it, are recognised as strangers, and end
here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from resource import struct_rusage
from typing import Final

__all__ = ["become_subreaper", "reap", "strays"]

_PR_SET_CHILD_SUBREAPER: Final = 36


def become_subreaper() -> bool:
    """Become the new parent of orphaned descendants (Linux prctl(2)); returns whether the system offers it."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap(
    ours: Callable[[int], bool],
    ended: Callable[[int, int, struct_rusage], None],
    paused: Callable[[int, bool], None],
) -> None:
    """Take every change of state of every child.

    Args:
        ours: whether the kernel forked an OS pid. What is left of such a child's process group is killed before the
            child is reaped, while its number cannot belong to anybody else.
        ended: called with OS pid, wait status and resource usage of each child that was reaped.
        paused: called with OS pid and whether it stopped (true) or continued (false).
    """
    while (info := _peek(os.WSTOPPED | os.WCONTINUED)) is not None:
        paused(info.si_pid, info.si_code == os.CLD_STOPPED)
    while (info := _peek(os.WEXITED | os.WNOWAIT)) is not None:
        if ours(info.si_pid):
            _kill_group(info.si_pid)
        pid, status, usage = os.wait4(info.si_pid, 0)
        ended(pid, status, usage)


def _peek(what: int) -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, what | os.WNOHANG)
    except ChildProcessError:
        return None


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody but the zombie itself is left in it.
        return


def strays(known: Callable[[int], bool]) -> list[int]:
    """OS pids of the kernel's children that it did not fork: orphans of agents."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return []
    return [pid for pid in children if not known(pid)]

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
_OPTIONS: Final = os.WNOHANG | os.WUNTRACED | getattr(os, "WCONTINUED", 0)


def become_subreaper() -> bool:
    """Become the new parent of descendants whose parent ended (Linux prctl(2)); returns whether the system offers it."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def reap(known: Callable[[int], bool], observe: Callable[[int, int, struct_rusage], None]) -> int:
    """Take every change of state of every child.

    Args:
        known: whether an OS pid is a child that the kernel forked. The rest of such a child's process group is killed
            before the
            child is reaped, while its number cannot belong to anybody else.
        observe: called with pid, wait status and resource usage for each change.

    Returns:
        How many children remain unreaped is not known; this is how many changes were taken.
    """
    taken = 0
    while True:
        if hasattr(os, "waitid"):
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return taken
            if info is not None and known(info.si_pid):
                _kill_group(info.si_pid)
        try:
            pid, status, usage = os.wait4(-1, _OPTIONS)
        except ChildProcessError:
            return taken
        if pid == 0:
            return taken
        taken += 1
        observe(pid, status, usage)


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

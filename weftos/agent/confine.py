"""What happens between fork and the agent's program: a clean process, held by the limits it was given.

Order matters and follows the dangers: first a session of its own (so that the kernel can kill all of it), then the
death signal (so that nothing outlives the kernel), then signals, descriptors and limits. Each step that cannot be taken
on this system is reported, not hidden; the returned list says what is really in force. Sources: setsid(2), prctl(2),
setrlimit(2), proc(5).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterable
from typing import Final

from weftos.governance.capability import ResourceLimits
from weftos.sandbox.libc import prctl

__all__ = ["apply_limits", "close_descriptors", "die_with_parent", "enter_session", "reset_signals"]

_PR_SET_PDEATHSIG: Final = 1


def enter_session() -> None:
    """Become leader of a new session and process group."""
    os.setsid()


def die_with_parent(parent_os_pid: int, death_signal: signal.Signals) -> bool:
    """Ask to be signalled when the parent's forking thread ends; end now if that has already happened.

    Returns:
        Whether the system offers it (Linux only).
    """
    if sys.platform != "linux":
        return False
    try:
        prctl(_PR_SET_PDEATHSIG, int(death_signal))
    except OSError:
        return False
    if os.getppid() != parent_os_pid:
        os._exit(0)
    return True


def reset_signals() -> None:
    """Give every signal its default action and unblock all, as in a fresh process; SIGPIPE stays ignored, as Python
    expects.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number in (signal.SIGKILL, signal.SIGSTOP):
            continue
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_descriptors(keep: Iterable[int]) -> None:
    """Close every descriptor but the named ones and 0, 1, 2."""
    low = 3
    for fd in sorted(set(keep)):
        if fd > low:
            os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, _highest_descriptor() + 1)


def _highest_descriptor() -> int:
    try:
        return max(int(name) for name in os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(soft, 1 << 16)


def standard_streams(log_fd: int) -> None:
    """Read nothing, and write both output streams to the agent's log."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    if null > 2:
        os.close(null)


def mapped_bytes() -> int:
    """Address space of this process in bytes (Linux: /proc/self/statm), or 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def apply_limits(wanted: ResourceLimits) -> list[str]:
    """Set the resource limits of this process; 0 leaves a limit as it is.

    Memory is limited as address space *above* what is mapped now: a flat limit would forbid even the interpreter's own
    mappings.

    Returns:
        What is in force, for example ``rlimit:memory`` or, where it failed, ``unavailable:memory (reason)``.
    """
    base = mapped_bytes()
    cpu = wanted.cpu_seconds
    table: list[tuple[str, int, tuple[int, int] | None]] = [
        ("core", resource.RLIMIT_CORE, (0, 0)),
        ("memory", resource.RLIMIT_AS, _pair(base + wanted.memory_bytes) if wanted.memory_bytes and base else None),
        # The soft limit sends SIGXCPU, which names the cause; the hard one is there for a program that ignores it.
        ("cpu", resource.RLIMIT_CPU, (cpu, cpu + 1) if cpu else None),
        ("descriptors", resource.RLIMIT_NOFILE, _pair(wanted.descriptors) if wanted.descriptors else None),
        ("file", resource.RLIMIT_FSIZE, _pair(wanted.file_bytes) if wanted.file_bytes else None),
    ]
    if wanted.processes and os.geteuid() != 0:
        # Counts processes and threads of a user, which is the agent's own where it has one, and does not bind root; the
        # kernel's own sampling counts the session either way.
        table.append(("processes", resource.RLIMIT_NPROC, _pair(wanted.processes)))
    report = []
    for name, which, pair in table:
        if pair is None:
            continue
        try:
            _soft, hard = resource.getrlimit(which)
            ceiling = pair[1] if hard == resource.RLIM_INFINITY else min(pair[1], hard)
            resource.setrlimit(which, (min(pair[0], ceiling), ceiling))
            report.append(f"rlimit:{name}")
        except (OSError, ValueError) as error:
            report.append(f"unavailable:{name} ({error})")
    return report


def _pair(value: int) -> tuple[int, int]:
    return value, value

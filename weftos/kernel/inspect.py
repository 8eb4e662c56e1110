"""What the operating system knows about one process: memory, CPU time, descriptors, switches, control group.

One read of a process is one ``Observation``; the kernel asks for it when somebody inspects an agent and when it samples
usage. A process may vanish at any moment between two reads, and some facts need rights that the kernel may not have:
each fact is then missing on its own (zero or empty) and the others stand. It guarantees that the facts belong to one
process and not to a successor under the same number; it does not guarantee that they belong to one instant. It never
waits: everything comes from ``/proc``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import psutil

__all__ = [
    "Observation",
    "cgroup_of",
    "descriptor_count",
    "observe",
    "parse_cgroup",
    "parse_rollup",
    "session_processes",
]

T = TypeVar("T")

#: What psutil and /proc raise when a process is gone or not ours to look at.
_UNREADABLE = (psutil.AccessDenied, psutil.NoSuchProcess, OSError)


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one process. A fact that could not be read is 0 or empty; sizes are bytes, times seconds.

    Attributes:
        os_pid: process id.
        status: state as the system names it (``sleeping``, ``running``, ``stopped``, ``zombie``, …).
        created_at: start, seconds since 1970.
        rss_bytes: resident memory.
        uss_bytes: memory that would be freed if it ended. 0 unless ``detailed``.
        pss_bytes: memory with shared pages divided among their users. 0 unless ``detailed``.
        cpu_seconds: CPU time of all its threads, user and system.
        threads: threads.
        open_files: open regular files. 0 unless ``detailed``.
        descriptors: open descriptors of all kinds.
        voluntary_switches: context switches because it waited.
        involuntary_switches: context switches because its time slice was over.
        processes: processes in its session, itself included. 0 unless ``detailed``.
        cgroup: path of its control group.
        uid: its user; -1 when unknown.
        gid: its group; -1 when unknown.
        unknown: names of the facts above that could not be read. 0 and empty mean nothing there.
    """

    os_pid: int
    status: str
    created_at: float
    rss_bytes: int = 0
    uss_bytes: int = 0
    pss_bytes: int = 0
    cpu_seconds: float = 0.0
    threads: int = 0
    open_files: int = 0
    descriptors: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    processes: int = 0
    cgroup: str = ""
    uid: int = -1
    gid: int = -1
    unknown: list[str] = []


def observe(os_pid: int, *, detailed: bool = True, rollup: int = -1) -> Observation | None:
    """Look at a process.

    Args:
        os_pid: process id.
        detailed: also read what costs the system a walk through memory maps, descriptors or the process list (tens to
            hundreds of microseconds, more for large processes); the sampler does without.
        rollup: descriptor of the process's ``/proc/PID/smaps_rollup``, which it opened itself: a process whose memory
            is closed tells others its shares of memory only by that, unless they are root.

    Returns:
        What could be read, or ``None`` when the process does not exist, ended while being read, or is only waiting to
        be reaped.
    """
    try:
        process = psutil.Process(os_pid)
        with process.oneshot():
            observation = _read(process, detailed=detailed, rollup=rollup)
            status = process.status()
        # The number may have been given to a new process since: psutil compares the start times.
        alive = process.is_running() and status != psutil.STATUS_ZOMBIE
    except (*_UNREADABLE, ValueError, OverflowError):
        return None
    return observation if alive else None


def _read(process: psutil.Process, *, detailed: bool, rollup: int) -> Observation:
    memory = _fact(process.memory_info)
    times = _fact(process.cpu_times)
    switches = _fact(process.num_ctx_switches)
    users, groups = _fact(process.uids), _fact(process.gids)
    uss, pss = _shares(process, rollup) if detailed else (0, 0)
    files = _fact(process.open_files) if detailed else ()
    seen = {"uss_bytes": uss, "pss_bytes": pss, "open_files": files}
    return Observation(
        os_pid=process.pid,
        status=str(process.status()),
        created_at=process.create_time(),
        rss_bytes=memory.rss if memory else 0,
        uss_bytes=uss or 0,
        pss_bytes=pss or 0,
        cpu_seconds=round(times.user + times.system, 6) if times else 0.0,
        threads=_fact(process.num_threads) or 0,
        open_files=len(files or ()),
        descriptors=descriptor_count(process.pid),
        voluntary_switches=switches.voluntary if switches else 0,
        involuntary_switches=switches.involuntary if switches else 0,
        processes=len(session_processes(process.pid)) if detailed else 0,
        cgroup=cgroup_of(process.pid),
        uid=users.real if users else -1,
        gid=groups.real if groups else -1,
        unknown=[name for name, value in seen.items() if value is None],
    )


def _shares(process: psutil.Process, rollup: int) -> tuple[int | None, int | None]:
    """Memory of its own, and its part of what is shared: bytes, ``None`` where it cannot be read."""
    full = _fact(process.memory_full_info)
    if full is not None:
        # These two exist on Linux only; elsewhere psutil's tuple is shorter.
        return getattr(full, "uss", 0), getattr(full, "pss", 0)
    text = _fact(lambda: os.pread(rollup, 4096, 0)) if rollup >= 0 else None
    if not text:
        return None, None
    return parse_rollup(text.decode("ascii", "replace"))


def parse_rollup(text: str) -> tuple[int, int]:
    """Unique and proportional memory in bytes from the text of ``/proc/PID/smaps_rollup`` (proc(5))."""
    sizes = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        words = rest.split()
        if colon and words and words[0].isdecimal():
            sizes[name] = int(words[0]) * 1024
    unique = sum(sizes.get(f"Private_{kind}", 0) for kind in ("Clean", "Dirty", "Hugetlb"))
    return unique, sizes.get("Pss", 0)


def descriptor_count(os_pid: int) -> int:
    """Open descriptors of a process; 0 when it has ended, or where only root may know."""
    folder = f"/proc/{os_pid}/fd"
    try:
        return len(os.listdir(folder))
    except PermissionError:
        # Its memory is closed. Since Linux 6.2 the folder's size tells the number, to everybody.
        with suppress(OSError):
            return os.stat(folder).st_size
        return 0
    except OSError:
        return 0


def _fact(read: Callable[[], T]) -> T | None:
    """One fact, or ``None`` when this one cannot be read."""
    try:
        return read()
    except _UNREADABLE:
        return None


def cgroup_of(os_pid: int) -> str:
    """Path of the process's control group, from ``/proc/PID/cgroup``; empty when it cannot be read or there is none.

    With version 2 that is the one path after ``0::``. On a machine with version 1 or both, the memory controller's path
    is given, because memory is what an agent is limited by.
    """
    try:
        with open(f"/proc/{os_pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return parse_cgroup(file.read())
    except OSError:
        return ""


def parse_cgroup(text: str) -> str:
    """Pick the path out of the text of ``/proc/PID/cgroup`` (cgroups(7)): lines of ``hierarchy:controllers:path``."""
    unified = memory = ""
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    return memory or unified


def session_processes(session: int) -> list[int]:
    """Process ids in a session, in order; empty when the session has none.

    An agent leads a session of its own, so these are the agent and what it started, orphans included. A process that
    left the session (setsid) is not among them.
    """
    found: list[int] = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session:
                found.append(pid)
        except OSError:
            # It ended since the list was made, or may not be asked about.
            continue
    return found

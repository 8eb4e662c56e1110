"""What the machine offers to any kernel: the interpreter, memory that is shared, processes that are watched.

Everything that can be tried is tried, since what a version number promises a container may take away.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.doctor.findings import Finding, State
from weftos.errors import WeftError
from weftos.home import Home
from weftos.ids import instance_tag
from weftos.shm import Doorbell, Segment, fence

__all__ = ["cpus", "descriptors", "disk", "memory", "packages", "processes", "python", "semaphores", "shared_memory"]

_found = partial(Finding, area="machine")
_ORDERED: Final = ("x86_64", "AMD64")
_SUBREAPER: Final = 36
#: Below this, agents and rings run out before the table of processes is full.
_DESCRIPTORS: Final = 4096
_LITTLE_MEMORY: Final = 256 * 2**20
_PAGE: Final = 4096


def python(_home: Home) -> Sequence[Finding]:
    """The interpreter and the system."""
    detail = f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        means = "agents are not confined, do not end with a killed kernel, and shared memory is not sealed"
        return [_found(name="python", state="limited", detail=detail, means=means)]
    return [_found(name="python", state="ok", detail=detail)]


def packages(_home: Home) -> Sequence[Finding]:
    """The packages that are needed, by what the installed distribution asks for."""
    try:
        needed = importlib.metadata.requires("weftos") or []
    except importlib.metadata.PackageNotFoundError:
        means = "weftos runs from a folder without being installed; what it needs cannot be looked up"
        return [_found(name="packages", state="limited", detail="weftos is not installed", means=means)]
    found, missing = [], []
    for text in needed:
        if "extra ==" in text:
            continue
        name = next((text[:at] for at, sign in enumerate(text) if not (sign.isalnum() or sign in "-_.")), text)
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        step = f"install {', '.join(missing)}, or weftos again"
        return [_found(name="packages", state="failed", detail=f"missing: {', '.join(missing)}", next_step=step)]
    return [_found(name="packages", state="ok", detail=", ".join(found))]


def cpus(_home: Home) -> Sequence[Finding]:
    """Cores, and whether stores are seen in order."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    detail = f"{usable} usable, {platform.machine()}"
    if usable == 1:
        means = "agents and the service share one core: messages wait for a turn of the scheduler"
        return [_found(name="cpus", state="limited", detail=detail, means=means)]
    if platform.machine() not in _ORDERED:
        means = "every published message costs a memory barrier"
        return [_found(name="cpus", state="limited", detail=detail, means=means)]
    return [_found(name="cpus", state="ok", detail=detail)]


def memory(_home: Home) -> Sequence[Finding]:
    """Main memory that is free."""
    free = psutil.virtual_memory().available
    detail = f"{free // 2**20} MiB available"
    if free < _LITTLE_MEMORY:
        means = f"an agent needs about 6 MiB, a kernel with its service about 150; {limits.MAX_PROCESSES} are allowed"
        return [_found(name="memory", state="limited", detail=detail, means=means, next_step="end something else")]
    return [_found(name="memory", state="ok", detail=detail)]


def shared_memory(_home: Home) -> Sequence[Finding]:
    """A segment, made and sealed, and the barrier between those that share it."""
    try:
        with Segment.create(_PAGE, label="weftos-doctor") as segment:
            sealed = segment.sealed
    except WeftError as error:
        step = "raise the limit that the message names; rings are made of this memory"
        return [_found(name="shared memory", state="failed", detail=str(error), next_step=step)]
    findings = []
    if sealed:
        findings.append(_found(name="shared memory", state="ok", detail="memfd, sealed against shrinking"))
    else:
        means = "a hostile agent can cut off memory that it shares, and so kill whom it shares it with"
        findings.append(_found(name="shared memory", state="limited", detail="without seals", means=means))
    if fence.mode() == "membarrier":
        findings.append(_found(name="barriers", state="ok", detail="membarrier"))
    else:
        means = "a sleeping agent may notice a message up to 50 ms late"
        findings.append(_found(name="barriers", state="limited", detail="no membarrier", means=means))
    return findings


def semaphores(home: Home) -> Sequence[Finding]:
    """A doorbell, made, rung and removed."""
    try:
        bell = Doorbell.create(f"/weftos-{instance_tag(str(home.root))}-{secrets.token_hex(8)}")
        try:
            bell.post()
            rung = bell.wait(1.0)
        finally:
            bell.unlink()
            bell.close()
    except WeftError as error:
        step = "mount a tmpfs at /dev/shm that this user may write to"
        return [_found(name="semaphores", state="failed", detail=str(error), next_step=step)]
    state: State = "ok" if rung else "failed"
    return [
        _found(name="semaphores", state=state, detail="a bell rings" if rung else "a bell that is rung stays silent")
    ]


def processes(_home: Home) -> Sequence[Finding]:
    """How children are watched: by descriptor, and those of dead agents too."""
    findings = [_signalled_by_descriptor()]
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_SUBREAPER + 1, ctypes.byref(ctypes.c_int()), 0, 0, 0) == 0:
        findings.append(_found(name="strays", state="ok", detail="child subreaper"))
    else:
        means = "what an agent leaves behind is not found by the kernel when the agent ends"
        findings.append(_found(name="strays", state="limited", detail="no child subreaper", means=means))
    return findings


def _signalled_by_descriptor() -> Finding:
    if not hasattr(os, "pidfd_open"):
        means = "processes are signalled by number, which the system may give to another one"
        return _found(name="process descriptors", state="limited", detail="no pidfd", means=means)
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "read x"], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 0)])
    try:
        handle = os.pidfd_open(child)
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            ended = bool(select.select([handle], [], [], 5.0)[0])
        finally:
            os.close(handle)
    except OSError as error:
        os.kill(child, signal.SIGKILL)
        step = "allow pidfd_open and pidfd_send_signal in the container's seccomp profile"
        return _found(name="process descriptors", state="failed", detail=str(error), next_step=step)
    finally:
        os.waitpid(child, 0)
    detail = "an end is seen at once" if ended else "an end is not seen"
    return _found(name="process descriptors", state="ok" if ended else "failed", detail=detail)


def descriptors(_home: Home) -> Sequence[Finding]:
    """How many files and processes this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    detail = f"{soft} open files, up to {shown}"
    findings = []
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        means = f"an agent costs the kernel about ten; with {hard} about {hard // 10} agents can live"
        step = f"raise the hard limit of open files (ulimit -Hn) to {_DESCRIPTORS} or more"
        findings.append(_found(name="open files", state="limited", detail=detail, means=means, next_step=step))
    else:
        findings.append(_found(name="open files", state="ok", detail=detail))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1] if hasattr(resource, "RLIMIT_NPROC") else -1
    shown = "unlimited" if most == resource.RLIM_INFINITY else str(most)
    if os.geteuid() == 0:
        means = "the system does not hold root to a number of processes: a fork bomb is ended by sampling alone"
        step = "run the kernel as a user of its own"
        findings.append(_found(name="processes", state="limited", detail="as root", means=means, next_step=step))
    else:
        findings.append(_found(name="processes", state="ok", detail=f"{shown} for this user"))
    return findings


def disk(home: Home) -> Sequence[Finding]:
    """Room and waits of the disk under the instance; a file is written, synced and removed beside it."""
    folder = next(one for one in (home.root, *home.root.parents) if one.is_dir())
    try:
        free = shutil.disk_usage(folder).free
        waits = _waits(folder)
    except OSError as error:
        step = f"make {folder} writable, or set WEFTOS_HOME to a folder that is"
        return [_found(name="disk", state="failed", detail=f"{folder}: {error}", next_step=step)]
    wait = sorted(waits)[len(waits) // 2]
    detail = f"{free // 2**20} MiB free under {folder}, a sync takes {wait * 1e3:.2g} ms"
    if free < _LITTLE_MEMORY:
        means = "the log stops, and everything that must be on it, when the disk is full"
        return [_found(name="disk", state="limited", detail=detail, means=means, next_step="make room")]
    return [_found(name="disk", state="ok", detail=detail)]


def _waits(folder: Path, monotonic: Callable[[], float] | None = None) -> list[float]:
    from time import perf_counter

    clock = monotonic or perf_counter
    files, waits = RealFiles(), []
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as scratch:
        fd = files.create(f"{scratch}/probe")
        try:
            for _ in range(9):
                files.write(fd, bytes(_PAGE))
                began = clock()
                files.sync_data(fd)
                waits.append(clock() - began)
        finally:
            files.close(fd)
    return waits

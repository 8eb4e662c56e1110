"""What a killed kernel leaves behind, found and removed by the next boot; and what this machine can enforce at all."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from weftos.errors import ConfigError
from weftos.home import Home
from weftos.ids import instance_tag
from weftos.kernel.groups import AgentGroups
from weftos.sandbox import landlock
from weftos.sandbox.offers import offers
from weftos.shm import fence, sweep

__all__ = ["INSTANCE_VARIABLE", "clean", "enforcement", "process_name"]

#: Set in the environment of every kernel, and so inherited by everything that its agents execute.
INSTANCE_VARIABLE: Final = "WEFTOS_INSTANCE"


def clean(home: Home, prefix: str, uids: range = range(0)) -> list[str]:
    """Remove stale semaphores and kill orphaned processes of this instance. The instance lock must be held.

    Args:
        home: the instance.
        prefix: prefix of its semaphore names.
        uids: users that its agents may be.

    Returns:
        One sentence for each thing that was found.

    Raises:
        ConfigError: something that is no socket lies where the control socket has to be.
    """
    found = []
    names = sweep(prefix)
    if names:
        found.append(f"{len(names)} semaphores of an earlier boot were removed")
    for os_pid in orphans(home, uids):
        try:
            os.kill(os_pid, signal.SIGKILL)
            found.append(f"OS process {os_pid} of an earlier boot was killed")
        except ProcessLookupError:
            continue
    try:
        home.socket.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{home.socket} is in the way of the control socket and cannot be removed: {error.strerror}; move it away"
        ) from error
    return found


def orphans(home: Home, uids: range = range(0)) -> list[int]:
    """OS pids of processes that carry this instance's mark in their environment and are not this process or its
    parents.

    Args:
        home: the instance.
        uids: users that its agents may be.
    """
    mark = f"{INSTANCE_VARIABLE}={home.root}".encode()
    name = process_name(instance_tag(str(home.root))).encode()
    spared = _lineage()
    found = []
    for entry in Path("/proc").iterdir() if sys.platform == "linux" else ():
        if not entry.name.isdecimal() or int(entry.name) in spared:
            continue
        try:
            if _is_marked(entry, mark, name, uids):
                found.append(int(entry.name))
        except OSError:
            # It ended, or it belongs to somebody else.
            continue
    return found


def _is_marked(process: Path, mark: bytes, name: bytes, uids: range) -> bool:
    """Whether a process has the mark, or, if its memory is closed to us, the name that only a confined agent has.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except PermissionError:
        # What a confined process forked (not: executed) is closed as it is, has its name, and cannot change it.
        if (process / "comm").read_bytes().strip() != name:
            return False
        owner = _owner(process)
        return owner == os.geteuid() or owner in uids


def _owner(process: Path) -> int:
    """The user of a process, whose folder belongs to root once its memory is closed."""
    for line in (process / "status").read_bytes().splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    raise OSError("no user in status")


def process_name(tag: str) -> str:
    """Short name of a confined process, 15 bytes at most; by it what a killed kernel leaves is known.

    Args:
        tag: of the instance; see ``ids.instance_tag``.
    """
    return f"wo-{tag}"[:15]


def _lineage() -> set[int]:
    lineage = {os.getpid()}
    pid = os.getppid()
    while pid > 1 and pid not in lineage:
        lineage.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            break
        pid = int(stat.rpartition(b")")[2].split()[1])
    return lineage


def enforcement(no_users: str, groups: AgentGroups) -> tuple[list[str], list[str]]:
    """Tell which limits this machine enforces on agents, and in one sentence each what it does not.

    Args:
        no_users: why agents have no users of their own; empty if they do.
        groups: their control groups.
    """
    whole = "cgroup v2, " if "memory" in groups.controllers else ""
    enforced = [
        f"memory: {whole}rlimit and sampling",
        "cpu: rlimit",
        "descriptors: rlimit",
        "files: rlimit",
        "messages: sampling",
    ]
    many = "cgroup v2, " if "pids" in groups.controllers else ""
    many += "sampling" if os.geteuid() == 0 and no_users else "rlimit and sampling"
    enforced.append(f"processes: {many}")
    lacking = []
    if "memory" not in groups.controllers:
        lacking.append(f"memory is limited per process, not per agent: {groups.why}")
    if no_users and os.geteuid() == 0:
        lacking.append(f"agents are not users of their own: {no_users}")
    if sys.platform != "linux":
        lacking.append("agents do not end with a killed kernel: only Linux has parent-death signals")
    offered = offers()
    if not offered.landlock:
        lacking.append("Landlock is absent: files are not closed to agents, and strict agents cannot be started")
    elif offered.landlock < landlock.LATEST:
        lacking.append(f"Landlock has ABI {offered.landlock} of {landlock.LATEST}: some rights over files stay open")
    if not offered.seccomp:
        lacking.append("system calls cannot be filtered: network and processes are not closed to agents")
    if "membarrier" not in fence.mode():
        lacking.append("no membarrier: a sleeping agent may notice a message up to 50 ms late")
    return enforced, lacking

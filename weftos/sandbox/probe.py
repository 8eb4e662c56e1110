"""What of a sandbox is really in force, tried from inside: what is shown of an agent is measured, not configured."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from weftos.sandbox import privileges, seccomp
from weftos.sandbox.libc import syscall
from weftos.sandbox.measure import Measure, MeasureState
from weftos.sandbox.offers import controllers
from weftos.sandbox.plan import Plan
from weftos.sandbox.syscalls import number_of

__all__ = ["REQUIRED", "lacking", "probe"]

#: What a strict agent is not started without.
REQUIRED: Final = ("privileges", "closed memory", "files", "calls", "network", "programs", "signals")


def probe(plan: Plan, failed: Mapping[str, str], limits_in_force: list[str]) -> list[Measure]:
    """Try every part.

    Args:
        plan: what was to be put in force.
        failed: what was not, and why; see ``apply.confine``.
        limits_in_force: ``rlimit:…``, as they were set.

    Returns:
        What was found, part by part.
    """
    parts: tuple[tuple[str, Callable[[Plan], tuple[MeasureState, str]]], ...] = (
        ("privileges", _privileges),
        ("closed memory", _memory),
        ("files", _files),
        ("calls", _calls),
        ("network", _network),
        ("programs", _programs),
        ("signals", _signals),
    )
    found = []
    for name, look in parts:
        if not plan.confined:
            found.append(Measure(name, "open", "the profile is trusted"))
            continue
        state, detail = look(plan)
        why = failed.get(name, "")
        found.append(Measure(name, state, f"{detail}; {why}" if why else detail))
    return [*found, *_limits(limits_in_force), _scratch(plan)]


def lacking(plan: Plan, measures: list[Measure]) -> list[str]:
    """Return what a strict agent must not be without, and is; nothing for the other profiles."""
    if plan.profile != "strict":
        return []
    states = {one.name: one.state for one in measures}
    opened = {"network"} if plan.network else set()
    return [name for name in REQUIRED if states[name] != "enforced" and name not in opened]


def _refused(attempt: Callable[[], object], *codes: int) -> bool:
    """Make an attempt that should fail; returns whether it was refused with one of the errors."""
    try:
        attempt()
    except OSError as error:
        return error.errno in codes
    return False


def _privileges(_plan: Plan) -> tuple[MeasureState, str]:
    try:
        held = privileges.capabilities_held()
    except OSError as error:
        return "partial", f"unknown: {error}"
    user = f"user {os.geteuid()}"
    return ("partial", f"{user}, capabilities {held:x}") if held else ("enforced", f"{user}, no capabilities")


def _memory(_plan: Plan) -> tuple[MeasureState, str]:
    closed = privileges.memory_is_closed()
    return ("enforced", "not dumpable") if closed else ("absent", "others of this user may look into it")


def _files(plan: Plan) -> tuple[MeasureState, str]:
    home = plan.places.home
    seen = not _refused(lambda: os.listdir(home), errno.EACCES)
    made = not _refused(lambda: os.mkdir(os.path.join(home, ".probe")), errno.EACCES)
    if made:
        os.rmdir(os.path.join(home, ".probe"))
    if seen or made:
        return "absent", f"the kernel's folder {'can be written to' if made else 'can be read'}"
    return "enforced", f"Landlock; {len(plan.readable)} paths to read and {len(plan.writable)} to write were given"


def _calls(_plan: Plan) -> tuple[MeasureState, str]:
    if not seccomp.filter_in_force():
        return "absent", "system calls are not filtered"
    # Harmless where it is allowed: nothing has the key 0.
    tried = _refused(lambda: syscall(number_of("keyctl"), 0, 0, 0), errno.EPERM)
    return ("enforced", "seccomp") if tried else ("partial", "a filter is in force, and keyctl passes it")


def _network(plan: Plan) -> tuple[MeasureState, str]:
    if plan.network:
        return "open", "given by can_network and sandbox.network"
    closed = all(
        _refused(partial(_open_socket, family, kind), errno.EPERM, errno.EACCES)
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    return ("enforced", "no sockets") if closed else ("absent", "sockets can be made")


def _open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def _programs(plan: Plan) -> tuple[MeasureState, str]:
    if plan.execute:
        return "open", "given by can_exec_tools; they are confined as the agent is"
    # Without a filter there is no file of this name.
    closed = _refused(lambda: os.execv("", ["none"]), errno.EPERM)  # noqa: S606, S607
    return ("enforced", "none can be executed") if closed else ("absent", "programs can be executed")


def _signals(_plan: Plan) -> tuple[MeasureState, str]:
    parent = os.getppid()
    closed = _refused(lambda: os.kill(parent, 0), errno.EPERM)
    return ("enforced", "to what it started alone") if closed else ("absent", "others of this user can be signalled")


def _limits(in_force: list[str]) -> list[Measure]:
    groups = controllers()
    group = f"cgroup v2 has {' '.join(groups)}, and is not used" if groups else "cgroup v2 absent"
    held = {one.removeprefix("rlimit:") for one in in_force if one.startswith("rlimit:")}
    memory = "rlimit + sampling" if "memory" in held else "sampling"
    many = "rlimit + sampling" if "processes" in held else "sampling: rlimit does not bind root"
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [
        Measure("memory", "partial", f"{memory}; {group}"),
        Measure("processes", "enforced" if "processes" in held else "partial", many),
        Measure("descriptors", "enforced" if "descriptors" in held else "open", f"rlimit: {soft}"),
    ]


def _scratch(plan: Plan) -> Measure:
    path = os.path.join(plan.places.scratch, ".probe")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.unlink(path)
    except OSError as error:
        return Measure("scratch", "absent", f"{plan.places.scratch} cannot be written to: {error.strerror}")
    return Measure("scratch", "partial", "size of a file: rlimit; sum: sampling")

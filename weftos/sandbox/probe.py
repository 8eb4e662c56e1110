"""What of a sandbox is really in force, tried from inside: what is shown of an agent is measured, not configured."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from weftos.sandbox import identity, privileges, seccomp
from weftos.sandbox.groups import own_path
from weftos.sandbox.libc import syscall
from weftos.sandbox.measure import Measure, MeasureState
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
        ("user", _user),
        ("privileges", _privileges),
        ("closed memory", _memory),
        ("files", _files),
        # Where refused calls are shown to the kernel, that was tried when its listener was given away: each of them
        # waits for the kernel.
        ("calls", partial(_calls, tried="refused calls" not in failed)),
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
        if why and state == "enforced":
            # An agent that is a user of its own is refused by its user what was tried, and not all else for that.
            state = "partial"
        found.append(Measure(name, state, f"{detail}; {why}" if why else detail))
    return [*found, *_limits(plan, limits_in_force), _scratch(plan)]


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


def _user(plan: Plan) -> tuple[MeasureState, str]:
    if plan.user is None:
        return "absent", f"the kernel's ({os.geteuid()}): {plan.why_not or 'no other was given'}"
    named = f"user {os.geteuid()}, group {os.getegid()}"
    if not identity.is_now(plan.user):
        return "partial", f"{named}, and not all of it was changed"
    if identity.may_go_back():
        return "partial", f"{named}, and it can become another"
    return "enforced", f"{named}, no other groups, no way back"


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
    given = f"{len(plan.readable)} paths to read and {len(plan.writable)} to write were given"
    return "enforced", f"the kernel's folder is closed; {given}"


def _calls(_plan: Plan, *, tried: bool = False) -> tuple[MeasureState, str]:
    if not seccomp.filter_in_force():
        return "absent", "system calls are not filtered"
    if tried:
        return "enforced", "seccomp"
    # Harmless where it is allowed: nothing has the key 0.
    refused = _refused(lambda: syscall(number_of("keyctl"), 0, 0, 0), errno.EPERM)
    return ("enforced", "seccomp") if refused else ("partial", "a filter is in force, and keyctl passes it")


def _network(plan: Plan) -> tuple[MeasureState, str]:
    if plan.network:
        return "open", "given by can_network and sandbox.network"
    # Each one waits for the kernel's answer, and the filter refuses the call as a whole: one socket of the network and
    # one of files tell of all.
    closed = all(
        _refused(partial(_open_socket, family), errno.EPERM, errno.EACCES)
        for family in (socket.AF_INET, socket.AF_UNIX)
    )
    return ("enforced", "no sockets") if closed else ("absent", "sockets can be made")


def _open_socket(family: int) -> None:
    socket.socket(family, socket.SOCK_STREAM).close()


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


def _limits(plan: Plan, in_force: list[str]) -> list[Measure]:
    held = {one.removeprefix("rlimit:") for one in in_force if one.startswith("rlimit:")}
    grouped = set(plan.group_limits) if _in_group(plan) else set()
    memory = "rlimit + sampling" if "memory" in held else "sampling"
    whole = "memory.max" in grouped
    many = "rlimit" if "processes" in held else "sampling: rlimit does not bind root"
    if "processes" in held:
        many += ", for this user alone" if plan.user is not None else ", for all of this user's"
    if "pids.max" in grouped:
        many = f"cgroup v2; {many}"
    bound = "pids.max" in grouped or "processes" in held
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found = [
        Measure("memory", "enforced" if whole else "partial", _memory_words(plan, memory, whole=whole)),
        Measure("processes", "enforced" if bound else "partial", many),
        Measure("descriptors", "enforced" if "descriptors" in held else "open", f"rlimit: {soft}"),
    ]
    if plan.group:
        entered = f"cgroup v2: {plan.group}" + (f" with {' '.join(plan.group_limits)}" if plan.group_limits else "")
        inside = _in_group(plan)
        found.append(Measure("control group", "enforced" if inside else "absent", entered if inside else "not entered"))
    return found


def _memory_words(plan: Plan, memory: str, *, whole: bool) -> str:
    if whole:
        return f"cgroup v2, for all of the agent; {memory}"
    return f"{memory}; {plan.group_why or 'cgroup v2 does not limit memory'}"


def _in_group(plan: Plan) -> bool:
    """Whether this process is where the kernel wanted it, by what the system says."""
    if not plan.group:
        return False
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = own_path(file.read())
    except OSError:
        return False
    return path is not None and os.path.basename(path) == plan.group


def _scratch(plan: Plan) -> Measure:
    path = os.path.join(plan.places.scratch, ".probe")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.unlink(path)
    except OSError as error:
        return Measure("scratch", "absent", f"{plan.places.scratch} cannot be written to: {error.strerror}")
    return Measure("scratch", "partial", "size of a file: rlimit; sum: sampling")

"""Which files a confined agent reaches: the rules of its profile and those that it was given, opened and checked.

Why it is as it is: Landlock's rules only add, so a folder that contains something closed cannot be opened as a whole;
what lies in it is opened entry by entry, around the closed part. Paths that somebody named are opened without following
a symbolic link: whoever may write on the way could lead them anywhere.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from weftos.errors import SandboxFailed
from weftos.sandbox import landlock
from weftos.sandbox.libc import syscall
from weftos.sandbox.plan import Plan
from weftos.sandbox.syscalls import number_of

__all__ = [
    "PathRule",
    "beneath",
    "closed_to",
    "common_rules",
    "interpreter_paths",
    "may_read",
    "opened",
    "program_paths",
    "rules_for",
]

#: Of the system: libraries and programs, and the settings that they read. Nothing that names users' secrets.
_SYSTEM: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt")
_SETTINGS: Final = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "alternatives",
    "localtime",
    "timezone",
    "nsswitch.conf",
    "resolv.conf",
    "hosts",
    "host.conf",
    "gai.conf",
    "services",
    "protocols",
    "passwd",
    "group",
    "mime.types",
    "os-release",
    "lsb-release",
    "debian_version",
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "terminfo",
    "locale.alias",
    "locale.conf",
    "magic",
)
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ABOUT_THE_MACHINE: Final = ("/proc", "/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm")
_SEMAPHORES: Final = "/dev/shm"  # noqa: S108 -- where Linux keeps the doorbells

_RESOLVE_NO_SYMLINKS: Final = 0x04
_MOST_ENTRIES: Final = 10_000


class PathRule(NamedTuple):
    """Rights over a path and all below it.

    Attributes:
        path: absolute.
        rights: of ``landlock``.
        named: whether somebody named it; it has to be there then, and must not lead through symbolic links.
    """

    path: str
    rights: int
    named: bool = False


def beneath(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or lies in it. Both are absolute and normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def rules_for(plan: Plan) -> list[PathRule]:
    """Return the rules of an agent.

    Raises:
        SandboxFailed: a path that it was given lies in what is closed to it, or cannot be listed.
    """
    places = plan.places
    closed = closed_to(plan)
    rules = list(common_rules(closed))
    for path in program_paths(places.program):
        if beneath(os.path.realpath(path), os.path.realpath(places.home)):
            # Whoever keeps programs in the instance's folder may; what the kernel keeps there is no program.
            if any(beneath(os.path.realpath(path), os.path.realpath(one)) for one in places.inner):
                raise SandboxFailed(f"{path} belongs to the kernel; it cannot be a program")
            rules.append(PathRule(path, landlock.READ))
        else:
            rules += [PathRule(one, landlock.READ) for one in _around(path, closed)]
    for paths, rights in ((plan.readable, landlock.READ), (plan.writable, landlock.WRITE | landlock.EXECUTE)):
        for path in paths:
            lent = (places.scratch, *(places.lendable if rights == landlock.READ else ()))
            if any(beneath(path, one) for one in closed) and not any(beneath(path, one) for one in lent):
                raise SandboxFailed(f"{path} belongs to the kernel; an agent cannot be given it")
            whole = not any(beneath(one, path) for one in closed)
            rules += [PathRule(one, rights, named=one == path) for one in ([path] if whole else _around(path, closed))]
    rules.append(PathRule(places.scratch, landlock.WRITE | landlock.EXECUTE))
    return rules


def may_read(plan: Plan, path: str) -> bool:
    """Return whether an agent with this plan may read a file.

    Raises:
        SandboxFailed: as for ``rules_for``.
    """
    if not plan.confined:
        return True
    real = os.path.realpath(path)
    reading = (rule.path for rule in rules_for(plan) if rule.rights & landlock.READ_FILE)
    return any(beneath(real, os.path.realpath(one)) for one in reading)


def closed_to(plan: Plan) -> tuple[str, ...]:
    """Return the places of the kernel that are closed to an agent, without symbolic links."""
    return tuple(os.path.realpath(path) for path in (plan.places.home, *plan.places.protected))


@lru_cache(maxsize=4)
def common_rules(closed: tuple[str, ...]) -> tuple[PathRule, ...]:
    """Return the rules that all agents have. Kept: the kernel asks before it forks, and the agents inherit the answer.

    Args:
        closed: places that no rule may open; see ``closed_to``.

    Raises:
        SandboxFailed: a folder around one of them cannot be listed.
    """
    rules = [PathRule(path, landlock.USE) for path in _DEVICES]
    rules += [PathRule(path, landlock.READ_FILE | landlock.READ_DIR) for path in _ABOUT_THE_MACHINE]
    rules.append(PathRule(_SEMAPHORES, landlock.SEMAPHORES))
    settings = (f"/etc/{name}" for name in _SETTINGS)
    for path in (*_SYSTEM, *settings, *interpreter_paths()):
        if os.path.exists(path):
            rules += [PathRule(one, landlock.READ) for one in _around(path, closed)]
    return tuple(_needed(rules))


def _needed(rules: list[PathRule]) -> Iterator[PathRule]:
    """Yield rules without those that say nothing new: /lib leads into /usr on most systems. Each costs every start."""
    real = [os.path.realpath(rule.path) for rule in rules]
    for rule, own in zip(rules, real, strict=True):
        wider = (
            other.rights & rule.rights == rule.rights and own != path and beneath(own, path)
            for other, path in zip(rules, real, strict=True)
        )
        if not any(wider):
            yield rule


def interpreter_paths() -> list[str]:
    """Return where Python and the installed packages are: what the agent may import."""
    paths = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, os.path.realpath(sys.executable)}
    paths |= {path for path in sysconfig.get_paths().values() if os.path.isdir(path)}
    # A folder on the path that is the root, or the working directory, was meant for whoever started the kernel.
    paths |= {path for path in sys.path if os.path.isabs(path) and path != "/" and os.path.exists(path)}
    for name in ("weftos", "weftos_workers"):
        module = sys.modules.get(name)
        if module is not None and module.__file__ is not None:
            paths.add(os.path.dirname(module.__file__))
    shortest: list[str] = []
    for path in sorted({os.path.realpath(path) for path in paths} - {"/"}):
        if not shortest or not beneath(path, shortest[-1]):
            shortest.append(path)
    return shortest


def program_paths(path: str | None) -> Iterator[str]:
    """Yield the program's file and the modules beside it: files and packages of Python, nothing else of its folder.

    Raises:
        SandboxFailed: the folder cannot be listed.
    """
    if path is None:
        return
    yield path
    folder = os.path.dirname(path)
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_ENTRIES:
                    return
                package = entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py"))
                if entry.name.endswith(".py") or package or entry.name == "__pycache__":
                    yield entry.path
    except OSError as error:
        raise SandboxFailed(f"the folder of the program cannot be listed: {error}") from error


def _around(path: str, closed: Iterable[str]) -> Iterator[str]:
    """Yield a path, or what is in it around closed parts."""
    real = os.path.realpath(path)
    if any(beneath(real, one) for one in closed):
        return
    if not any(beneath(one, real) for one in closed):
        yield path
        return
    try:
        names = os.listdir(path)
    except OSError as error:
        raise SandboxFailed(f"{path} holds what is closed to agents, and cannot be listed: {error}") from error
    if len(names) > _MOST_ENTRIES:
        raise SandboxFailed(f"{path} holds what is closed to agents among more than {_MOST_ENTRIES} entries")
    for name in sorted(names):
        entry = os.path.join(path, name)
        if not os.path.islink(entry):
            yield from _around(entry, closed)


def opened(rule: PathRule) -> int | None:
    """Open the path of a rule; ``None`` if it is not there, and nobody named it.

    Raises:
        SandboxFailed: somebody named it, and it is not there or leads through a symbolic link.
    """
    flags = os.O_PATH | os.O_CLOEXEC
    try:
        if not rule.named:
            return os.open(rule.path, flags)
        how = struct.pack("=QQQ", flags, 0, _RESOLVE_NO_SYMLINKS)
        at = -100  # AT_FDCWD; the path is absolute
        name = ctypes.create_string_buffer(os.fsencode(rule.path))
        return syscall(number_of("openat2"), at, name, ctypes.create_string_buffer(how, len(how)), len(how))
    except OSError as error:
        if not rule.named:
            return None
        real = os.path.realpath(rule.path)
        hint = f"; it leads to {real}, name that" if real != rule.path and Path(real).exists() else ""
        raise SandboxFailed(f"{rule.path} cannot be given to the agent: {error.strerror}{hint}") from error

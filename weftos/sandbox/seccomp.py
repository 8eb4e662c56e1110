"""seccomp: a filter over the system calls of a process and of all that it starts, which nothing takes off again."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from weftos.sandbox.bpf import CallRule, assemble, encode
from weftos.sandbox.libc import prctl
from weftos.sandbox.syscalls import ARCHITECTURES, HIGHEST, numbers_of

__all__ = ["compiled", "filter_in_force", "install", "offered", "prepare"]

_SET_SECCOMP: Final = 22
_GET_SECCOMP: Final = 21
_MODE_FILTER: Final = 2
_ACTIONS: Final = Path("/proc/sys/kernel/seccomp/actions_avail")


def offered() -> bool:
    """Return whether filters exist here, and the numbers of this machine's calls are known."""
    return sys.platform == "linux" and platform.machine() in ARCHITECTURES and _ACTIONS.exists()


@lru_cache(maxsize=32)
def compiled(machine: str, rules: tuple[CallRule, ...], missing: frozenset[str]) -> bytes:
    """Return the filter for some rules; see ``bpf.assemble``.

    Raises:
        KeyError: there is no table for this machine.
    """
    return encode(assemble(rules, numbers_of(machine), ARCHITECTURES[machine][1], HIGHEST, missing))


def prepare(rules: Iterable[CallRule], missing: frozenset[str]) -> None:
    """Make a filter, so that processes forked later have it at hand.

    Raises:
        KeyError: there is no table for this machine.
    """
    compiled(platform.machine(), tuple(rules), missing)


def install(rules: Iterable[CallRule], missing: frozenset[str]) -> None:
    """Put a filter in force for this thread and all that it starts.

    Raises:
        OSError: ``no_new_privs`` is not set, or the system refuses.
        KeyError: there is no table for this machine.
    """
    code = compiled(platform.machine(), tuple(rules), missing)
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a length, and behind padding a pointer.
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def filter_in_force() -> bool:
    """Return whether this process has a filter.

    Raises:
        OSError: the system does not have it.
    """
    return prctl(_GET_SECCOMP) == _MODE_FILTER

"""seccomp: a filter over the system calls of a process and of all that it starts, which nothing takes off again."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from weftos.sandbox.bpf import CallRule, assemble, encode
from weftos.sandbox.libc import prctl, syscall
from weftos.sandbox.syscalls import ARCHITECTURES, HIGHEST, number_of, numbers_of

__all__ = ["compiled", "filter_in_force", "install", "install_with_listener", "notifies", "offered", "prepare"]

_SET_SECCOMP: Final = 22
_GET_SECCOMP: Final = 21
_MODE_FILTER: Final = 2
_ACTIONS: Final = Path("/proc/sys/kernel/seccomp/actions_avail")
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 1 << 3
#: Linux 5.19: once the listener has received a call, only its end interrupts it, so that it is not made and seen twice.
_WAIT_KILLABLE: Final = 1 << 5


def offered() -> bool:
    """Return whether filters exist here, and the numbers of this machine's calls are known."""
    return sys.platform == "linux" and platform.machine() in ARCHITECTURES and _ACTIONS.exists()


def notifies() -> bool:
    """Return whether refused calls can be shown to another process, which answers them (Linux 5.0)."""
    return offered() and "user_notif" in _ACTIONS.read_text(encoding="ascii").split()


@lru_cache(maxsize=32)
def compiled(machine: str, rules: tuple[CallRule, ...], missing: frozenset[str], *, notify: bool = False) -> bytes:
    """Return the filter for some rules; see ``bpf.assemble``.

    Raises:
        KeyError: there is no table for this machine.
    """
    return encode(assemble(rules, numbers_of(machine), ARCHITECTURES[machine][1], HIGHEST, missing, notify=notify))


def prepare(rules: Iterable[CallRule], missing: frozenset[str], *, notify: bool) -> None:
    """Make a filter, so that processes forked later have it at hand.

    Raises:
        KeyError: there is no table for this machine.
    """
    compiled(platform.machine(), tuple(rules), missing, notify=notify)


def install(rules: Iterable[CallRule], missing: frozenset[str]) -> None:
    """Put a filter in force for this thread and all that it starts.

    Raises:
        OSError: ``no_new_privs`` is not set, or the system refuses.
        KeyError: there is no table for this machine.
    """
    _held, program = _program(compiled(platform.machine(), tuple(rules), missing))
    prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def install_with_listener(rules: Iterable[CallRule], missing: frozenset[str]) -> int:
    """Put a filter in force that asks a listener about what it refuses.

    A call that is refused waits from here on until somebody answers it; see ``notices``. When the listener is closed
    everywhere, it fails with ENOSYS.

    Returns:
        The listener's descriptor, closed on exec.

    Raises:
        OSError: ``no_new_privs`` is not set, or the system refuses: EBUSY where this process has a listener already.
        KeyError: there is no table for this machine.
    """
    _held, program = _program(compiled(platform.machine(), tuple(rules), missing, notify=True))
    call = number_of("seccomp")
    try:
        return syscall(call, _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, program)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscall(call, _SET_MODE_FILTER, _NEW_LISTENER, program)


def _program(code: bytes) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """Return the code and the ``struct sock_fprog`` that points to it: a length, and behind padding a pointer."""
    held = ctypes.create_string_buffer(code, len(code))
    return held, ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))


def filter_in_force() -> bool:
    """Return whether this process has a filter.

    Raises:
        OSError: the system does not have it.
    """
    return prctl(_GET_SECCOMP) == _MODE_FILTER

"""What a process may do because of who it is, given up for good."""

from __future__ import annotations

import ctypes
import struct
from contextlib import suppress
from functools import lru_cache
from itertools import count
from typing import Final

from weftos.sandbox.libc import prctl, syscall
from weftos.sandbox.syscalls import number_of

__all__ = [
    "capabilities_held",
    "close_memory",
    "drop_bounding_set",
    "drop_capabilities",
    "may_look_into_others",
    "memory_is_closed",
    "no_new_privileges",
    "rename",
]

_GET_DUMPABLE: Final = 3
_SET_DUMPABLE: Final = 4
_SET_NAME: Final = 15
_CAPBSET_DROP: Final = 24
_SET_NO_NEW_PRIVS: Final = 38
_CAP_AMBIENT: Final = 47
_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_SYS_PTRACE: Final = 19


def no_new_privileges() -> None:
    """Gain nothing by executing set-user-id programs, from here on.

    Raises:
        OSError: the system does not have it.
    """
    prctl(_SET_NO_NEW_PRIVS, 1)


def close_memory() -> None:
    """Let nobody but root look into this process: its memory, environment and descriptors; and leave no core.

    Raises:
        OSError: the system does not have it.
    """
    prctl(_SET_DUMPABLE, 0)


def memory_is_closed() -> bool:
    """Return whether ``close_memory`` is in force."""
    return prctl(_GET_DUMPABLE) == 0


def drop_bounding_set() -> None:
    """Give up to get capabilities by executing something, as far as one may."""
    # The call fails where there are no more capabilities; before that, only for who does not have CAP_SETPCAP.
    with suppress(OSError):
        for number in count():
            prctl(_CAPBSET_DROP, number)


def drop_capabilities(*, bounding: bool = True) -> None:
    """Give up all capabilities(7), and the right to get them by executing something.

    Args:
        bounding: False if the bounding set has been dropped before; to ask 41 times takes a quarter of a millisecond.

    Raises:
        OSError: the system refuses.
    """
    if bounding:
        drop_bounding_set()
    with suppress(OSError):  # older systems have no ambient set
        prctl(_CAP_AMBIENT, _CLEAR_ALL)
    head = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    none = bytes(24)
    call = number_of("capset")
    syscall(call, ctypes.create_string_buffer(head, len(head)), ctypes.create_string_buffer(none, len(none)))


def capabilities_held() -> int:
    """Return the capabilities in effect, as bits.

    Raises:
        OSError: the system does not tell.
    """
    head = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    syscall(number_of("capget"), ctypes.create_string_buffer(head, len(head)), held)
    low, _, _, high, _, _ = struct.unpack("=6I", held.raw)
    return int(low | high << 32)


@lru_cache(maxsize=1)
def may_look_into_others() -> bool:
    """Return whether this process sees the memory of processes that closed theirs. Asked once: a kernel keeps it."""
    try:
        return bool(capabilities_held() >> _CAP_SYS_PTRACE & 1)
    except OSError:
        return False


def rename(name: str) -> None:
    """Give the process a short name, by which ``ps`` and ``/proc/PID/comm`` know it.

    Args:
        name: at most 15 bytes.

    Raises:
        OSError: the system refuses.
    """
    buffer = ctypes.create_string_buffer(name.encode()[:15], 16)
    prctl(_SET_NAME, ctypes.addressof(buffer))

"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, Final

__all__ = ["prctl", "syscall", "typed_syscall"]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
#: With its types, so that ctypes makes no object of each number: it is called forty times for each agent.
_PRCTL: Final = _LIBC.prctl
_PRCTL.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None) -> int:
    """Make a system call.

    Args:
        number: of the call, on this machine.
        arguments: numbers, and buffers.

    Raises:
        OSError: the system refuses, or does not have it.
    """
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _done(_LIBC.syscall(ctypes.c_long(number), *words))


def _done(result: int) -> int:
    """Return what a call returned, or raise what it left word of."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def typed_syscall(*types: Any) -> Callable[..., int]:
    """Return a function that makes system calls whose arguments have these types, as ``syscall`` does.

    For calls that are made often: bytes are handed over as they are, and no object is made of a number.

    Args:
        types: of ctypes, those of the arguments behind the number of the call.
    """
    call = _LIBC["syscall"]  # an object of its own, other than by attribute, so that the types are its own
    call.argtypes, call.restype = (ctypes.c_long, *types), ctypes.c_long
    return lambda number, *arguments: _done(call(number, *arguments))


def prctl(option: int, *arguments: int) -> int:
    """Change or ask what the system keeps about this process.

    Raises:
        OSError: the system refuses, or does not have it.
    """
    return _done(_PRCTL(option, *(*arguments, 0, 0, 0, 0)[:4]))

"""Memory fences for code that has none: Python cannot say ``mfence``.

Why it is as it is: two orders matter. *Payload before head* holds on x86-64 by itself (stores are seen in program
order); elsewhere ``publish_fence`` puts a release-acquire pair on a private lock between them. *Flag before look* (arm
the sleep flag, then look for work once more, while the sender publishes and then looks at the flag) holds on no machine
without a full fence on both sides. A fence per message would cost the sender dearly, so the sleeper pays for both:
``membarrier`` makes every running thread of every registered process pass a full barrier. A process registers when it
attaches to its first mailbox or ring.

Guaranteed: with ``mode() == "membarrier"`` no wake-up between registered processes is lost. Otherwise, and against a
sender that did not register, nothing but the bounded wait of the sleeper (``limits.WAIT_SLICE_S``) closes the race.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Callable
from typing import Final, Literal

__all__ = ["full_fence", "mode", "publish_fence", "register"]

_SYSCALL: Final = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_GLOBAL_EXPEDITED: Final = 1 << 1
_REGISTER_GLOBAL_EXPEDITED: Final = 1 << 2
_ORDERED_STORES: Final = platform.machine() in ("x86_64", "AMD64", "i686", "i386")

_registered_pid = 0
_in_force = False


def _membarrier(command: int) -> int:
    """Call membarrier(2); negative where it does not exist or refuses."""
    number = _SYSCALL.get(platform.machine())
    if number is None or not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return -1
    return int(
        ctypes.CDLL(None, use_errno=True).syscall(
            ctypes.c_long(number), ctypes.c_long(command), ctypes.c_long(0), ctypes.c_long(0)
        )
    )


def register() -> None:
    """Let this process take part in the fences of sleepers. Idempotent, and again after a fork."""
    global _registered_pid, _in_force  # noqa: PLW0603  one registration per process is what the system keeps, too
    if _registered_pid != os.getpid():
        _in_force = _membarrier(_REGISTER_GLOBAL_EXPEDITED) == 0
        _registered_pid = os.getpid()


def mode() -> Literal["membarrier", "bounded-wait"]:
    """Say what closes the race between arming the sleep flag and a sender that looks at it."""
    register()
    return "membarrier" if _in_force else "bounded-wait"


def _build_full_fence() -> Callable[[], None]:
    number = _SYSCALL.get(platform.machine(), 0)
    arguments = (ctypes.c_long(number), ctypes.c_long(_GLOBAL_EXPEDITED), ctypes.c_long(0), ctypes.c_long(0))
    syscall = getattr(ctypes.CDLL(None), "syscall", None)

    def fence() -> None:
        if _registered_pid != os.getpid():
            register()
        if _in_force and syscall is not None:
            syscall(*arguments)

    return fence


#: Full barrier on this and on every running registered thread; a few microseconds. For the side that is about to sleep.
full_fence: Final[Callable[[], None]] = _build_full_fence()


def _build_publish_fence() -> Callable[[], None] | None:
    if _ORDERED_STORES:
        return None
    lock = threading.Lock()
    lock.acquire()
    release, acquire = lock.release, lock.acquire

    def fence() -> None:
        # A release followed by an acquire of the same word: what stood before is visible before what comes after.
        release()
        acquire()

    return fence


#: Orders what was written (or read) before against what comes after; None where the machine does so by itself.
publish_fence: Final[Callable[[], None] | None] = _build_publish_fence()

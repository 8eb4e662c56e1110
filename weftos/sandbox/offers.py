"""What this machine offers for confining agents, found by asking the system; nothing is changed."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

import msgspec

from weftos.sandbox import landlock, seccomp
from weftos.sandbox.audit_state import why_not

__all__ = ["Offers", "offers"]

_USER_NAMESPACES: Final = Path("/proc/sys/user/max_user_namespaces")


class Offers(msgspec.Struct, frozen=True, kw_only=True):
    """What there is.

    Attributes:
        system: name of the system, as ``uname`` gives it.
        machine: name of the processor.
        landlock: newest ABI of Landlock that is used; 0 without it.
        seccomp: whether system calls can be filtered.
        notices: whether refused calls can be shown to the kernel.
        unread: why what Landlock refuses cannot be read from the system's audit; empty if it can.
        user_namespaces: whether an unprivileged process may make one.
        root: whether this process is root.
    """

    system: str
    machine: str
    landlock: int
    seccomp: bool
    notices: bool
    unread: str
    user_namespaces: bool
    root: bool


def offers() -> Offers:
    """Ask the system."""
    return Offers(
        system=platform.system(),
        machine=platform.machine(),
        landlock=landlock.abi(),
        seccomp=seccomp.offered(),
        notices=seccomp.notifies(),
        unread=why_not(),
        user_namespaces=_number(_USER_NAMESPACES) > 0,
        root=sys.platform == "linux" and os.geteuid() == 0,
    )


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0

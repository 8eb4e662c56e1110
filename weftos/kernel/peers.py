"""Who is at the other end of the control socket, by what the system says of it.

Why it is as it is: agents run as the kernel's own user unless they are given another, so the user alone does not tell
the operator from an agent. But an agent's processes are descendants of the kernel, for good: whoever loses his parent
gets the kernel as the next one. So a descendant of the kernel is refused, whatever its user.

Guaranteed: what cannot be found out counts as a descendant. Not guaranteed: that an agent which is not confined cannot
have a process outside start something for it (a job scheduler of the same user); the sandbox is against that.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import struct
from functools import lru_cache
from typing import Any, Final

import msgspec

from weftos.auth.scope import TokenScope
from weftos.auth.tokens import Challenge
from weftos.rpc.methods import Access

__all__ = ["Credentials", "Peer", "credentials_of", "is_descendant", "user_name"]

_PEER: Final = struct.Struct("3i")
#: Longest chain of parents that is followed.
_GENERATIONS: Final = 4096


class Credentials(msgspec.Struct, frozen=True):
    """What the system says: user and process. ``os_pid`` is 0 for a process that the kernel cannot see."""

    uid: int
    os_pid: int


class Peer(msgspec.Struct):
    """One connection, and what it may do now.

    Attributes:
        uid: of the user.
        os_pid: of the process that connected.
        name: of the user, for the log.
        access: class of methods that it has by its user; ``OPEN`` is none but to log in.
        token: with which it logged in; then the token alone says what it may do.
        challenges: given to it and not answered yet, by nonce.
        failures: of its logins.
    """

    uid: int
    os_pid: int
    name: str
    access: Access
    token: TokenScope | None = None
    challenges: dict[bytes, Challenge] = {}
    failures: int = 0

    @property
    def by(self) -> str:
        """How it stands on the log: ``operator:UID/NAME``, with ``#TOKEN`` if it uses one."""
        return f"operator:{self.uid}/{self.name}" + (f"#{self.token.name}" if self.token else "")


def credentials_of(connection: Any) -> Credentials | None:
    """Return user and process at the other end (SO_PEERCRED), ``None`` where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, uid, _gid = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _PEER.size))
    return Credentials(uid & 0xFFFFFFFF, pid)


@lru_cache(maxsize=64)
def user_name(uid: int) -> str:
    """Return a user's name, in characters that a record takes; ``?`` if the system knows none."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return "?"
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:32] or "?"


def is_descendant(os_pid: int, ancestor: int) -> bool:
    """Tell whether a process was started by another one, by one of its descendants, and so on.

    Args:
        os_pid: in question; the ancestor is not its own descendant. 0 is outside of what this process can see.
        ancestor: which must be a subreaper.
    """
    if os_pid in (0, ancestor) or not os.path.isdir("/proc/self"):
        return False
    for _ in range(_GENERATIONS):
        try:
            with open(f"/proc/{os_pid}/stat", "rb") as file:
                # The name of the program, in parentheses, may hold anything.
                os_pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            # It is gone, and with it the trace of who started it.
            return True
        if os_pid == ancestor:
            return True
        if os_pid in (0, 1):
            return False
    return True

"""Who is at the other end of the control socket: the person whose name goes on the log.

Why it is as it is: what a person decides is worth something only if it was a person. The system says which process
asks and as which user. A process of an agent runs as that user too; but it is a descendant of the kernel, and no
operator is.

Guaranteed: a process that is, or comes from, an agent is not taken for a person, whatever it calls itself. Not
guaranteed: that a process which somebody else started for an agent is found.
"""

from __future__ import annotations

import contextvars
import os
import pwd
import socket
import struct
from typing import Any, Final

import msgspec

from weftos.errors import CapabilityDenied

__all__ = ["Peer", "person", "remember_peer"]

_CREDENTIALS: Final = struct.Struct("3i")
#: Longest line of ancestors that is followed; a longer one is no operator's.
_GENERATIONS: Final = 100


class Peer(msgspec.Struct, frozen=True):
    """The process at the other end.

    Attributes:
        pid: of its process when it connected; 0 where the system does not tell.
        uid: of its user.
    """

    pid: int
    uid: int

    @property
    def name(self) -> str:
        """``user:`` and the user's name, or his number if he has none."""
        try:
            return f"user:{pwd.getpwuid(self.uid).pw_name}"
        except KeyError:
            return f"user:{self.uid}"


_peer: Final[contextvars.ContextVar[Peer]] = contextvars.ContextVar("peer")


def remember_peer(connection: Any) -> None:
    """Note who is at the other end, for everything that this task serves.

    Args:
        connection: the accepted socket.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        _peer.set(Peer(0, os.geteuid()))
        return
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    _peer.set(Peer(pid, uid))


def person(doing: str) -> Peer:
    """Return who asks, if it may be a person.

    Args:
        doing: what is asked for, for the message.

    Raises:
        CapabilityDenied: a process of an agent asks, or one that is gone.
    """
    peer = _peer.get()
    if peer.pid and _comes_from(peer.pid, os.getpid()):
        raise CapabilityDenied(f"{doing} is for a person; process {peer.pid} is one of an agent, or is gone")
    return peer


def _comes_from(pid: int, ancestor: int) -> bool:
    """Whether a process is a descendant of another one; also if that cannot be told."""
    for _ in range(_GENERATIONS):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name may hold anything, parentheses too.
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return True
    return True

"""Calls that wait at a seccomp listener: take one, answer it.

Why it is as it is: whoever holds the listener must never wait at it, and the ioctl that takes a notice knows no
"without waiting". So a notice is taken only when ``poll`` says that there is one. Should the call have been interrupted
since, the system answers with ENOENT: for a call that goes away, unlike one that is taken, it keeps its count.

Guaranteed: nothing here allows a call; every answer is an error. Not guaranteed: that a notice stands for a call of its
own. Before Linux 5.19, one that a signal interrupts after it was taken is made, and seen, again.

Source: seccomp_unotify(2), linux/seccomp.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from typing import Final

import msgspec

__all__ = ["Notice", "Source", "is_listener"]

# _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp): the numbers hold the sizes.
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
#: id, pid, flags; then struct seccomp_data: number, architecture, instruction, six arguments.
_NOTICE: Final = struct.Struct("=QIIiIQ6Q")
#: id, value, error, flags.
_ANSWER: Final = struct.Struct("=QqiI")
_EMPTY: Final = bytes(_NOTICE.size)


class Notice(msgspec.Struct, frozen=True):
    """A call that waits.

    Attributes:
        cookie: by which it is answered.
        os_pid: the thread that makes it, as this process sees it; 0 when it does not.
        number: of the call, without a sign.
        arguments: six words of 64 bits.
    """

    cookie: int
    os_pid: int
    number: int
    arguments: tuple[int, ...]


def is_listener(fd: int) -> bool:
    """Return whether a descriptor is a seccomp listener; one that is not could keep its reader waiting."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:seccomp notify"
    except OSError:
        return False


class Source:
    """The reading end of a listener. One reader alone may use it.

    Args:
        fd: the listener; owned by the source from here on.
    """

    __slots__ = ("_poll", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def close(self) -> None:
        """Give it up. Calls that wait, and all that are refused later, fail with ENOSYS."""
        os.close(self.fd)
        self.fd = -1

    def take(self) -> Notice | None:
        """Take a call that waits; ``None`` when there is none. It never waits.

        Raises:
            EOFError: no process is left that could make one.
            OSError: the listener is of no use.
        """
        found = self._poll.poll(0)
        if not found:
            return None
        if not found[0][1] & select.POLLIN:
            raise EOFError("every process with this filter has ended")
        data = bytearray(_EMPTY)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, data)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        cookie, os_pid, _flags, number, _architecture, _at, *arguments = _NOTICE.unpack(data)
        return Notice(cookie, os_pid, number & 0xFFFFFFFF, tuple(arguments))

    def refuse(self, notice: Notice, code: int) -> None:
        """Let a call fail.

        Args:
            notice: the call. One that waits no more is passed over: its process has ended.
            code: the errno that it gets.

        Raises:
            OSError: the listener is of no use.
        """
        assert code > 0, "0 would let the call seem to have been made"
        try:
            fcntl.ioctl(self.fd, _SEND, bytearray(_ANSWER.pack(notice.cookie, 0, -code, 0)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

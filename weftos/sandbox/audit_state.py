"""Whether this machine's audit can be read, and a socket for it."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from typing import Final

from weftos import limits
from weftos.sandbox import landlock
from weftos.sandbox.audit import type_filter
from weftos.sandbox.bpf import encode

__all__ = ["attach_filter", "open_records", "why_not"]

_NETLINK_AUDIT: Final = 9
_READ_LOG: Final = 1  # AUDIT_NLGRP_READLOG, as a bit
_GET: Final = 1000  # AUDIT_GET
_ERROR: Final = 2  # NLMSG_ERROR
_REQUEST: Final = 1
_SO_ATTACH_FILTER: Final = 26
_HEAD: Final = struct.Struct("=IHHII")


def why_not() -> str:
    """Return why what Landlock refuses cannot be read here; empty if it can.

    It asks and changes nothing. That audit *rules* leave a process out is not told by this.
    """
    if not landlock.logs():
        return "this system's Landlock tells nothing of what it refuses (Linux 6.15)"
    try:
        open_records().close()
        on = _enabled()
    except PermissionError:
        return "reading the system's audit needs CAP_AUDIT_READ and CAP_AUDIT_CONTROL"
    except OSError as error:
        return f"the system's audit cannot be read: {error.strerror or error}"
    return "" if on else "the system's audit is off"


def open_records() -> socket.socket:
    """Return a socket at which the records of Landlock arrive as they are made; reading from it does not wait.

    Raises:
        OSError: there is no audit, or this process may not read it (EPERM, without CAP_AUDIT_READ).
    """
    if sys.platform != "linux":
        raise OSError(errno.EPROTONOSUPPORT, "no audit on this system")
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _NETLINK_AUDIT
    )
    try:
        attach_filter(opened)
        opened.bind((0, _READ_LOG))
    except BaseException:
        opened.close()
        raise
    return opened


def attach_filter(opened: socket.socket) -> None:
    """Let a netlink socket receive records of Landlock alone.

    Raises:
        OSError: the system refuses.
    """
    code = encode(type_filter())
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog, as for seccomp.
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))


def _enabled() -> bool:
    """Ask whether the audit is on.

    Raises:
        OSError: it does not say.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as asking:
        asking.bind((0, 0))
        asking.send(_HEAD.pack(_HEAD.size, _GET, _REQUEST, 1, 0))
        deadline = time.monotonic() + limits.AUDIT_ANSWER_S
        while select.select([asking], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = asking.recv(8192)
            kind = _HEAD.unpack_from(data)[1]
            if kind == _ERROR:
                code = -struct.unpack_from("=i", data, _HEAD.size)[0]
                raise OSError(code, os.strerror(code))
            if kind == _GET:
                # struct audit_status: a mask of what is to be set, then whether it is on.
                return bool(struct.unpack_from("=I", data, _HEAD.size + 4)[0])
    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

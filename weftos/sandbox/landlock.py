"""Landlock: a process gives up the right to reach files, TCP ports, sockets and processes, and so does what it starts.

Why it is as it is: it needs no root and no set-up, and holds until the process has ended. Rules only add: what no rule
allows is refused, and a rule on a folder holds for all below it, without exceptions. What older systems cannot refuse
is left out of the ruleset, and ``abi`` says which that is.

Source: landlock(7); ABI 1 files, 2 renaming across folders, 3 truncating, 4 TCP, 5 ioctl on devices, 6 abstract sockets
and signals.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from typing import Final, Self

from weftos.sandbox.libc import syscall, typed_syscall

__all__ = ["LATEST", "READ", "SEMAPHORES", "USE", "WRITE", "Ruleset", "abi", "logs"]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
#: LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON; that of the program itself is on unless it is switched off.
_LOG_PROGRAMS: Final = 1 << 1
_ABI_LOGS: Final = 7
_PATH_BENEATH: Final = 1
#: Ruleset, kind of rule, the rule, flags: called forty times for each agent.
_add_rule: Final = typed_syscall(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
_REMOVE_AND_MAKE: Final = sum(1 << bit for bit in range(4, 13))
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15

#: Read and execute.
READ: Final = EXECUTE | READ_FILE | READ_DIR
#: Read, write, make, remove and rename.
WRITE: Final = READ_FILE | READ_DIR | WRITE_FILE | _REMOVE_AND_MAKE | REFER | TRUNCATE
#: Read and write a device.
USE: Final = READ_FILE | WRITE_FILE | IOCTL_DEV
#: Open what one knows the name of: no listing, no making, no truncating.
SEMAPHORES: Final = READ_FILE | WRITE_FILE

#: The newest that is used here.
LATEST: Final = 6
#: Rights over files that each ABI can refuse.
_FILES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_A_FILE: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_TCP: Final = 3
_SCOPES: Final = 3


def abi() -> int:
    """Return the newest ABI that the system and this module have; 0 without Landlock."""
    return min(_system_abi(), LATEST)


def logs() -> bool:
    """Return whether the system can put what Landlock refuses into its audit (ABI 7, Linux 6.15)."""
    return _system_abi() >= _ABI_LOGS


def _system_abi() -> int:
    if sys.platform != "linux":
        return 0
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


class Ruleset:
    """What stays allowed. A context manager; nothing is in force before ``restrict``.

    Args:
        version: ABI to use, from 1 to ``LATEST``.
        tcp: whether TCP stays allowed; needs ABI 4 to be refused.

    Raises:
        OSError: the system refuses.
    """

    def __init__(self, version: int, *, tcp: bool) -> None:
        self._handled = _FILES[min(version, 5)]
        net = _TCP if version >= 4 and not tcp else 0
        words = [self._handled, net, _SCOPES if version >= 6 else 0]
        size = 1 if version < 4 else 2 if version < 6 else 3
        data = struct.pack(f"={size}Q", *words[:size])
        self._fd = syscall(_CREATE_RULESET, ctypes.create_string_buffer(data, len(data)), len(data), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def allow(self, path_fd: int, rights: int) -> None:
        """Allow rights over what a descriptor leads to, and all below it.

        Args:
            path_fd: of a file or folder; opened with ``O_PATH`` is enough.
            rights: some of those above.

        Raises:
            OSError: the system refuses.
        """
        rights &= self._handled
        if not stat.S_ISDIR(os.fstat(path_fd).st_mode):
            rights &= _OF_A_FILE
        _add_rule(_ADD_RULE, self._fd, _PATH_BENEATH, struct.pack("=Qi", rights, path_fd), 0)

    def restrict(self, *, log_programs: bool = False) -> None:
        """Put it in force for this thread and all that it starts. Nothing takes it back.

        Args:
            log_programs: the system's audit is told also of what programs are refused that are executed later; without
                effect where it is told nothing.

        Raises:
            OSError: ``no_new_privs`` is not set, or the system refuses.
        """
        syscall(_RESTRICT_SELF, self._fd, _LOG_PROGRAMS if log_programs and logs() else 0)

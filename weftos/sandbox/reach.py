"""Whether another user could reach what an agent needs, told from owners and modes before anybody becomes that user.

Why it is as it is: an interpreter under ``/root`` is the usual case of a kernel that runs as root, and an agent that
cannot read its standard library is no agent. So it is found out first, and said with the name of the folder that is
closed. Access lists (acl(5)) are not looked at; where one opens a path, the answer is a wrong no, never a wrong yes,
unless a list of the path takes away from the instance's group what its mode shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from weftos.sandbox.users import OwnUser

__all__ = ["READ", "WRITE", "Need", "obstacle"]

READ: Final = 4
WRITE: Final = 2
_ENTER: Final = 1

#: A path, and ``READ`` or ``READ | WRITE``.
Need: TypeAlias = tuple[str, int]
Look: TypeAlias = Callable[[str], os.stat_result]


def obstacle(needs: Iterable[Need], user: OwnUser, look: Look = os.stat) -> str:
    """Return what keeps a user from some paths, in words; empty if nothing does.

    Args:
        needs: paths, absolute, and what is to be done with them. A folder has to be entered as well.
        user: who it is.
        look: stat(2).
    """
    seen: set[str] = set()
    for path, wanted in needs:
        for name in dict.fromkeys((path, os.path.realpath(path))):
            for folder in _above(name):
                if folder not in seen and (found := _refused(folder, _ENTER, user, look)):
                    return found
                seen.add(folder)
        if found := _refused(path, wanted, user, look):
            return found
    return ""


def _above(path: str) -> Iterator[str]:
    """Yield the folders on the way to a path, from the root."""
    parts = os.path.dirname(path).split("/")
    for number in range(1, len(parts) + 1):
        yield "/".join(parts[:number]) or "/"


def _refused(path: str, wanted: int, user: OwnUser, look: Look) -> str:
    try:
        status = look(path)
    except FileNotFoundError:
        return ""  # that it is not there is found by whoever needs it
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if stat.S_ISDIR(status.st_mode) and wanted & READ:
        wanted |= _ENTER
    shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
    missing = wanted & ~(status.st_mode >> shift)
    if not missing:
        return ""
    verb = "read" if missing & READ else "written to" if missing & WRITE else "entered"
    return f"{path} cannot be {verb} by others"

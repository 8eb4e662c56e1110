"""Becoming the user that an agent is, for good."""

from __future__ import annotations

import errno
import os

from weftos.sandbox import privileges
from weftos.sandbox.users import OwnUser

__all__ = ["become", "is_now", "may_go_back"]


def become(user: OwnUser) -> None:
    """Become a user, with its group and no other, and without a way back.

    The system takes back what was asked of it for the old user: ask again for a death signal, and close memory again.

    Raises:
        OSError: the system refuses.
    """
    # Only who may still do everything can empty the bounding set.
    privileges.drop_bounding_set()
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def is_now(user: OwnUser) -> bool:
    """Return whether this process is that user, in every respect."""
    alone = set(os.getgroups()) <= {user.gid}
    return os.getresuid() == (user.uid,) * 3 and os.getresgid() == (user.gid,) * 3 and alone


def may_go_back() -> bool:
    """Return whether this process could become root; it is tried."""
    try:
        os.setresuid(-1, 0, -1)
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EINVAL)
    return True

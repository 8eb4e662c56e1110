"""Users of the system that agents are: which ids an instance may give away, and what would keep it from doing so. Pure.

Why it is as it is: a user is what every check of the system knows, Landlock and seccomp or not. No entry in any file of
users is made: an id without a name has nobody's rights. The ids come from a range that neither the system, nor people,
nor containers are given (systemd's "Users, Groups, UIDs and GIDs" calls it unused), and each instance takes a part of
it by its name, so that two of them on one machine hardly ever share one.

Guaranteed: two agents that live never share an id, and an id is not given again before all others were. Not guaranteed:
that two instances have different parts; 1 in 4094 pairs has the same, and ``[sandbox] uids`` tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from weftos import limits

__all__ = ["NEEDED", "OwnUser", "UserIds", "block_of", "lacking_capabilities", "unmapped"]

#: Capabilities without which the kernel cannot give a user away and still serve, meter and end its agent, by number.
NEEDED: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}
_EFFECTIVE: Final = re.compile(r"^CapEff:\s*([0-9a-f]+)$", re.MULTILINE)


class OwnUser(msgspec.Struct, frozen=True, array_like=True):
    """Whom an agent is.

    Attributes:
        uid: its user, its alone.
        gid: the group of all agents of the instance; it has no other.
    """

    uid: int
    gid: int


def block_of(uids: Sequence[int], tag: str) -> range:
    """Return the ids of an instance.

    Args:
        uids: the first and the last of all that there are; or none.
        tag: of the instance; see ``ids.instance_tag``.

    Returns:
        All of them; if there are many, ``limits.AGENT_USERS`` of them, the same ones for the same tag.
    """
    if not uids:
        return range(0)
    first, last = uids
    blocks = (last - first + 1) // limits.AGENT_USERS
    if blocks < 2:
        return range(first, last + 1)
    start = first + int(tag, 16) % blocks * limits.AGENT_USERS
    return range(start, start + limits.AGENT_USERS)


def lacking_capabilities(status: str) -> list[str]:
    """Return the needed capabilities that a process does not have, from the text of ``/proc/PID/status``."""
    match = _EFFECTIVE.search(status)
    held = int(match.group(1), 16) if match else 0
    return [name for name, number in NEEDED.items() if not held >> number & 1]


def unmapped(text: str, ids: range) -> bool:
    """Return whether some ids do not exist here, from the text of ``/proc/self/uid_map`` (user_namespaces(7))."""
    inside = ((int(one[0]), int(one[2])) for one in map(str.split, text.splitlines()) if len(one) == 3)
    return not any(start <= ids[0] and ids[-1] < start + length for start, length in inside)


class UserIds:
    """Gives ids away, round and round.

    Args:
        ids: of the instance. The first is the group's.
        mark: file that remembers over boots from where on ids are fresh; it is written before they are used.
        write: replaces a file, safely.
    """

    def __init__(self, ids: range, mark: Path, write: Callable[[Path, bytes], None]) -> None:
        assert len(ids) >= 2, "a group and a user"
        self.gid = ids[0]
        self._ids = ids[1:]
        self._mark = mark
        self._write = write
        self._next = self._left = 0
        self._read = False

    def take(self, used: Collection[int]) -> OwnUser | None:
        """Return a user that nobody has; ``None`` if there is none left.

        Args:
            used: ids that agents have now.

        Raises:
            OSError: it cannot be remembered.
        """
        for _ in self._ids:
            uid = self._fresh()
            if uid not in used:
                return OwnUser(uid, self.gid)
        return None

    def _fresh(self) -> int:
        if not self._read:
            self._next, self._read = self._remembered(), True
        if not self._left:
            self._left = min(limits.AGENT_USERS_AHEAD, len(self._ids))
            ahead = (self._next + self._left) % len(self._ids)
            self._write(self._mark, f"{self._ids[ahead]}\n".encode())
        uid = self._ids[self._next]
        self._next = (self._next + 1) % len(self._ids)
        self._left -= 1
        return uid

    def _remembered(self) -> int:
        try:
            uid = int(self._mark.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return 0
        return self._ids.index(uid) if uid in self._ids else 0

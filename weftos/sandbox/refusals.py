"""What the system refused to one life of an agent: what goes on the record at once, and what is counted. Pure.

Why it is as it is: a program may try the same call a million times, and the log must not grow with it. The first of a
kind is worth a record of its own, with what it was about; what comes later is a number. How many kinds there can be is
bounded as well, because the agent chooses the names: paths, and numbers of calls that do not exist.
"""

from __future__ import annotations

import errno
from typing import Any, Final, Literal, TypeAlias

import msgspec

from weftos import limits
from weftos.sandbox.notices import Notice
from weftos.sandbox.syscalls import HIGHEST, name_of

__all__ = ["OTHERS", "Refusal", "RefusalCount", "Tally", "of_call"]

#: ``syscall``: by the filter; the others by Landlock.
RefusalOf: TypeAlias = Literal["syscall", "path", "net", "signal", "ptrace"]

#: Name under which is counted what no more room is for.
OTHERS: Final = "others"

#: Arguments that are numbers and not addresses, by call; the words are signed ints for the system as well.
_NUMBERS: Final[dict[str, tuple[int, ...]]] = {
    "clone": (0,),
    "fcntl": (0, 1),
    "ioctl": (0, 1),
    "ioprio_set": (0, 1, 2),
    "keyctl": (0,),
    "kill": (0, 1),
    "pidfd_getfd": (0, 1),
    "pidfd_send_signal": (0, 1),
    "prctl": (0,),
    "prlimit64": (0, 1),
    "process_vm_readv": (0,),
    "process_vm_writev": (0,),
    "ptrace": (0, 1),
    "rt_sigqueueinfo": (0, 1),
    "rt_tgsigqueueinfo": (0, 1, 2),
    "sched_setaffinity": (0,),
    "sched_setattr": (0,),
    "sched_setparam": (0,),
    "sched_setscheduler": (0, 1),
    "setns": (0, 1),
    "setpriority": (0, 1, 2),
    "shmget": (0, 2),
    "socket": (0, 1, 2),
    "socketpair": (0, 1, 2),
    "tgkill": (0, 1, 2),
    "tkill": (0, 1),
    "unshare": (0,),
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was refused.

    Attributes:
        what: kind of thing.
        name: of the call, or of what Landlock found lacking (``fs.read_file``).
        errno: name of the error that the agent got; empty where it is not known.
        arguments: those of a call that are plain numbers.
        about: a path, an address or a process; empty for calls.
        os_pid: the thread that tried, 0 when it cannot be seen.
    """

    what: RefusalOf
    name: str
    errno: str = ""
    arguments: tuple[int, ...] = ()
    about: str = ""
    os_pid: int = 0

    def payload(self) -> dict[str, Any]:
        """Return what the record of a first refusal says of it."""
        said = {"what": self.what, "name": self.name, "errno": self.errno, "count": 1}
        return said | {"arguments": list(self.arguments), "about": self.about, "thread": self.os_pid or None}


class RefusalCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often one kind of thing was refused.

    Attributes:
        what, name, errno, about: as in ``Refusal``.
        count: how often.
    """

    what: str
    name: str
    errno: str
    about: str
    count: int


def of_call(notice: Notice, machine: str) -> tuple[Refusal, int]:
    """Return a call that is refused, and the errno that the filter would have given by itself."""
    code = errno.ENOSYS if notice.number > HIGHEST else errno.EPERM
    name = name_of(notice.number, machine)
    numbers = tuple(_signed(notice.arguments[place]) for place in _NUMBERS.get(name, ()))
    made = Refusal(what="syscall", name=name, errno=errno.errorcode[code], arguments=numbers, os_pid=notice.os_pid)
    return made, code


def _signed(word: int) -> int:
    low = word & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


class Tally:
    """What was refused to one life of an agent.

    Attributes:
        life: which one, as records say it; empty until something was refused.
    """

    def __init__(self) -> None:
        self.life: dict[str, Any] = {}
        self._total: dict[tuple[str, str, str, str], int] = {}
        self._later: dict[tuple[str, str, str, str], int] = {}

    def note(self, one: Refusal) -> bool:
        """Count a refusal; returns whether it is the first of its kind, and so is worth a record of its own."""
        key = (one.what, one.name, one.errno, one.about)
        if key not in self._total and len(self._total) >= limits.REFUSAL_KINDS_MAX:
            key = (one.what, OTHERS, "", "")
        first = key not in self._total
        self._total[key] = self._total.get(key, 0) + 1
        if not first:
            self._later[key] = self._later.get(key, 0) + 1
        return first

    @property
    def waiting(self) -> bool:
        """Whether something was counted that is on no record."""
        return bool(self._later)

    def take_later(self) -> list[RefusalCount]:
        """Return what was counted since the last time and is on no record, and forget that it waits."""
        later, self._later = self._later, {}
        return _counts(later)

    def totals(self) -> list[RefusalCount]:
        """Return all that was refused, what happened most often first."""
        return sorted(_counts(self._total), key=lambda one: -one.count)


def _counts(counted: dict[tuple[str, str, str, str], int]) -> list[RefusalCount]:
    return [
        RefusalCount(what=what, name=name, errno=code, about=about, count=count)
        for (what, name, code, about), count in counted.items()
    ]

"""Control groups, version 2, as files in folders: what a group may use, what it uses, and its end as a whole.

Why it is as it is: everything about a group is a file of its folder, so this is logic over a folder and can be tried
with any folder that has such files. What is set is read back: a number that the system changed or did not take is not
reported as a limit.

Guaranteed: nothing outside of the given folder is touched. Not guaranteed: that a group can be removed at once; it
cannot while a process in it ends.

Source: cgroups(7); Linux, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

import msgspec

from weftos import limits

__all__ = ["WANTED", "ControlGroup", "GroupLimits", "GroupUsage", "mount_of", "own_path"]

#: Controllers that limit an agent.
WANTED: Final = ("memory", "pids", "cpu")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class GroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a group may use; 0 is unlimited.

    Attributes:
        memory_bytes: memory of all its processes, with what the system caches for them; nothing is swapped out.
        tasks: processes and threads.
        cpu_weight: share of the processor, 1 to 10,000.
        cpu_percent: of one processor.
    """

    memory_bytes: int = 0
    tasks: int = 0
    cpu_weight: int = limits.CPU_WEIGHT
    cpu_percent: int = 0

    def files(self) -> list[tuple[str, str, str]]:
        """Return controller, file and content for each limit."""
        share = f"{limits.CPU_PERIOD_US * self.cpu_percent // 100}" if self.cpu_percent else "max"
        return [
            ("memory", "memory.max", str(self.memory_bytes or "max")),
            ("memory", "memory.swap.max", "0" if self.memory_bytes else "max"),
            ("memory", "memory.oom.group", "1"),
            ("pids", "pids.max", str(self.tasks or "max")),
            ("cpu", "cpu.weight", str(self.cpu_weight)),
            ("cpu", "cpu.max", f"{share} {limits.CPU_PERIOD_US}"),
        ]


class GroupUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a group uses; ``None`` where nothing counts it.

    Attributes:
        memory_bytes: memory, without what the system would give back at once (inactive cache).
        memory_peak: the most memory it had.
        tasks: processes and threads.
        cpu_seconds: time on processors, of all that ever was in it.
    """

    memory_bytes: int | None = None
    memory_peak: int | None = None
    tasks: int | None = None
    cpu_seconds: float | None = None


class ControlGroup:
    """One group.

    Args:
        folder: its folder, in the mounted hierarchy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"ControlGroup({self.folder})"

    def offered(self) -> list[str]:
        """Return the controllers that it could hand to its children."""
        return (self._text("cgroup.controllers") or "").split()

    def handed(self) -> list[str]:
        """Return the controllers that it hands to its children."""
        return (self._text("cgroup.subtree_control") or "").split()

    def hand(self, controllers: Iterable[str]) -> dict[str, str]:
        """Hand controllers to the children, one by one, so that one that is refused keeps none of the others.

        Returns:
            Why not, by controller, for those that were refused.
        """
        refused = {}
        for name in controllers:
            try:
                self._write("cgroup.subtree_control", f"+{name}")
            except OSError as error:
                refused[name] = error.strerror or str(error)
        return refused

    def take_back(self, controllers: Iterable[str]) -> None:
        """Hand controllers to the children no more.

        Raises:
            OSError: the system refuses.
        """
        for name in controllers:
            self._write("cgroup.subtree_control", f"-{name}")

    def child(self, name: str) -> Self:
        """Make a group in it, unless it is there.

        Raises:
            OSError: the system refuses.
        """
        folder = self.folder / name
        folder.mkdir(mode=0o755, exist_ok=True)
        return type(self)(folder)

    def children(self, prefix: str) -> list[Self]:
        """Return the groups in it whose name starts so."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []
        return [type(self)(self.folder / name) for name in names if name.startswith(prefix)]

    def limit(self, wanted: GroupLimits, controllers: Iterable[str]) -> list[str]:
        """Set limits, and read them back.

        Args:
            wanted: what it may use.
            controllers: that it was handed.

        Returns:
            The files that say what was wanted, in order.
        """
        held = set(controllers)
        in_force = []
        for controller, name, content in wanted.files():
            if controller not in held:
                continue
            try:
                self._write(name, content)
            except OSError:
                continue  # the file may not exist (swap, on a system without it); what is missing shows in the answer
            if self._says(name, content):
                in_force.append(name)
        return in_force

    def _says(self, name: str, content: str) -> bool:
        found = (self._text(name) or "").split()
        wanted = content.split()
        if name == "memory.max" and wanted[0] != "max" and found and found[0].isdecimal():
            # The system counts in pages, and rounds down.
            return 0 <= int(wanted[0]) - int(found[0]) < os.sysconf("SC_PAGE_SIZE")
        return found == wanted

    def door(self) -> int:
        """Return a descriptor; a process that writes ``0`` to it is in the group from then on.

        Raises:
            OSError: the system refuses.
        """
        return os.open(self.folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def add(self, os_pid: int) -> None:
        """Move a process into it.

        Raises:
            OSError: the system refuses.
        """
        self._write("cgroup.procs", str(os_pid))

    def processes(self) -> list[int]:
        """Return the processes in it, without those in its children."""
        return [int(word) for word in (self._text("cgroup.procs") or "").split() if word.isdecimal()]

    def usage(self, controllers: Iterable[str]) -> GroupUsage:
        """Return what it uses, as far as its controllers count it; time on processors is always counted."""
        held = set(controllers)
        now = self._number("memory.current") if "memory" in held else None
        idle = self._field("memory.stat", "inactive_file") if now is not None else None
        spent = self._field("cpu.stat", "usage_usec")
        return GroupUsage(
            memory_bytes=max(now - (idle or 0), 0) if now is not None else None,
            memory_peak=self._number("memory.peak") if "memory" in held else None,
            tasks=self._number("pids.current") if "pids" in held else None,
            cpu_seconds=spent / 1e6 if spent is not None else None,
        )

    def out_of_memory(self) -> int:
        """Return how many processes of it the system ended because its memory was used up."""
        return self._field("memory.events", "oom_kill") or 0

    def kill(self) -> bool:
        """End everything in it, whatever it did to be elsewhere; returns whether the system can (Linux 5.14)."""
        try:
            self._write("cgroup.kill", "1")
        except OSError:
            return False
        return True

    def remove(self) -> bool:
        """Remove it; returns whether it is gone. It is not as long as a process in it ends."""
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _write(self, name: str, content: str) -> None:
        # Never made: in a hierarchy all files are there, and elsewhere this is no group.
        fd = os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)

    def _text(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None

    def _number(self, name: str) -> int | None:
        text = (self._text(name) or "").strip()
        return int(text) if text.isdecimal() else None

    def _field(self, name: str, key: str) -> int | None:
        for line in (self._text(name) or "").splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == key and words[1].isdecimal():
                return int(words[1])
        return None


def mount_of(mountinfo: str) -> tuple[Path, str] | None:
    """Find the hierarchy, from the text of ``/proc/self/mountinfo`` (proc(5)).

    Returns:
        Where it is mounted, and which of its groups is there (``/`` for all of it); ``None`` if it is nowhere.
    """
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        words = before.split()
        if dash and after.split()[:1] == ["cgroup2"] and len(words) >= 5:
            return Path(_plain(words[4])), _plain(words[3])
    return None


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), text)


def own_path(text: str) -> str | None:
    """Return the group of a process, from the text of its ``/proc/PID/cgroup``; ``None`` without version 2."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None

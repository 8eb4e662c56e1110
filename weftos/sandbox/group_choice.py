"""Below which control group the agents of an instance get theirs, and why not, where they get none.

Why it is as it is: the hierarchy belongs to whoever manages the machine. So nothing in it is changed unasked: without a
setting a group is used only if it hands out all that is needed already. What a setting names may be changed below it.
Version 2 wants processes in leaves only, so a kernel that hands controllers to its children has to become one first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from weftos.sandbox.groups import WANTED, ControlGroup, mount_of, own_path

__all__ = ["OWN", "GroupChoice", "choose", "look"]

#: Value of ``[sandbox] cgroup`` for the kernel's own group.
OWN: Final = "own"


class GroupChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        base: folder of the group to use; ``None`` for none.
        move: whether the kernel has to leave it for a group of its own in it.
        why: why there is none, or what it lacks; empty if all is well.
        offered: controllers that the hierarchy has here.
    """

    base: Path | None = None
    move: bool = False
    why: str = ""
    offered: tuple[str, ...] = ()


def choose(setting: str, mountinfo: str, membership: str) -> GroupChoice:
    """Choose a group. Nothing is changed.

    Args:
        setting: ``[sandbox] cgroup``.
        mountinfo: text of ``/proc/self/mountinfo``.
        membership: text of ``/proc/self/cgroup``.
    """
    found, own = mount_of(mountinfo), own_path(membership)
    if found is None or own is None:
        return GroupChoice(why="cgroup v2 absent")
    mounted, root = found
    top = tuple(ControlGroup(mounted).offered())
    has = f"cgroup v2 has {' '.join(top) or 'no controllers'}"
    own_folder = _below(mounted, root, own)
    if setting and setting != OWN:
        folder = _below(mounted, "/", setting)
        if folder is None or not folder.is_dir():
            return GroupChoice(why=f"cgroup v2 has no group {setting}, which `[sandbox] cgroup` names", offered=top)
        return _usable(GroupChoice(base=folder, offered=top), setting)
    if own_folder is None or not own_folder.is_dir():
        return GroupChoice(why=f"{has}; the kernel's own group {own} is not to be seen from here", offered=top)
    if setting == OWN:
        return _usable(GroupChoice(base=own_folder, move=True, offered=top), own)
    lacking = [name for name in WANTED if name not in ControlGroup(own_folder).handed()]
    if lacking:
        step = "`[sandbox] cgroup` can name a group that may be changed"
        why = f"{has}; not used: the kernel's own group {own} does not hand out {' '.join(lacking)}, and {step}"
        return GroupChoice(why=why, offered=top)
    return _usable(GroupChoice(base=own_folder, offered=top), own)


def look(setting: str) -> GroupChoice:
    """Choose a group on this machine. Nothing is changed."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        membership = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        return GroupChoice(why=f"cgroup v2 absent: {error.strerror}")
    return choose(setting, mountinfo, membership)


def _usable(choice: GroupChoice, name: str) -> GroupChoice:
    assert choice.base is not None
    # A folder of cgroupfs may be writable and its files not: delegation is about both.
    for path in (choice.base, choice.base / "cgroup.procs", choice.base / "cgroup.subtree_control"):
        if not os.access(path, os.W_OK):
            why = f"cgroup v2 has the group {name}, and the kernel may not change it: it is not delegated"
            return GroupChoice(why=why, offered=choice.offered)
    return choice


def _below(mounted: Path, root: str, path: str) -> Path | None:
    """The folder of a group in a hierarchy of which ``root`` is mounted."""
    if root == "/":
        return mounted / path.strip("/")
    if path == root or path.startswith(root + "/"):
        return mounted / path[len(root) :].strip("/")
    return None

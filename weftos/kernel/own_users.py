"""Which user an agent becomes: decided before its first fork, kept for its life, and said where it stays the kernel's.

Why it is as it is: an agent whose interpreter, program or given paths lie where others cannot go would not run as
another user. It keeps the kernel's then, without capabilities and confined as on any machine, and the reason names the
folder. An agent keeps its user over restarts, since what it wrote belongs to that user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from weftos.config import SandboxSection
from weftos.disk.files import RealFiles, replace_file
from weftos.errors import SandboxFailed
from weftos.home import Home
from weftos.ids import instance_tag
from weftos.sandbox import reach
from weftos.sandbox.paths import interpreter_paths, program_paths
from weftos.sandbox.plan import Plan
from weftos.sandbox.users import OwnUser, UserIds, block_of, lacking_capabilities, unmapped

__all__ = ["OwnUsers", "machine_obstacle"]

#: Where scratch folders are when agents are users of their own: only root makes folders there, and all may pass.
_STATE: Final = Path("/var/lib/weftos")


def machine_obstacle(config: SandboxSection, tag: str) -> str:
    """Return what keeps a kernel of this process's user from giving agents users of their own; empty for nothing."""
    if not config.uids:
        return "`[sandbox] uids` names none"
    if sys.platform != "linux":
        return "only Linux is supported"
    if os.geteuid() != 0:
        return "the kernel does not run as root"
    lacking = lacking_capabilities(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    if lacking:
        return f"the kernel does not have {' '.join(lacking)}"
    ids = block_of(config.uids, tag)
    for kind in ("uid_map", "gid_map"):
        try:
            text = Path("/proc/self", kind).read_text(encoding="ascii")
        except OSError:
            continue  # a system without user namespaces: all ids exist
        if unmapped(text, ids):
            return (
                f"the ids {ids[0]} to {ids[-1]} do not exist in this user namespace; `[sandbox] uids` can name others"
            )
    needs = [(path, reach.READ) for path in interpreter_paths()]
    found = reach.obstacle(needs, OwnUser(ids[1], ids[0]))
    step = "install the interpreter and its packages where others may read, or open that folder to them"
    return f"{found}; {step}" if found else ""


class OwnUsers:
    """Users of the agents of one kernel.

    Attributes:
        why: why no agent gets one; empty if agents may.
        group: group of the agents that have one; ``None`` if none has.
        ids: all ids of the instance.

    Args:
        home: the instance.
        config: its settings.
    """

    def __init__(self, home: Home, config: SandboxSection) -> None:
        tag = instance_tag(str(home.root))
        self.why = machine_obstacle(config, tag)
        self.ids = block_of(config.uids, tag)
        self._ids = UserIds(self.ids, home.next_user, _replace) if not self.why else None
        self.group = self._ids.gid if self._ids is not None else None
        base = Path(config.scratch_dir) if config.scratch_dir else _STATE if self.group is not None else None
        #: Folder of all scratch folders.
        self.scratch = base / tag / "scratch" if base is not None else home.scratch

    def choose(self, plan: Plan, used: Collection[int]) -> tuple[OwnUser | None, str]:
        """Choose for an agent that starts for the first time.

        Args:
            plan: its plan.
            used: users that agents have.

        Returns:
            Its user, or ``None`` and why it is the kernel's.

        Raises:
            SandboxFailed: it cannot be remembered that the user is taken.
        """
        if not plan.confined:
            return None, "the profile is trusted"
        if self._ids is None:
            return None, self.why
        # None that is given away: what an agent left behind in its name opens nothing.
        anybody = OwnUser(self._ids.gid, self._ids.gid)
        found = reach.obstacle(_needs(plan), anybody)
        if found:
            return None, f"{found}; move it where they may, or open it to group {self._ids.gid}"
        try:
            user = self._ids.take(used)
        except OSError as error:
            raise SandboxFailed(f"the users of agents cannot be remembered: {error}") from error
        return user, "" if user is not None else "all users of `[sandbox] uids` are taken"


def _needs(plan: Plan) -> list[reach.Need]:
    """What an agent needs besides the interpreter."""
    places = plan.places
    needs: list[reach.Need] = [(os.path.dirname(places.scratch), 0)]
    if places.program is not None:
        needs += [
            (os.path.dirname(places.program), reach.READ),
            *((path, reach.READ) for path in program_paths(places.program)),
        ]
    needs += [(path, reach.READ) for path in plan.readable]
    needs += [(path, reach.READ | reach.WRITE) for path in plan.writable]
    return needs


def _replace(path: Path, data: bytes) -> None:
    replace_file(RealFiles(), str(path), data)

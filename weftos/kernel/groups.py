"""The control groups of agents: one for each life, made before the fork, emptied and removed after the end.

Why it is as it is: a group for each life makes its counters those of that life. The process enters it by itself, by a
descriptor that the kernel opened, before it does anything else: so nothing of it was ever outside, and nobody waits.

Guaranteed: what is in an agent's group ends with the agent, sessions and groups of its own notwithstanding. Not
guaranteed: that a group is removed at once; the sampler comes back to it, and the next boot does.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from weftos.config import SandboxSection
from weftos.governance.capability import ResourceLimits
from weftos.ids import instance_tag
from weftos.sandbox.group_choice import look
from weftos.sandbox.groups import WANTED, ControlGroup, GroupLimits, GroupUsage

__all__ = ["AgentGroup", "AgentGroups"]

log = logging.getLogger(__name__)

_KERNEL: Final = "kernel"


class AgentGroup:
    """The group of one life of an agent.

    Attributes:
        in_force: files of the limits that the system has taken.

    Args:
        group: the group itself, new.
        controllers: that it was handed.
        wanted: what it may use.
    """

    def __init__(self, group: ControlGroup, controllers: tuple[str, ...], wanted: GroupLimits) -> None:
        self.group = group
        self._controllers = controllers
        self.in_force = tuple(group.limit(wanted, controllers))

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.group.folder.name

    def usage(self) -> GroupUsage:
        """What all that is in it uses."""
        return self.group.usage(self._controllers)

    def out_of_memory(self) -> bool:
        """Whether the system ended something in it for want of memory."""
        return self.group.out_of_memory() > 0

    def kill(self) -> None:
        """End all that is in it."""
        self.group.kill()


class AgentGroups:
    """Groups of the agents of one kernel.

    Attributes:
        why: why there are none, or what they lack; empty if all is well.
        controllers: that limit agents; empty also where groups only end them.

    Args:
        home_root: folder of the instance.
    """

    def __init__(self, home_root: str) -> None:
        self._prefix = f"weftos-{instance_tag(home_root)}-"
        self._base: ControlGroup | None = None
        self._moved: ControlGroup | None = None
        self._leaving: list[ControlGroup] = []
        self.why = "not looked for yet"
        self.controllers: tuple[str, ...] = ()

    @property
    def used(self) -> bool:
        """Whether agents get groups."""
        return self._base is not None

    def begin(self, config: SandboxSection) -> list[str]:
        """Find the group below which agents get theirs, and end what an earlier boot left in it.

        Call it before the first fork: what the kernel forks is where the kernel is.

        Returns:
            One sentence for each thing that was found.
        """
        choice = look(config.cgroup)
        self.why = choice.why
        if choice.base is None:
            return [f"control groups are not used: {self.why}"] if config.cgroup else []
        base = ControlGroup(choice.base)
        found = self._sweep(base)
        missing = [name for name in WANTED if name not in base.handed()]
        offered = [name for name in missing if name in base.offered()]
        try:
            if choice.move and offered:
                self._moved = base.child(f"{self._prefix}{_KERNEL}")
                self._moved.add(os.getpid())
        except OSError as error:
            self.why = f"the kernel cannot move into a control group of its own: {error.strerror}"
            return [*found, f"control groups are not used: {self.why}"]
        refused = base.hand(offered)
        self._base = base
        self.controllers = tuple(name for name in WANTED if name in base.handed())
        parts = [f"{name} is refused ({why}): are other processes in the group?" for name, why in refused.items()]
        parts += [f"{name} is not offered" for name in missing if name not in offered]
        self.why = f"of cgroup v2, {'; '.join(parts)}" if parts else ""
        return [*found, self.why] if self.why else found

    def _sweep(self, base: ControlGroup) -> list[str]:
        found = []
        for group in base.children(self._prefix):
            left = group.processes()
            # An earlier kernel that did not shut down may have left its own group, with this one or nobody in it.
            if group.folder.name != f"{self._prefix}{_KERNEL}":
                group.kill()
            if left and os.getpid() not in left:
                found.append(f"the control group {group.folder.name} of an earlier boot had {len(left)} processes")
            if not group.remove():
                self._leaving.append(group)
        return found

    def make(self, pid: int, incarnation: int, amounts: ResourceLimits, config: SandboxSection) -> AgentGroup | None:
        """Make the group of a life that is about to begin; ``None`` if agents have none.

        Raises:
            OSError: the system refuses.
        """
        if self._base is None:
            return None
        wanted = GroupLimits(
            memory_bytes=amounts.memory_bytes,
            tasks=amounts.processes,
            cpu_weight=config.cpu_weight,
            cpu_percent=config.cpu_percent,
        )
        return AgentGroup(self._base.child(f"{self._prefix}{pid}.{incarnation}"), self.controllers, wanted)

    def close(self, group: AgentGroup) -> None:
        """End what is left in the group of a life that is over, and remove it, now or at the next ``tick``."""
        group.kill()
        if not group.group.remove():
            self._leaving.append(group.group)

    def tick(self) -> None:
        """Remove what could not be removed before."""
        self._leaving = [group for group in self._leaving if not group.remove()]

    def end(self) -> None:
        """Leave the hierarchy as it was found, as far as the system allows."""
        self.tick()
        for group in self._leaving:
            log.warning("the control group %s is left for the next boot", group.folder)
        base, moved, self._base = self._base, self._moved, None
        if base is None or moved is None:
            return
        try:
            base.take_back(self.controllers)
            base.add(os.getpid())
        except OSError as error:
            log.warning("the kernel stays in its control group %s: %s", moved.folder, error)
            return
        moved.remove()

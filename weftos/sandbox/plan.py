"""How one agent is to be confined: what its profile, its capabilities and its places come to. Pure.

| | trusted | standard | strict |
|---|---|---|---|
| set-user-id programs, core files | refused | refused | refused |
| user | the kernel's | its own, where the kernel may give it one and it can read what it needs | the same |
| files | all | its program, the interpreter, system libraries, what it was given; its scratch folder | the same |
| network | the user's | refused, but with ``can_network`` and ``sandbox.network`` | the same |
| programs of the system | yes | with ``can_exec_tools`` | refused |
| signals, memory of others, mounts, clocks, … | the user's | refused | refused |
| what the machine cannot refuse | is shown | is shown | keeps it from starting |
"""

from __future__ import annotations

import msgspec

from weftos.governance.capability import AgentCapabilities, ResourceLimits
from weftos.governance.permissions import Profile
from weftos.sandbox.privileges import may_look_into_others
from weftos.sandbox.users import OwnUser

__all__ = ["Places", "Plan", "plan_for"]


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of an agent's start are.

    Attributes:
        home: the instance's folder, closed to it but for ``scratch``.
        scratch: the one folder in which it may always write.
        inner: folders of ``home`` that are the kernel's own; a program may lie beside them, not in them.
        protected: further paths that are closed to it.
        lendable: parts of what is closed that it may be given to read: the log, which is there to be read.
        program: file of its program, if it is a file.
    """

    home: str
    scratch: str
    inner: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    lendable: tuple[str, ...] = ()
    program: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be in force.

    Attributes:
        profile: ``trusted``, ``standard`` or ``strict``.
        places: where what is.
        readable: paths that it was given to read.
        writable: paths that it was given to read and write.
        network: whether it may use the network.
        execute: whether it may execute programs.
        fork: whether it may have processes of its own.
        name: short name of the process.
        hand_over: whether the kernel needs a descriptor to see how much memory it uses.
        user: whom it becomes; ``None`` leaves it the kernel's user.
        why_not: why it has no user of its own.
        group: name of its control group; empty for none.
        group_limits: files of the limits that are in force for the group.
        group_why: why it has none, or what it lacks.
        audited: whether the kernel reads what the system's audit says of refused paths; it is then to say it of
            programs that the agent executes as well.
    """

    profile: Profile
    places: Places
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: bool = False
    execute: bool = True
    fork: bool = True
    name: str = ""
    hand_over: bool = False
    user: OwnUser | None = None
    why_not: str = ""
    group: str = ""
    group_limits: tuple[str, ...] = ()
    group_why: str = ""
    audited: bool = False

    @property
    def confined(self) -> bool:
        """Whether anything but limits is put in force."""
        return self.profile != "trusted"


def plan_for(
    capabilities: AgentCapabilities,
    amounts: ResourceLimits,
    places: Places,
    *,
    name: str = "",
    audited: bool = False,
) -> Plan:
    """Make the plan for an agent.

    Args:
        capabilities: what it may do.
        amounts: its limits.
        places: its folders and its program.
        name: short name for the process.
        audited: whether the kernel reads the system's audit.
    """
    sandbox = capabilities.sandbox
    return Plan(
        profile=sandbox.profile,
        places=places,
        readable=sandbox.readable,
        writable=sandbox.writable,
        network=capabilities.can_network and sandbox.network,
        execute=capabilities.can_exec_tools and sandbox.profile != "strict",
        fork=amounts.processes != 1,
        name=name,
        hand_over=not may_look_into_others(),
        audited=audited,
    )

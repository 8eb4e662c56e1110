"""How one agent is to be confined: what its profile, its capabilities and its places come to. Pure.

| | trusted | standard | strict |
|---|---|---|---|
| set-user-id programs, core files | refused | refused | refused |
| files | all | its program, the interpreter, system libraries, what it was given; its scratch folder | the same |
| network | the user's | refused, but with ``can_network`` and ``sandbox.network`` | the same |
| programs of the system | yes | with ``can_exec_tools`` | refused |
| signals, memory of others, mounts, clocks, … | the user's | refused | refused |
| what the machine cannot refuse | is shown | is shown | keeps it from starting |
"""

from __future__ import annotations

import os

import msgspec

from weftos.governance.capability import AgentCapabilities, ResourceLimits
from weftos.governance.permissions import Profile

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
        hand_over=os.geteuid() != 0,
        audited=audited,
    )

"""What the kernel has to do with sandboxes: it plans them, chooses users, keeps what agents found in force, and puts it
on the log.
"""

from __future__ import annotations

import os

import msgspec

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.loader import parse_program
from weftos.errors import SandboxFailed
from weftos.ids import instance_tag
from weftos.ipc.frames import close_all
from weftos.kernel.core import Agent, Core
from weftos.kernel.leftovers import process_name
from weftos.kernel.process import ProcessEntry, ProcessState
from weftos.kernel.scratch import ScratchFolders
from weftos.sandbox import apply
from weftos.sandbox.paths import may_read
from weftos.sandbox.plan import Places, Plan, plan_for

__all__ = ["begin", "close", "door", "plan", "revived", "take"]


def begin(core: Core) -> int:
    """Before the first agent: take earlier scratch folders away; returns how many there were.

    Raises:
        SandboxFailed: they cannot be moved.
    """
    try:
        before = core.home.scratch
        # Agents had their folders there before they became users of their own.
        moved = ScratchFolders(before).begin() if before != core.users.scratch and before.is_dir() else 0
        return core.scratch.begin() + moved
    except OSError as error:
        raise SandboxFailed(f"the scratch folders of agents cannot be made: {error}") from error


def plan(core: Core, agent: Agent) -> Plan:
    """Plan the sandbox of an agent that is about to be forked; make its scratch folder and its control group.

    Raises:
        SandboxFailed: one of them cannot be made, its parent may not read the program that it is to run, or it has to
            have a user of its own and cannot.
    """
    entry = agent.entry
    made = _plan(core, entry)
    _choose_user(core, entry, made)
    made = msgspec.structs.replace(made, user=entry.user, why_not=entry.why_no_user)
    try:
        core.scratch.make(entry.pid, entry.user)
    except OSError as error:
        raise SandboxFailed(f"the scratch folder of agent {entry.pid} cannot be made: {error}") from error
    parent = core.table.live(entry.spec.parent)
    program = made.places.program
    if parent is not None and program is not None and not may_read(_plan(core, parent), program):
        raise SandboxFailed(f"agent {parent.pid} may not start {program}: it may not read it")
    apply.prepare(made)
    core.refusals.begin(agent)
    return _grouped(core, agent, made)


def _choose_user(core: Core, entry: ProcessEntry, made: Plan) -> None:
    """Choose whom an agent is, once: what is in its scratch folder is that user's."""
    if entry.user is None and not entry.why_no_user:
        used = {one.user.uid for one in core.table if one.user is not None}
        entry.user, entry.why_no_user = core.users.choose(made, used)
    if made.confined and entry.user is None and core.config.sandbox.require_own_user:
        raise SandboxFailed(
            f"`[sandbox] require_own_user` is set, and agent {entry.pid} cannot have a user of its own: "
            f"{entry.why_no_user}"
        )


def _grouped(core: Core, agent: Agent, made: Plan) -> Plan:
    entry = agent.entry
    try:
        group = core.groups.make(entry.pid, entry.incarnation, entry.spec.limits, core.config.sandbox)
    except OSError as error:
        raise SandboxFailed(f"the control group of agent {entry.pid} cannot be made: {error}") from error
    agent.group = group
    if group is None:
        return msgspec.structs.replace(made, group_why=core.groups.why)
    return msgspec.structs.replace(made, group=group.name, group_limits=group.in_force, group_why=core.groups.why)


def _plan(core: Core, entry: ProcessEntry) -> Plan:
    home, config = core.home, core.config.chain
    elsewhere = [str(home.archive_of(config.archive_dir))] if config.archive_dir else []
    elsewhere += [config.witness_dir] if config.witness_dir else []
    own = (home.keys, home.run, home.vault, home.chain, home.tree, home.index, home.artifacts, home.witnesses)
    places = Places(
        home=str(home.root),
        scratch=core.scratch.path(entry.pid),
        inner=tuple(map(str, own)),
        protected=(str(home.socket.parent), str(core.users.scratch), *elsewhere),
        lendable=(str(home.chain),),
        program=parse_program(entry.spec.program).path,
    )
    name = process_name(instance_tag(str(home.root)))
    audited = core.refusals.audit.open
    return plan_for(entry.spec.capabilities, entry.spec.limits, places, name=name, audited=audited)


def revived(core: Core, entry: ProcessEntry) -> None:
    """Let an agent that comes back from the history be who it was, unless somebody else is that now."""
    entry.why_no_user = ""
    if any(one.user == entry.user for one in core.table if one is not entry):
        entry.user = None


def door(agent: Agent) -> list[int]:
    """A descriptor by which the agent's process enters its control group; none if it has none.

    Raises:
        SandboxFailed: it cannot be opened.
    """
    if agent.group is None:
        return []
    try:
        return [agent.group.group.door()]
    except OSError as error:
        raise SandboxFailed(f"the control group of agent {agent.pid} cannot be entered: {error}") from error


def take(core: Core, agent: Agent, frame: f.Confined, fds: list[int]) -> None:
    """Keep what an agent's process found, before it loaded its program; later, nothing is believed any more."""
    entry = agent.entry
    if entry.state is not ProcessState.STARTING or entry.measures:
        close_all(fds)
        return
    entry.measures = [
        msgspec.structs.replace(one, name=one.name[:64], detail=one.detail[: limits.MEASURE_CHARS])
        for one in frame.measures[:62]
    ]
    entry.measures += core.refusals.confined(agent, frame.unheard, frame.tried_at)
    if fds and agent.rollup < 0:
        agent.rollup = fds.pop(0)
    close_all(fds)
    profile = entry.spec.capabilities.sandbox.profile
    if frame.lacking:
        payload = entry.life_payload() | {"profile": profile, "lacking": [name[:64] for name in frame.lacking[:64]]}
        core.record("agent.unconfined", payload, source="supervisor", subject=entry.agent_id)
        return
    measures = [{"name": one.name, "state": one.state, "detail": one.detail} for one in entry.measures]
    payload = entry.life_payload() | {"profile": profile, "measures": measures}
    core.record("agent.confined", payload, source="supervisor", subject=entry.agent_id)


def close(core: Core, agent: Agent, os_pid: int | None = None) -> None:
    """Forget what belonged to the incarnation that has ended, when what it was refused is on the log.

    What it left in its control group ends first: nothing of it makes calls any more when nobody listens to them.

    Args:
        core: shared state.
        agent: whose it was.
        os_pid: its process; ``None`` if it never had one, or that has been told before.
    """
    if agent.group is not None:
        core.groups.close(agent.group)
        agent.group = None
    core.refusals.end(agent, os_pid)
    if agent.rollup >= 0:
        os.close(agent.rollup)
        agent.rollup = -1

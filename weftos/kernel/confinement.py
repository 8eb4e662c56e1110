"""What the kernel has to do with sandboxes: it plans them, keeps what agents found in force, and puts it on the log."""

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
from weftos.sandbox import apply
from weftos.sandbox.paths import may_read
from weftos.sandbox.plan import Places, Plan, plan_for

__all__ = ["begin", "close", "plan", "take"]


def begin(core: Core) -> int:
    """Before the first agent: take earlier scratch folders away; returns how many there were.

    Raises:
        SandboxFailed: they cannot be moved.
    """
    try:
        return core.scratch.begin()
    except OSError as error:
        raise SandboxFailed(f"the scratch folders of agents cannot be made: {error}") from error


def plan(core: Core, agent: Agent) -> Plan:
    """Plan the sandbox of an agent that is about to be forked, and make its scratch folder.

    Raises:
        SandboxFailed: the folder cannot be made, or its parent may not read the program that it is to run.
    """
    entry = agent.entry
    try:
        core.scratch.make(entry.pid)
    except OSError as error:
        raise SandboxFailed(f"the scratch folder of agent {entry.pid} cannot be made: {error}") from error
    made = _plan(core, entry)
    parent = core.table.live(entry.spec.parent)
    program = made.places.program
    if parent is not None and program is not None and not may_read(_plan(core, parent), program):
        raise SandboxFailed(f"agent {parent.pid} may not start {program}: it may not read it")
    apply.prepare(made)
    core.refusals.begin(agent)
    return made


def _plan(core: Core, entry: ProcessEntry) -> Plan:
    home, config = core.home, core.config.chain
    elsewhere = [str(home.archive_of(config.archive_dir))] if config.archive_dir else []
    elsewhere += [config.witness_dir] if config.witness_dir else []
    own = (home.keys, home.run, home.vault, home.chain, home.tree, home.index, home.artifacts, home.witnesses)
    places = Places(
        home=str(home.root),
        scratch=core.scratch.path(entry.pid),
        inner=tuple(map(str, own)),
        protected=(str(home.socket.parent), *elsewhere),
        lendable=(str(home.chain),),
        program=parse_program(entry.spec.program).path,
    )
    name = process_name(instance_tag(str(home.root)))
    audited = core.refusals.audit.open
    return plan_for(entry.spec.capabilities, entry.spec.limits, places, name=name, audited=audited)


def take(core: Core, agent: Agent, frame: f.Confined, fds: list[int]) -> None:
    """Keep what an agent's process found, before it loaded its program; later, nothing is believed any more."""
    entry = agent.entry
    if entry.state is not ProcessState.STARTING or entry.measures:
        close_all(fds)
        return
    entry.measures = [
        msgspec.structs.replace(one, name=one.name[:64], detail=one.detail[: limits.RIGHTS_NAME_CHARS])
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


def close(core: Core, agent: Agent, os_pid: int) -> None:
    """Forget what belonged to the incarnation that has ended, when what it was refused is on the log."""
    core.refusals.end(agent, os_pid)
    if agent.rollup >= 0:
        os.close(agent.rollup)
        agent.rollup = -1

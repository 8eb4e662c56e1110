"""What the kernel holds at a moment: the answer of ``kernel.state``, and what a fold over the log must come to."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "AgentHeld",
    "BudgetHeld",
    "KernelHeld",
    "RingHeld",
    "ServiceHeld",
    "SettingHeld",
    "TokenHeld",
    "TopicHeld",
]


class AgentHeld(msgspec.Struct, kw_only=True, dict=False):
    """An agent that is there: alive, or about to be restarted.

    Attributes:
        pid: of the agent.
        agent_id: its name on the log.
        name: as it was spawned.
        program: as it was spawned.
        parent_pid: its parent; 0 for the kernel.
        restart: its restart policy.
        state: ``starting``, ``running``, ``suspended``, ``stopping`` or ``exited``.
        incarnation: which life, from 1.
        os_pid: its process once it is ready, else ``None``.
        watchers: agents that are told when it ends.
        links: agents that are told, and that it is told of.
        role: what it is for; empty for none.
        epoch: which version of its capabilities this is, from 1.
        capabilities: what it may do.
        limits: how much of the machine it may use.
        ceiling: what it may be given back: capabilities and limits.
    """

    pid: int
    agent_id: str
    name: str
    program: str
    parent_pid: int
    restart: str
    state: str
    incarnation: int
    os_pid: int | None = None
    watchers: list[int] = []
    links: list[int] = []
    role: str = ""
    epoch: int = 1
    capabilities: dict[str, Any] = {}
    limits: dict[str, int] = {}
    ceiling: dict[str, Any] = {}


class RingHeld(msgspec.Struct, kw_only=True):
    """A ring between two agents.

    Attributes:
        ring: its number.
        src: who writes.
        dst: who reads.
        direct: whether direct messages may pass.
        broadcast: whether broadcasts may pass.
        topics: whose messages may pass.
        capacity_bytes: of its data area.
    """

    ring: int
    src: int
    dst: int
    direct: bool
    broadcast: bool
    topics: list[str]
    capacity_bytes: int


class TopicHeld(msgspec.Struct, kw_only=True):
    """A topic.

    Attributes:
        topic: its name.
        subscribers: pids.
        publishers: pids of agents that were allowed to publish in their present life.
    """

    topic: str
    subscribers: list[int] = []
    publishers: list[int] = []


class ServiceHeld(msgspec.Struct, kw_only=True):
    """A service that an agent offers.

    Attributes:
        name: of the service.
        pid: of the agent.
        methods: as it offered them.
    """

    name: str
    pid: int
    methods: list[str] = []


class BudgetHeld(msgspec.Struct, kw_only=True):
    """A budget, or what was used where none was given.

    Attributes:
        pid: of the agent; 0 is the kernel's.
        given: by dimension; ``None`` where nothing was given.
        claims: whether an agent's word gives back tokens and cost.
        loop: repeats and seconds of its own guard against loops; empty for none.
        reserved: by dimension, by the agent and all below it.
        settled: by dimension, by the agent and all below it.
        open: numbers of the agent's own reservations that are open.
    """

    pid: int
    given: dict[str, int] | None = None
    claims: bool = False
    loop: list[int] = []
    reserved: dict[str, int] = {}
    settled: dict[str, int] = {}
    open: list[int] = []


class TokenHeld(msgspec.Struct, kw_only=True):
    """A token that counts; the fields of ``auth.scope.TokenScope``.

    Attributes:
        id: its name for programs.
        name: its name for people.
        fingerprint: hash of its public half, hex digits.
        access: class of methods.
        methods: further methods.
        agents: to which it is limited.
        uids: to which it is limited.
        expires_ns: end of its life.
        issued_by: who issued it.
    """

    id: str
    name: str
    fingerprint: str
    access: str
    methods: list[str]
    agents: list[str]
    uids: list[int]
    expires_ns: int
    issued_by: str


class SettingHeld(msgspec.Struct, kw_only=True):
    """A setting that the configuration file sets.

    Attributes:
        key: section and name.
        value: as JSON.
    """

    key: str
    value: str


class KernelHeld(msgspec.Struct, kw_only=True):
    """What the kernel holds.

    Attributes:
        boot_id: of this boot, hex digits.
        seq: number of the newest record of the log of which all this is the sum; -1 for none.
        service_incarnation: of the service process.
        agents: by pid.
        rings: by number.
        topics: by name.
        services: by name; those of agents.
        witnesses: names of the witnesses that run.
        budgets: by pid; the service holds them.
        dead_letters: put aside since the boot, those that were dropped since included.
        tokens: by id; null if the log's beginning, which would tell, was pruned.
        settings: by key; null likewise.
    """

    boot_id: str
    seq: int
    service_incarnation: int = 1
    agents: list[AgentHeld] = []
    rings: list[RingHeld] = []
    topics: list[TopicHeld] = []
    services: list[ServiceHeld] = []
    witnesses: list[str] = []
    budgets: list[BudgetHeld] = []
    dead_letters: int = 0
    tokens: list[TokenHeld] | None = []
    settings: list[SettingHeld] | None = []

"""The process table: who lives, who lived, and which changes of state exist.

A kernel pid names an agent for the whole boot and is never used again; a restart is a new *incarnation* of the same pid
with a new OS pid.
Ended agents move to a bounded history, so a long life does not fill the table. Pure logic: no process, no socket; time
is passed in.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from weftos import limits
from weftos.agent.frames import SpawnSpec
from weftos.errors import InvalidStateTransition, ProcessNotFound, ProcessTableFull
from weftos.governance.rights import Rights
from weftos.kernel.exits import ExitRecord
from weftos.sandbox.measure import Measure
from weftos.sandbox.refusals import Tally
from weftos.sandbox.users import OwnUser
from weftos.service.keyed import scope_of

__all__ = ["ProcessEntry", "ProcessState", "ProcessTable"]


class ProcessState(enum.StrEnum):
    """States of one incarnation; names as the reference displays them."""

    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    EXITED = "exited"


_ARROWS: dict[ProcessState, frozenset[ProcessState]] = {
    ProcessState.STARTING: frozenset({ProcessState.RUNNING, ProcessState.STOPPING, ProcessState.EXITED}),
    ProcessState.RUNNING: frozenset({ProcessState.SUSPENDED, ProcessState.STOPPING, ProcessState.EXITED}),
    ProcessState.SUSPENDED: frozenset({ProcessState.RUNNING, ProcessState.STOPPING, ProcessState.EXITED}),
    ProcessState.STOPPING: frozenset({ProcessState.EXITED}),
    # Only a new incarnation leaves this state.
    ProcessState.EXITED: frozenset({ProcessState.STARTING}),
}


@dataclass(slots=True)
class ProcessEntry:
    """One agent.

    Fields are grouped by who writes them. What it may do stands in ``spec``, so that every incarnation has it.
    """

    # written once, at spawn
    pid: int
    spec: SpawnSpec
    spawned_at: float
    scope: str = ""

    # written by the desk of capabilities, at each change of them
    epoch: int = 1
    ceiling: Rights = field(default_factory=Rights)
    changed_by: str = ""
    changed_why: str = ""

    # written by the supervisor, at each change of life
    state: ProcessState = ProcessState.STARTING
    incarnation: int = 1
    restarts: int = 0
    os_pid: int | None = None
    started_at: float = 0.0
    last_exit: ExitRecord | None = None
    quarantined: bool = False
    stop_requested: str | None = None
    kill_reason: str | None = None
    restart_due: float | None = None
    children: set[int] = field(default_factory=set)
    isolation: list[str] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    cpu_before: float = 0.0
    #: Whom it is while its scratch folder exists, and why not somebody of its own; both empty before its first fork.
    user: OwnUser | None = None
    why_no_user: str = ""

    # written by the desk of refusals; of the present incarnation, or the last
    tally: Tally = field(default_factory=Tally)
    unheard: str = ""
    paths_heard: bool = False
    tried_at: float = 0.0

    # written by the agent's own notes, claims and nothing more
    note: tuple[str, str, str] | None = None

    @property
    def agent_id(self) -> str:
        """Stable name for records: the agent's name with its pid, unique within a boot."""
        return f"{self.spec.name}.{self.pid}"

    @property
    def rights(self) -> Rights:
        """What it holds."""
        return Rights(self.spec.capabilities, self.spec.limits)

    @property
    def alive(self) -> bool:
        """Whether an OS process of this agent exists."""
        return self.state is not ProcessState.EXITED

    @property
    def present(self) -> bool:
        """Whether the agent still counts: alive, or about to be restarted."""
        return self.alive or self.restart_due is not None

    def move(self, to: ProcessState) -> ProcessState:
        """Change state.

        Returns:
            The state before.

        Raises:
            InvalidStateTransition: there is no such arrow.
        """
        before = self.state
        if to not in _ARROWS[before]:
            raise InvalidStateTransition(f"agent {self.pid} is {before}; it cannot become {to}")
        self.state = to
        return before

    def life_payload(self) -> dict[str, Any]:
        """Which life of which agent an event on the chain is about."""
        return {"pid": self.pid, "agent_id": self.agent_id, "incarnation": self.incarnation, "os_pid": self.os_pid}

    def spawn_payload(self, requester: int) -> dict[str, Any]:
        """What the chain keeps of a spawn that ``requester`` asked for."""
        spec = self.spec
        return {
            "pid": self.pid,
            "agent_id": self.agent_id,
            "name": spec.name,
            "program": spec.program,
            "args": list(spec.args),
            "parent_pid": spec.parent,
            "requested_by": requester,
            "restart": spec.restart,
            "limits": msgspec.to_builtins(spec.limits),
            "capabilities": msgspec.to_builtins(spec.capabilities),
            "role": spec.role,
        }


class ProcessTable:
    """Live agents by pid, and a bounded history of ended ones.

    Args:
        max_processes: live agents allowed at once; 0 is unlimited.
        history: ended agents remembered.
    """

    def __init__(self, max_processes: int = limits.MAX_PROCESSES, history: int = limits.EXITED_HISTORY_MAX) -> None:
        self.max_processes = max_processes
        self._history_max = history
        self._live: dict[int, ProcessEntry] = {}
        self._ended: OrderedDict[int, ProcessEntry] = OrderedDict()
        self._last_pid = 0

    def add(self, spec: SpawnSpec, now: float) -> ProcessEntry:
        """Enter a new agent and give it the next pid, and the scope of its keys.

        Raises:
            ProcessTableFull: as many agents live as are allowed.
        """
        if self.max_processes and len(self._live) >= self.max_processes:
            raise ProcessTableFull(
                f"{len(self._live)} agents are alive, and kernel.max_processes is {self.max_processes}: "
                "stop one or raise it"
            )
        self._last_pid += 1
        parent = self._live.get(spec.parent)
        scope = scope_of(parent.scope if parent is not None else "", spec.name)
        entry = ProcessEntry(pid=self._last_pid, spec=spec, spawned_at=now, scope=scope)
        entry.ceiling = entry.rights
        self._live[entry.pid] = entry
        if parent is not None:
            parent.children.add(entry.pid)
        return entry

    def get(self, pid: int) -> ProcessEntry:
        """Return a live or remembered agent.

        Raises:
            ProcessNotFound: no agent has or had this pid (or it was forgotten).
        """
        entry = self._live.get(pid) or self._ended.get(pid)
        if entry is None:
            raise ProcessNotFound(f"no agent has pid {pid}; `weaver agent list --all` shows those that exist")
        return entry

    def live(self, pid: int) -> ProcessEntry | None:
        """Return the agent if it is present, else ``None``."""
        return self._live.get(pid)

    def retire(self, pid: int) -> ProcessEntry:
        """Move an agent that will not come back to the history; its children lose their parent."""
        entry = self._live.pop(pid)
        assert entry.state is ProcessState.EXITED, "only an ended agent retires"
        self._ended[pid] = entry
        while len(self._ended) > self._history_max:
            self._ended.popitem(last=False)
        parent = self._live.get(entry.spec.parent)
        if parent is not None:
            parent.children.discard(pid)
        return entry

    def revive(self, pid: int, now: float) -> ProcessEntry:
        """Bring an ended agent back from the history, for a restart that somebody asked for.

        Raises:
            ProcessNotFound: it was forgotten.
            ProcessTableFull: no room.
        """
        entry = self._ended.get(pid)
        if entry is None:
            raise ProcessNotFound(f"no ended agent has pid {pid}")
        if self.max_processes and len(self._live) >= self.max_processes:
            raise ProcessTableFull(
                f"{len(self._live)} agents are alive, and kernel.max_processes is {self.max_processes}"
            )
        del self._ended[pid]
        entry.spawned_at = now
        self._live[pid] = entry
        parent = self._live.get(entry.spec.parent)
        if parent is not None:
            parent.children.add(pid)
        return entry

    def __iter__(self) -> Iterator[ProcessEntry]:
        """Live agents in order of pid."""
        return iter(sorted(self._live.values(), key=lambda entry: entry.pid))

    def __len__(self) -> int:
        return len(self._live)

    def ended(self) -> list[ProcessEntry]:
        """Remembered ended agents, oldest first."""
        return list(self._ended.values())

    def descendants(self, pid: int) -> list[int]:
        """Pids below ``pid`` in the tree of live agents, parents before children."""
        found: list[int] = []
        frontier = [pid]
        while frontier:
            entry = self._live.get(frontier.pop())
            if entry is not None:
                found.extend(sorted(entry.children))
                frontier.extend(entry.children)
        return found

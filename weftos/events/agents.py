"""Events in the life of an agent, and of its use of resources."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from weftos.events.event import Event, Natural, Pid


class _Life(Event, frozen=True, kw_only=True):
    """Which life of which agent."""

    pid: Pid
    agent_id: str
    incarnation: Natural
    os_pid: Natural | None = None


class Spawn(Event, frozen=True, kw_only=True):
    """An agent is about to be started."""

    kind: ClassVar[str] = "agent.spawn"
    pid: Pid
    agent_id: str
    name: str
    program: str
    args: list[str]
    parent_pid: Pid
    requested_by: Pid
    restart: str
    limits: dict[str, Any]
    capabilities: dict[str, Any]
    role: str = ""
    by: str = ""


class Ready(_Life, frozen=True, kw_only=True):
    """An agent reported that it is ready."""

    kind: ClassVar[str] = "agent.ready"


class Confined(_Life, frozen=True, kw_only=True):
    """What of an agent's sandbox is in force, found from inside before its program was loaded."""

    kind: ClassVar[str] = "agent.confined"
    profile: str
    measures: list[dict[str, str]]


class Unconfined(_Life, frozen=True, kw_only=True):
    """An agent was not started, because it cannot be confined as its profile demands."""

    kind: ClassVar[str] = "agent.unconfined"
    profile: str
    lacking: list[str]


class Refused(_Life, frozen=True, kw_only=True):
    """The system refused an agent something for the first time in this life; what comes again is in sums."""

    kind: ClassVar[str] = "agent.refused"
    what: Literal["syscall", "path", "net", "signal", "ptrace"]
    name: str
    errno: str
    count: Natural
    arguments: tuple[int, ...] = ()
    about: str = ""
    thread: Natural | None = None


class RefusedAgain(Event, frozen=True, kw_only=True):
    """How often one thing was refused again."""

    what: Literal["syscall", "path", "net", "signal", "ptrace"]
    name: str
    errno: str
    about: str
    count: Natural


class Refusals(_Life, frozen=True, kw_only=True):
    """How often the system refused an agent what it had been refused before, since the last such record."""

    kind: ClassVar[str] = "agent.refusals"
    counts: list[RefusedAgain]


class Exit(_Life, frozen=True, kw_only=True):
    """An agent's process ended; with its exit record."""

    kind: ClassVar[str] = "agent.exit"
    exit: dict[str, Any]


class Restart(_Life, frozen=True, kw_only=True):
    """An agent is about to be started again."""

    kind: ClassVar[str] = "agent.restart"
    because: str
    parent_pid: Pid = 0
    by: str = ""


class Stop(_Life, frozen=True, kw_only=True):
    """An agent was asked to stop."""

    kind: ClassVar[str] = "agent.stop"
    by: str


class ForceStop(_Life, frozen=True, kw_only=True):
    """An agent is killed because somebody asked for it."""

    kind: ClassVar[str] = "agent.force_stop"
    by: str


class Suspend(_Life, frozen=True, kw_only=True):
    """An agent was halted."""

    kind: ClassVar[str] = "agent.suspend"


class Resume(_Life, frozen=True, kw_only=True):
    """A halted agent goes on."""

    kind: ClassVar[str] = "agent.resume"


class Escalate(_Life, frozen=True, kw_only=True):
    """An agent failed too often and is not started again."""

    kind: ClassVar[str] = "agent.escalate"
    why: str


class Gone(_Life, frozen=True, kw_only=True):
    """An agent is gone for good; its rings close, and its children are stopped."""

    kind: ClassVar[str] = "agent.gone"
    reason: str


class Monitor(Event, frozen=True, kw_only=True):
    """An agent watches another one, or is linked with it."""

    kind: ClassVar[str] = "agent.monitor"
    pid: Pid
    target: Pid
    link: bool


class _Measured(Event, frozen=True, kw_only=True):
    """A figure and its limit."""

    pid: Pid
    resource: str
    current: float
    limit: float


class Warned(_Measured, frozen=True, kw_only=True):
    """An agent came close to a limit."""

    kind: ClassVar[str] = "resource.warning"


class Breached(_Measured, frozen=True, kw_only=True):
    """An agent exceeded a limit."""

    kind: ClassVar[str] = "resource.breach"

"""Parameters and results of the ``agent.*`` methods.

Parameters refuse fields they do not know, so that a misspelt option is an error and not a default. Results are flat and
their keys are the keys of ``weaver --json``: a key is added, never renamed. Times named ``*_at`` are seconds since
1970, spans are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from weftos import limits
from weftos.governance.capability import AgentCapabilities, SandboxPolicy

__all__ = [
    "AgentDetail",
    "AgentLog",
    "Confinement",
    "ExitRecord",
    "ListParams",
    "LogParams",
    "PidParams",
    "ProcessInfo",
    "RestartPolicy",
    "RingInfo",
    "SendParams",
    "SendResult",
    "SpawnParams",
    "SpawnResult",
    "StateResult",
    "StopParams",
    "StopResult",
]

#: Number of an agent: from 1, because 0 is the kernel.
AgentPid: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
#: A span in seconds that somebody waits for; a day is longer than anybody means.
Patience: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
#: A name given by a person: printable, no blanks, so that it can stand in a table and in a record's subject.
AgentName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
RestartPolicy: TypeAlias = Literal["never", "on-failure", "always"]


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one incarnation of an agent ended; the kernel's facts, not the agent's claims.

    Attributes:
        reason: ``normal``, ``stopped``, ``crash``, ``killed`` or ``timeout``.
        code: exit status 0 to 255, ``None`` when a signal ended it.
        signal: name of the signal, for example ``SIGKILL``, else ``None``.
        message: one sentence.
        cpu_user_secs: CPU time in user mode, seconds.
        cpu_system_secs: CPU time in the system, seconds.
        max_rss_bytes: peak resident memory, bytes.
        started_at: when it was forked.
        ended_at: when it was reaped.
        core_dumped: whether a core file was written.
        incarnation: which life of the agent, from 1.
    """

    reason: str
    code: int | None
    signal: str | None
    message: str
    cpu_user_secs: float
    cpu_system_secs: float
    max_rss_bytes: int
    started_at: float
    ended_at: float
    core_dumped: bool
    incarnation: int


class PidParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one agent."""

    pid: AgentPid


class ListParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``all`` adds the remembered agents that have ended."""

    all: bool = False


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the process table.

    Attributes:
        pid: kernel pid, never used twice in a boot.
        os_pid: process id of the operating system, ``None`` while no process exists.
        agent_id: name and pid joined, unique within a boot.
        name: the agent's name.
        program: what it runs.
        state: ``starting``, ``running``, ``suspended``, ``stopping`` or ``exited``.
        parent_pid: who spawned it; ``None`` for the operator.
        incarnation: which life, from 1.
        restarts: restarts so far.
        rss_bytes: resident memory, bytes; 0 when no process exists.
        cpu_seconds: CPU time of all incarnations, seconds.
        uptime_secs: age of the present incarnation, seconds; 0 when none lives.
        last_exit: how the incarnation before ended, if one did.
    """

    pid: int
    os_pid: int | None
    agent_id: str
    name: str
    program: str
    state: str
    parent_pid: int | None = None
    incarnation: int = 1
    restarts: int = 0
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    uptime_secs: float = 0.0
    last_exit: ExitRecord | None = None


class SpawnParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new agent.

    Attributes:
        program: a built-in name (``echo``), ``module:function``, or the path of a Python file.
        name: by default that of the program.
        args: handed to the program as they are.
        env: added to the environment.
        limits: overrides of ``ResourceLimits`` by field name; 0 is unlimited.
        capabilities: ``None`` gives the defaults, or with a parent the parent's.
        restart: when a new incarnation follows the last.
        parent_pid: the agent it belongs to; ``None`` is the operator.
        role: what it is for; gives its capabilities if none are given, and says whom it may start.
        sandbox: how its process is confined; takes the place of what the capabilities have of it.
        backend: kind of execution; ``native`` is a process of the operating system.
    """

    program: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    name: AgentName | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    limits: dict[str, int] = {}
    capabilities: AgentCapabilities | None = None
    restart: RestartPolicy = "on-failure"
    parent_pid: AgentPid | None = None
    role: str = ""
    sandbox: SandboxPolicy | None = None
    backend: str = "native"


class SpawnResult(msgspec.Struct, frozen=True, kw_only=True):
    """The agent is ready: its program is loaded and ``main`` was called."""

    pid: int
    os_pid: int
    agent_id: str
    name: str
    incarnation: int


class StopParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop an agent: asked first (``graceful``), then killed after ``timeout_secs`` (``None``: the agent's own)."""

    pid: AgentPid
    graceful: bool = True
    timeout_secs: Patience | None = None


class StopResult(msgspec.Struct, frozen=True, kw_only=True):
    """The agent has ended; ``exit`` says how."""

    pid: int
    state: str
    exit: ExitRecord


class StateResult(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's state after the call."""

    pid: int
    state: str


class RingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One ring of an agent.

    Attributes:
        ring_id: number within the boot.
        direction: ``in`` or ``out``, seen from the agent.
        peer_pid: who is at the other end; 0 is the kernel.
        capacity_bytes: size.
        depth_bytes: bytes written and not yet consumed.
        messages: messages carried so far.
        bytes: bytes carried so far.
        messages_per_sec: rate over the kernel's last sampling interval.
        bytes_per_sec: rate over the kernel's last sampling interval.
        topics: topics that may travel in it.
    """

    ring_id: int
    direction: Literal["in", "out"]
    peer_pid: int
    capacity_bytes: int
    depth_bytes: int
    messages: int = 0
    bytes: int = 0
    messages_per_sec: float = 0.0
    bytes_per_sec: float = 0.0
    topics: list[str] = []


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an agent's sandbox.

    Attributes:
        name: of the part, for example ``files``.
        state: ``enforced``, ``partial``, ``absent`` or ``open`` (the profile leaves it open).
        detail: what was seen, or why it is not in force.
    """

    name: str
    state: str
    detail: str = ""


class RefusalInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How often one kind of thing was refused to an agent by the system.

    Attributes:
        what: ``syscall``, ``path``, ``net``, ``signal`` or ``ptrace``.
        name: of the call, or of the rights that were lacking; ``others`` for what there was no more room for.
        errno: name of the error that it got, empty where that is not told.
        about: path, port or process; empty for calls.
        count: how often.
    """

    what: str
    name: str
    errno: str
    about: str
    count: int


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """What the system refused to an agent.

    Attributes:
        calls: ``recorded``, or why refused calls are not.
        paths: the same of what Landlock refuses.
        counts: of this incarnation or the last one, what was refused most often first.
    """

    calls: str = ""
    paths: str = ""
    counts: list[RefusalInfo] = []


class AgentDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one agent. The first fields are those of ``ProcessInfo``.

    Attributes:
        args: arguments of the program.
        children: pids of its living children.
        uss_bytes: memory that would be freed if it ended.
        pss_bytes: its memory with shared pages divided among their users.
        threads: threads of its main process.
        open_files: regular files open.
        descriptors: descriptors open, of all kinds.
        processes: processes in its session, itself included.
        voluntary_switches: context switches because it waited.
        involuntary_switches: context switches because its time was up.
        cgroup: control group of the process, empty when unknown.
        uid: user that the process is, as the system says; -1 when it has none.
        gid: its group, likewise.
        started_at: start of this incarnation.
        limits: limits by name; 0 is unlimited.
        usage: measured use, under the names of ``limits``.
        usage_percent: use in percent of the limit; only limits that are set.
        rings: incoming and outgoing rings.
        capabilities: what it may do, ``ipc_scope`` as text.
        role: what it is for; empty for none.
        epoch: which version of its capabilities this is, from 1.
        changed_by: who made it; empty since its start.
        changed_why: the reason given.
        isolation: session, death signal and limits that were applied to it.
        profile: by which it is confined: ``trusted``, ``standard`` or ``strict``.
        confinement: what of the sandbox was found in force, from inside, before its program ran.
        refusals: what the system refused it, as far as the kernel is told.
        scratch: the folder in which it may write.
        unknown: facts that the kernel may not read of the process, because it is not root; they are 0 here.
        topics: topics it subscribes to.
        services: services it offers.
        quarantined: whether its restart budget is spent.
        log_path: file with its output, if it has one.
    """

    pid: int
    os_pid: int | None
    agent_id: str
    name: str
    program: str
    state: str
    incarnation: int = 1
    restarts: int = 0
    parent_pid: int | None = None
    args: list[str] = []
    children: list[int] = []
    rss_bytes: int = 0
    uss_bytes: int = 0
    pss_bytes: int = 0
    cpu_seconds: float = 0.0
    threads: int = 0
    open_files: int = 0
    descriptors: int = 0
    processes: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    cgroup: str = ""
    uid: int = -1
    gid: int = -1
    uptime_secs: float = 0.0
    started_at: float = 0.0
    limits: dict[str, int] = {}
    usage: dict[str, float] = {}
    usage_percent: dict[str, float] = {}
    rings: list[RingInfo] = []
    capabilities: dict[str, Any] = {}
    role: str = ""
    epoch: int = 1
    changed_by: str = ""
    changed_why: str = ""
    isolation: list[str] = []
    profile: str = ""
    confinement: list[Confinement] = []
    refusals: Refusals = Refusals()
    scratch: str = ""
    unknown: list[str] = []
    topics: list[str] = []
    services: list[str] = []
    last_exit: ExitRecord | None = None
    quarantined: bool = False
    log_path: str = ""


class SendParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message from the operator: a string is text, everything else is JSON. ``wait`` asks for the reply."""

    pid: AgentPid
    message: Any
    timeout_secs: Patience = limits.AGENT_SEND_TIMEOUT_S
    wait: bool = True


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the message.

    Attributes:
        delivered: the message lies in the agent's ring (always true when the call succeeds).
        reply: the reply; ``None`` when none was asked for. Bytes come as base64, arrays as nested lists.
        reply_type: payload kind of the reply (``text``, ``json``, ``bytes``, ``array``, …), ``None`` when none was
            asked for.
        elapsed_secs: from hand-over to reply.
    """

    delivered: bool
    reply: Any = None
    reply_type: str | None = None
    elapsed_secs: float = 0.0


class LogParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest ``count`` lines, or with ``offset`` (from the answer before) what was written since."""

    pid: AgentPid
    count: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 50
    offset: Annotated[int, msgspec.Meta(ge=0)] | None = None


class AgentLog(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the agent's output, oldest first.

    ``offset`` is where the next question continues; ``ended`` tells that the agent will not run again (``None``: look
    at ``state``).
    """

    pid: int
    lines: list[str]
    offset: int
    state: str
    ended: bool | None = None

"""Parameters and results of the methods about the kernel: its state, services and their health, its log, its end."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from weftos.rpc.agent_types import AgentPid
from weftos.rpc.types import Count

__all__ = [
    "HealthReport",
    "KernelStatus",
    "KillParams",
    "KillResult",
    "LogEntry",
    "LogLevelName",
    "LogsParams",
    "NameParams",
    "RestartServiceResult",
    "ServiceHealth",
    "ServiceInfo",
    "ShutdownResult",
]

LogLevelName: TypeAlias = Literal["debug", "info", "warn", "error"]


class KernelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of the kernel.

    Attributes:
        os_pid: process id of the kernel.
        state: ``booting``, ``running``, ``shutting_down`` or ``halted``.
        version: version of WeftOS.
        boot_id: 32 hex digits naming this boot.
        home: directory of the instance.
        uptime_secs: age.
        process_count: living agents.
        service_count: registered services, the system's own included.
        max_processes: living agents allowed; 0 is unlimited.
        health_check_interval_secs: how often services are checked.
        rss_bytes: resident memory of the kernel process.
        clean_start: whether nothing had to be repaired at boot.
        unclean_shutdown: whether the boot before ended without a shutdown.
        socket: path of the control socket.
        log: path of the kernel's log.
        config: path of the configuration file in force, ``None`` when there is none.
    """

    os_pid: int
    state: str
    version: str
    boot_id: str
    home: str
    uptime_secs: float
    process_count: int
    service_count: int
    max_processes: int
    health_check_interval_secs: float
    rss_bytes: int
    clean_start: bool
    unclean_shutdown: bool
    socket: str
    log: str
    config: str | None = None


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One service.

    Attributes:
        name: under which it is called.
        service_type: ``system`` for the kernel's own, ``agent`` for one offered by an agent.
        state: ``running``, ``starting``, ``degraded``, ``failed`` or ``stopped``.
        health: ``healthy``, ``degraded`` or ``unhealthy``.
        os_pid: process that serves it, ``None`` while there is none.
        owner_pid: agent that offers it; ``None`` for the kernel's own.
        restarts: restarts of its process so far.
        uptime_secs: age of its process.
        methods: methods it announces.
    """

    name: str
    service_type: str
    state: str
    health: str
    os_pid: int | None = None
    owner_pid: int | None = None
    restarts: int = 0
    uptime_secs: float = 0.0
    methods: list[str] = []


class LogsParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest ``count`` lines (0.

    All kept) of at least ``level``; with ``since``, only those with a greater serial.
    """

    count: Count = 50
    level: LogLevelName = "debug"
    since: Annotated[int, msgspec.Meta(ge=0)] = 0


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the kernel's log; ``serial`` grows by one with each line of a boot."""

    timestamp: float
    phase: str
    level: str
    message: str
    serial: int


class ShutdownResult(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel has begun to shut down."""

    state: str


class KillParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End an agent without waiting for it; ``graceful`` asks first."""

    pid: AgentPid
    graceful: bool = True


class KillResult(msgspec.Struct, frozen=True, kw_only=True):
    """The signal is sent; ``state`` is the agent's state now."""

    pid: int
    graceful: bool
    state: str


class NameParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one service."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class RestartServiceResult(msgspec.Struct, frozen=True, kw_only=True):
    """The service runs again; pids are those of the operating system, ``None`` where none was."""

    name: str
    old_pid: int | None = None
    new_pid: int | None = None


class ServiceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of one service: ``healthy``, ``degraded`` or ``unhealthy``, with a sentence."""

    name: str
    health: str
    detail: str = ""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the whole.

    Attributes:
        overall: the worst of what follows: ``healthy``, ``degraded`` or ``unhealthy``.
        services: one row for each service.
        limits_enforced: limits that this machine really enforces on agents.
        degraded: what does not work as promised, one sentence each; empty when all is well.
    """

    overall: str
    services: list[ServiceHealth] = []
    limits_enforced: list[str] = []
    degraded: list[str] = []

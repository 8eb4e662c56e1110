"""Events of the kernel's own life: boot, shutdown, and the services it runs."""

from __future__ import annotations

from typing import ClassVar

from weftos.events.event import Bytes16, Event, Natural, Pid


class BootInit(Event, frozen=True, kw_only=True):
    """A kernel begins to start."""

    kind: ClassVar[str] = "boot.init"
    version: str
    boot_id: Bytes16


class BootConfig(Event, frozen=True, kw_only=True):
    """The configuration it found."""

    kind: ClassVar[str] = "boot.config"
    max_processes: Natural
    health_interval_ms: Natural
    unclean_before: bool
    windows: str
    window_ms: Natural
    proof_topics: list[str]


class BootServices(Event, frozen=True, kw_only=True):
    """The services it started."""

    kind: ClassVar[str] = "boot.services"
    count: Natural


class BootReady(Event, frozen=True, kw_only=True):
    """The kernel serves."""

    kind: ClassVar[str] = "boot.ready"
    elapsed_ms: Natural
    services: Natural
    os_pid: Natural


class BootFailed(Event, frozen=True, kw_only=True):
    """A required step of the start failed."""

    kind: ClassVar[str] = "boot.failed"
    step: str
    reason: str


class UncleanShutdown(Event, frozen=True, kw_only=True):
    """The kernel before this one did not end in order."""

    kind: ClassVar[str] = "kernel.unclean_shutdown"
    last_kind: str
    last_seq: Natural


class Shutdown(Event, frozen=True, kw_only=True):
    """The kernel ends in order."""

    kind: ClassVar[str] = "shutdown"
    reason: str
    uptime_ms: Natural
    dead_letters: Natural


class ServiceStart(Event, frozen=True, kw_only=True):
    """The service process was started again."""

    kind: ClassVar[str] = "service.start"
    incarnation: Natural
    records: Natural


class ServiceExit(Event, frozen=True, kw_only=True):
    """The service process ended without having been asked to."""

    kind: ClassVar[str] = "service.exit"
    how: str
    ran_ms: int
    incarnation: Natural


class WitnessStart(Event, frozen=True, kw_only=True):
    """A witness process runs."""

    kind: ClassVar[str] = "witness.start"
    name: str
    os_pid: Natural


class WitnessExit(Event, frozen=True, kw_only=True):
    """A witness process ended without having been asked to."""

    kind: ClassVar[str] = "witness.exit"
    name: str
    how: str


class ServiceRegister(Event, frozen=True, kw_only=True):
    """An agent offers a service under a name."""

    kind: ClassVar[str] = "service.register"
    name: str
    pid: Pid
    methods: list[str]


class ServiceUnregister(Event, frozen=True, kw_only=True):
    """A service name was given up."""

    kind: ClassVar[str] = "service.unregister"
    name: str
    pid: Pid

"""Named services: the kernel's own, and those that agents offer; their start, stop and health.

One record per service. Services start in the order of registration and stop in reverse. A health check that does not
answer in time is
*unknown*, never a stall; health is reported and changes nothing by itself.
"""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from weftos.errors import InvalidRequest, ServiceNotFound

__all__ = ["Health", "HealthStatus", "ServiceRecord", "ServiceRegistry", "SystemService", "overall"]

#: A health check may take this long, in seconds.
_CHECK_TIMEOUT_S: Final = 5.0


class Health(enum.StrEnum):
    """What a health check says."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class HealthStatus(msgspec.Struct, frozen=True):
    """Health with a sentence."""

    health: Health
    detail: str = ""


class SystemService(Protocol):
    """What the kernel asks of a service of its own."""

    @property
    def name(self) -> str:
        """Under which it is registered."""
        ...

    async def start(self) -> None:
        """Begin to serve; raising means that the kernel does not boot."""
        ...

    async def stop(self) -> None:
        """End in order."""
        ...

    async def health_check(self) -> HealthStatus:
        """Say how it is."""
        ...


@dataclass(slots=True)
class ServiceRecord:
    """One service: a system service with its object, or one that an agent offers."""

    name: str
    system: SystemService | None = None
    owner_pid: int | None = None
    methods: tuple[str, ...] = ()
    registered_at: float = field(default_factory=time.time)
    last: HealthStatus = field(default_factory=lambda: HealthStatus(Health.UNKNOWN, "not checked yet"))


class ServiceRegistry:
    """All services by name."""

    def __init__(self) -> None:
        self._records: dict[str, ServiceRecord] = {}

    def add_system(self, service: SystemService) -> None:
        """Register one of the kernel's own."""
        assert service.name not in self._records
        self._records[service.name] = ServiceRecord(service.name, system=service)

    def offer(self, name: str, owner_pid: int, methods: tuple[str, ...]) -> bool:
        """Register an agent's service; returns whether it is new (an owner may repeat its offer).

        Raises:
            InvalidRequest: the name is taken by somebody else.
        """
        known = self._records.get(name)
        if known is not None and known.owner_pid != owner_pid:
            holder = "the kernel" if known.owner_pid is None else f"agent {known.owner_pid}"
            raise InvalidRequest(f"the service name {name!r} is taken by {holder}")
        self._records[name] = ServiceRecord(name, owner_pid=owner_pid, methods=methods)
        return known is None

    def withdraw(self, name: str, owner_pid: int) -> None:
        """Remove an agent's service.

        Raises:
            ServiceNotFound: the agent offers none of that name.
        """
        known = self._records.get(name)
        if known is None or known.owner_pid != owner_pid:
            raise ServiceNotFound(f"agent {owner_pid} offers no service named {name!r}")
        del self._records[name]

    def forget(self, owner_pid: int) -> list[str]:
        """Remove everything an ended agent offered; returns the names."""
        names = [record.name for record in self._records.values() if record.owner_pid == owner_pid]
        for name in names:
            del self._records[name]
        return names

    def owner(self, name: str) -> int | None:
        """Pid of the agent that offers a service, or ``None``."""
        record = self._records.get(name)
        return record.owner_pid if record is not None else None

    def get(self, name: str) -> ServiceRecord:
        """Return a record.

        Raises:
            ServiceNotFound: there is none.
        """
        record = self._records.get(name)
        if record is None:
            raise ServiceNotFound(f"no service is named {name!r}; `weaver kernel services` lists them")
        return record

    def owned_by(self, pid: int) -> list[str]:
        """Names that an agent offers."""
        return sorted(record.name for record in self._records.values() if record.owner_pid == pid)

    def records(self) -> list[ServiceRecord]:
        """All services, in order of registration."""
        return list(self._records.values())

    async def check(self) -> list[ServiceRecord]:
        """Ask every system service how it is, all at once, each with a deadline."""
        system = [record for record in self._records.values() if record.system is not None]
        results = await asyncio.gather(*(_checked(record) for record in system))
        for record, status in zip(system, results, strict=True):
            record.last = status
        return self.records()


async def _checked(record: ServiceRecord) -> HealthStatus:
    assert record.system is not None
    try:
        return await asyncio.wait_for(record.system.health_check(), _CHECK_TIMEOUT_S)
    except TimeoutError:
        return HealthStatus(Health.UNKNOWN, f"no answer within {_CHECK_TIMEOUT_S:g} s")


def overall(statuses: list[HealthStatus]) -> Health:
    """The worst of several; ``unknown`` counts as degraded."""
    found = {status.health for status in statuses}
    if Health.UNHEALTHY in found:
        return Health.UNHEALTHY
    return Health.DEGRADED if found & {Health.DEGRADED, Health.UNKNOWN} else Health.HEALTHY

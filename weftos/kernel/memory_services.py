"""Memory as entries of the registry: the index and the ticks, which the service process keeps."""

from __future__ import annotations

from typing import Any

from weftos.errors import WeftError
from weftos.kernel.core import Core
from weftos.kernel.registry import Health, HealthStatus
from weftos.service.ecc_protocol import AskMemory

__all__ = ["CognitiveTickService", "HnswService", "memory_status"]

#: How long the service process may take to answer, in seconds: less than between two checks.
_ANSWER_S = 4.0


async def memory_status(core: Core) -> dict[str, Any]:
    """Ask how memory is; errors as for ``ServiceHost.ask``."""
    return await core.service.done(AskMemory("status"))


class _Part:
    """A part of the service process: started and stopped with it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self) -> None:
        """Started with the service process."""

    async def stop(self) -> None:
        """Stopped with the service process."""

    async def _status(self) -> tuple[dict[str, Any], HealthStatus | None]:
        try:
            values = await memory_status(self._core)
        except WeftError as error:
            return {}, HealthStatus(Health.UNHEALTHY, str(error))
        if values["state"] == "failed":
            return values, HealthStatus(Health.UNHEALTHY, f"memory cannot be used: {values['reason']}")
        return values, None


class HnswService(_Part):
    """The index of vectors."""

    name = "ecc.hnsw"

    async def health_check(self) -> HealthStatus:
        """Healthy if it can be used; degraded while segments cannot be built."""
        values, wrong = await self._status()
        if wrong is not None:
            return wrong
        if values["build_failures"] > values["built"]:
            return HealthStatus(Health.DEGRADED, f"{values['build_failures']} segments could not be built")
        return HealthStatus(Health.HEALTHY, f"{values['entries']} entries in {values['collections']} collections")


class CognitiveTickService(_Part):
    """The cognitive ticks."""

    name = "ecc.cognitive_tick"

    async def health_check(self) -> HealthStatus:
        """Healthy if impulses are taken up."""
        values, wrong = await self._status()
        if wrong is not None:
            return wrong
        return HealthStatus(
            Health.HEALTHY, f"{values['impulses']} impulses wait; a tick each {values['tick_interval_ms']:g} ms"
        )

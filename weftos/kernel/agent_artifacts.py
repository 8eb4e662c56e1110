"""What agents ask of the artifact store: passed on to the service, with the agent's name on it and within its limits.

The kernel passes descriptors and reads nothing. Of a descriptor from an agent it asks only whether it is sealed memory,
a question that reaches no file system of the agent's choice, and its size, which cannot change any more.
"""

from __future__ import annotations

import logging
from typing import Final

from weftos.agent import frames as f
from weftos.artifacts.form import check_content_type, check_hash
from weftos.artifacts.sealed import sealed_size
from weftos.errors import ArtifactQuotaReached, CapabilityDenied, InvalidRequest
from weftos.ipc.frames import close_all
from weftos.kernel.core import Agent, Core
from weftos.kernel.grants import Grant
from weftos.service import artifact_protocol as p

__all__ = ["AgentArtifacts"]

log = logging.getLogger(__name__)

_LIMIT: Final = "artifact_bytes"


class AgentArtifacts:
    """Requests of agents.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def put(self, agent: Agent, body: f.PutArtifact, fds: list[int]) -> Grant:
        """Store the memory that came with the request."""
        check_content_type(body.content_type)
        if len(fds) != 1:
            raise InvalidRequest(f"an artifact comes with one descriptor, not {len(fds)}")
        size, share, limit = sealed_size(fds[0]), agent.artifacts, agent.entry.spec.limits.artifact_bytes
        share.enter()
        charge = 0
        try:
            charge = self._reserve(agent, size, limit)
            context = {"size": size, "content_type": body.content_type}
            async with self._core.gatekeeper.effect(agent.pid, "artifact.put", context):
                _still_may(agent)
                values, _ = await self._core.service.hand(_by(agent), p.StoreArtifact(body.content_type), fds)
        except BaseException:
            share.give_back(charge)
            raise
        finally:
            share.leave()
        share.keep(values["hash"], charge)
        return values, None, []

    def _reserve(self, agent: Agent, size: int, limit: int) -> int:
        try:
            return agent.artifacts.reserve(size, limit)
        except ArtifactQuotaReached:
            log.warning("agent %d was refused an artifact of %d bytes: its share is used up", agent.pid, size)
            data = {"pid": agent.pid, "resource": _LIMIT, "current": agent.artifacts.used + size, "limit": limit}
            self._core.record("resource.breach", data, subject=agent.entry.agent_id)
            raise

    async def get(self, agent: Agent, body: f.GetArtifact) -> Grant:
        """Hand out an artifact's file, checked and open for reading."""
        check_hash(body.hash)
        agent.artifacts.enter()
        try:
            async with self._core.gatekeeper.effect(agent.pid, "artifact.get", {"hash": body.hash}):
                values, fds = await self._core.service.hand(_by(agent), p.OpenArtifact(body.hash))
                try:
                    _still_may(agent)
                except CapabilityDenied:
                    close_all(fds)
                    raise
        finally:
            agent.artifacts.leave()
        return values, None, fds

    async def release(self, agent: Agent, body: f.ReleaseArtifact) -> Grant:
        """Take note that the agent needs an artifact no more."""
        check_hash(body.hash)
        agent.artifacts.enter()
        try:
            async with self._core.gatekeeper.effect(agent.pid, "artifact.release", {"hash": body.hash}):
                values, _ = await self._core.service.hand(_by(agent), p.ReleaseArtifact(body.hash))
        finally:
            agent.artifacts.leave()
        agent.artifacts.release(body.hash)
        return values, None, []


def _still_may(agent: Agent) -> None:
    """Refuse what was permitted, and taken while it was under way."""
    if not agent.entry.spec.capabilities.can_store:
        raise CapabilityDenied(f"agent {agent.pid} may not use artifacts (can_store is false)")


def _by(agent: Agent) -> str:
    return f"agent:{agent.pid}"

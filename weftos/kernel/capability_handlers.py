"""The control socket's methods about capabilities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from weftos.kernel.capabilities import Capabilities, Changed
from weftos.kernel.core import Core
from weftos.rpc import agent_types as a
from weftos.rpc import capability_types as t

__all__ = ["CapabilityHandlers"]


class CapabilityHandlers:
    """All methods about capabilities, for the operator.

    Args:
        core: shared state.
        capabilities: changes them.
    """

    def __init__(self, core: Core, capabilities: Capabilities) -> None:
        self._core = core
        self._capabilities = capabilities

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "capability.show": self.show,
            "capability.grant": self.grant,
            "capability.revoke": self.revoke,
            "capability.elevate": self.elevate,
        }

    async def show(self, params: a.PidParams) -> t.CapabilityView:
        """Tell what an agent holds, or held when it ended."""
        entry = self._core.table.get(params.pid)
        return t.CapabilityView(
            pid=entry.pid,
            agent_id=entry.agent_id,
            parent_pid=entry.spec.parent or None,
            role=entry.spec.role,
            epoch=entry.epoch,
            changed_by=entry.changed_by,
            changed_why=entry.changed_why,
            capabilities=msgspec.to_builtins(entry.spec.capabilities),
            limits=msgspec.to_builtins(entry.spec.limits),
            ceiling=msgspec.to_builtins(entry.ceiling),
        )

    async def grant(self, params: t.CapabilityChangeParams) -> t.CapabilityChanged:
        """Give rights back."""
        return _told(await self._capabilities.grant(params.pid, params.rights, params.reason))

    async def revoke(self, params: t.CapabilityChangeParams) -> t.CapabilityChanged:
        """Take rights."""
        return _told(await self._capabilities.revoke(params.pid, params.rights, params.reason))

    async def elevate(self, params: t.CapabilityChangeParams) -> t.CapabilityChanged:
        """Give further rights, approved by the operator who asks for it."""
        return _told(await self._capabilities.elevate(params.pid, params.rights, params.reason))


def _told(changed: Changed) -> t.CapabilityChanged:
    entry = changed.entry
    return t.CapabilityChanged(
        pid=entry.pid,
        epoch=entry.epoch,
        changed=changed.changed,
        record=changed.record if changed.changed else None,
        narrowed=sorted(changed.narrowed),
        at_restart=list(changed.at_restart),
        capabilities=msgspec.to_builtins(entry.spec.capabilities),
        limits=msgspec.to_builtins(entry.spec.limits),
    )

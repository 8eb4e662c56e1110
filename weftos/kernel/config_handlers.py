"""The control socket's methods about the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from weftos.errors import AccessDenied
from weftos.kernel.core import Core
from weftos.kernel.settings_keeper import SettingsKeeper
from weftos.rpc import config_types as c
from weftos.rpc import types as t
from weftos.settings.catalog import SETTINGS, setting

__all__ = ["ConfigHandlers"]


class ConfigHandlers:
    """All methods below ``config.``.

    Args:
        core: shared state.
        keeper: of the settings.
    """

    def __init__(self, core: Core, keeper: SettingsKeeper) -> None:
        self._core = core
        self._keeper = keeper

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {"config.get": self.get, "config.list": self.rows, "config.set": self.set}

    async def get(self, params: c.ConfigKeyParams) -> c.SettingInfo:
        return self._info(setting(params.key).key)

    async def rows(self, _params: t.NoParams) -> list[c.SettingInfo]:
        return [self._info(key) for key in SETTINGS]

    async def set(self, params: c.ConfigSetParams) -> c.ConfigChanged:
        peer = self._core.acting.peer()
        if peer is not None and peer.token is not None and params.key.startswith("access."):
            raise AccessDenied("who may connect is not for holders of tokens to change")
        done = await self._keeper.set(params.key, params.value, self._core.acting.by())
        return c.ConfigChanged(key=params.key, old=done.old, new=done.new, effect=done.effect, record=done.record)

    def _info(self, key: str) -> c.SettingInfo:
        known = SETTINGS[key]
        value, waiting = self._keeper.value(key)
        return c.SettingInfo(
            key=key,
            value=value,
            default=known.default,
            explicit=key in self._keeper.known,
            effect=known.effect,
            accepts=known.accepts,
            waiting=waiting,
        )

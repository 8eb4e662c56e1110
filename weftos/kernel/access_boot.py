"""What of the boot is about access: tokens and settings as the log has them, and the door of the control socket."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from weftos.config import Config
from weftos.kernel.auth_handlers import AuthHandlers
from weftos.kernel.config_handlers import ConfigHandlers
from weftos.kernel.core import Core
from weftos.kernel.settings_keeper import SettingsKeeper
from weftos.kernel.socket_access import Door
from weftos.kernel.state import LogLevel
from weftos.kernel.token_table import TokenTable

__all__ = ["open_access", "reload_settings", "shared_socket"]

log = logging.getLogger(__name__)

Table = dict[str, Callable[[Any], Awaitable[Any]]]


async def open_access(core: Core, put_in_force: Callable[[Config], None]) -> tuple[Door, Table]:
    """Take tokens and settings from the log, and tell it what was edited by hand.

    Args:
        core: shared state; it gets both.
        put_in_force: takes a configuration that was checked.

    Returns:
        The door, and the methods about access and settings.

    Raises:
        WeftError: the service does not answer, or the configuration cannot be read.
    """
    core.tokens = TokenTable(core.service, core.changing)
    await core.tokens.begin(time.time_ns())
    path = Path(core.config_path) if core.config_path else core.home.config
    core.settings = SettingsKeeper(path, core.config, core.changing, put_in_force)
    for line in await core.settings.begin(core.service):
        core.emit(log, LogLevel.WARN, f"configuration: {line}")

    def scope_of(pid: int) -> str | None:
        agent = core.agents.get(pid)
        return agent.entry.scope if agent is not None else None

    door = Door(lambda: core.config.access, scope_of, core.tokens.counts, core.record)
    return door, AuthHandlers(core, core.tokens, door).table() | ConfigHandlers(core, core.settings).table()


def shared_socket(core: Core) -> Path | None:
    """Return where the socket for other users is to be, ``None`` if there is none."""
    configured = core.config.access.socket
    return core.home.root / Path(configured).expanduser() if configured else None


async def reload_settings(core: Core) -> None:
    """Read the configuration again, as SIGHUP asks; what goes wrong is said."""
    problem = await core.settings.reload_or_why_not()
    if problem is None:
        core.emit(log, LogLevel.INFO, "Configuration reloaded")
    else:
        core.emit(log, LogLevel.ERROR, problem)

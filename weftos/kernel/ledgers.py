"""Where the service keeps what lies beside the log, from the instance's folders and its configuration."""

from __future__ import annotations

from weftos.kernel.core import Core
from weftos.service.ledgers import LedgerSettings
from weftos.service.sealing import SealSettings

__all__ = ["ledger_settings"]


def ledger_settings(core: Core) -> LedgerSettings:
    """Return the settings for the service process."""
    home, section = core.home, core.config.chain
    seals = SealSettings(str(home.seal_state), section.seal_secs, section.seal_records)
    return LedgerSettings(str(home.tree), str(home.index), seals)

"""From the configuration to what the service process needs to keep credentials."""

from __future__ import annotations

from weftos.kernel.core import Core
from weftos.service.credential_desk import VaultSettings

__all__ = ["vault_settings"]


def vault_settings(core: Core) -> VaultSettings:
    """Return where the service keeps credentials."""
    home = core.home
    return VaultSettings(
        directory=str(home.vault),
        key=core.config.access.vault_key,
        key_path=str(home.keys / "vault.key"),
        account=str(home.root),
    )

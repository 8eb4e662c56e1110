"""The key with which this instance delegates: a file of its own, apart from the keys of the log.

Why it is as it is: a signature under a certificate and one under a checkpoint must never stand for each other, so they
come from different keys. The log says which key is trusted, so a certificate can be checked by whoever has the log.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from weftos.disk.secret_file import RealSecretFiles, create_secret, read_secret
from weftos.errors import ChainError, ConfigError
from weftos.tree.delegation import Certificate, issue
from weftos.tree.names import Action
from weftos.tree.paths import ResourcePath

__all__ = ["DelegationKey"]

_FILE: Final = "delegation.key"
_BYTES: Final = 32


class DelegationKey:
    """The key.

    Args:
        folder: of the instance's keys.

    Raises:
        ConfigError: the file has another size, or others may read it.
        ChainError: it cannot be made or read.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, _FILE)
        fs = RealSecretFiles()
        try:
            if not Path(path).exists():
                create_secret(fs, path, secrets.token_bytes(_BYTES))
            seed = read_secret(path, _BYTES)
        except OSError as error:
            raise ChainError(f"the key for delegation {path} cannot be used: {error.strerror or error}") from error
        if len(seed) != _BYTES:
            raise ConfigError(f"{path} is no key: it has another size than {_BYTES} bytes; put it back from its copy")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> bytes:
        """Its public half, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def issue(
        self, subject: str, prefix: ResourcePath, actions: frozenset[Action], valid_secs: float, max_depth: int
    ) -> Certificate:
        """Sign a certificate that is valid from now on.

        Raises:
            DelegationInvalid: there can be no such certificate.
        """
        now = time.time_ns()
        return issue(
            self._key,
            subject=subject,
            prefix=prefix,
            actions=actions,
            not_before_ns=now,
            not_after_ns=now + int(valid_secs * 1_000_000_000),
            nonce=secrets.token_bytes(16),
            max_depth=max_depth,
        )

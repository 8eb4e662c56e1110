"""The key files of version 0.1: a bare Ed25519 seed and its public half. A key ring adopts them; nobody makes them."""

from __future__ import annotations

import os
from typing import Final

from weftos.errors import ConfigError

__all__ = ["KEY_NAME", "PUBLIC_NAME", "read_public_key"]

KEY_NAME: Final = "chain.key"
PUBLIC_NAME: Final = "chain.pub"
_KEY_BYTES: Final = 32


def read_public_key(directory: str) -> bytes:
    """Return the public key beside a secret one, 32 bytes.

    Raises:
        ConfigError: the file does not hold 64 hex digits.
        OSError: it cannot be read.
    """
    path = os.path.join(directory, PUBLIC_NAME)
    with open(path, "rb") as file:
        data = file.read(1024)
    try:
        key = bytes.fromhex(data.decode("ascii"))
    except ValueError as error:
        raise ConfigError(f"{path} does not hold a public key of 64 hex digits: {error}") from error
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path} holds {len(key)} bytes, a public key has {_KEY_BYTES}")
    return key

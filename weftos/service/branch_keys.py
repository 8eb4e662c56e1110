"""What governance keeps beside the keys of the log: the first keys of the branches, the key of permits, the pin.

Why it is as it is: a new instance has nobody yet who holds a branch, so it makes a key for each, in a file of its own.
Whoever is to be a branch takes his file away; the service never needs it again. The pin remembers the constitution that
was in force, apart from the log and its index: what the log adds up to must be that, or follow from it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from weftos.disk.files import RealFiles, replace_file
from weftos.disk.secret_file import RealSecretFiles, create_secret, read_secret
from weftos.errors import ChainError, ConfigError
from weftos.governance.permits import KEY_BYTES
from weftos.governance.rules import Branch

__all__ = ["BRANCH_FOLDER", "Pin", "branch_publics", "open_secret"]

BRANCH_FOLDER: Final = "branches"
_PIN: Final = "constitution.json"
_PIN_BYTES: Final = 4096


def open_secret(path: str, about: str) -> bytes:
    """Read a secret of 32 bytes, or make it.

    Args:
        path: of its file.
        about: what it is, for the message.

    Raises:
        ConfigError: the file has another size, or others may read it.
        ChainError: it cannot be made or read.
    """
    try:
        if not Path(path).exists():
            create_secret(RealSecretFiles(), path, secrets.token_bytes(KEY_BYTES))
        found = read_secret(path, KEY_BYTES)
    except OSError as error:
        raise ChainError(f"{about} {path} cannot be used: {error.strerror or error}") from error
    if len(found) != KEY_BYTES:
        raise ConfigError(f"{path} is no key: it has another size than {KEY_BYTES} bytes; put it back from its copy")
    return found


def branch_publics(keys_dir: str) -> dict[Branch, bytes]:
    """Return the public key of each branch of a new constitution, 32 bytes each; errors as for ``open_secret``."""
    folder = os.path.join(keys_dir, BRANCH_FOLDER)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise ChainError(f"the folder {folder} cannot be made: {error.strerror or error}") from error
    found = {}
    for branch in Branch:
        seed = open_secret(os.path.join(folder, f"{branch.value}.key"), f"the key of the {branch} branch")
        found[branch] = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return found


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The constitution that was in force when it was last changed here.

    Attributes:
        log_id: of the log, in hex digits.
        version: of the constitution.
        hash: of it, in hex digits.
    """

    log_id: str
    version: int
    hash: str

    @classmethod
    def read(cls, keys_dir: str) -> Self | None:
        """Read it; ``None`` if there is none.

        Raises:
            ConfigError: it is damaged.
        """
        path = os.path.join(keys_dir, _PIN)
        try:
            with open(path, "rb") as file:
                return msgspec.json.decode(file.read(_PIN_BYTES), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}; put it back from a copy, or remove it if you trust the log"
            ) from error

    def write(self, keys_dir: str) -> None:
        """Write it.

        Raises:
            ChainError: it cannot be written.
        """
        path = os.path.join(keys_dir, _PIN)
        try:
            replace_file(RealFiles(), path, msgspec.json.encode(self) + b"\n")
        except OSError as error:
            raise ChainError(f"{path} cannot be written: {error.strerror or error}") from error

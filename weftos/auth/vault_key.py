"""The key of the vault: 32 bytes in a file of mode 0600, or in the keyring of the operating system.

Why it is as it is: whoever copies the folder of encrypted credentials, or a backup of it, must not get them. The file
lies with the signing keys, which are kept apart already; a keyring is further away, but needs a session that has one.
Two keys are derived from it, one to encrypt what lies on the disk and one to which secrets are sealed on their way.

Guaranteed: a key is made once and never replaced by another; a vault whose key is gone says so. Not guaranteed: that
its bytes can be cleared from memory; Python gives no way.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from contextlib import suppress
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from weftos.disk.secret_file import RealSecretFiles, create_secret, read_secret
from weftos.errors import ConfigError, VaultDamaged

__all__ = ["FileKey", "KeySource", "KeyringKey", "VaultKeys"]

_BYTES: Final = 32
_SERVICE: Final = "weftos vault"


class KeySource(Protocol):
    """Where the key is kept."""

    def load(self) -> bytes | None:
        """Return the key, ``None`` if there is none yet.

        Raises:
            ConfigError: it cannot be read, or may be read by others.
            VaultDamaged: what is there is no key.
        """

    def make(self) -> bytes:
        """Make a key where there is none; errors as for ``load``."""


class FileKey:
    """In a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """See ``KeySource``."""
        try:
            data = read_secret(self._path, _BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"the key of the vault, {self._path}, cannot be read: {error.strerror}") from error
        if len(data) != _BYTES:
            raise VaultDamaged(f"{self._path} is no key of a vault: it has not {_BYTES} bytes. Put the right one back")
        return data

    def make(self) -> bytes:
        """See ``KeySource``."""
        key = secrets.token_bytes(_BYTES)
        try:
            create_secret(RealSecretFiles(), self._path, key)
        except OSError as error:
            raise ConfigError(f"the key of the vault, {self._path}, cannot be made: {error.strerror}") from error
        return key


class KeyringKey:
    """In the keyring of the operating system, through the package ``keyring``.

    Args:
        account: under which it is kept; the instance.
    """

    def __init__(self, account: str) -> None:
        self._account = account

    def load(self) -> bytes | None:
        """See ``KeySource``."""
        found = self._ask("get_password", _SERVICE, self._account)
        if found is None:
            return None
        with suppress(binascii.Error, ValueError):
            key = base64.b64decode(found, validate=True)
            if len(key) == _BYTES:
                return key
        raise VaultDamaged(f"the keyring holds something under {_SERVICE!r} that is no key of a vault")

    def make(self) -> bytes:
        """See ``KeySource``."""
        key = secrets.token_bytes(_BYTES)
        self._ask("set_password", _SERVICE, self._account, base64.b64encode(key).decode())
        if self.load() != key:
            raise ConfigError("the keyring did not keep the key of the vault; set access.vault_key to file")
        return key

    @staticmethod
    def _ask(what: str, *arguments: str) -> str | None:
        try:
            import keyring  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise ConfigError(
                "access.vault_key is keyring, but the package keyring is not installed: `pip install keyring`"
            ) from error
        try:
            found = getattr(keyring, what)(*arguments)
        except Exception as error:  # whatever a backend of another project raises
            raise ConfigError(f"the keyring cannot be used: {type(error).__name__}") from error
        return None if found is None else str(found)


class VaultKeys:
    """What is derived from the key.

    Args:
        key: 32 bytes.

    Attributes:
        storage: encrypts what lies on the disk, 32 bytes.
        intake: opens what is sealed for the vault.
    """

    def __init__(self, key: bytes) -> None:
        self.storage = _derived(key, b"weftos vault storage 1")
        self.intake = X25519PrivateKey.from_private_bytes(_derived(key, b"weftos vault intake 1"))

    @property
    def public(self) -> bytes:
        """To which secrets are sealed, 32 bytes."""
        return self.intake.public_key().public_bytes_raw()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _BYTES, salt=None, info=purpose).derive(key)

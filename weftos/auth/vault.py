"""Encrypted credentials on the disk: one file for each version of each.

Why it is as it is: the log says which credentials there are, in which version and with which hash of their file; the
files alone say nothing. So a change is one record: a new file is on the disk before it, an old one is removed after it,
and what lies there without the log's word is a leftover of a change that did not happen. A file that was put back from
an earlier version has another hash, and does not open under the number of the present one either.

    file = "WVLT" | format 1 (1 byte) | nonce (12) | ChaCha20-Poly1305 of the secret, bound to name, type and version

Guaranteed: a file is whole or not there; a secret that was removed is overwritten before its name goes. Not guaranteed:
that the overwritten bytes are gone from the medium; see ``chain.secret_file``.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from weftos import limits
from weftos.auth.sealing import open_box
from weftos.auth.vault_key import KeySource, VaultKeys
from weftos.disk.files import write_all
from weftos.disk.secret_file import RealSecretFiles, SecretFiles, read_secret, wipe
from weftos.errors import CredentialRefused, InvalidRequest, StorageFailed, VaultDamaged, WeftError

__all__ = ["CREDENTIAL_TYPES", "Vault", "about_credential", "check_name"]

#: What a credential may be; for people and programs, the vault treats all alike.
CREDENTIAL_TYPES: Final = ("api-key", "bearer-token", "password", "certificate", "other")
_MAGIC: Final = b"WVLT\x01"
_NONCE_BYTES: Final = 12
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_FILE: Final = re.compile(r"(?P<name>.+)\.v(?P<version>[1-9][0-9]{0,9})(?P<partial>\.tmp)?")


def check_name(name: str) -> None:
    """Refuse what no credential can be called.

    Raises:
        InvalidRequest: it is not 1 to 64 lower-case letters, digits and ``._-``, beginning and ending with neither.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name!r:.80} is no name of a credential: 1 to 64 lower-case letters, digits and ._- with a letter or "
            "digit at both ends"
        )


def about_credential(name: str, kind: str, purpose: str) -> bytes:
    """Return what a sealed secret is bound to on its way: ``add``, ``rotate`` or ``use`` of a credential."""
    return b"\0".join(part.encode() for part in ("weftos credential 1", purpose, name, kind))


class Vault:
    """The files, and the keys to them.

    Args:
        directory: made if it is missing.
        source: of the key.
        fs: the calls on files.

    Raises:
        ConfigError: the key or the folder cannot be used.
        VaultDamaged: there are files and no key, or what should be the key is none.
    """

    def __init__(self, directory: str, source: KeySource, fs: SecretFiles | None = None) -> None:
        self._directory = directory
        self._fs: SecretFiles = fs or RealSecretFiles()
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)
            filled = any(_FILE.fullmatch(name) for name in os.listdir(directory))
        except OSError as error:
            raise StorageFailed(f"the folder of credentials, {directory}, cannot be used: {error.strerror}") from error
        key = source.load()
        if key is None:
            if filled:
                raise VaultDamaged(
                    f"{directory} holds credentials, but the key of the vault is gone. Put it back, or remove the "
                    "credentials' files and add them anew"
                )
            key = source.make()
        self._keys = VaultKeys(key)

    @property
    def public_key(self) -> bytes:
        """To which secrets for the vault are sealed, 32 bytes."""
        return self._keys.public

    def unseal(self, box: bytes, name: str, kind: str, purpose: str) -> bytes:
        """Return the secret that somebody sealed for the vault.

        Raises:
            CredentialRefused: it does not open, is empty or too long.
        """
        secret = open_box(box, self._keys.intake, about_credential(name, kind, purpose))
        if not 0 < len(secret) <= limits.AUTH_SECRET_BYTES:
            raise CredentialRefused(f"a secret has 1 to {limits.AUTH_SECRET_BYTES} bytes, not {len(secret)}")
        return secret

    def store(self, name: str, kind: str, version: int, secret: bytes) -> bytes:
        """Encrypt a secret and bring it onto the disk, in place of a leftover of the same version.

        Returns:
            The hash of the file, 32 bytes.

        Raises:
            StorageFailed: it cannot be written; there is no such file then, or a leftover.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = _MAGIC + nonce + ChaCha20Poly1305(self._keys.storage).encrypt(nonce, secret, _bound(name, kind, version))
        path = self._path(name, version)
        try:
            for leftover in (path, f"{path}.tmp"):
                self._wipe(leftover)
            fd = self._fs.create(f"{path}.tmp")
            try:
                write_all(self._fs, fd, data)
                self._fs.sync_file(fd)
            finally:
                self._fs.close(fd)
            self._fs.rename(f"{path}.tmp", path)
            self._fs.sync_dir(self._directory)
        except OSError as error:
            raise StorageFailed(f"the credential {name} cannot be stored: {error.strerror}") from error
        return blake3(data).digest()

    def load(self, name: str, kind: str, version: int, digest: bytes) -> bytes:
        """Return a secret.

        Args:
            name: of the credential.
            kind: its type.
            version: its number.
            digest: of its file, as the log has it.

        Raises:
            VaultDamaged: the file is gone, was altered, or is not the one that the log speaks of.
        """
        path = self._path(name, version)
        try:
            data = read_secret(path, limits.AUTH_SECRET_BYTES + 64)
        except OSError as error:
            raise VaultDamaged(f"the credential {name} cannot be read: {error.strerror}; rotate it") from error
        except WeftError as error:
            raise VaultDamaged(f"the credential {name} is not safe to use: {error}") from error
        if blake3(data).digest() != digest or not data.startswith(_MAGIC):
            raise VaultDamaged(f"the file of the credential {name} is not the one that the log speaks of; rotate it")
        nonce, rest = data[len(_MAGIC) :][:_NONCE_BYTES], data[len(_MAGIC) + _NONCE_BYTES :]
        try:
            return ChaCha20Poly1305(self._keys.storage).decrypt(nonce, rest, _bound(name, kind, version))
        except (InvalidTag, ValueError) as error:
            raise VaultDamaged(f"the credential {name} was encrypted with another key; rotate it") from error

    def remove(self, name: str, version: int) -> None:
        """Overwrite and remove a version; one that is gone already is no error.

        Raises:
            StorageFailed: it cannot be; it is tried again when the vault is opened next.
        """
        try:
            self._wipe(self._path(name, version))
            self._fs.sync_dir(self._directory)
        except OSError as error:
            raise StorageFailed(f"the old file of the credential {name} is still there: {error.strerror}") from error

    def clean(self, valid: Collection[tuple[str, int]]) -> list[str]:
        """Overwrite and remove what interrupted changes left.

        Args:
            valid: name and version of each credential, as the log has them.

        Returns:
            Names of the files that went.

        Raises:
            StorageFailed: one cannot be removed.
        """
        gone = []
        try:
            for name in sorted(os.listdir(self._directory)):
                match = _FILE.fullmatch(name)
                if match is None or (not match["partial"] and (match["name"], int(match["version"])) in valid):
                    continue
                self._wipe(os.path.join(self._directory, name))
                gone.append(name)
            if gone:
                self._fs.sync_dir(self._directory)
        except OSError as error:
            raise StorageFailed(f"leftovers in {self._directory} cannot be removed: {error.strerror}") from error
        return gone

    def _path(self, name: str, version: int) -> str:
        check_name(name)
        return os.path.join(self._directory, f"{name}.v{version}")

    def _wipe(self, path: str) -> None:
        with suppress(FileNotFoundError):
            wipe(self._fs, path)


def _bound(name: str, kind: str, version: int) -> bytes:
    return b"\0".join(part.encode() for part in ("weftos vault 1", name, kind, str(version)))

"""The operator's file of first sealing keys: text, one key a line, kept away from the machine that it is about.

    exo/seal/key/v1 weftos/log/<log id in hex> <key in hex>

Empty lines and lines that begin with ``#`` mean nothing. Several lines for one log are several states, one made after
the other: the keys of all of them are needed to check all seals.
"""

from __future__ import annotations

import os
from typing import Final

from weftos.chain.signing.checkpoint import log_id_of, log_origin
from weftos.chain.statements.seals import KEY_BYTES
from weftos.errors import ChainError, ConfigError, StorageFailed

__all__ = ["format_seal_key", "parse_seal_keys", "read_seal_keys", "write_seal_key"]

_TAG: Final = "exo/seal/key/v1"
#: A file of more bytes is none; a line has 130.
_MOST_BYTES: Final = 64 * 1024


def format_seal_key(log_id: bytes, key: bytes) -> str:
    """Return the line of a key, without a line feed."""
    return f"{_TAG} {log_origin(log_id)} {key.hex()}"


def parse_seal_keys(text: str, log_id: bytes) -> list[bytes]:
    """Return the keys of a log, in the order of the file.

    Raises:
        ConfigError: a line is malformed, or there is no key of this log.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            tag, origin, digits = line.split()
            named, key = log_id_of(origin), bytes.fromhex(digits)
        except (ValueError, ChainError) as error:
            raise ConfigError(f"line {number} is no sealing key: {error}") from error
        if tag != _TAG or len(key) != KEY_BYTES:
            raise ConfigError(f"line {number} is no sealing key: it is {_TAG}, the origin of a log, and 64 hex digits")
        if named == log_id:
            keys.append(key)
    if not keys:
        raise ConfigError(f"there is no sealing key of {log_origin(log_id)}")
    return keys


def read_seal_keys(path: str | os.PathLike[str], log_id: bytes) -> list[bytes]:
    """Read a file of keys.

    Raises:
        ConfigError: it cannot be read, is malformed, or has no key of this log.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no sealing keys: byte {error.start} is no ASCII") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} holds no sealing keys: it has more than {_MOST_BYTES} bytes")
    try:
        return parse_seal_keys(text, log_id)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def write_seal_key(fd: int, log_id: bytes, key: bytes) -> None:
    """Write a key into an open file and bring it onto its medium.

    Raises:
        StorageFailed: a call failed.
    """
    about = "# First sealing key of a WeftOS log. Keep it away from the machine that writes the log."
    text = f"{about}\n{format_seal_key(log_id, key)}\n"
    try:
        left = text.encode()
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    except OSError as error:
        raise StorageFailed(f"the sealing key cannot be written: {error.strerror}") from error

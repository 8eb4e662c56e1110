"""Which public keys a log is verified with: those from a file, else those that the instance has pinned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weftos.cli.session import instance
from weftos.errors import ChainError, ConfigError

if TYPE_CHECKING:
    from weftos.chain import PublicKeys
    from weftos.chain.signing.checkpoint import Checkpoint

__all__ = ["keys_for", "keys_of_origin", "older_checkpoint", "origin_of", "origin_of_log"]


def origin_of_log(directory: Path) -> str:
    """Return the origin of the log in a directory.

    Raises:
        ChainError: there is no log.
    """
    from weftos import chain
    from weftos.chain.signing.checkpoint import log_origin

    first = next(iter(chain.read(directory)), None)
    if first is None:
        raise ChainError(f"the log in {directory} has no record yet")
    return log_origin(first.header.log_id)


def origin_of(note: bytes) -> str:
    """Return the origin that a checkpoint names; nothing of it is verified.

    Raises:
        ChainCorrupted: it is no checkpoint.
    """
    from weftos.chain.signing.checkpoint import parse_text
    from weftos.chain.signing.note import parse_note

    return parse_text(parse_note(note).text).origin


def keys_of_origin(origin: str, key_file: Path | None) -> PublicKeys:
    """Return the keys to verify a log with.

    Raises:
        ConfigError: none are known, or the file is refused.
    """
    from weftos.chain.signing.pins import Pins

    path = key_file or instance().known_logs
    found = Pins(str(path)).get(origin)
    if found is None:
        raise ConfigError(f"{path} holds no keys of {origin}; give them with --key, as `weaver chain keys` prints them")
    return found


def keys_for(directory: Path, key_file: Path | None) -> PublicKeys | None:
    """Return the keys to verify the log in a directory with; ``None`` to take those that it names itself.

    Raises:
        ConfigError: the file has none of them, or is refused.
        ChainError: the log cannot be read.
    """
    from weftos.chain.signing.pins import Pins

    if key_file is not None:
        return keys_of_origin(origin_of_log(directory), key_file)
    try:
        origin = origin_of_log(directory)
    except ChainError:
        return None  # what is wrong with it, the verification will say
    return Pins(str(instance().known_logs)).get(origin)


def older_checkpoint(directory: Path, file: Path, keys: PublicKeys | None) -> Checkpoint:
    """Read a checkpoint that was verified before.

    Raises:
        ChainError: it cannot be read, or is not of this log, or there are no keys to verify it with.
    """
    from weftos.chain.signing.checkpoint import open_checkpoint
    from weftos.chain.signing.note import SignaturePolicy

    if keys is None:
        raise ConfigError("an older checkpoint is only worth something with the log's keys; give them with --key")
    try:
        note = file.read_bytes()
    except OSError as error:
        raise ChainError(f"{file} cannot be read: {error.strerror}") from error
    origin = origin_of_log(directory)
    return open_checkpoint(note, keys.verifier_keys(origin), SignaturePolicy(), origin)

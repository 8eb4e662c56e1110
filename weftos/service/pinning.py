"""Trust in the keys of the own log: pinned when it begins, compared whenever it is opened.

Why it is as it is: whoever replaces the log and its keys together would otherwise be believed. The pins lie outside
both folders, and an operator can keep them where this machine cannot write.
"""

from __future__ import annotations

from itertools import chain as chain_of

from weftos import chain
from weftos.chain.folder.reader import kept_records
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.pins import Pins
from weftos.chain.signing.rotation import PublicKeys, Rotation

__all__ = ["pin_keys", "rotations_of"]


def pin_keys(writer: chain.ChainWriter, directory: str, keys: PublicKeys, known_logs: str) -> None:
    """Pin the keys of a log, or check that it still has them.

    Args:
        writer: of the log.
        directory: of the log.
        keys: in force.
        known_logs: path of the file of pins.

    Raises:
        SignatureInvalid: other keys are pinned, and no change of keys on the log leads from those to these.
        ConfigError: the file of pins is refused.
        ChainError: it cannot be read or written, or the log cannot be read.
    """
    pins, origin = Pins(known_logs), log_origin(writer.log_id)
    pinned = pins.get(origin)
    if pinned is None:
        pins.pin(origin, keys)
    elif pinned != keys:
        pins.renew(origin, keys, rotations_of(directory))


def rotations_of(directory: str) -> list[Rotation]:
    """Return all changes of keys in a log, oldest first. Reads all of it, and what was kept of what was pruned.

    Raises:
        ChainError: it cannot be read, or is damaged.
    """
    return [
        Rotation.from_payload(record.payload)
        for record in chain_of(kept_records(directory), chain.read(directory))
        if record.kind == "key.rotate" and record.source == "chain"
    ]

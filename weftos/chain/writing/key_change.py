"""Handing a log over to a new pair of keys.

The order makes a crash harmless at every point. The new pair is in the ring before the record that names it; the record
is on the disk before anything is signed by the new pair; the old secret is erased when a checkpoint by the new pair is
on the disk. Opening the log in between finds the record and goes on with the new pair.
"""

from __future__ import annotations

from weftos.chain.records.record import NewEvent
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.keyring import KeyRing
from weftos.chain.signing.log_signer import Signer
from weftos.chain.signing.rotation import Rotation
from weftos.chain.writing.writer import ChainWriter

__all__ = ["rotate_keys"]


def rotate_keys(writer: ChainWriter, signer: Signer) -> Rotation:
    """Make a new pair, hand the log over to it, and erase the old one.

    Args:
        writer: of the log.
        signer: its keys, the old pair in force; the new one is when this returns.

    Returns:
        The statement by both pairs, as it is on the log.

    Raises:
        ConfigError, ChainError: the ring refuses.
        StorageFailed: the log cannot be written.
    """
    ring, old_id = KeyRing(signer.folder), signer.public.pair_id
    new, rotation = ring.rotate(log_origin(writer.log_id), old_id)
    writer.append(NewEvent("chain", "key.rotate", rotation.to_payload()))
    writer.commit()
    signer.add(new)
    signer.use(new.pair_id)
    writer.checkpoint()
    ring.retire(old_id)
    signer.drop(old_id)
    return rotation

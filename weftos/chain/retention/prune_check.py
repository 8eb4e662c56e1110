"""Whether what a log says of its pruned beginning is true.

Why it is as it is: the file ``pruned`` can be written by anybody who may write the log's folder. So it counts only as
far as a record of the log says the same, if that record is under a signed checkpoint, and if the log's own keys have
signed it besides: a record that is merely on the log may have been forged behind the newest checkpoint, and be under
the next one.
"""

from __future__ import annotations

import os
from typing import Final

from weftos.chain.folder.locate import record_at
from weftos.chain.folder.reader import read
from weftos.chain.records.record import Record
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.rotation import Genesis, PublicKeys, Rotation
from weftos.chain.statements.prune_statement import PRUNED_KIND, PruneStatement, check_statement, signed_by
from weftos.chain.statements.pruned_file import PRUNED_NAME, Pruned
from weftos.chain.tiles.tile_tree import TileTree
from weftos.errors import ChainCorrupted, ConfigError, ProofInvalid, SignatureInvalid
from weftos.merkle.frontier import leaf_hash
from weftos.merkle.proofs import inclusion_proof, verify_inclusion

__all__ = ["check_signed", "check_under", "kept_keys", "pairs_of", "verify_signed"]

_LOG: Final = "chain"


def check_signed(record: Record, pruned: Pruned) -> bool:
    """Whether a record is the one that a file ``pruned`` names, and says the same. Its signatures are not verified."""
    if record.kind != PRUNED_KIND or record.source != _LOG or record.withheld or record.seq != pruned.seq:
        return False
    return record.header.log_id == pruned.log_id and PruneStatement.from_payload(record.payload).speaks_of(pruned)


def kept_keys(pruned: Pruned) -> tuple[PublicKeys | None, list[Rotation]]:
    """Return the first keys of the log, and the changes of keys, as far as they were kept.

    Raises:
        ChainCorrupted: what was kept is damaged.
    """
    first, rotations = None, []
    for record in pruned.records():
        if record.source == _LOG and record.kind == "key.genesis" and first is None:
            first = Genesis.read(record.payload)
        elif record.source == _LOG and record.kind == "key.rotate":
            rotations.append(Rotation.from_payload(record.payload))
    return first, rotations


def pairs_of(first: PublicKeys | None, rotations: list[Rotation], *more: PublicKeys) -> list[PublicKeys]:
    """Return all pairs of keys that the log has or had, each once."""
    found = list(more)
    for pair in ([first] if first is not None else []) + [keys for one in rotations for keys in (one.old, one.new)]:
        if pair not in found:
            found.append(pair)
    return found


def check_under(directory: str, pruned: Pruned, size: int, root: bytes) -> Record:
    """Find the record that a file ``pruned`` names, under a root that is trusted.

    Args:
        directory: of the log.
        pruned: the file.
        size: records under the root; their tiles are published.
        root: 32 bytes.

    Returns:
        The record. Its signatures are not verified.

    Raises:
        ChainCorrupted: there is no such record under this root, or it says something else, or tiles are damaged.
    """
    path = os.path.join(directory, PRUNED_NAME)
    if pruned.seq < pruned.size:
        raise ChainCorrupted(f"{path} names record {pruned.seq}, which would be pruned itself", path=path)
    if pruned.seq >= size:
        raise ChainCorrupted(f"{path} names record {pruned.seq}, which no checkpoint covers", path=path)
    tree = TileTree(directory, size)
    try:
        record = record_at(directory, pruned.seq, tree.entry(pruned.seq))
        verify_inclusion(
            leaf_hash(record.header_bytes), pruned.seq, size, inclusion_proof(pruned.seq, size, tree.node), root
        )
    except ProofInvalid as error:
        raise ChainCorrupted(f"{path}: record {pruned.seq} is not under the checkpoint: {error}", path=path) from error
    if not check_signed(record, pruned):
        raise ChainCorrupted(f"{path} does not say what record {pruned.seq} says", path=path)
    return record


def verify_signed(statement: PruneStatement, pruned: Pruned, current: PublicKeys, directory: str) -> None:
    """Verify that the log's keys have signed a statement.

    Args:
        statement: of the record.
        pruned: the file that it speaks of.
        current: the pair in force.
        directory: of the log, which is read if the keys have changed since.

    Raises:
        ChainCorrupted: they have not.
    """
    origin = log_origin(pruned.log_id)
    try:
        if signed_by(statement, origin, current):
            check_statement(statement, origin, [current], [], current)
            return
        first, rotations = kept_keys(pruned)
        rotations += [
            Rotation.from_payload(record.payload)
            for record in read(directory)
            if record.kind == "key.rotate" and record.source == _LOG
        ]
        check_statement(statement, origin, pairs_of(first, rotations, current), rotations, current)
    except (SignatureInvalid, ConfigError) as error:
        path = os.path.join(directory, PRUNED_NAME)
        raise ChainCorrupted(f"{path}: the pruning is not signed by the log's keys: {error}", path=path) from error

"""Verification of a log whose beginning was pruned: what stands for it, and what lies in the archive.

Why it is as it is: of pruned records the tree's hashes are left. The signed root binds them: the tree over what was
pruned, taken from its tiles, and the records that follow have that root together or not at all. That anything may be
missing at all is another question. It may if a record under the checkpoint says so and the log's keys have signed that.

Guaranteed: segments that are missing without such a record are an error, and so is one that was forged, and a file
``pruned`` that says something else. Not guaranteed, without the archive: what the pruned records said.
"""

from __future__ import annotations

import os

from weftos.chain.folder.archive import file_digests
from weftos.chain.folder.segments import Listing, archive_path
from weftos.chain.retention.prune_check import check_under, pairs_of
from weftos.chain.signing.checkpoint import Checkpoint, log_origin
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.statements.prune_statement import PruneStatement, check_statement
from weftos.chain.statements.pruned_file import PRUNED_NAME, Pruned
from weftos.chain.tiles.tile_tree import TileTree, damaged_tile, frontier_at
from weftos.chain.verification.report import Problem, VerifyReport
from weftos.chain.verification.verify_segment import Special
from weftos.chain.verification.verify_special import SpecialRecords
from weftos.errors import ChainCorrupted, ChainError, ConfigError, ProofInvalid
from weftos.merkle.frontier import Frontier
from weftos.merkle.proofs import consistency_proof, verify_consistency

__all__ = ["PrunedBeginning"]


class PrunedBeginning:
    """The part of a log that was pruned.

    Args:
        listing: files of the log.
        pruned: where it begins now.
        report: where findings go.
        special: what other records say.
    """

    def __init__(self, listing: Listing, pruned: Pruned, report: VerifyReport, special: SpecialRecords) -> None:
        self._listing = listing
        self._pruned = pruned
        self._report = report
        self._special = special
        report.checks.pruned = True

    def begin(self) -> Frontier | None:
        """Take the records that were kept, and return the tree over what was pruned; ``None`` if its tiles are gone."""
        pruned = self._pruned
        if not self._listing.archive:
            self._report.pruned = pruned.size
            self._take_kept()
        try:
            tree = frontier_at(self._listing.directory, pruned.size, pruned.size)
        except ChainCorrupted as error:
            self._error("pruned_invalid", f"the tiles over the pruned records are not complete: {error}")
            return None
        if tree.root() != pruned.root:
            self._error("pruned_invalid", "the tiles over the pruned records have another root than was signed for")
        return tree

    def roots(self, sizes: list[int]) -> dict[int, bytes]:
        """Return the roots of the trees of these sizes, as far as they are over pruned records: the tiles are here."""
        directory, size = self._listing.directory, self._pruned.size
        try:
            return {one: frontier_at(directory, one, size).root() for one in sizes if one <= size}
        except ChainCorrupted:
            return {}  # that a tile is gone was said

    def check_tiles(self) -> None:
        """Check that every hash over a pruned record is there, so that who has the record can prove it."""
        try:
            bad = damaged_tile(self._listing.directory, self._pruned.size)
        except ChainCorrupted as error:
            self._error("pruned_invalid", f"a tile over the pruned records is gone: {error}")
            return
        if bad:
            self._error("pruned_invalid", f"{bad} is not the tile that the tree over the pruned records has")

    def _take_kept(self) -> None:
        try:
            records = self._pruned.records()
        except ChainCorrupted as error:
            self._error("pruned_invalid", str(error))
            return
        for record in records:
            h = record.header
            special = Special(h.seq, 0, h.kind, h.source, h.boot_id, record.payload_bytes, h.t_ns)
            if h.kind != "genesis":
                self._special.take(special, PRUNED_NAME)

    def continues(self, since: Checkpoint, tree: Frontier) -> None:
        """Check that the tree over what was pruned continues an older checkpoint."""
        nodes = TileTree(self._listing.directory, self._pruned.size)
        try:
            proof = consistency_proof(since.size, self._pruned.size, nodes.node)
            verify_consistency(since.size, since.root, self._pruned.size, tree.root(), proof)
        except (ProofInvalid, ChainCorrupted) as error:
            detail = f"the first {since.size} records are not those of the checkpoint that was verified before: {error}"
            self._report.error(Problem(since.size - 1, PRUNED_NAME, 0, "rewritten", detail))

    def check(self, stated: Checkpoint | None, since: Checkpoint | None, current: PublicKeys | None) -> None:
        """Check by whose word it was pruned.

        Args:
            stated: the newest checkpoint; whether it is genuine is judged elsewhere.
            since: one that was verified before, if only what follows it was read.
            current: the keys in force, if they are known and have signed the checkpoint.
        """
        pruned, special = self._pruned, self._special
        statement = special.prunings.get(pruned.seq)
        if stated is None or pruned.seq >= stated.size:
            self._error("pruned_invalid", f"no checkpoint covers record {pruned.seq}, which is to say what was pruned")
            return
        try:
            if statement is None and since is not None:
                # Not read, because it was verified before, keys and all. The tiles are those of the newest checkpoint.
                if pruned.seq >= since.size:
                    raise ChainCorrupted(f"record {pruned.seq} does not say that this was pruned")
                record = check_under(self._listing.directory, pruned, stated.size, stated.root)
                statement = PruneStatement.from_payload(record.payload)
                current = None
            elif current is None:
                return  # the checkpoint is not genuine, and that was said
            if statement is None or not statement.speaks_of(pruned):
                self._error("pruned_invalid", f"record {pruned.seq} does not say that this was pruned")
            elif current is not None:
                pairs = pairs_of(special.first_keys, special.rotations, current)
                check_statement(statement, log_origin(pruned.log_id), pairs, special.rotations, current)
        except (ChainError, ConfigError) as error:
            self._error("pruned_invalid", str(error))

    def _error(self, code: str, detail: str) -> None:
        self._report.error(Problem(-1, PRUNED_NAME, 0, code, detail))


def check_archive(archive: str, live: int, report: VerifyReport, special: SpecialRecords) -> None:
    """Compare the files of an archive with what the log says of them; segments from ``live`` on are here too."""
    if report.checks.archive is None:
        report.checks.archive = True
    for number, said in sorted(special.archived.items()):
        path = archive_path(archive, number)
        name = os.path.basename(path)
        try:
            found = file_digests(path)
        except OSError as error:
            detail = f"it was archived to {said.where}, and cannot be read here: {error.strerror or error}"
            problem = Problem(said.first_seq, name, 0, "archive_mismatch", detail)
            if number < live:
                report.error(problem)
            else:  # the segment itself was verified; a crash may have come before its copy had a name
                report.warnings.append(problem)
            continue
        if (found.size, found.blake3, found.sha256) != (said.size, said.blake3, said.sha256):
            detail = "it is not the file that was archived"
            report.error(Problem(said.first_seq, name, 0, "archive_mismatch", detail))

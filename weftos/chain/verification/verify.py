"""Verification of a whole log from its files alone.

Why it is as it is: whoever verifies does not trust the writer, so nothing is asked of it and no lock is taken; and one
finding must not hide the next, so the walk goes on behind damage where it can. What a crash leaves behind in order (an
unfinished write at the very end) is a warning, not an error. Segments are verified each for itself, by several
processes if wished, and then put together.

Guaranteed: in a log reported valid every record is whole, in its place and hashes into its successor; all records
together have the Merkle root that the checkpoint was signed for; no payload is missing without a redaction on the log;
and both ends of each audited window agree. With the log's public keys from outside, a log rewritten up to its
checkpoint is found out. Not guaranteed: that nothing is missing behind the checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from weftos import limits
from weftos.chain.folder.reader import list_segments, read, segment_header
from weftos.chain.folder.segments import CHECKPOINT_NAME, Listing
from weftos.chain.records.record import ZERO_HASH
from weftos.chain.signing.checkpoint import Checkpoint, log_origin, open_checkpoint, parse_text
from weftos.chain.signing.note import SignaturePolicy, parse_note
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.tiles.tile_tree import frontier_at
from weftos.chain.verification.parallel import segment_findings
from weftos.chain.verification.report import Checks, Problem, VerifyReport
from weftos.chain.verification.verify_pruned import PrunedBeginning, check_archive
from weftos.chain.verification.verify_seals import SealCheck, check_seals, sealed_sizes
from weftos.chain.verification.verify_segment import AT_BORDER, SegmentFindings
from weftos.chain.verification.verify_special import SpecialRecords
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid
from weftos.merkle.frontier import Frontier

__all__ = ["Checks", "Problem", "VerifyReport", "verify"]

#: Times that a verification begins anew because the log was pruned meanwhile.
_TRIES: Final = 5


def verify(
    directory: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
    *,
    keys: PublicKeys | None = None,
    since: Checkpoint | None = None,
    workers: int = 1,
    seals: SealCheck | None = None,
    archive: str = "",
) -> VerifyReport:
    """Check a log. Nothing is written, no lock taken, no process asked.

    Args:
        directory: of the log.
        progress: called with the number of records so far, now and then.
        keys: public keys of the log, from a place that its writer cannot change: the first ones, or any since. Without
            them those that the log itself names are taken, and the report says so.
        since: a checkpoint that was verified before: only what came after it is read, and the log must still have it.
        workers: processes that verify segments.
        seals: with what the seals are checked; not together with ``since``, because seals are over all of the log.
        archive: folder with archived segments: those that were pruned are read there, and all are compared with what
            the log says of them. Not together with ``since``.

    Raises:
        ChainError: there is no log, or a file cannot be read.
        ChainCorrupted: there are traces of a log, but no log.
    """
    if archive and since is not None:
        raise ChainError("an archive is verified from the first record on, not from an older checkpoint")
    path = os.path.abspath(directory)
    for _ in range(_TRIES):
        first = list_segments(path).first_number
        # Before the segments: what was signed by now is in them, even if a writer goes on meanwhile.
        note = _note(path)
        listing = list_segments(path)
        if listing.first_number != first:
            continue  # pruned just now, and the note may be older than the record that says so
        try:
            found = listing.with_archive(os.path.abspath(archive)) if archive else listing
            return _Verification(found, progress, keys, note, since, workers, seals, archive).run()
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or list_segments(path).first_number == first:
                raise ChainError(f"the log cannot be read: {error}") from error
    raise ChainError(f"the log in {path} was pruned again and again while it was verified; try again")


def _note(directory: str) -> bytes | OSError:
    try:
        with ReadFile(os.path.join(directory, CHECKPOINT_NAME)) as file:
            return file.read(0, limits.NOTE_BYTES + 1)
    except OSError as error:
        return error


class _Verification:
    def __init__(
        self,
        listing: Listing,
        progress: Callable[[int], None] | None,
        keys: PublicKeys | None,
        note: bytes | OSError,
        since: Checkpoint | None,
        workers: int,
        seals: SealCheck | None,
        archive: str,
    ) -> None:
        assert seals is None or since is None, "seals are checked over all of the log"
        self._seals = seals
        self._listing = listing
        self._archive = archive
        self._progress = progress
        self._given = keys
        self._note = note
        self._checkpoint = self._stated(note)
        self._since = since
        self._workers = workers
        self._report = VerifyReport()
        self._special = SpecialRecords(self._report)
        # The place between two segments.
        self._log_id: bytes | None = None
        self._seq, self._hash, self._t_ns, self._lost = 0, ZERO_HASH, 0, False
        self._tree: Frontier | None = Frontier()
        self._signed_root: bytes | None = None
        self._sealed_roots: dict[int, bytes] = {}
        self._current: PublicKeys | None = None
        self._beginning = (
            PrunedBeginning(listing, listing.pruned, self._report, self._special)
            if listing.pruned is not None
            else None
        )

    @staticmethod
    def _stated(note: bytes | OSError) -> Checkpoint | None:
        """What the checkpoint says; whether it is genuine is judged when the keys are known."""
        if isinstance(note, OSError):
            return None
        try:
            return parse_text(parse_note(note).text)
        except ChainError:
            return None

    def run(self) -> VerifyReport:
        started = time.perf_counter()
        report, listing = self._report, self._listing
        for number in listing.missing:
            self._error(-1, os.path.basename(listing.path(number)), 0, "missing_segment", "this segment is gone")
        self._behind_pruned()
        numbers = self._trust_older()
        report.segments = len(numbers)
        if listing.archive and listing.pruned is not None:
            report.archived = sum(1 for number in numbers if number <= listing.pruned.segment)
        sealed = sealed_sizes(listing) if self._seals is not None else []
        self._sealed_roots = dict.fromkeys(sealed, b"")
        if self._beginning is not None:
            self._sealed_roots |= self._beginning.roots(sealed)
        cuts = (*(one.size for one in (self._checkpoint, self._since) if one is not None), *sealed)
        before = listing.first_number - 1 if self._since is None else numbers[0] - 1
        for found in segment_findings(listing, numbers, cuts, self._workers, self._within if self._progress else None):
            if found.number != before + 1:
                self._lost = True
            before = found.number
            self._join(found)
            if self._progress is not None:
                self._progress(report.records)
        self._special.finish()
        if self._tree is not None and not report.error_count:
            report.root = self._tree.root().hex()
        report.size = self._seq
        report.log_id = (self._log_id or b"").hex()
        self._check_note()
        if self._beginning is not None:
            self._beginning.check(self._checkpoint, self._since, self._current)
        if self._archive:
            live = 1 if listing.pruned is None else listing.pruned.segment + 1
            check_archive(self._archive, live, report, self._special)
        self._check_beyond()
        report.valid = report.error_count == 0 and (report.records > 0 or report.since > 0)
        report.elapsed_seconds = time.perf_counter() - started
        return report

    def _check_beyond(self) -> None:
        """Check what is said about the log, or in it, beyond its records and links."""
        if self._since is None and not self._report.error_count:
            self._special.check_lineage()
        if self._seals is not None:
            roots = {size: root for size, root in self._sealed_roots.items() if root}
            check_seals(self._report, self._special.seals, self._seals, roots, self._log_id, cut=self._seq_cut())

    def _seq_cut(self) -> int:
        """Number of the record that the records begin with that were read."""
        pruned = self._listing.pruned
        return 0 if pruned is None or self._listing.archive else pruned.size

    def _within(self, records: int) -> None:
        assert self._progress is not None, "somebody wants to know"
        self._progress(self._report.records + records)

    # --- what was pruned, what was verified before ----------------------------------------------------------------

    def _behind_pruned(self) -> None:
        """Begin behind what was pruned, unless the archive has it."""
        pruned = self._listing.pruned
        if self._beginning is None or pruned is None:
            return
        if not self._listing.archive:
            self._learn_cut()
        tree = self._beginning.begin()
        if self._since is None:
            self._beginning.check_tiles()
        if not self._listing.archive:
            self._log_id, self._seq, self._hash, self._tree = pruned.log_id, pruned.size, pruned.head_hash, tree

    def _learn_cut(self) -> None:
        """Find the boot that the log begins in now; its streams may have begun before."""
        try:
            oldest = next(read(self._listing.directory), None)
        except ChainCorrupted:
            return  # an error that is found and said when the segment is verified
        if oldest is not None:
            self._special.cut(oldest.header.boot_id)

    def _trust_older(self) -> list[int]:
        """Return the segments to read; all of them, unless an older checkpoint vouches for the first."""
        listing, since = self._listing, self._since
        if since is None:
            return listing.segments
        pruned = listing.pruned
        if pruned is not None and self._beginning is not None and since.size < pruned.size:
            if log_origin(pruned.log_id) != since.origin:
                raise ChainError(f"the checkpoint is of {since.origin}, not of the log in {listing.directory}")
            if self._tree is not None:
                self._beginning.continues(since, self._tree)
            self._report.since = since.size
            return listing.segments
        first, header = 0, None
        for index, number in enumerate(listing.segments):
            with ReadFile(listing.path(number)) as file:
                this = segment_header(file)
            if this.first_seq > since.size:
                break
            first, header = index, this
        assert header is not None, "the first segment begins with the first record"
        if log_origin(header.log_id) != since.origin:
            raise ChainError(f"the checkpoint is of {since.origin}, not of the log in {listing.directory}")
        stated = self._checkpoint
        try:
            tree = frontier_at(listing.directory, since.size, stated.size if stated is not None else since.size)
        except ChainCorrupted as error:
            raise ChainError(
                f"the tiles of the log are not complete ({error}), so it cannot be verified from an older checkpoint; "
                "verify all of it"
            ) from error
        if tree.root() != since.root:
            detail = f"the first {since.size} records are not those of the checkpoint that was verified before"
            self._error(since.size - 1, CHECKPOINT_NAME, 0, "rewritten", detail)
        self._log_id = header.log_id
        self._seq, self._hash = header.first_seq, header.prev_hash
        self._tree, self._report.since = tree, since.size
        return listing.segments[first:]

    # --- putting segments together ------------------------------------------------------------------------------------

    def _join(self, found: SegmentFindings) -> None:
        report, name = self._report, os.path.basename(self._listing.path(found.number))
        header, expected = found.header, self._seq
        report.bytes += found.size_bytes
        if header is not None:
            if self._log_id is None:
                self._log_id = header.log_id
            elif self._log_id != header.log_id:
                self._error(expected, name, 0, "foreign_log", f"the segment is of log {header.log_id.hex()}")
            if not self._lost and (header.first_seq, header.prev_hash) != (self._seq, self._hash):
                before = f"record {header.first_seq - 1} ({header.prev_hash.hex()[:16]})"
                self._error(expected, name, 0, "segment_link", f"the segment follows {before}, which is not so")
        for one in found.errors:
            seq = expected if one.seq == AT_BORDER else one.seq
            self._error(seq, one.file, one.offset, one.code, one.detail)
        report.error_count += found.error_count - len(found.errors)
        report.warnings += [
            Problem(expected, one.file, one.offset, one.code, one.detail) if one.seq == AT_BORDER else one
            for one in found.warnings
        ]
        if found.records:
            if report.records == 0:
                report.first_seq = found.first_seq
            if found.first_t_ns < self._t_ns:
                detail = f"{found.first_t_ns} ns lies before {self._t_ns} ns"
                self._error(found.first_seq, name, 0, "time_reversed", detail)
            report.records += found.records
            report.last_seq, report.head_hash = found.last_seq, found.last_hash.hex()
            self._seq, self._hash, self._t_ns = found.last_seq + 1, found.last_hash, found.last_t_ns
        elif header is not None:
            self._seq, self._hash = header.first_seq, header.prev_hash
        self._lost = found.lost or (header is None and not found.records)
        self._grow(found)
        for seq, offset, payload_hash in found.withheld:
            self._special.withheld(seq, name, offset, payload_hash)
        for special in found.special:
            self._special.take(special, name)

    def _grow(self, found: SegmentFindings) -> None:
        if self._report.error_count or self._tree is None:
            self._tree = None
            return
        for piece in found.pieces:
            frontier = Frontier.of_parts(piece.begin, piece.size, piece.left, piece.right)
            if piece.size <= self._tree.size and self._report.since:
                continue  # covered by the checkpoint that was verified before
            self._tree.append(frontier)
            if self._tree.size in self._sealed_roots:
                self._sealed_roots[self._tree.size] = self._tree.root()
            pruned = self._listing.pruned
            if pruned is not None and self._tree.size == pruned.size and self._tree.root() != pruned.root:
                detail = "the archived records are not those that were pruned"
                self._error(
                    pruned.size - 1, os.path.basename(self._listing.path(found.number)), 0, "pruned_invalid", detail
                )
            if self._checkpoint is not None and self._tree.size == self._checkpoint.size:
                self._signed_root = self._tree.root()
        if self._checkpoint is not None and self._tree.size == self._checkpoint.size:
            self._signed_root = self._tree.root()

    # --- the checkpoint -----------------------------------------------------------------------------------------------

    def _check_note(self) -> None:
        report, note, stated = self._report, self._note, self._checkpoint
        named = self._special.keys
        if named is not None and report.checks.keys is None:
            report.checks.keys = True
        if isinstance(note, OSError):
            if not isinstance(note, FileNotFoundError):
                raise note
            detail = "the log names signing keys but has no checkpoint: not signed yet, or it was removed"
            if self._given is not None:
                # Whoever brings keys asks for a signed log; without its checkpoint all of it could be rewritten.
                self._error(-1, CHECKPOINT_NAME, 0, "checkpoint_absent", "there is no checkpoint by the keys given")
            elif named is not None:
                report.warnings.append(Problem(-1, CHECKPOINT_NAME, 0, "checkpoint_absent", detail))
            return
        report.checks.checkpoint = True
        self._check_signatures(note)
        if stated is None:
            return
        report.signed_size = stated.size
        if self._log_id is not None and stated.origin != log_origin(self._log_id):
            self._error(-1, CHECKPOINT_NAME, 0, "foreign_log", f"the checkpoint is of {stated.origin}")
        if self._seq < stated.size:
            report.rolled_back = True
            detail = f"the log ends before record {self._seq}, but {stated.size} records were signed for"
            self._error(self._seq, CHECKPOINT_NAME, 0, "rolled_back", detail)
        elif self._signed_root is not None:
            report.checks.root = self._signed_root == stated.root
            if not report.checks.root:
                detail = f"the first {stated.size} records are not those that the checkpoint was signed for"
                self._error(stated.size - 1, CHECKPOINT_NAME, 0, "rewritten", detail)
        else:
            report.checks.root = False  # a record is damaged, so there is no tree; that was said

    def _check_signatures(self, note: bytes) -> None:
        report = self._report
        origin = log_origin(self._log_id) if self._log_id is not None else ""
        trusted, report.key_origin = self._given, "given"
        if trusted is None:
            trusted, report.key_origin = self._special.keys, "log"
        try:
            if trusted is None:
                report.key_origin = ""
                raise SignatureInvalid("the log names no keys that could have signed it")
            current = self._special.newest_keys(origin, trusted)
            report.signed_by = current.pair_id
            open_checkpoint(note, current.verifier_keys(origin), SignaturePolicy(), origin)
            report.signature, self._current = "good", current
        except (ChainError, ConfigError) as error:
            report.signature = "bad"
            self._error(-1, CHECKPOINT_NAME, 0, "signature_invalid", str(error))
        named = self._special.first_keys
        if self._given is not None and named is not None and not self._special.knows(self._given):
            detail = f"the log names the keys {named.pair_id}, given were {self._given.pair_id}"
            self._error(-1, CHECKPOINT_NAME, 0, "signature_invalid", detail)

    # --- findings -----------------------------------------------------------------------------------------------------

    def _error(self, seq: int, file: str, offset: int, code: str, detail: str) -> None:
        self._report.error(Problem(seq, file, offset, code, detail))

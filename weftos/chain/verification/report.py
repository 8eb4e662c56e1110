"""What a verification of a log says."""

from __future__ import annotations

from typing import Final

import msgspec

from weftos import limits

__all__ = ["Checks", "Problem", "SealsReport", "VerifyReport"]


class Problem(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        seq: number of the record concerned, or that was expected there; -1 if it concerns none.
        file: name of the file.
        offset: byte offset in it.
        code: see docs/formats/chain.md.
        detail: a sentence.
    """

    seq: int
    file: str
    offset: int
    code: str
    detail: str


class Checks(msgspec.Struct):
    """What was checked, and how it came out.

    Attributes:
        frames: every frame is whole.
        segments: segment files are complete and follow each other.
        headers: every header is canonical and of this log.
        sequence: records are numbered without a gap.
        links: every record names the hash of the one before.
        payloads: every payload is the one that was logged, or was taken away by a redaction on the log.
        time: no record is older than the one before.
        checkpoint: the log reaches its checkpoint and is signed as it must be; ``None`` without one.
        root: the records have the Merkle root that was signed; ``None`` without a checkpoint.
        keys: every change of keys is signed by both sides; ``None`` if the log names no keys.
        witnesses: no witness has seen another or a longer log; ``None`` if none was asked.
        seals: every seal is genuine, over these records, and none is missing; ``None`` if their key was not given.
        lineage: the derivations on the log make sense together; ``None`` if there are none, or not all were read.
        pruned: what was pruned was pruned by the log's own word; ``None`` if nothing was.
        archive: the archived segments are those that were archived; ``None`` if they were not looked at.
        windows: no window of a stream is contradicted, missing, moved or made up.
        windows_total: audit windows of rings seen.
        windows_paired: ranges on which both ends agree.
        windows_unpaired: ranges to which one end alone committed.
        withheld: payloads that were taken away.
        topic_windows_paired: windows of topics that agree with another end's.
        streams_total: stream ends: sides of rings, and of topics.
        streams_closed: ended with a last window.
        streams_cut: ended without one: the agent died, the ring was closed, or the kernel ended.
        streams_silent: open, and nothing was heard of them for long.
        streams_resumed: taken over by a later incarnation of an agent.
        windows_holes: ranges that no window of an end covers.
        windows_foreign: windows and heartbeats by somebody who is not that end; they are ignored.
        heartbeats: records that say that nothing passed.
        messages_lost: messages that an end said were lost to it, and those that the kernel put aside.
        messages_unexplained: messages of topics that a subscriber missed and nobody accounts for.
    """

    frames: bool = True
    segments: bool = True
    headers: bool = True
    sequence: bool = True
    links: bool = True
    payloads: bool = True
    time: bool = True
    checkpoint: bool | None = None
    root: bool | None = None
    keys: bool | None = None
    witnesses: bool | None = None
    seals: bool | None = None
    lineage: bool | None = None
    pruned: bool | None = None
    archive: bool | None = None
    windows: bool = True
    windows_total: int = 0
    windows_paired: int = 0
    windows_unpaired: int = 0
    withheld: int = 0
    topic_windows_paired: int = 0
    streams_total: int = 0
    streams_closed: int = 0
    streams_cut: int = 0
    streams_silent: int = 0
    streams_resumed: int = 0
    windows_holes: int = 0
    windows_foreign: int = 0
    heartbeats: int = 0
    messages_lost: int = 0
    messages_unexplained: int = 0


#: Field of ``Checks`` that an error of each code turns off.
_CHECK_OF: Final = {
    "bad_crc": "frames",
    "bad_frame": "frames",
    "segment_link": "segments",
    "missing_segment": "segments",
    "header_invalid": "headers",
    "foreign_log": "headers",
    "seq_gap": "sequence",
    "prev_mismatch": "links",
    "payload_mismatch": "payloads",
    "payload_withheld": "payloads",
    "time_reversed": "time",
    "window_mismatch": "windows",
    "window_missing": "windows",
    "window_link": "windows",
    "checkpoint_absent": "checkpoint",
    "signature_invalid": "checkpoint",
    "rolled_back": "checkpoint",
    "rewritten": "root",
    "keys_invalid": "keys",
    "split_view": "witnesses",
    "seal_invalid": "seals",
    "seal_gap": "seals",
    "seal_root": "seals",
    "lineage_invalid": "lineage",
    "pruned_invalid": "pruned",
    "archive_mismatch": "archive",
}


class SealsReport(msgspec.Struct):
    """What the seals of a log say, checked with their first keys.

    Attributes:
        seals: genuine ones, repetitions not counted.
        rows: rows of them, each under a key of its own.
        sealed: number of the first record that is not sealed any more.
        next_epoch: of the seal that would follow.
    """

    seals: int = 0
    rows: int = 0
    sealed: int = 0
    next_epoch: int = 1


class VerifyReport(msgspec.Struct):
    """What a verification found.

    Attributes:
        valid: there are no errors.
        log_id: 32 hex digits; empty if no segment has a good header.
        records: good records that were looked at.
        first_seq: number of the first; -1 if there is none.
        last_seq: number of the last.
        head_hash: hash of the last, 64 hex digits.
        size: records in the log.
        root: of the Merkle tree over all of them, 64 hex digits; empty if a record is damaged or missing.
        segments: files looked at.
        bytes: their size.
        errors: the first findings, in the order of the log; at most ``limits.CHAIN_VERIFY_ERRORS``.
        error_count: of all.
        warnings: findings that do not make the log invalid.
        checks: what was checked.
        signature: of the checkpoint: ``good``, ``bad``, or ``absent`` without one.
        signed_size: records that the checkpoint covers; 0 without one.
        signed_by: id of the pair of keys that the signatures were checked with, 16 hex digits.
        key_origin: where these keys came from: ``given``, ``log`` or ``""``.
        since: records that were trusted because of an older checkpoint, and not read again.
        pruned: records at the beginning that were pruned: the tree vouches for their hashes, and nobody has looked at
            their content.
        archived: segments that were read from the archive.
        rolled_back: the log is shorter than was promised.
        seals: what the seals say; ``None`` if their keys were not given.
        elapsed_seconds: duration of the verification.
    """

    valid: bool = False
    log_id: str = ""
    records: int = 0
    first_seq: int = -1
    last_seq: int = -1
    head_hash: str = ""
    size: int = 0
    root: str = ""
    segments: int = 0
    bytes: int = 0
    errors: list[Problem] = []
    error_count: int = 0
    warnings: list[Problem] = []
    checks: Checks = msgspec.field(default_factory=Checks)
    signature: str = "absent"
    signed_size: int = 0
    signed_by: str = ""
    key_origin: str = ""
    since: int = 0
    pruned: int = 0
    archived: int = 0
    rolled_back: bool = False
    seals: SealsReport | None = None
    elapsed_seconds: float = 0.0

    def error(self, problem: Problem) -> None:
        """Add a finding that makes the log invalid."""
        self.error_count += 1
        setattr(self.checks, _CHECK_OF[problem.code], False)
        if len(self.errors) < limits.CHAIN_VERIFY_ERRORS:
            self.errors.append(problem)

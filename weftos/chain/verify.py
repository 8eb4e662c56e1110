"""Verification of a whole log from its files alone.

Why it is as it is: whoever verifies does not trust the writer, so nothing is asked of it and no lock is taken; and one
finding must not hide the next, so the walk goes on behind damage where it can. What a crash leaves behind in order (an
unfinished write at the very end) is a warning, not an error.

Guaranteed: in a log reported valid every record is whole, in its place and hashes into its successor, both ends of each
audited window agree, and a signed head, if there is one, fits. With the public key from outside, a log rewritten up to
its signed head is found out. Not guaranteed: that nothing is missing behind the signed head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from weftos import limits
from weftos.chain.cursor import Cursor
from weftos.chain.files import ReadFile
from weftos.chain.frames import MAX_FRAME, FrameReader, decode_segment_header, read_frame_at
from weftos.chain.record import ZERO_HASH, Record
from weftos.chain.segments import HEAD_NAME, Listing, list_log
from weftos.chain.signing import SignedHead, read_head
from weftos.chain.windows import WindowPairs
from weftos.errors import ChainError

__all__ = ["Checks", "Problem", "VerifyReport", "verify"]

#: Records between two calls of the progress function.
_PROGRESS_RECORDS = 10_000
#: Kinds whose payload is looked into.
_SPECIAL = frozenset(("ipc.grant", "ipc.window", "key.genesis"))


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
        payloads: every payload is the one that was logged.
        time: no record is older than the one before.
        signed_head: the log fits its signed head; ``None`` without one.
        windows: no audit window is contradicted.
        windows_total: audit windows seen.
        windows_paired: ranges on which both ends agree.
        windows_unpaired: ranges to which one end alone committed.
    """

    frames: bool = True
    segments: bool = True
    headers: bool = True
    sequence: bool = True
    links: bool = True
    payloads: bool = True
    time: bool = True
    signed_head: bool | None = None
    windows: bool = True
    windows_total: int = 0
    windows_paired: int = 0
    windows_unpaired: int = 0


class VerifyReport(msgspec.Struct):
    """What a verification found.

    Attributes:
        valid: there are no errors.
        log_id: 32 hex digits; empty if no segment has a good header.
        records: good records.
        first_seq: number of the first; -1 if there is none.
        last_seq: number of the last.
        head_hash: hash of the last, 64 hex digits.
        segments: files.
        bytes: their size.
        errors: the first findings, in the order of the log; at most ``limits.CHAIN_VERIFY_ERRORS``.
        error_count: of all.
        warnings: findings that do not make the log invalid.
        checks: what was checked.
        signature: ``good``, ``bad``, or ``absent`` if the log has no signed head.
        signed_size: records that the signed head covers; 0 without one.
        signed_by: public key of the signed head, 64 hex digits.
        key_origin: where the key came from that the signature was checked with: ``given``, ``log`` or ``""``.
        rolled_back: the log is shorter than its signed head.
        elapsed_seconds: duration of the verification.
    """

    valid: bool = False
    log_id: str = ""
    records: int = 0
    first_seq: int = -1
    last_seq: int = -1
    head_hash: str = ""
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
    rolled_back: bool = False
    elapsed_seconds: float = 0.0


#: Field of ``Checks`` that an error of each code turns off.
_CHECK_OF = {
    "bad_crc": "frames",
    "bad_frame": "frames",
    "segment_link": "segments",
    "missing_segment": "segments",
    "header_invalid": "headers",
    "foreign_log": "headers",
    "seq_gap": "sequence",
    "prev_mismatch": "links",
    "payload_mismatch": "payloads",
    "time_reversed": "time",
    "window_mismatch": "windows",
    "signature_invalid": "signed_head",
    "rolled_back": "signed_head",
    "rewritten": "signed_head",
}


def verify(
    directory: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
    *,
    public_key: bytes | None = None,
) -> VerifyReport:
    """Check a whole log. Nothing is written, no lock taken, no process asked.

    Args:
        directory: of the log.
        progress: called with the number of records so far, now and then.
        public_key: of the log's signer, 32 bytes, from a place that the writer of the log cannot change. Without it
            the key that the log itself names is taken, and the report says so.

    Raises:
        ChainError: there is no log, or a file cannot be read.
        ChainCorrupted: there are traces of a log, but no log.
    """
    path = os.path.abspath(directory)
    try:
        # Before the segments: what was signed by now is in them, even if a writer goes on meanwhile.
        note: SignedHead | Exception = read_head(os.path.join(path, HEAD_NAME))
    except (OSError, msgspec.DecodeError, ValueError) as error:
        note = error
    try:
        listing = list_log(path)
    except FileNotFoundError as error:
        raise ChainError(f"there is no log: {path} does not exist") from error
    listing.check_present()
    if not listing.segments:
        raise ChainError(f"there is no log in {path}: the directory is empty")
    try:
        return _Verification(listing, progress, public_key, note).run()
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error


class _Verification:
    def __init__(
        self,
        listing: Listing,
        progress: Callable[[int], None] | None,
        public_key: bytes | None,
        note: SignedHead | Exception,
    ) -> None:
        self._listing = listing
        self._progress = progress
        self._given_key = public_key
        self._log_key: bytes | None = None
        self._report = VerifyReport(segments=len(listing.segments))
        self._cursor = Cursor(None, 0, ZERO_HASH)
        self._windows = WindowPairs()
        self._file = ""
        self._note = note if isinstance(note, SignedHead) else None
        self._note_error = None if isinstance(note, SignedHead | FileNotFoundError) else note

    def run(self) -> VerifyReport:
        started = time.perf_counter()
        report, listing = self._report, self._listing
        if self._note_error is not None:
            report.signature = "bad"
            detail = f"the signed head cannot be understood: {self._note_error}"
            self._error(-1, HEAD_NAME, 0, "signature_invalid", detail)
        for number in listing.missing:
            self._error(-1, f"{number:08d}.log", 0, "missing_segment", "this segment is gone")
        for before, number in zip([0, *listing.segments], listing.segments, strict=False):
            if number != before + 1:
                self._cursor.lost = True
            self._segment(number)
        if self._note is not None:
            self._check_note(self._note)
        elif self._log_key is not None and self._note_error is None:
            detail = "the log names a signing key but has no signed head: not signed yet, or the head was removed"
            self._warning(-1, HEAD_NAME, 0, "head_absent", detail)
        windows, checks = self._windows, report.checks
        checks.windows_total, checks.windows_paired = windows.windows, windows.paired
        checks.windows_unpaired = windows.unpaired
        report.log_id = (self._cursor.log_id or b"").hex()
        report.valid = report.error_count == 0 and report.records > 0
        report.elapsed_seconds = time.perf_counter() - started
        if self._progress is not None:
            self._progress(report.records)
        return report

    # --- segments and records -----------------------------------------------------------------------------------------

    def _segment(self, number: int) -> None:
        path = self._listing.path(number)
        self._file = os.path.basename(path)
        with ReadFile(path) as file:
            reader = FrameReader(file)
            frames = iter(reader)
            head = next(frames, None)
            if head is None:
                self._error(self._cursor.seq, self._file, 0, reader.problem or "bad_frame", "no good segment header")
            else:
                self._segment_header(head, number)
            before = reader.offset
            while True:
                for body in frames:
                    self._record(body, before)
                    before = reader.offset
                if not reader.problem:
                    break
                onward = self._behind(file, reader, is_header=head is None and before == 0)
                if onward is None:
                    break
                before = onward
                reader = FrameReader(file, onward)
                frames = iter(reader)
            self._report.bytes += reader.end

    def _segment_header(self, body: bytes, number: int) -> None:
        cursor = self._cursor
        try:
            header = decode_segment_header(body)
        except msgspec.DecodeError as error:
            self._error(cursor.seq, self._file, 0, "header_invalid", str(error))
            return
        if cursor.log_id is None:
            cursor.log_id = header.log_id
        elif cursor.log_id != header.log_id:
            self._error(cursor.seq, self._file, 0, "foreign_log", f"the segment is of log {header.log_id.hex()}")
        if header.number != number:
            self._error(cursor.seq, self._file, 0, "segment_link", f"the file says it is segment {header.number}")
        if cursor.lost:
            if number == self._listing.segments[0] or header.first_seq >= cursor.seq:
                cursor.seq, cursor.prev_hash, cursor.lost = header.first_seq, header.prev_hash, False
        elif (header.first_seq, header.prev_hash) != (cursor.seq, cursor.prev_hash):
            detail = (
                f"the segment follows record {header.first_seq - 1} ({header.prev_hash.hex()[:16]}), which is not so"
            )
            self._error(cursor.seq, self._file, 0, "segment_link", detail)

    def _behind(self, file: ReadFile, reader: FrameReader, *, is_header: bool) -> int | None:
        """Report what stopped the reader and return where the next record begins, or ``None``."""
        at, cursor = reader.offset, self._cursor
        size = max(file.size - at, 0)
        # The next good record is near as a rule. Reading all the rest for each damage would take time squared.
        for span in (4 * MAX_FRAME, size):
            rest = file.read(at, min(span, size))
            if read_frame_at(rest, 0) is not None:
                return at  # a writer has finished it in the meantime
            found = cursor.find_next(rest, 1)
            if found is not None and found + MAX_FRAME <= len(rest):
                break
        last = file.path == self._listing.path(self._listing.segments[-1])
        if found is None and last and not is_header:
            detail = f"{len(rest)} bytes at the end are an unfinished write; opening the log sets them aside"
            self._warning(cursor.seq, self._file, at, "torn_tail", detail)
            return None
        if not is_header:
            skipped = len(rest) if found is None else found
            self._error(cursor.seq, self._file, at, reader.problem, f"{skipped} bytes hold no good record")
            cursor.lost = True
        return None if found is None else at + found

    def _record(self, body: bytes, offset: int) -> None:
        report, cursor = self._report, self._cursor
        expected = cursor.seq
        record = cursor.take(body)
        if cursor.findings:
            seq = expected if record is None else record.seq
            for finding in cursor.findings:
                self._error(seq, self._file, offset, finding.code, finding.detail)
        if record is None:
            return
        if report.records == 0:
            report.first_seq = record.seq
        report.records += 1
        report.last_seq = record.seq
        if record.header.kind in _SPECIAL:
            self._special(record, offset)
        note = self._note
        if note is not None and record.seq == note.size - 1 and record.hash.hex() != note.head_hash:
            detail = f"record {record.seq} is not the one that the head was signed for"
            self._error(record.seq, self._file, offset, "rewritten", detail)
        if report.records % _PROGRESS_RECORDS == 0 and self._progress is not None:
            self._progress(report.records)
        report.head_hash = record.hash.hex()

    def _special(self, record: Record, offset: int) -> None:
        try:
            payload = record.payload
        except msgspec.DecodeError as error:
            self._error(record.seq, self._file, offset, "payload_mismatch", f"the payload is no map: {error}")
            return
        if record.kind == "ipc.window":
            contradiction = self._windows.add(record.seq, record.header.boot_id, record.source, payload)
            if contradiction is not None:
                self._error(record.seq, self._file, offset, "window_mismatch", contradiction)
        elif record.kind == "ipc.grant":
            self._windows.grant(record.header.boot_id, record.source, payload)
        elif self._log_key is None and isinstance(key := payload.get("public_key"), bytes):
            self._log_key = key

    # --- the signed head ----------------------------------------------------------------------------------------------

    def _check_note(self, note: SignedHead) -> None:
        report = self._report
        report.signed_size, report.signed_by = note.size, note.public_key
        if report.checks.signed_head is None:
            report.checks.signed_head = True
        key, report.key_origin = self._given_key, "given"
        if key is None:
            key, report.key_origin = self._log_key, "log"
        if key is None:
            report.key_origin = ""
        genuine = key is not None and len(key) == 32 and note.is_genuine(key)
        report.signature = "good" if genuine else "bad"
        if key is None:
            self._error(-1, HEAD_NAME, 0, "signature_invalid", "the log names no key that could have signed the head")
        elif not genuine:
            self._error(-1, HEAD_NAME, 0, "signature_invalid", f"not a signature of key {key.hex()[:16]}")
        if self._given_key is not None and self._log_key not in (None, self._given_key):
            assert self._log_key is not None
            detail = f"the log names key {self._log_key.hex()[:16]}, given was {self._given_key.hex()[:16]}"
            self._error(-1, HEAD_NAME, 0, "signature_invalid", detail)
        if note.log_id != (self._cursor.log_id or b"").hex():
            self._error(-1, HEAD_NAME, 0, "foreign_log", f"the head was signed for log {note.log_id}")
        if self._cursor.seq < note.size:
            report.rolled_back = True
            detail = f"the log ends before record {self._cursor.seq}, but {note.size} records were signed for"
            self._error(self._cursor.seq, HEAD_NAME, 0, "rolled_back", detail)

    # --- findings -----------------------------------------------------------------------------------------------------

    def _error(self, seq: int, file: str, offset: int, code: str, detail: str) -> None:
        report = self._report
        report.error_count += 1
        setattr(report.checks, _CHECK_OF[code], False)
        if len(report.errors) < limits.CHAIN_VERIFY_ERRORS:
            report.errors.append(Problem(seq, file, offset, code, detail))

    def _warning(self, seq: int, file: str, offset: int, code: str, detail: str) -> None:
        self._report.warnings.append(Problem(seq, file, offset, code, detail))

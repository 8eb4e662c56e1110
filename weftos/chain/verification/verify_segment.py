"""Verification of one segment, as far as it can be judged alone; what remains is judged when all are put together.

Why it is as it is: segments are independent but for the three values at their borders, so several processes can verify
several segments at a time. What comes out is small and plain: findings, the values at the borders, the subtrees of the
Merkle tree, and the few records whose content matters.

Guaranteed: one finding does not hide the next: behind damage the walk goes on where it can.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256

import msgspec

from weftos import limits
from weftos.chain.folder.archive import open_segment
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import MAX_FRAME, FrameReader, SegmentHeader, decode_segment_header, read_frame_at
from weftos.chain.records.good_run import Picked
from weftos.chain.records.record import decode_header
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.verification.report import Problem
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier

__all__ = ["SPECIAL", "SegmentFindings", "Special", "verify_segment"]

#: Kinds whose payload is looked into.
SPECIAL = frozenset(
    (
        *("ipc.grant", "ipc.revoke", "ipc.window", "ipc.topic_window", "ipc.heartbeat", "ipc.dead_letter"),
        *("agent.restart", "agent.exit", "boot.config", "shutdown"),
        *("key.genesis", "key.rotate", "log.seal", "chain.redacted", "lineage.derivation"),
        *("chain.archived", "chain.pruned"),
    )
)
#: Number of a finding that belongs to the record which the segment begins with, whatever that is.
AT_BORDER = -2


class Special(msgspec.Struct, frozen=True, array_like=True):
    """A record whose content matters to the verification."""

    seq: int
    offset: int
    kind: str
    source: str
    boot_id: bytes
    payload: bytes
    t_ns: int = 0


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A ``Frontier`` as plain values."""

    begin: int
    size: int
    left: list[tuple[int, bytes]]
    right: list[tuple[int, bytes]]


class SegmentFindings(msgspec.Struct):
    """What a segment holds.

    Attributes:
        number: of the segment.
        size_bytes: of the file as far as it was seen.
        header: of the segment, if it is good.
        first_seq: number of the first good record; -1 if there is none.
        first_prev: hash that the first good record names as that before it.
        first_t_ns: its time.
        records: good ones.
        last_seq: number of the last.
        last_hash: its hash.
        last_t_ns: its time.
        lost: the end of the segment could not be read, so what follows cannot be compared with it.
        pieces: the tree over the records, in pieces; none if a record is damaged or missing.
        special: see ``Special``.
        withheld: number, offset and payload hash of records without payload.
        errors, warnings: in the order of the file; their number may be ``AT_BORDER``.
        error_count: of all errors.
    """

    number: int
    size_bytes: int = 0
    header: SegmentHeader | None = None
    first_seq: int = -1
    first_prev: bytes = b""
    first_t_ns: int = 0
    records: int = 0
    last_seq: int = -1
    last_hash: bytes = b""
    last_t_ns: int = 0
    lost: bool = False
    pieces: list[Piece] = []
    special: list[Special] = []
    withheld: list[tuple[int, int, bytes]] = []
    errors: list[Problem] = []
    warnings: list[Problem] = []
    error_count: int = 0


def verify_segment(
    path: str,
    number: int,
    *,
    last: bool,
    cuts: tuple[int, ...] = (),
    progress: Callable[[int], None] | None = None,
) -> SegmentFindings:
    """Verify one segment.

    Args:
        path: of the file; packed, if its name ends in ``.gz``.
        number: that it must have.
        last: it may end with an unfinished write.
        cuts: numbers of records before which the tree must be cut into pieces.
        progress: called with the number of good records so far, now and then.

    Raises:
        OSError: the file cannot be read.
    """
    return _Segment(path, number, last, cuts, progress).run()


class _Segment:
    def __init__(
        self, path: str, number: int, last: bool, cuts: tuple[int, ...], progress: Callable[[int], None] | None
    ) -> None:
        self._path = path
        self._progress = progress
        self._file = os.path.basename(path)
        self._last = last
        self._cuts = sorted(cuts, reverse=True)  # the next one last
        self._found = SegmentFindings(number)
        self._cursor = Cursor(None, 0, b"")
        self._frontiers: list[Frontier] = []

    def run(self) -> SegmentFindings:
        try:
            file = open_segment(self._path)
        except ChainCorrupted as error:
            self._error(AT_BORDER, 0, "archive_mismatch", str(error))
            self._found.lost = True
            return self._found
        return self._walk(file)

    def _walk(self, opened: ReadFile) -> SegmentFindings:
        found = self._found
        with opened as file:
            reader = FrameReader(file)
            head = next(iter(reader), None)
            if head is None:
                self._error(AT_BORDER, 0, reader.problem or "bad_frame", "no good segment header")
                # Not even the name of the log is known: take the first good record at its word.
                self._cursor.lost = True
                start = self._behind(file, reader.offset, reader.problem, is_header=True)
            else:
                self._header(head)
                start = reader.offset
            scanner = Scanner(file, start or 0, self._cursor, kinds=SPECIAL)
            while start is not None:
                scanner.go_to(start)
                for part in scanner:
                    if isinstance(part, Batch):
                        self._good(part)
                    else:
                        self._odd(part.body, part.offset)
                    if self._progress is not None:
                        self._progress(found.records)
                start = None
                if scanner.problem:
                    start = self._behind(file, scanner.offset, scanner.problem, is_header=False)
            found.size_bytes = file.size
        found.lost = self._cursor.lost
        if not found.error_count and not found.lost:
            found.pieces = [Piece(f.begin, f.size, *f.parts()) for f in self._frontiers]
        return found

    def _header(self, body: bytes) -> None:
        try:
            header = decode_segment_header(body)
        except msgspec.DecodeError as error:
            self._error(AT_BORDER, 0, "header_invalid", str(error))
            self._cursor.lost = True
            return
        found = self._found
        found.header = header
        if header.number != found.number:
            self._error(AT_BORDER, 0, "segment_link", f"the file says it is segment {header.number}")
        self._cursor = Cursor(header.log_id, header.first_seq, header.prev_hash)

    def _good(self, batch: Batch) -> None:
        hash_of = sha256
        self._count(batch.first_seq, self._cursor.seq - 1, self._cursor.prev_hash, self._cursor.t_ns, batch.entries[0])
        self._found.records += len(batch.entries)
        self._leaves(batch.first_seq, [hash_of(b"\0" + entry).digest() for entry in batch.entries])
        for one in batch.picked:
            self._special(one, batch.base + one.at)

    def _odd(self, body: bytes, offset: int) -> None:
        cursor, found = self._cursor, self._found
        expected = cursor.seq
        record = cursor.take(body)
        seq = expected if record is None else record.seq
        for finding in cursor.findings:
            self._error(seq, offset, finding.code, finding.detail)
        if record is None:
            return
        self._count(record.seq, record.seq, record.hash, record.t_ns, record.header_bytes)
        found.records += 1
        self._leaves(record.seq, [sha256(b"\0" + record.header_bytes).digest()])
        if record.withheld:
            found.withheld.append((record.seq, offset, record.header.payload_hash))
        elif record.kind in SPECIAL:
            self._special(Picked(record.header, record.salted, record.hash, 0), offset)

    def _count(self, first: int, last: int, last_hash: bytes, t_ns: int, entry: bytes) -> None:
        found = self._found
        if found.first_seq < 0:
            header = decode_header(entry)
            found.first_seq, found.first_prev, found.first_t_ns = first, header.prev_hash, header.t_ns
        found.last_seq, found.last_hash, found.last_t_ns = last, last_hash, t_ns

    def _leaves(self, first_seq: int, leaves: list[bytes]) -> None:
        if self._found.error_count:
            return
        if not self._frontiers:
            self._frontiers.append(Frontier(first_seq))
        while self._cuts and self._cuts[-1] < first_seq:
            self._cuts.pop()
        while self._cuts and first_seq <= self._cuts[-1] < first_seq + len(leaves):
            keep = self._cuts.pop() - first_seq
            self._frontiers[-1].extend(leaves[:keep])
            leaves, first_seq = leaves[keep:], first_seq + keep
            self._frontiers.append(Frontier(first_seq))
        self._frontiers[-1].extend(leaves)

    def _special(self, one: Picked, offset: int) -> None:
        h = one.header
        self._found.special.append(Special(h.seq, offset, h.kind, h.source, h.boot_id, one.salted[16:], h.t_ns))

    def _behind(self, file: ReadFile, at: int, problem: str, *, is_header: bool) -> int | None:
        """Report what stopped the reader and return where the next record begins, or ``None``."""
        cursor = self._cursor
        size = max(file.size - at, 0)
        # The next good record is near as a rule. Reading all the rest for each damage would take time squared.
        for span in (4 * MAX_FRAME, size):
            rest = file.read(at, min(span, size))
            if read_frame_at(rest, 0) is not None:
                return at  # a writer has finished it in the meantime
            found = cursor.find_next(rest, 1)
            if found is not None and found + MAX_FRAME <= len(rest):
                break
        if found is None and self._last and not is_header:
            detail = f"{len(rest)} bytes at the end are an unfinished write; opening the log sets them aside"
            self._found.warnings.append(Problem(self._expected(), self._file, at, "torn_tail", detail))
            return None
        if not is_header:
            skipped = len(rest) if found is None else found
            self._error(self._expected(), at, problem, f"{skipped} bytes hold no good record")
            cursor.lost = True
        return None if found is None else at + found

    def _expected(self) -> int:
        return self._cursor.seq if self._found.header is not None or self._found.records else AT_BORDER

    def _error(self, seq: int, offset: int, code: str, detail: str) -> None:
        found = self._found
        found.error_count += 1
        if len(found.errors) < limits.CHAIN_VERIFY_ERRORS:
            found.errors.append(Problem(seq, self._file, offset, code, detail))

"""Checks record after record that each is whole, belongs to this log, and follows the one before.

Why it is as it is: opening, reading and verifying ask the same questions of a record and differ only in what they do
about an answer. So the questions stand here once, findings are values, and the callers raise or collect them.

Guaranteed: a record without a finding hashes to what the next one must name, its payload is the one that was logged,
and its header is in the canonical form. After a finding the cursor goes on from what the record itself says.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.chain.records.frames import BODY, RECORD, WITHHELD, find_frame, read_frame_at
from weftos.chain.records.record import (
    LEAF_TAG,
    RECORD_VERSION,
    SALT_BYTES,
    Header,
    Record,
    decode_header,
    encode_header,
    payload_hash,
)

__all__ = ["Cursor", "Finding"]

_BODY_BYTES: Final = BODY.size
_HEADER_LIMIT: Final = limits.CHAIN_HEADER_BYTES
_unpack_body = BODY.unpack_from


class Finding(NamedTuple):
    """Something wrong with a record: a code from docs/formats/chain.md, and a sentence."""

    code: str
    detail: str


class Cursor:
    """A place in the log.

    Args:
        log_id: 16 bytes that name the log, or ``None`` to learn it from the first record.
        seq: number that the next record must have.
        prev_hash: hash that it must name, 32 bytes.
        t_ns: time that it must not lie before.

    Attributes:
        lost: records were skipped, so the next one cannot be compared with the one before.
        findings: about the record last taken; empty if it is good.
    """

    __slots__ = ("_digest", "_reset", "_update", "findings", "log_id", "lost", "prev_hash", "seq", "t_ns")

    def __init__(self, log_id: bytes | None, seq: int, prev_hash: bytes, t_ns: int = 0) -> None:
        self.log_id = log_id
        self.seq = seq
        self.prev_hash = prev_hash
        self.t_ns = t_ns
        self.lost = False
        self.findings: list[Finding] = []
        hasher = blake3()  # one for all: making one takes longer than hashing a record
        self._reset, self._update, self._digest = hasher.reset, hasher.update, hasher.digest

    def take(self, body: bytes) -> Record | None:
        """Step to the next record and note in ``findings`` what is wrong with it.

        Args:
            body: of its frame.

        Returns:
            The record; ``None`` if it cannot be understood at all.
        """
        if self.findings:
            self.findings = []
        try:
            header, raw, salted = parse(body)
        except msgspec.DecodeError as error:
            self.findings.append(Finding("header_invalid", str(error)))
            self.seq += 1
            self.lost = True
            return None
        reset, update = self._reset, self._update
        reset()
        update(salted)
        payload_hashed = self._digest()
        reset()
        update(LEAF_TAG + raw)
        hashed = self._digest()
        if (
            self.lost
            or header.seq != self.seq
            or header.prev_hash != self.prev_hash
            or header.log_id != self.log_id
            or header.t_ns < self.t_ns
            or header.v != RECORD_VERSION
            or encode_header(header) != raw
            or (salted and (len(salted) != header.payload_len + SALT_BYTES or payload_hashed != header.payload_hash))
        ):
            self._explain(header, raw, salted)
        self.seq = header.seq + 1
        self.prev_hash = hashed
        self.t_ns = header.t_ns
        self.lost = False
        return Record(header, raw, salted, hashed)

    def _explain(self, header: Header, raw: bytes, salted: bytes) -> None:
        found = self.findings
        if header.v != RECORD_VERSION or encode_header(header) != raw:
            found.append(Finding("header_invalid", "the header is not in the canonical form of version 1"))
        if self.log_id is None:
            self.log_id = header.log_id
        if header.log_id != self.log_id:
            found.append(Finding("foreign_log", f"the record belongs to log {header.log_id.hex()}"))
        if header.seq != self.seq and not (self.lost and header.seq > self.seq):
            found.append(Finding("seq_gap", f"expected record {self.seq}, found {header.seq}"))
        if header.prev_hash != self.prev_hash and not self.lost:
            wanted, named = self.prev_hash.hex(), header.prev_hash.hex()
            found.append(Finding("prev_mismatch", f"the record before hashes to {wanted}, named is {named}"))
        if header.t_ns < self.t_ns:
            found.append(Finding("time_reversed", f"{header.t_ns} ns lies before {self.t_ns} ns"))
        if salted and (len(salted) != header.payload_len + SALT_BYTES or payload_hash(salted) != header.payload_hash):
            found.append(Finding("payload_mismatch", "the payload is not the one that was logged"))

    def find_next(self, data: bytes, at: int) -> int | None:
        """Return the offset of the next record of this log in ``data`` at or after ``at``, or ``None``.

        Frames that a payload may contain as content do not count: they would have to name this log and a later record.
        """
        found = find_frame(data, at)
        while found is not None:
            body = read_frame_at(data, found)
            assert body is not None, "find_frame returns good frames only"
            try:
                header = parse(body)[0]
            except msgspec.DecodeError:
                pass
            else:
                if self.log_id in (None, header.log_id) and header.seq >= self.seq:
                    return found
            found = find_frame(data, found + 1)
        return None


def parse(body: bytes) -> tuple[Header, bytes, bytes]:
    """Split the body of a record's frame into header, header as stored, and salted payload, empty if it is withheld.

    Raises:
        msgspec.DecodeError: it is no record, or its header does not decode.
    """
    if len(body) < _BODY_BYTES:
        raise msgspec.DecodeError(f"no record: {len(body)} bytes")
    kind, flags, length = _unpack_body(body)
    stop = _BODY_BYTES + length
    rest = len(body) - stop
    if (
        kind != RECORD
        or length > _HEADER_LIMIT
        or not ((flags == 0 and rest >= SALT_BYTES) or (flags == WITHHELD and rest == 0))
    ):
        raise msgspec.DecodeError(f"no record of version 1 (type {kind}, flags {flags}, header of {length} bytes)")
    raw = body[_BODY_BYTES:stop]
    return decode_header(raw), raw, body[stop:]

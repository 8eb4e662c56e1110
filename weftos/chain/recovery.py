"""Opening a log that exists: find its end, tell an unfinished write from damage, and rebuild what the writer knows.

Why it is as it is: after a crash the last bytes of the last segment may be half of a write that nobody was promised.
That, and only that, may be cut off. Everything else that does not fit is evidence. The two look alike from in front;
the difference is what lies behind: nothing good follows an unfinished write. And a signed head that the log does not
reach says that something promised is gone, whatever the bytes look like.

Guaranteed: ``examine`` changes nothing. The newest ``limits.CHAIN_OPEN_SCAN_BYTES`` are checked record by record, and
of older segments the headers. Not guaranteed: that older records are intact; ``verify`` tells.
"""

from __future__ import annotations

import os
from typing import NoReturn

import msgspec

from weftos import limits
from weftos.chain.cursor import Cursor
from weftos.chain.files import ReadFile
from weftos.chain.frames import FrameReader, SegmentHeader, decode_segment_header
from weftos.chain.idempotency import ProducerIndex
from weftos.chain.record import ZERO_HASH, Ack, Record
from weftos.chain.segments import HEAD_NAME, Listing
from weftos.chain.signing import SignedHead, read_head
from weftos.errors import ChainCorrupted, ChainError

__all__ = ["Examined", "examine"]


class Examined(msgspec.Struct):
    """What an existing log was found to be.

    Attributes:
        log_id: 16 bytes.
        number: of the last segment.
        good: bytes of the last segment up to the end of its last good record.
        torn: bytes behind that.
        segment_records: records in the last segment.
        next_seq: number of the next record.
        head_hash: hash of the newest record, 32 bytes; zeros if there is none.
        t_ns: time of the newest record.
        total: bytes of all segments, without what is torn.
        keys: public keys that the log names in its first records.
        head: the signed head, or ``None``.
        index: what the producers of the current boot have in the log.
    """

    log_id: bytes
    number: int
    good: int
    torn: int
    segment_records: int
    next_seq: int
    head_hash: bytes
    t_ns: int
    total: int
    keys: list[bytes]
    head: SignedHead | None
    index: ProducerIndex


def corrupted(path: str, offset: int, detail: str) -> NoReturn:
    """Raise ``ChainCorrupted``."""
    raise ChainCorrupted(f"{path}, offset {offset}: {detail}", path=path, offset=offset)


def examine(listing: Listing, boot_id: bytes, public_key: bytes | None) -> Examined:
    """Check an existing log as described above.

    Args:
        listing: what lies in its directory; at least one segment.
        boot_id: of the current boot; its records are remembered for their producers.
        public_key: that must have signed the head, 32 bytes, or ``None`` if it is not known.

    Raises:
        ChainCorrupted: the log contradicts itself or its signed head.
        ChainError: a file cannot be read, or another key signed the head.
    """
    if listing.missing:
        name = f"{listing.missing[0]:08d}.log"
        corrupted(os.path.join(listing.directory, name), 0, "this segment of the log is gone")
    try:
        head = _signed_head(listing, public_key)
        sizes = [os.path.getsize(listing.path(number)) for number in listing.segments]
        return _Examination(listing, sizes, boot_id, head).run()
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error


def _signed_head(listing: Listing, public_key: bytes | None) -> SignedHead | None:
    if not listing.head:
        return None
    path = os.path.join(listing.directory, HEAD_NAME)
    try:
        head = read_head(path)
        if public_key is not None and head.public_key != public_key.hex():
            raise ChainError(
                f"{path} was signed by key {head.public_key[:16]}, and the key at hand is {public_key.hex()[:16]}: put "
                "the old key back"
            )
        if not head.is_genuine(bytes.fromhex(head.public_key)):
            corrupted(path, 0, "the signature of the signed head is wrong")
    except (msgspec.DecodeError, ValueError) as error:
        corrupted(path, 0, f"the signed head cannot be understood: {error}")
    return head


class _Examination:
    def __init__(self, listing: Listing, sizes: list[int], boot_id: bytes, head: SignedHead | None) -> None:
        self._listing = listing
        self._sizes = sizes
        self._boot_id = boot_id
        self._head = head
        self._index = ProducerIndex()
        self._keys: list[bytes] = []
        self._cursor = Cursor(None, 0, ZERO_HASH)
        self._records = 0

    def run(self) -> Examined:
        numbers = self._listing.segments
        first = self._first_to_scan()
        for position, number in enumerate(numbers[:first]):
            self._header_only(number, is_first=position == 0)
        end = 0
        for position in range(first, len(numbers)):
            end = self._scan(numbers[position], fresh=position == first, last=position == len(numbers) - 1)
        cursor, head = self._cursor, self._head
        assert cursor.log_id is not None, "a segment header was read"
        last = self._listing.path(numbers[-1])
        if head is not None and head.log_id != cursor.log_id.hex():
            corrupted(os.path.join(self._listing.directory, HEAD_NAME), 0, "the signed head belongs to another log")
        if head is not None and cursor.seq < head.size:
            corrupted(last, end, f"rolled back: {cursor.seq} records, but {head.size} were signed for")
        return Examined(
            log_id=cursor.log_id,
            number=numbers[-1],
            good=end,
            torn=self._sizes[-1] - end,
            segment_records=self._records,
            next_seq=cursor.seq,
            head_hash=cursor.prev_hash,
            t_ns=cursor.t_ns,
            total=sum(self._sizes) - (self._sizes[-1] - end),
            keys=self._keys,
            head=head,
            index=self._index,
        )

    def _first_to_scan(self) -> int:
        """Return the index of the oldest segment that is checked in full."""
        room, first = limits.CHAIN_OPEN_SCAN_BYTES, len(self._sizes) - 1
        while first > 0 and (room := room - self._sizes[first]) >= self._sizes[first - 1]:
            first -= 1
        return first

    def _header_only(self, number: int, *, is_first: bool) -> None:
        path = self._listing.path(number)
        with ReadFile(path) as file:
            frames = iter(FrameReader(file))
            header = self._segment_header(path, next(frames, None), number)
            self._link(path, header, exact=is_first)
            self._cursor.seq = header.first_seq
            if is_first:
                for body in frames:
                    record = self._take(path, 0, body)
                    self._note_key(record)
                    if record.seq >= 3:
                        break

    def _scan(self, number: int, *, fresh: bool, last: bool) -> int:
        """Check one segment and return the offset behind its last good record."""
        path = self._listing.path(number)
        self._records = 0
        with ReadFile(path) as file:
            reader = FrameReader(file)
            frames = iter(reader)
            header = self._segment_header(path, next(frames, None), number)
            self._link(path, header, exact=not fresh or number == 1)
            if fresh:
                self._cursor = Cursor(header.log_id, header.first_seq, header.prev_hash, header.t_ns)
            before = reader.offset
            for body in frames:
                self._remember(path, before, self._take(path, before, body))
                before = reader.offset
            if reader.problem:
                end = file.size
                if not last:
                    corrupted(path, reader.offset, f"{reader.problem} inside the log")
                if self._cursor.find_next(file.read(reader.offset, end - reader.offset), 1) is not None:
                    corrupted(path, reader.offset, f"{reader.problem}, with good records behind it")
                self._sizes[-1] = end
            else:
                self._sizes[self._listing.segments.index(number)] = reader.offset
            return reader.offset

    def _segment_header(self, path: str, body: bytes | None, number: int) -> SegmentHeader:
        if body is None:
            corrupted(path, 0, "the file does not begin with a good segment header")
        try:
            header = decode_segment_header(body)
        except msgspec.DecodeError as error:
            corrupted(path, 0, str(error))
        if header.number != number:
            corrupted(path, 0, f"the file says it is segment {header.number}")
        return header

    def _link(self, path: str, header: SegmentHeader, *, exact: bool) -> None:
        """Compare a segment's header with what is known of the segments before it."""
        cursor = self._cursor
        if cursor.log_id is not None and header.log_id != cursor.log_id:
            corrupted(path, 0, f"the segment belongs to log {header.log_id.hex()}")
        cursor.log_id = header.log_id
        if exact and (header.first_seq != cursor.seq or header.prev_hash != cursor.prev_hash):
            corrupted(path, 0, f"the segment does not follow record {cursor.seq - 1}")
        if not exact and header.first_seq < cursor.seq:
            corrupted(path, 0, f"the segment begins with record {header.first_seq}, the one before it is further")

    def _take(self, path: str, offset: int, body: bytes) -> Record:
        record = self._cursor.take(body)
        if record is None or self._cursor.findings:
            finding = self._cursor.findings[0]
            corrupted(path, offset, f"{finding.code}: {finding.detail}")
        return record

    def _remember(self, path: str, offset: int, record: Record) -> None:
        self._records += 1
        header, head = record.header, self._head
        if header.boot_id == self._boot_id and header.producer is not None and header.position is not None:
            self._index.add(header.producer, header.position, Ack(header.seq, record.hash, header.t_ns))
        if header.kind == "key.genesis":
            self._note_key(record)
        if head is not None and header.seq == head.size - 1 and record.hash.hex() != head.head_hash:
            corrupted(path, offset, f"rewritten: record {header.seq} is not the one that was signed")

    def _note_key(self, record: Record) -> None:
        if record.kind != "key.genesis":
            return
        try:
            key = record.payload.get("public_key")
        except msgspec.DecodeError:
            return
        if isinstance(key, bytes):
            self._keys.append(key)

"""Opening a log that exists: find its end, tell an unfinished write from damage, and rebuild what the writer knows.

Why it is as it is: after a crash the last bytes of the last segment may be half of a write that nobody was promised.
That, and only that, may be cut off. Everything else that does not fit is evidence. The two look alike from in front;
the difference is what lies behind: nothing good follows an unfinished write. And a checkpoint, or a high-water mark,
that the log does not reach says that something promised is gone, whatever the bytes look like.

Guaranteed: ``examine`` changes nothing. The records behind the checkpoint and those of the current boot are checked one
by one, as far as ``limits.CHAIN_OPEN_SCAN_BYTES`` reaches, and those before the checkpoint against the tree; of older
segments the headers. Not guaranteed: that older records are intact; ``verify`` tells.
"""

from __future__ import annotations

import os
from typing import Any, TypeGuard

import msgspec

from weftos import limits
from weftos.chain.folder.locate import record_at
from weftos.chain.folder.segments import CHECKPOINT_NAME, Listing, corrupted
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FrameReader, SegmentHeader, decode_segment_header
from weftos.chain.records.idempotency import ProducerIndex, record_digest
from weftos.chain.records.record import KEY_PREFIX, ZERO_HASH, Ack, Record
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.retention.prune_check import kept_keys, verify_signed
from weftos.chain.signing.checkpoint import Checkpoint, log_origin, parse_text
from weftos.chain.signing.log_signer import Signer
from weftos.chain.signing.note import parse_note
from weftos.chain.signing.rotation import Genesis, PublicKeys, Rotation, verify_rotation
from weftos.chain.statements.prune_statement import PruneStatement
from weftos.chain.tiles.tile_store import TileStore
from weftos.chain.writing.recovered_tree import RecoveredTree
from weftos.disk.files import Files, ReadFile
from weftos.errors import ChainCorrupted, ChainError

__all__ = ["Examined", "examine"]

_PICKED = frozenset(("key.genesis", "key.rotate", "chain.redacted"))


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
        t_ns: time of the newest record, or when the last segment was begun, whichever is later.
        total: bytes of all segments, without what is torn.
        keys: the keys that the log names first, or ``None``.
        checkpoint: the newest, or ``None``.
        index: what the producers of the current boot have in the log.
        tiles: the tree over all records, with its tiles; ``None`` for a log that is not signed.
        announced: records of which a record that no checkpoint covers says that their payload is gone.
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
    keys: PublicKeys | None
    checkpoint: Checkpoint | None
    index: ProducerIndex
    tiles: TileStore | None
    announced: list[int]


def examine(listing: Listing, boot_id: bytes, signer: Signer | None, fs: Files) -> Examined:
    """Check an existing log as described above. Puts the pair of keys in force that signed it last.

    Args:
        listing: what lies in its directory; at least one segment.
        boot_id: of the current boot; its records are remembered for their producers.
        signer: who must have signed it; ``None`` for a log that is not signed.
        fs: for the tiles that are written later.

    Raises:
        ChainCorrupted: the log contradicts itself, its checkpoint or its high-water mark.
        SignatureInvalid: the checkpoint is not genuine.
        ChainError: a file cannot be read, or other keys signed the log.
    """
    if listing.missing:
        name = f"{listing.missing[0]:08d}.log"
        corrupted(os.path.join(listing.directory, name), 0, "this segment of the log is gone")
    try:
        sizes = [os.path.getsize(listing.path(number)) for number in listing.segments]
        return _Examination(listing, sizes, boot_id, signer, fs).run()
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error


class _Examination:
    def __init__(self, listing: Listing, sizes: list[int], boot_id: bytes, signer: Signer | None, fs: Files) -> None:
        self._listing = listing
        self._sizes = sizes
        self._boot_id = boot_id
        self._signer = signer
        self._index = ProducerIndex()
        self._announced: list[int] = []
        self._keys: PublicKeys | None = None
        pruned = listing.pruned
        base = (0, ZERO_HASH) if pruned is None else (pruned.size, pruned.head_hash)
        self._cursor = Cursor(None if pruned is None else pruned.log_id, *base)
        if pruned is not None:
            if signer is None:
                raise ChainError("a log whose beginning was pruned is opened with its keys only")
            self._keys = kept_keys(pruned)[0]
        self._records = self._begun_ns = 0
        with ReadFile(listing.path(listing.segments[0])) as file:
            first = self._segment_header(file.path, next(iter(FrameReader(file)), None), listing.segments[0])
        self._origin = log_origin(first.log_id)
        self._checkpoint = self._read_checkpoint()
        self._tree = RecoveredTree(listing.directory, fs, self._checkpoint, pruned) if signer is not None else None

    def run(self) -> Examined:
        numbers = self._listing.segments
        first = self._first_to_scan()
        for position, number in enumerate(numbers[:first]):
            self._header_only(number, is_first=position == 0)
        end = 0
        for position in range(first, len(numbers)):
            end = self._scan(numbers[position], fresh=position == first, last=position == len(numbers) - 1)
        cursor = self._cursor
        assert cursor.log_id is not None, "a segment header was read"
        last = self._listing.path(numbers[-1])
        self._check_length(last, end)
        tiles = self._tree.finish(cursor.seq, self._listing) if self._tree is not None else None
        self._check_pruned()
        return Examined(
            log_id=cursor.log_id,
            number=numbers[-1],
            good=end,
            torn=self._sizes[-1] - end,
            segment_records=self._records,
            next_seq=cursor.seq,
            head_hash=cursor.prev_hash,
            t_ns=max(cursor.t_ns, self._begun_ns),
            total=sum(self._sizes) - (self._sizes[-1] - end),
            keys=self._keys,
            checkpoint=self._checkpoint,
            index=self._index,
            tiles=tiles,
            announced=self._announced,
        )

    # --- what was signed ----------------------------------------------------------------------------------------------

    def _read_checkpoint(self) -> Checkpoint | None:
        path = os.path.join(self._listing.directory, CHECKPOINT_NAME)
        if not self._listing.checkpoint:
            return None
        with ReadFile(path) as file:
            note = file.read(0, limits.NOTE_BYTES + 1)
        stated = parse_text(parse_note(note).text)
        if stated.origin != self._origin:
            corrupted(path, 0, f"the checkpoint belongs to {stated.origin}, the segments to {self._origin}")
        return stated if self._signer is None else self._signer.recognise(note, self._origin)

    def _check_pruned(self) -> None:
        """Refuse a log whose beginning was taken away by somebody without its keys. The tree has found the record."""
        pruned = self._listing.pruned
        if pruned is None or self._signer is None:
            return
        record = record_at(self._listing.directory, pruned.seq)
        directory = self._listing.directory
        verify_signed(PruneStatement.from_payload(record.payload), pruned, self._signer.public, directory)

    def _check_length(self, path: str, end: int) -> None:
        """Refuse a log that is shorter than what was promised, or another than the keys belong to."""
        size, checkpoint = self._cursor.seq, self._checkpoint
        if checkpoint is not None and size < checkpoint.size:
            corrupted(path, end, f"rolled back: {size} records, but {checkpoint.size} were signed for")
        mark = self._signer.high_water() if self._signer is not None else None
        if mark is None:
            return
        if mark.origin != self._origin:
            corrupted(path, 0, f"this is {self._origin}, but the keys belong to {mark.origin}: put that log back")
        if checkpoint is None:
            corrupted(path, end, f"the checkpoint was removed: {mark.size} records were signed for")
        if checkpoint.size < mark.size:
            corrupted(
                path, end, f"rolled back: the checkpoint says {checkpoint.size} records, {mark.size} were signed for"
            )
        if checkpoint.size == mark.size and checkpoint.root.hex() != mark.root:
            corrupted(path, end, f"rewritten: {mark.size} records were signed for with another content")

    # --- segments -----------------------------------------------------------------------------------------------------

    def _first_to_scan(self) -> int:
        """Return the index of the oldest segment that is checked in full.

        That is, the one with the first record behind the checkpoint; and further back as long as a segment begins with
        a record of the current boot, within limits.
        """
        wanted = self._checkpoint.size if self._checkpoint is not None else 0 if self._signer is not None else None
        room, first = limits.CHAIN_OPEN_SCAN_BYTES, len(self._sizes) - 1
        while first > 0:
            with ReadFile(self._listing.path(self._listing.segments[first])) as file:
                frames = iter(FrameReader(file))
                header = self._segment_header(file.path, next(frames, None), self._listing.segments[first])
                body = next(frames, None)
            record = None
            if body is not None:
                record = Cursor(header.log_id, header.first_seq, header.prev_hash).take(body)
            room -= self._sizes[first]
            is_of_boot = record is None or record.header.boot_id == self._boot_id
            behind = wanted is not None and header.first_seq > wanted
            if not behind and not (is_of_boot and room >= self._sizes[first - 1]):
                break
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
                for body in frames if number == 1 else ():
                    record = self._take(path, 0, body)
                    if record.kind == "key.genesis":
                        self._keys = Genesis.read(_payload_of(record))
                    if record.seq >= 3:
                        break

    def _scan(self, number: int, *, fresh: bool, last: bool) -> int:
        """Check one segment and return the offset behind its last good record."""
        path = self._listing.path(number)
        self._records = 0
        with ReadFile(path) as file:
            reader = FrameReader(file)
            header = self._segment_header(path, next(iter(reader), None), number)
            self._link(path, header, exact=not fresh or number == self._listing.first_number)
            if fresh:
                self._cursor = Cursor(header.log_id, header.first_seq, header.prev_hash)
            self._begun_ns = header.t_ns
            scanner = Scanner(file, reader.offset, self._cursor, kinds=_PICKED, boot_id=self._boot_id)
            for found in scanner:
                if isinstance(found, Batch):
                    self._records += len(found.entries)
                    self._grow(found.first_seq, found.entries)
                    for one in found.picked:
                        self._remember(Record(one.header, b"", one.salted, one.hash))
                else:
                    record = self._take(path, found.offset, found.body)
                    self._records += 1
                    self._grow(record.seq, [record.header_bytes])
                    self._remember(record)
            if scanner.problem:
                end = file.size
                if not last:
                    corrupted(path, scanner.offset, f"{scanner.problem} inside the log")
                if self._cursor.find_next(file.read(scanner.offset, end - scanner.offset), 1) is not None:
                    corrupted(path, scanner.offset, f"{scanner.problem}, with good records behind it")
                self._sizes[-1] = end
            else:
                self._sizes[self._listing.segments.index(number)] = scanner.offset
            return scanner.offset

    def _grow(self, first_seq: int, entries: list[bytes]) -> None:
        if self._tree is not None:
            self._tree.take(first_seq, entries)

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

    # --- records ------------------------------------------------------------------------------------------------------

    def _take(self, path: str, offset: int, body: bytes) -> Record:
        record = self._cursor.take(body)
        if record is None or self._cursor.findings:
            finding = self._cursor.findings[0]
            corrupted(path, offset, f"{finding.code}: {finding.detail}")
        return record

    def _remember(self, record: Record) -> None:
        header = record.header
        if header.boot_id == self._boot_id and header.position is not None and _is_stream(header.producer):
            ack = Ack(header.seq, record.hash, header.t_ns)
            self._index.add(header.producer, header.position, ack, record_digest(record))
        covered = self._checkpoint.size if self._checkpoint is not None else 0
        if header.kind == "key.genesis":
            self._keys = Genesis.read(_payload_of(record))
        elif header.kind == "chain.redacted" and header.source == "chain" and header.seq >= covered:
            seq = _payload_of(record).get("seq")
            if type(seq) is not int or not 0 <= seq < header.seq:
                raise ChainCorrupted(f"record {header.seq} announces that the payload of {seq!r:.40} is gone")
            self._announced.append(seq)
        elif header.kind == "key.rotate" and self._signer is not None and header.seq >= covered:
            # The change of keys is on the log, and the checkpoint by the new ones is not there yet.
            rotation = Rotation.from_payload(_payload_of(record))
            verify_rotation(rotation, self._origin, self._signer.public)
            self._signer.use(rotation.new.pair_id)


def _is_stream(producer: str | int | None) -> TypeGuard[str | int]:
    """Whether it names a stream of events, and not the key of one."""
    return producer is not None and not (type(producer) is str and producer.startswith(KEY_PREFIX))


def _payload_of(record: Record) -> dict[str, Any]:
    try:
        return record.payload
    except msgspec.DecodeError as error:
        raise ChainCorrupted(f"the payload of record {record.header.seq} is no map: {error}") from error

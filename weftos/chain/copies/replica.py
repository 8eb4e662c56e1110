"""A copy of somebody else's log that believes nothing: it is fed page by page, and checks every one.

    source ─ page ─▶ links, hashes, numbers ─▶ files of the replica ─▶ root at the checkpoint's size ─▶ checkpoint

Why it is as it is: whoever copies a log wants to find out, by himself, if what he gets is what was signed, and if it
ever changes. Links show that the records of a page hang together and follow those before; the signed root shows that
they are those of the log. In between a source could make something up, so what no signed root covers yet counts for
nothing: if the root does not come out, the replica goes back to the last one that did.

Guaranteed: everything below ``verified`` has a root that the log's keys signed, survives a crash, and is never replaced
by anything else: a source that shows fewer records than were signed for, or another root, is refused. The folder is a
log like any other; ``weaver chain verify --dir`` reads it. Not guaranteed: that the source is not behind; and
redactions are not carried out here, a copy of a payload stays.

One process per replica (held by a lock on its folder). Opening reads all of it once.
"""

from __future__ import annotations

import os
from typing import Final, Protocol, Self

import msgspec

from weftos import limits
from weftos.chain.folder.pages import Page, RawRecord, read_checkpoint
from weftos.chain.folder.reader import segment_header, segment_of
from weftos.chain.folder.segment_writer import SegmentWriter
from weftos.chain.folder.segments import CHECKPOINT_NAME, list_log
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import BODY, RECORD, WITHHELD, FrameReader, encode_frame
from weftos.chain.records.record import ZERO_HASH, Record
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.signing.checkpoint import Checkpoint, log_origin, open_checkpoint, parse_text
from weftos.chain.signing.note import SignaturePolicy, parse_note
from weftos.chain.signing.rotation import PublicKeys, Rotation, follow_rotations
from weftos.chain.tiles.tile_store import TileStore
from weftos.chain.writing.recovery import examine
from weftos.disk.files import Files, ReadFile, RealFiles, replace_file
from weftos.errors import ChainCorrupted, ChainError, SplitView, StorageFailed

__all__ = ["Replica", "Source"]

_ROTATE: Final = "key.rotate"


class Source(Protocol):
    """Where pages come from: a log's files, a kernel, another node. It is not trusted."""

    def page(self, seq: int, max_records: int, max_bytes: int) -> Page:
        """Return records from ``seq`` on without a gap, none if there are none yet, and the newest checkpoint."""
        ...


class Replica:
    """See the head of this file. Made by ``open``; a context manager that closes.

    Attributes:
        log_id: names the log, 16 bytes.
        size: records that are here.
        verified: records below the newest checkpoint that came out right.
    """

    def __init__(
        self, directory: str, log_id: bytes, keys: PublicKeys, fs: Files, lock: int, segment_bytes: int
    ) -> None:
        self._directory = directory
        self._trusted = keys
        self._fs = fs
        self._lock = lock
        self._segment_bytes = segment_bytes
        self.log_id = log_id
        self._origin = log_origin(log_id)
        self._reset()

    def _reset(self) -> None:
        """Know nothing of what lies in the folder."""
        self._file = SegmentWriter(self._fs, self._directory, self.log_id)
        self._segment_records = 0
        self._cursor = Cursor(self.log_id, 0, ZERO_HASH)
        self._tiles = TileStore(self._fs, self._directory)
        self._compared = 0
        self._rotations: list[Rotation] = []
        self._checkpoint: Checkpoint | None = None

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        log_id: bytes,
        keys: PublicKeys,
        *,
        fs: Files | None = None,
        segment_bytes: int = limits.CHAIN_SEGMENT_BYTES,
    ) -> Self:
        """Open the replica in a folder, or begin one.

        Args:
            directory: for the replica, for nothing else; made (mode 0700) if it is missing.
            log_id: of the log, 16 bytes.
            keys: of the log, from a place that the source cannot change: the first ones, or any since.
            fs: file calls; the system's by default.
            segment_bytes: size at which a segment is closed; the source's segments do not matter.

        Raises:
            ChainCorrupted: the replica is damaged, or of another log.
            SignatureInvalid: its checkpoint is not genuine.
            ChainError: another process has it, or it cannot be read.
            StorageFailed: a call failed.
        """
        fs, path = fs or RealFiles(), os.path.abspath(directory)
        try:
            if not os.path.lexists(path):
                fs.make_dir(path)
            lock = fs.lock_dir(path)
        except BlockingIOError as error:
            raise ChainError(f"another process writes the replica in {path}") from error
        except OSError as error:
            raise StorageFailed(f"the replica in {path} cannot be opened: {error}") from error
        replica = cls(path, log_id, keys, fs, lock, segment_bytes)
        try:
            replica._load()
        except BaseException:
            replica.close()
            raise
        return replica

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """See the class."""
        return self._cursor.seq

    @property
    def verified(self) -> int:
        """See the class."""
        return self._checkpoint.size if self._checkpoint is not None else 0

    # --- opening ------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        listing = list_log(self._directory)
        listing.check_present()
        for name in listing.temporary:
            self._fs.unlink(os.path.join(self._directory, name))
        if not listing.segments:
            return
        found = examine(listing, b"", None, self._fs)
        if found.log_id != self.log_id:
            raise ChainCorrupted(f"{self._directory} holds the log {found.log_id.hex()}", path=self._directory)
        # What is torn was never promised to anybody, and the source has it.
        self._file.resume(found.number, found.good, found.torn, found.total)
        self._segment_records = found.segment_records
        note = read_checkpoint(self._directory)
        stated = parse_text(parse_note(note).text) if note else None
        for number in listing.segments:
            self._walk(listing.path(number), stated)
        if stated is not None:
            if self.size < stated.size:
                raise ChainCorrupted(
                    f"the replica ends before record {self.size} of {stated.size}", path=self._directory
                )
            self._checkpoint = self._genuine(note)

    def _walk(self, path: str, stated: Checkpoint | None) -> None:
        with ReadFile(path) as file:
            reader = FrameReader(file)
            next(iter(reader))
            scanner = Scanner(file, reader.offset, self._cursor, kinds=frozenset((_ROTATE,)))
            for part in scanner:
                if isinstance(part, Batch):
                    for one in part.picked:
                        self._rotated(Record(one.header, b"", one.salted, one.hash))
                    self._grow(part.entries, stated)
                    continue
                self._grow([self._step(part.body).header_bytes], stated)
            if scanner.problem:
                raise ChainCorrupted(f"{path}, offset {scanner.offset}: {scanner.problem}", path=path)

    def _grow(self, entries: list[bytes], stated: Checkpoint | None) -> None:
        """Let the tree grow; where it has the size of a checkpoint, compare the roots.

        Raises:
            ChainCorrupted: they differ.
        """
        short = stated.size - self._tiles.size if stated is not None else 0
        if stated is None or not 0 < short <= len(entries):
            self._tiles.extend(entries)
            return
        self._tiles.extend(entries[:short])
        self._compare_root(stated)
        self._tiles.extend(entries[short:])

    def _compare_root(self, stated: Checkpoint) -> None:
        """Compare the root of a checkpoint that has the size of the tree now.

        Raises:
            ChainCorrupted: they differ.
        """
        if self._tiles.tree.root() != stated.root:
            raise ChainCorrupted(
                f"the first {stated.size} records are not those that {self._origin} has signed", path=self._directory
            )
        # Tiles of this very size, so that the checkpoint can be proved from them.
        self._tiles.publish()
        self._compared = stated.size

    # --- following ----------------------------------------------------------------------------------------------------

    def pull(
        self,
        source: Source,
        *,
        max_records: int = limits.CHAIN_PAGE_RECORDS,
        max_bytes: int = limits.CHAIN_PAGE_BYTES,
    ) -> int:
        """Take one page.

        Returns:
            How many records came; 0 if the source has no more at present.

        Raises:
            SplitView: the source shows fewer records than the log has signed for, or another root. Nothing was changed.
            ChainCorrupted: the page does not follow what is here, or the records since the last checkpoint are not
                those that were signed. They are gone from here; ask for them again, better another source.
            SignatureInvalid: its checkpoint is not genuine. Nothing that is verified was changed.
            StorageFailed: a call failed; open the replica again.
        """
        page = source.page(self.size, max_records, max_bytes)
        if page.first_seq != self.size or len(page.records) > max_records:
            raise ChainCorrupted(f"the source answered from record {page.first_seq} on, asked was {self.size}")
        stated = parse_text(parse_note(page.note).text) if page.note else None
        if stated is not None:
            self._compare(stated, page.note)
        try:
            self._take(page.records, stated)
            if stated is not None and stated.size == self.size:
                self._compare_root(stated)
            # A checkpoint of a size that was passed before it came says nothing here; the next one will.
            if stated is not None and self.verified < stated.size == self._compared:
                self._settle(page.note)
        except OSError as error:
            raise StorageFailed(f"the replica in {self._directory} cannot be written: {error}") from error
        except ChainCorrupted:
            self._go_back()
            raise
        return len(page.records)

    def _compare(self, stated: Checkpoint, note: bytes) -> None:
        known = self._checkpoint
        if stated.origin != self._origin:
            raise ChainCorrupted(
                f"the source shows a checkpoint of {stated.origin}, this is a replica of {self._origin}"
            )
        if known is None or stated.size > known.size or (stated.size, stated.root) == (known.size, known.root):
            return
        # Only what was signed contradicts anything.
        self._genuine(note)
        if stated.size < known.size:
            raise SplitView(
                f"the source shows {stated.size} records of {self._origin}, which has signed for {known.size}",
                reason="regress",
            )
        raise SplitView(f"the source shows another root for the first {known.size} records", reason="root")

    def _take(self, records: list[RawRecord], stated: Checkpoint | None) -> None:
        frames: list[bytes] = []
        entries: list[bytes] = []
        size = 0
        for one in records:
            flags = 0 if one.salted else WITHHELD
            frame = encode_frame(RECORD, one.header, one.salted, flags) if len(one.header) < 1 << 16 else b""
            full = self._file.size + size + len(frame) > self._segment_bytes
            if self._file.number == 0 or (full and self._segment_records + len(frames)):
                self._write(frames, entries, stated)
                frames, entries, size, self._segment_records = [], [], 0, 0
                self._file.begin(self.size, self._cursor.prev_hash, self._cursor.t_ns)
            record = self._step(BODY.pack(RECORD, flags, len(one.header) & 0xFFFF) + one.header + one.salted)
            frames.append(frame)
            entries.append(record.header_bytes)
            size += len(frame)
        self._write(frames, entries, stated)

    def _step(self, body: bytes) -> Record:
        """Check a record against the one before.

        Raises:
            ChainCorrupted: it does not follow, or its payload is not the one that it names.
        """
        expected = self._cursor.seq
        record = self._cursor.take(body)
        if record is None or self._cursor.findings:
            finding = self._cursor.findings[0]
            raise ChainCorrupted(f"record {expected}: {finding.code}: {finding.detail}", path=self._directory)
        if record.kind == _ROTATE:
            self._rotated(record)
        return record

    def _rotated(self, record: Record) -> None:
        if record.source == "chain" and not record.withheld:
            try:
                self._rotations.append(Rotation.from_payload(record.payload))
            except msgspec.DecodeError as error:
                raise ChainCorrupted(f"record {record.seq}: its payload is no map: {error}") from error

    def _write(self, frames: list[bytes], entries: list[bytes], stated: Checkpoint | None) -> None:
        if frames:
            self._file.write(b"".join(frames))
            self._segment_records += len(frames)
            self._grow(entries, stated)

    def _genuine(self, note: bytes) -> Checkpoint:
        keys = follow_rotations(self._origin, self._trusted, self._rotations)
        return open_checkpoint(note, keys.verifier_keys(self._origin), SignaturePolicy(), self._origin)

    def _settle(self, note: bytes) -> None:
        """Bring what was checked onto the disk, and then the checkpoint that vouches for it."""
        checkpoint = self._genuine(note)
        self._file.sync()
        replace_file(self._fs, os.path.join(self._directory, CHECKPOINT_NAME), note)
        self._checkpoint = checkpoint
        self._tiles.forget_old()

    # --- going back ---------------------------------------------------------------------------------------------------

    def _go_back(self) -> None:
        """Forget everything behind the newest checkpoint, and open what is left."""
        kept = self.verified
        self._file.close()
        try:
            self._cut(kept)
        except OSError as error:
            raise StorageFailed(f"the replica in {self._directory} cannot be cut back: {error}") from error
        self._reset()
        self._load()

    def _cut(self, size: int) -> None:
        listing = list_log(self._directory)
        if not listing.segments:
            return
        last = segment_of(listing, size) if size else 0
        for number in reversed(listing.segments):
            if number > last:
                self._fs.unlink(listing.path(number))
        self._fs.sync_dir(self._directory)
        if not last:
            return
        with ReadFile(listing.path(last)) as file:
            reader = FrameReader(file)
            next(iter(reader))
            cursor = Cursor(self.log_id, segment_header(file).first_seq, b"")
            cursor.lost = True
            reader = FrameReader(file, reader.offset)
            offset = reader.offset
            for body in reader:
                if cursor.seq >= size:
                    break
                cursor.take(body)
                offset = reader.offset
        fd = self._fs.open_append(listing.path(last))
        try:
            self._fs.truncate(fd, offset)
            self._fs.sync_file(fd)
        finally:
            self._fs.close(fd)

    def close(self) -> None:
        """Give the replica up; what no checkpoint covers yet may be lost with the machine, and is asked for again."""
        try:
            self._file.close()
        finally:
            if self._lock >= 0:
                lock, self._lock = self._lock, -1
                self._fs.close(lock)

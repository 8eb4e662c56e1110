"""The one writer of a log: takes events, gives each its place, and writes them in groups.

Why it is as it is: a sync costs milliseconds and a record microseconds, so records are gathered and share a sync.
Taking a record is pure computation on one buffer; only ``flush`` and a full segment touch the disk. An acknowledgement
says where the record lies; it may be told to someone who asked for durability only after ``commit``.

Guaranteed: what was committed survives ``kill -9`` and loss of power. A batch is checked whole before any of it is
taken. An event submitted again (same producer and position) gets its first acknowledgement and no second record;
another event in its place is refused. After a failed write or sync nothing is taken any more. Not guaranteed: that what
was never committed is absent after a crash; it may be there, whole and in order, up to some record.

Single-threaded, one writer per directory (held by a lock on it).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self
from zlib import crc32

from blake3 import blake3

from weftos import limits
from weftos.chain.folder.reader import list_segments, segment_of
from weftos.chain.folder.segments import segment_path
from weftos.chain.records.canonical import encode_payload
from weftos.chain.records.frames import BODY, FRAME_OVERHEAD, LENGTH, PROLOGUE, RECORD
from weftos.chain.records.idempotency import ProducerIndex, content_digest
from weftos.chain.records.kinds import check_kind, check_source, check_text
from weftos.chain.records.record import (
    KEY_PREFIX,
    LEAF_TAG,
    RECORD_VERSION,
    SALT_BYTES,
    Ack,
    Head,
    NewEvent,
    encode_header,
)
from weftos.chain.records.redaction import check_redactable, erase_payload
from weftos.chain.retention.archiving import (
    Erasure,
    announced_to_erase,
    erase_archived,
    prepare_erasure,
    record_anywhere,
)
from weftos.chain.retention.pruning import finish_pruning
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.signing.log_signer import Signer
from weftos.chain.writing.checkpointing import Checkpoints, PendingCheckpoint, Tiles
from weftos.chain.writing.opening import Opened, open_log
from weftos.chain.writing.statistics import ChainStatistics
from weftos.disk.clock import Clock, SystemClock
from weftos.disk.files import Files, RealFiles
from weftos.errors import AppendRefused, ChainError, StorageFailed
from weftos.events import SCHEMAS, check_payload

__all__ = ["ChainWriter"]

_U64: Final = 1 << 64
#: Names found good before; forgotten all at once when there are this many, so that they cannot fill the memory.
_NAMES_KEPT: Final = 4096
#: Most bytes of a frame besides its payload.
_MOST_AROUND: Final = FRAME_OVERHEAD + BODY.size + limits.CHAIN_HEADER_BYTES + SALT_BYTES
_pack_prologue, _pack_body = PROLOGUE.pack, BODY.pack
_pack_length = LENGTH.pack


class ChainWriter:
    """See the head of this file. Made by ``open``; a context manager that closes.

    Attributes:
        log_id: names the log, 16 bytes.
        recovered_bytes: bytes of an unfinished write that were set aside on opening.
        directory: of the log.
        fs: file calls.
        boot_id: names this boot, 16 bytes.
        signer: of the log, or ``None``.
        archive: folder for archived segments; empty without one.
    """

    def __init__(
        self,
        opened: Opened,
        boot_id: bytes,
        clock: Clock,
        fs: Files,
        signer: Signer | None,
        segment_bytes: int,
        archive: str = "",
    ) -> None:
        self._opened = opened
        self.directory = opened.directory
        self.fs = fs
        self.signer, self.archive = signer, os.path.abspath(archive) if archive else ""
        self.checkpoints = (
            Checkpoints(fs, opened.directory, signer, opened.tiles, opened.log_id, opened.checkpoint)
            if signer is not None and opened.tiles is not None
            else None
        )
        self._entries: list[bytes] = []
        self._segment_bytes = segment_bytes
        self._wall, self._mono = clock.wall_ns, clock.mono_ns
        self.boot_id = boot_id
        self.log_id = opened.log_id
        self.recovered_bytes = opened.recovered_bytes
        self._file = opened.file
        self._index: ProducerIndex = opened.index
        self._parts: list[bytes] = []
        self._bytes = 0
        self._room = segment_bytes - opened.file.size
        self._salt = _salts().__next__
        hasher = blake3()  # one for all: making one takes longer than hashing a record
        self._hash_reset, self._hash_update, self._hash_digest = hasher.reset, hasher.update, hasher.digest
        self._names: set[tuple[str, str, str | None, str | int | None]] = set()
        self._seq, self._prev, self._t_ns = opened.next_seq, opened.head_hash, opened.t_ns
        self._segment_records = opened.segment_records
        self._pruned_segments = 0
        self._buffered = self._appended = self._duplicates = self._writes = self._largest = 0

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        boot_id: bytes,
        clock: Clock | None = None,
        fs: Files | None = None,
        signer: Signer | None = None,
        segment_bytes: int = limits.CHAIN_SEGMENT_BYTES,
        archive: str = "",
    ) -> Self:
        """Open the log in a directory, or begin one.

        An unfinished write at its end is set aside and cut off, and an event ``chain.recovered`` says so. Anything else
        that is wrong leaves every file as it is. What opening itself appends is on the disk when this returns.

        Args:
            directory: of the log, for nothing else; made (mode 0700) if it is missing.
            boot_id: 16 bytes that name this boot; stamped into the records.
            clock: stamps the records; the system's by default.
            fs: file calls; the system's by default.
            signer: signs checkpoints; without one the log is not signed and has no tree.
            segment_bytes: size at which a segment is closed.
            archive: folder for archived segments of this log alone; empty without one.

        Raises:
            ChainCorrupted: the log is damaged, cut off below its signed head, or gone.
            ChainError: the directory is another's, unreadable, or another process writes the log; or the key at hand
                is not the log's.
            StorageFailed: a write or sync failed.
        """
        if len(boot_id) != 16:
            raise AssertionError(f"a boot id has 16 bytes, not {len(boot_id)}")
        clock, fs = clock or SystemClock(), fs or RealFiles()
        segment_bytes = max(segment_bytes, limits.CHAIN_SEGMENT_MIN_BYTES)
        opened = open_log(os.path.abspath(directory), boot_id, clock, fs, signer)
        writer = cls(opened, boot_id, clock, fs, signer, segment_bytes, archive)
        try:
            unfinished = announced_to_erase(writer, opened.announced)
            for event in opened.first_events:
                writer.append(event)
            if opened.first_events:
                writer.commit()
            writer._finish(unfinished)
            # From the beginning on, so that a log without one is conspicuous; and behind a long end without one, which
            # would have to be read whole again and again if the writer is killed faster than it makes checkpoints.
            if opened.checkpoint is None or opened.next_seq - opened.checkpoint.size >= limits.CHAIN_OPEN_TAIL:
                writer.checkpoint()
        except BaseException:
            writer.abandon()
            raise
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    # --- taking -------------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The newest record taken, written or not."""
        return Head(self._seq - 1, self._prev, self._t_ns)

    def append(self, event: NewEvent) -> Ack:
        """Take one event. It is in memory only until ``flush``.

        Returns:
            Its place in the log; that of its first submission if there was one.

        Raises:
            AppendRefused: the event is not acceptable; ``IdempotencyConflict`` if its place in the producer's stream is
                taken by another event.
            StorageFailed: the log has failed, now or before.
        """
        return self.append_many((event,))[0]

    def append_many(self, events: Sequence[NewEvent]) -> list[Ack]:
        """Take several events, all or none; otherwise as ``append``. They share the time of their records."""
        checked = [self._check(event) for event in events]
        digests, run_of = self._index.check_all(events, checked)
        if run_of is None:
            return self._take(events, checked, digests, fresh=False)
        acks = self._take(events, checked, digests, fresh=True)
        taken = zip(events, acks, digests, strict=True)
        self._index.add_run(run_of, {e.position: (ack, digest) for e, ack, digest in taken if e.position is not None})
        return acks

    def submitted(self, event: NewEvent) -> Ack | None:
        """Return the acknowledgement that an event got when it was submitted before; ``None`` if it was not.

        Raises:
            AppendRefused: as for ``append``.
        """
        data = self._check(event)
        if event.producer is None or event.position is None:
            return None
        return self._index.find(event.producer, event.position, content_digest(event, data))

    def known(self, producer: str | int, position: int) -> Ack | None:
        """Return the acknowledgement that this place in a producer's stream got, as far as it is remembered."""
        return self._index.recall(producer, position)

    def forget_before(self, producer: str | int, position: int) -> None:
        """Forget what a producer submitted below ``position``; if it comes again all the same, it is refused."""
        self._index.forget_before(producer, position)

    def _check(self, event: NewEvent) -> bytes:
        """Refuse what is not acceptable and return the encoded payload."""
        names = (event.kind, event.source, event.subject, event.producer)
        try:
            known = names in self._names
        except TypeError as error:  # something that cannot even be hashed stands for a name
            raise AppendRefused(f"kind, source, subject and producer are names, not {names!r:.200}") from error
        if not known or type(event.producer) is bool:
            self._check_names(event)
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            self._names.add(names)
        if event.permit is not None:
            check_text("a permit id", event.permit, limits.CHAIN_PERMIT_BYTES)
        cause = event.cause
        if cause is not None and (type(cause) is not int or not 0 <= cause < self._seq):
            raise AppendRefused(f"a cause is the number of an earlier record, not {cause!r}")
        position = event.position
        if event.key is not None:
            check_text("a key", event.key, limits.CHAIN_PRODUCER_BYTES - len(KEY_PREFIX))
            if event.producer is not None:
                raise AppendRefused("an event has a producer or a key, not both")
        elif (event.producer is None) != (position is None):
            raise AppendRefused("producer and position are given together or not at all")
        if position is not None and (type(position) is not int or not 0 <= position < _U64):
            raise AppendRefused(f"a position is an unsigned 64-bit number, not {position!r}")
        data = encode_payload(event.payload)
        if event.kind in SCHEMAS:
            check_payload(event.kind, event.payload)
        return data

    @staticmethod
    def _check_names(event: NewEvent) -> None:
        check_kind(event.kind)
        check_source(event.source)
        if event.subject is not None:
            check_text("a subject", event.subject, limits.CHAIN_SUBJECT_BYTES)
        producer = event.producer
        if type(producer) is str:
            check_text("a producer", producer, limits.CHAIN_PRODUCER_BYTES)
            if producer.startswith(KEY_PREFIX):
                raise AppendRefused(f"a producer does not begin with {KEY_PREFIX!r}: such names are those of keys")
        elif producer is not None and (type(producer) is not int or not 0 <= producer < _U64):
            raise AppendRefused(f"a producer is a text or an unsigned 64-bit number, not {producer!r}")

    def _take(
        self, events: Sequence[NewEvent], payloads: Sequence[bytes], digests: Sequence[int], *, fresh: bool
    ) -> list[Ack]:
        """Give each event its place. One loop with few calls in it, because it is run for every event there is.

        Args:
            events: checked.
            payloads: encoded.
            digests: of the events.
            fresh: none of them is known, and the index learns of them afterwards.
        """
        if self._file.stopped:
            raise StorageFailed(self._file.stopped)
        acks: list[Ack] = []
        # The batch was checked as a whole. What it makes the index forget must not refuse the rest of it.
        index, salt, log_id, boot_id = self._index, self._salt, self.log_id, self.boot_id
        reset, update, digest = self._hash_reset, self._hash_update, self._hash_digest
        self._t_ns = now = max(self._wall(), self._t_ns)
        mono = self._mono()
        entries = self._entries
        for event, data, content in zip(events, payloads, digests, strict=True):
            producer, position = event.producer, event.position
            if fresh:
                pass
            elif producer is not None and position is not None:
                known = index.recall(producer, position)
                if known is not None:
                    self._duplicates += 1
                    acks.append(known)
                    continue
            elif event.key is not None:
                producer, position = KEY_PREFIX + event.key, position or 0
            if self._bytes >= limits.CHAIN_BUFFER_BYTES:
                self.flush(sync=False)
                entries = self._entries
            if len(data) + _MOST_AROUND > self._room and self._segment_records:
                self._roll()
                now, entries = self._t_ns, self._entries
            salted = salt() + data
            reset()
            update(salted)
            seq = self._seq
            header = encode_header(
                (
                    RECORD_VERSION,
                    log_id,
                    seq,
                    now,
                    mono,
                    boot_id,
                    event.source,
                    event.kind,
                    event.subject,
                    producer,
                    position,
                    event.cause,
                    event.permit,
                    digest(),
                    len(data),
                    self._prev,
                )
            )
            reset()
            update(LEAF_TAG + header)
            body = _pack_body(RECORD, 0, len(header)) + header + salted
            size = len(body)
            entries.append(header)
            self._parts += (_pack_prologue(size, crc32(body, size)), body, _pack_length(size))
            size += FRAME_OVERHEAD
            self._bytes += size
            self._room -= size
            self._prev = hashed = digest()
            self._seq = seq + 1
            self._buffered += 1
            self._segment_records += 1
            ack = Ack(seq, hashed, now)
            if not fresh and event.producer is not None and position is not None:
                index.add(event.producer, position, ack, content)
            acks.append(ack)
        return acks

    # --- writing ------------------------------------------------------------------------------------------------------

    def flush(self, sync: bool) -> None:
        """Hand what was taken to the operating system: it survives the end of this process.

        Args:
            sync: bring it onto the disk too, so that it survives the end of the machine.

        Raises:
            StorageFailed: the log has failed, now or before, or is closed.
        """
        file = self._file
        if file.stopped:
            raise StorageFailed(file.stopped)
        if self._parts:
            group, self._parts, self._bytes = b"".join(self._parts), [], 0
            self._writes += 1
            self._appended += self._buffered
            self._largest = max(self._largest, self._buffered)
            self._buffered = 0
            entries, self._entries = self._entries, []
            file.write(group)
            if self.checkpoints is not None:
                try:
                    self.checkpoints.extend(entries)
                except OSError as error:
                    file.fail("writing a tile", error)
        if sync:
            file.sync()

    def commit(self) -> None:
        """Bring everything taken onto the disk: after this its acknowledgements are true. Errors as for ``flush``."""
        self.flush(sync=True)

    def _roll(self) -> None:
        self.flush(sync=True)
        self._t_ns = max(self._t_ns, self._wall())
        self._file.begin(self._seq, self._prev, self._t_ns)
        self._segment_records = 0
        self._room = self._segment_bytes - self._file.size

    def count_files(self) -> None:
        """Take note that segments have gone."""
        listing = list_segments(self.directory)
        self._file.total = sum(os.path.getsize(listing.path(number)) for number in listing.segments)
        self._pruned_segments = listing.first_number - 1

    # --- redaction ----------------------------------------------------------------------------------------------------

    def redact(self, seq: int, reason: str, by: str) -> Ack:
        """Take the payload of a record away for good; see ``redaction``.

        Args:
            seq: number of the record.
            reason: why, for the log.
            by: by whose wish, for the log.

        Returns:
            The place of the record that says so.

        Raises:
            AppendRefused: the log needs the payload, or it is gone already.
            ArchiveFailed: it is in the archive too, and that is out of reach or full; nothing was announced.
            ChainError: there is no such record.
            StorageFailed: a call failed; it is finished when the log is opened next.
        """
        self.flush(sync=True)
        record = record_anywhere(self, seq)
        check_redactable(record)
        erasure = prepare_erasure(self, seq)
        payload = {
            "seq": seq,
            "kind": record.kind,
            "payload_hash": record.header.payload_hash,
            "reason": reason,
            "by": by,
        }
        ack = self.append(NewEvent("chain", "chain.redacted", payload))
        self.commit()
        self._erase(seq, erasure)
        return ack

    def _erase(self, seq: int, erasure: Erasure | None) -> None:
        listing = list_segments(self.directory)
        try:
            if seq >= listing.first_seq:
                number = segment_of(listing, seq)
                if number == self._file.number:
                    self._roll()
                self._file.total -= erase_payload(self.fs, segment_path(self.directory, number), seq)
            if erasure is not None:
                erase_archived(self, erasure)
        except OSError as error:
            self._file.fail("erasing a payload", error)

    def _finish(self, unfinished: Sequence[int]) -> None:
        """Finish what was announced before a crash: a pruning, and erasures."""
        try:
            finish_pruning(self)
            for seq in unfinished:
                self._erase(seq, prepare_erasure(self, seq))
        except OSError as error:
            self._file.fail("finishing what a crash interrupted", error)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """Commit, and sign how far the log has come; return what the newest checkpoint says.

        Does no more than commit without a signer, or if there is nothing new. Errors as for ``flush``.
        """
        pending = self.begin_checkpoint()
        if pending is not None:
            try:
                pending.write()
            except OSError as error:
                self._file.fail("writing the checkpoint", error)
            self.end_checkpoint(pending)
        return self.checkpoints.newest if self.checkpoints is not None else None

    def begin_checkpoint(self) -> PendingCheckpoint | None:
        """Commit and fix a checkpoint, for somebody to ``write`` and then tell ``end_checkpoint``.

        Returns:
            ``None`` without a signer, or if there is nothing new. Errors as for ``flush``.
        """
        self.flush(sync=True)
        if self.checkpoints is None:
            return None
        try:
            return self.checkpoints.begin()
        except OSError as error:
            self._file.fail("writing a tile", error)

    def end_checkpoint(self, pending: PendingCheckpoint, failure: OSError | ChainError | None = None) -> None:
        """Learn how writing a checkpoint came out.

        Raises:
            StorageFailed: it failed, so nothing can be promised any more.
        """
        assert self.checkpoints is not None, "there is a checkpoint"
        if failure is not None:
            self._file.fail("writing the checkpoint", failure)
        try:
            self.checkpoints.end(pending)
        except OSError as error:
            self._file.fail("removing an old tile", error)

    def move_tiles(self, move: Callable[[Tiles, int], Tiles]) -> None:
        """Have the tiles made elsewhere from now on.

        Args:
            move: takes what makes them now, and the descriptor of the log's lock; returns what makes them then.
        """
        if self.checkpoints is not None:
            lock = self._opened.lock
            self.checkpoints.make_tiles_with(lambda tiles: move(tiles, lock))

    def close(self) -> None:
        """Commit, make a checkpoint and give up the log. May be called again. Errors as for ``flush``."""
        if self._file.closed:
            return
        try:
            self.checkpoint()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give up the log as it is; what was not flushed is lost."""
        try:
            self._file.close()
            if self.checkpoints is not None:
                self.checkpoints.close()
        finally:
            self._opened.unlock(self.fs)

    def statistics(self) -> ChainStatistics:
        """Return the numbers of this writer."""
        file = self._file
        return ChainStatistics(
            records=self._seq,
            appended=self._appended + self._buffered,
            duplicates=self._duplicates,
            buffered=self._buffered,
            bytes=file.total,
            segments=file.number - self._pruned_segments,
            writes=self._writes,
            syncs=file.syncs,
            mean_group=self._appended / self._writes if self._writes else 0.0,
            largest_group=self._largest,
            last_sync_seconds=file.last_sync_s,
            remembered=len(self._index),
            failed=file.failed,
        )


def _salts() -> Iterator[bytes]:
    """Yield random bytes for the payloads, taken from the operating system in larger pieces."""
    while True:
        block = os.urandom(256 * SALT_BYTES)
        for at in range(0, len(block), SALT_BYTES):
            yield block[at : at + SALT_BYTES]

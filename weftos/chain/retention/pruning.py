"""Taking the oldest segments away, in an order in which each step may be the last before a crash.

    prepare    the segments are read once more and compared with the signed tree, and with their archive;
               the hash tiles over them are brought onto the disk; the records that are kept are gathered
    announce   pruned.next is written, then the record chain.pruned, signed by the log's keys
    (a checkpoint covers the record)
    finish     pruned.next becomes pruned; bundles of entries go, then the segments, oldest first

Why it is as it is: from the moment when ``pruned`` has its name, everybody reads the log from there, whatever of the
older files is still there. So the removal may stop anywhere, and the next opening of the log goes on with it. Before
that moment nothing is gone. ``pruned.next`` without its record was never announced, and is dropped; with it, the next
opening finishes what was announced, if the log's own keys have signed it.

Guaranteed: nothing is removed that is not under a signed checkpoint, nor without a record that is. What is kept to
verify the rest is on the disk before. Only a beginning of the log goes, and never its newest closed segment: requests
that a client submits again after a crash are looked for there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Final

import msgspec

from weftos import limits
from weftos.chain.folder.archive import content_digests, file_digests, find_in_archive
from weftos.chain.folder.closed import Closed, Span
from weftos.chain.folder.locate import record_at
from weftos.chain.folder.reader import list_segments
from weftos.chain.folder.segments import Listing, segment_path
from weftos.chain.folder.tile_keeping import drop_bundles, sync_tiles
from weftos.chain.records.frames import BODY, RECORD
from weftos.chain.records.record import Ack, NewEvent, Record
from weftos.chain.retention.archiving import archived_marks
from weftos.chain.retention.prune_check import check_signed, verify_signed
from weftos.chain.retention.steps import Stopping
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.statements.prune_statement import PRUNED_KIND, PruneStatement
from weftos.chain.statements.pruned_file import NEXT_NAME, PRUNED_NAME, Act, Pruned, read_pruned
from weftos.chain.tiles.tile_paths import edge_paths
from weftos.disk.files import Files, replace_file
from weftos.errors import ArchiveFailed, ChainError, RecordPruned

if TYPE_CHECKING:
    from weftos.chain.writing.writer import ChainWriter

__all__ = ["Pruning", "finish_pruning"]

#: Kinds of the log itself that are kept for ever, and that of the kernel whose newest are.
_KEYS: Final = frozenset(("genesis", "key.genesis", "key.rotate"))
_GRANT: Final = "ipc.grant"


class Pruning:
    """One act of pruning; see ``steps``.

    Args:
        writer: of the log, signed.
        segments: the oldest ones, in a row, closed, covered by its newest checkpoint.
        archived: they must be in the archive. If not, those that are there all the same are pruned by an act of their
            own, so that an erasure finds them: this one takes the first of them that are alike.

    Attributes:
        segments: those that go.

    Raises:
        ChainError: the tiles over them are damaged, or there is no archive.
        OSError: a file cannot be read.
    """

    needs_checkpoint: Final = True

    def __init__(self, writer: ChainWriter, segments: list[Closed], *, archived: bool) -> None:
        self.stopping = Stopping()
        self._compares = self._archived = archived
        if not archived:
            self._archived = _has_copy(writer, segments[0])
            segments = list(takewhile(lambda one: _has_copy(writer, one) == self._archived, segments))
        self.segments = segments
        self._writer = writer
        self._fs = writer.fs
        self._archive = writer.archive if self._archived else ""
        self._boot_id = writer.boot_id
        assert writer.checkpoints is not None, "the log is signed"
        assert writer.checkpoints.newest is not None, "and covered"
        self._listing = listing = list_segments(writer.directory)
        assert segments[0].number == listing.first_number, "only a beginning goes"
        self._span = Span(listing, segments, writer.checkpoints.newest)
        writer.checkpoints.keep_edge(segments[-1].next_seq)
        self._kept: list[Record] = []

    @property
    def size(self) -> int:
        """Records that will be gone, from record 0 on."""
        return self.segments[-1].next_seq

    def prepare(self) -> None:
        """Look at everything, and bring onto the disk what has to stay."""
        before = self._listing.pruned
        kept = [] if before is None else before.records()
        kept += [record for record, _ in self._span.walk(_KEYS | {_GRANT}, self.stopping.look)]
        self._kept = _needed(kept, self._boot_id)
        if self._compares:
            for one in self.segments:
                self._compare(one)
        begin = 0 if before is None else before.size
        sync_tiles(self._fs, self._writer.directory, begin, self.size, self._span.edge, self.stopping.look)

    def _compare(self, one: Closed) -> None:
        path = find_in_archive(self._archive, one.number, one.log_id)
        if path is None:
            raise ArchiveFailed(f"segment {one.number:08d} is not in the archive {self._archive}, so it stays")
        self.stopping.look()
        source = self._listing.path(one.number)
        if content_digests(path) != file_digests(source):
            raise ArchiveFailed(
                f"{path} differs from {source}, so that stays: remove the archived file, and it is archived anew"
            )

    def announce(self) -> Ack:
        """Write down what will be gone, and append ``chain.pruned``."""
        writer, last, before = self._writer, self.segments[-1], self._listing.pruned
        writer.commit()
        act = Act(
            first_segment=self.segments[0].number,
            first_seqs=[one.first_seq for one in self.segments],
            sizes=[one.size_bytes for one in self.segments],
            size=self.size,
            archived=self._archived,
            where=self._archive,
        )
        pruned = Pruned.make(
            log_id=writer.log_id,
            seq=writer.head.seq + 1,
            segment=last.number,
            size=self.size,
            head_hash=last.head_hash,
            root=self._span.root,
            acts=[*(before.acts if before is not None else ()), act],
            kept=[_body(record) for record in self._kept],
        )
        data = pruned.encode()
        if len(data) > limits.CHAIN_KEPT_BYTES:
            raise ChainError(f"what must be kept has {len(data)} bytes, {limits.CHAIN_KEPT_BYTES} are allowed")
        replace_file(self._fs, os.path.join(writer.directory, NEXT_NAME), data)
        assert writer.signer is not None, "the log is signed"
        statement, origin = PruneStatement.of(pruned), log_origin(writer.log_id)
        note = writer.signer.sign_text(statement.text(origin), origin)
        payload = msgspec.structs.replace(statement, note=note).to_payload()
        ack = writer.append(NewEvent("chain", PRUNED_KIND, payload))
        writer.commit()
        assert ack.seq == pruned.seq, "nothing came between"
        return ack

    def finish(self) -> None:
        """Remove what was announced."""
        _finish(self._fs, self._writer.directory)

    def end(self) -> None:
        """Count what is left."""
        self._writer.count_files()

    def give_up(self) -> None:
        """Nothing to remove: tiles on the disk do no harm."""


def _has_copy(writer: ChainWriter, one: Closed) -> bool:
    if one.number in archived_marks(writer.directory):
        return True
    return bool(writer.archive) and find_in_archive(writer.archive, one.number, one.log_id) is not None


def finish_pruning(writer: ChainWriter) -> None:
    """Finish, or drop, what a crash interrupted; for a log that was just opened.

    Raises:
        StorageFailed: the log has failed.
        OSError: a file cannot be removed.
        ChainCorrupted: a file does not have its form.
    """
    fs, directory = writer.fs, writer.directory
    listing = list_segments(directory)
    if listing.announced:
        following = read_pruned(directory, NEXT_NAME)
        if following is not None and _is_announced(writer, following):
            writer.checkpoint()
            _finish(fs, directory)
        else:
            fs.unlink(os.path.join(directory, NEXT_NAME))
    elif listing.leftover:
        _remove(fs, directory, listing)
    writer.count_files()


def _is_announced(writer: ChainWriter, following: Pruned) -> bool:
    """Whether the log has the record of this pruning, signed by its own keys."""
    if writer.signer is None or following.seq > writer.head.seq:
        return False
    try:
        record = record_at(writer.directory, following.seq)
    except RecordPruned:
        return False  # an old file that came back
    if not check_signed(record, following):
        return False
    verify_signed(PruneStatement.from_payload(record.payload), following, writer.signer.public, writer.directory)
    return True


def _finish(fs: Files, directory: str) -> None:
    """Let the log begin where it was announced, and remove what lies before."""
    before = list_segments(directory).pruned
    following = os.path.join(directory, NEXT_NAME)
    if os.path.lexists(following):  # else it was renamed by a try that went no further
        fs.rename(following, os.path.join(directory, PRUNED_NAME))
        fs.sync_dir(directory)
    listing = list_segments(directory)
    assert listing.pruned is not None, "it was put there"
    if before is not None:
        stay = set(edge_paths(listing.pruned.size))
        for name in edge_paths(before.size):
            if name not in stay:
                with suppress(FileNotFoundError):
                    fs.unlink(os.path.join(directory, name))
    _remove(fs, directory, listing)


def _remove(fs: Files, directory: str, listing: Listing) -> None:
    pruned = listing.pruned
    assert pruned is not None, "something is to go"
    drop_bundles(fs, directory, pruned.acts[-1].first_seqs[0], pruned.size)
    for number in listing.leftover:
        fs.unlink(segment_path(directory, number))
    fs.sync_dir(directory)


def _needed(kept: list[Record], boot_id: bytes) -> list[Record]:
    """Return what is kept for ever, and the newest grants of rings of the current boot."""
    grants = [one for one in kept if one.kind == _GRANT and one.source == "kernel" and one.header.boot_id == boot_id]
    newest = {one.seq for one in grants[-limits.CHAIN_KEPT_GRANTS :]}
    return [one for one in kept if one.seq in newest or (one.kind in _KEYS and one.source == "chain")]


def _body(record: Record) -> bytes:
    return BODY.pack(RECORD, 0, len(record.header_bytes)) + record.header_bytes + record.salted

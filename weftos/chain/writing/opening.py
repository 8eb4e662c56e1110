"""The steps of opening a log for writing, each of which may be the last before a crash.

Why it is as it is: opening is where a log is repaired, so opening itself must be safe to interrupt. Each step leaves a
state from which the next opening goes on: torn bytes are on the disk under their own name before they are cut off, and
their name says which record will report them. If that record is missing when the log is opened, it is written then.

Guaranteed: nothing is changed before the log was found sound; no torn byte is lost; each set-aside file is named by a
record.
"""

from __future__ import annotations

import errno
import os

import msgspec

from weftos.chain.folder.segment_writer import SegmentWriter, set_aside
from weftos.chain.folder.segments import Listing, list_log
from weftos.chain.records.idempotency import ProducerIndex
from weftos.chain.records.record import ZERO_HASH, NewEvent
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.signing.log_signer import Signer
from weftos.chain.signing.rotation import Genesis
from weftos.chain.tiles.tile_store import TileStore
from weftos.chain.writing.recovery import Examined, examine
from weftos.disk.clock import Clock
from weftos.disk.files import Files, ReadFile
from weftos.errors import ChainCorrupted, ChainError, StorageFailed

__all__ = ["Opened", "open_log"]


class Opened(msgspec.Struct):
    """A log ready for its writer; fields as in ``Examined`` unless described here.

    Attributes:
        lock: descriptor that holds the writer's lock, -1 when given up.
        file: the segment to write to.
        checkpoint: the newest, or ``None``.
        tiles: the tree over all records; ``None`` for a log that is not signed.
        recovered_bytes: torn bytes that were set aside.
        first_events: what the writer must append before anything else.
        announced: records whose payload must be taken away: a crash came between saying so and doing it.
    """

    directory: str
    lock: int
    file: SegmentWriter
    log_id: bytes
    next_seq: int
    head_hash: bytes
    t_ns: int
    segment_records: int
    checkpoint: Checkpoint | None
    recovered_bytes: int
    index: ProducerIndex
    tiles: TileStore | None
    first_events: list[NewEvent]
    announced: list[int] = []

    def unlock(self, fs: Files) -> None:
        """Give up the writer's lock."""
        if self.lock >= 0:
            lock, self.lock = self.lock, -1
            fs.close(lock)


def open_log(directory: str, boot_id: bytes, clock: Clock, fs: Files, signer: Signer | None) -> Opened:
    """Open the log in ``directory``, or begin one there; see ``ChainWriter.open``."""
    lock = _enter(directory, fs)
    try:
        listing = list_log(directory)
        listing.check_present()
        if not listing.segments:
            _remove_leftovers(listing, fs)
            return _begin(directory, lock, clock, fs, signer)
        found = examine(listing, boot_id, signer, fs)
        _check_key(found, directory, signer)
        _remove_leftovers(listing, fs)
        return _resume(listing, lock, found, fs, signer)
    except BaseException:
        fs.close(lock)
        raise


def _enter(directory: str, fs: Files) -> int:
    """Make the directory if it is missing, and take the writer's lock on it."""
    try:
        if not os.path.lexists(directory):
            fs.make_dir(directory)
    except OSError as error:
        raise StorageFailed(f"the directory of the log cannot be made: {error}") from error
    try:
        return fs.lock_dir(directory)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise ChainError(f"another process writes the log in {directory}") from error
        raise ChainError(f"the directory of the log cannot be opened: {error}") from error


def _remove_leftovers(listing: Listing, fs: Files) -> None:
    try:
        for name in listing.temporary:
            fs.unlink(os.path.join(listing.directory, name))
    except OSError as error:
        raise StorageFailed(f"a leftover file cannot be removed: {error}") from error


def _begin(directory: str, lock: int, clock: Clock, fs: Files, signer: Signer | None) -> Opened:
    mark = signer.high_water() if signer is not None else None
    if signer is not None and mark is not None:
        raise ChainCorrupted(
            f"the log {mark.origin} with {mark.size} records is gone from {directory}: put it back from its copy, or, "
            f"to begin a new log, give it keys of its own by moving {signer.folder} away",
            path=directory,
        )
    log_id = os.urandom(16)
    file = SegmentWriter(fs, directory, log_id)
    now = clock.wall_ns()
    try:
        # Here and not where the directory is made: whoever made it may have been killed before it was on the disk.
        fs.sync_dir(os.path.dirname(directory))
        file.begin(0, ZERO_HASH, now)
    except OSError as error:
        file.close()
        raise StorageFailed(f"the directory of the log cannot be brought onto the disk: {error}") from error
    except BaseException:
        file.close()
        raise
    events = [_genesis(log_id), *_key_events(signer)]
    tiles = TileStore(fs, directory) if signer is not None else None
    return Opened(directory, lock, file, log_id, 0, ZERO_HASH, now, 0, None, 0, ProducerIndex(), tiles, events)


def _resume(listing: Listing, lock: int, found: Examined, fs: Files, signer: Signer | None) -> Opened:
    directory = listing.directory
    # A log without any record gets its genesis first, so its report is the record after it.
    reporter = max(found.next_seq, 1)
    aside = _set_aside(listing, found, reporter, fs)
    file = SegmentWriter(fs, directory, found.log_id)
    try:
        file.resume(found.number, found.good, found.torn, found.total)
    except BaseException:
        file.close()
        raise
    events = [] if found.next_seq else [_genesis(found.log_id)]
    if aside:
        payload = {
            "lost_bytes": sum(aside.values()),
            "offset": found.good,
            "segment": found.number,
            "files": list(aside),
        }
        events.append(NewEvent("chain", "chain.recovered", payload))
    if signer is not None and found.keys is None:
        events += _key_events(signer)
    return Opened(
        directory=directory,
        lock=lock,
        file=file,
        log_id=found.log_id,
        next_seq=found.next_seq,
        head_hash=found.head_hash,
        t_ns=found.t_ns,
        segment_records=found.segment_records,
        checkpoint=found.checkpoint,
        recovered_bytes=sum(aside.values()),
        index=found.index,
        tiles=found.tiles,
        first_events=events,
        announced=found.announced,
    )


def _set_aside(listing: Listing, found: Examined, reporter: int, fs: Files) -> dict[str, int]:
    """Copy what is torn, unless that was done before a crash; return the files to be reported, with their sizes.

    More than one file means that a report of torn bytes was itself torn.
    """
    directory, aside, newest = listing.directory, {}, 0
    try:
        with ReadFile(listing.path(found.number)) as source:
            data = source.read(found.good, found.torn)
        copied = not data
        for seq, number, name in listing.torn:
            if seq == reporter:
                with ReadFile(os.path.join(directory, name)) as file:
                    aside[name], newest = file.size, number
                    copied = copied or file.read(0, file.size) == data
        if not copied:
            name = f"torn-{reporter}-{newest + 1}.bin"
            set_aside(fs, directory, name, data)
            aside[name] = len(data)
    except OSError as error:
        raise StorageFailed(f"the unfinished end of the log cannot be set aside: {error}") from error
    return aside


def _check_key(found: Examined, directory: str, signer: Signer | None) -> None:
    """Refuse keys of another log. With a checkpoint its signatures have told already."""
    if signer is None or found.keys is None or found.checkpoint is not None:
        return
    if found.keys != signer.public:
        raise ChainError(
            f"the log in {directory} names the keys {found.keys.pair_id}, and those at hand are "
            f"{signer.public.pair_id}: put the old keys back"
        )


def _genesis(log_id: bytes) -> NewEvent:
    return NewEvent("chain", "genesis", {"log_id": log_id, "format": 1, "hash": "blake3"})


def _key_events(signer: Signer | None) -> list[NewEvent]:
    if signer is None:
        return []
    return [NewEvent("chain", "key.genesis", Genesis.of(signer.public).to_payload())]

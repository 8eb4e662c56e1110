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

from weftos.chain.clock import Clock
from weftos.chain.files import Files, ReadFile
from weftos.chain.idempotency import ProducerIndex
from weftos.chain.record import ZERO_HASH, NewEvent
from weftos.chain.recovery import Examined, examine
from weftos.chain.segment_writer import SegmentWriter, set_aside
from weftos.chain.segments import Listing, list_log
from weftos.errors import ChainError, StorageFailed

__all__ = ["Opened", "open_log"]


class Opened(msgspec.Struct):
    """A log ready for its writer; fields as in ``Examined`` unless described here.

    Attributes:
        lock: descriptor that holds the writer's lock, -1 when given up.
        file: the segment to write to.
        signed_size: records that the signed head covers.
        recovered_bytes: torn bytes that were set aside.
        first_events: what the writer must append before anything else.
    """

    directory: str
    lock: int
    file: SegmentWriter
    log_id: bytes
    next_seq: int
    head_hash: bytes
    t_ns: int
    segment_records: int
    signed_size: int
    recovered_bytes: int
    index: ProducerIndex
    first_events: list[NewEvent]

    def unlock(self, fs: Files) -> None:
        """Give up the writer's lock."""
        if self.lock >= 0:
            lock, self.lock = self.lock, -1
            fs.close(lock)


def open_log(directory: str, boot_id: bytes, clock: Clock, fs: Files, public_key: bytes | None) -> Opened:
    """Open the log in ``directory``, or begin one there; see ``ChainWriter.open``."""
    lock = _enter(directory, fs)
    try:
        listing = list_log(directory)
        listing.check_present()
        if not listing.segments:
            _remove_leftovers(listing, fs)
            return _begin(directory, lock, clock, fs, public_key)
        found = examine(listing, boot_id, public_key)
        _check_key(found, directory, public_key)
        _remove_leftovers(listing, fs)
        return _resume(listing, lock, found, fs, public_key)
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


def _begin(directory: str, lock: int, clock: Clock, fs: Files, public_key: bytes | None) -> Opened:
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
    events = [_genesis(log_id), *_key_events(public_key)]
    return Opened(directory, lock, file, log_id, 0, ZERO_HASH, now, 0, 0, 0, ProducerIndex(), events)


def _resume(listing: Listing, lock: int, found: Examined, fs: Files, public_key: bytes | None) -> Opened:
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
    if public_key is not None and public_key not in found.keys and found.head is None:
        events += _key_events(public_key)
    return Opened(
        directory=directory,
        lock=lock,
        file=file,
        log_id=found.log_id,
        next_seq=found.next_seq,
        head_hash=found.head_hash,
        t_ns=found.t_ns,
        segment_records=found.segment_records,
        signed_size=found.head.size if found.head else 0,
        recovered_bytes=sum(aside.values()),
        index=found.index,
        first_events=events,
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


def _check_key(found: Examined, directory: str, public_key: bytes | None) -> None:
    if public_key is not None and found.keys and public_key not in found.keys:
        raise ChainError(
            f"the log in {directory} names the key {found.keys[0].hex()[:16]}, and the key at hand is "
            f"{public_key.hex()[:16]}: put the old key back"
        )


def _genesis(log_id: bytes) -> NewEvent:
    return NewEvent("chain", "genesis", {"log_id": log_id, "format": 1, "hash": "blake3"})


def _key_events(public_key: bytes | None) -> list[NewEvent]:
    if public_key is None:
        return []
    return [NewEvent("chain", "key.genesis", {"algorithm": "ed25519", "public_key": public_key})]

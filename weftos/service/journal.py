"""The service's view of the chain: who wrote what, once; and what state the log is in.

Why it is as it is: the chain is a pure library that knows no agents. Here a request's place in its stream becomes the
idempotency pair of each of its events, a failure of the disk becomes a state that the gate can see, and "accepted but
not yet on disk" gets a clock, so that it does not last.

Guaranteed: after a failure nothing is appended any more, and ``failed`` says why. An event that is already in the log
is not written again; its first answer is given again. A batch is checked whole before any of it is taken. Not
guaranteed: that a batch lies in one piece if the machine failed in the middle of it; the rest follows when the request
is read again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from weftos import chain, limits
from weftos.chain.folder.locate import record_at
from weftos.chain.folder.pages import Pages, RawRecord, read_checkpoint
from weftos.chain.folder.segments import CHECKPOINT_NAME
from weftos.chain.retention.policy import RetentionPolicy
from weftos.chain.signing.checkpoint import Checkpoint, log_origin
from weftos.chain.statements.custody import CUSTODY_KIND, attest
from weftos.chain.writing.checkpointing import Tiles
from weftos.chain.writing.key_change import rotate_keys
from weftos.disk.files import replace_file
from weftos.errors import ChainError, StorageFailed
from weftos.service import protocol as p
from weftos.service.checkpoint_thread import CheckpointThread
from weftos.service.clients import Caller
from weftos.service.credential_desk import CredentialDesk, VaultSettings
from weftos.service.delegations import DelegationKey
from weftos.service.ledgers import EVENT_BITS as _EVENT_BITS
from weftos.service.ledgers import Ledgers, LedgerSettings
from weftos.service.pinning import pin_keys
from weftos.service.retention import Retention
from weftos.service.tree_keeper import CAUSES, TREE_SOURCE, TreeKeeper
from weftos.service.tree_opening import open_tree
from weftos.service.witnesses import Witnesses
from weftos.tree.deltas import Delta
from weftos.tree.snapshot import SNAPSHOT_KIND

__all__ = ["Journal"]

log = logging.getLogger(__name__)

#: The number of the record by which a request changes the tree, above those of its events.
_TREE_EVENT = (1 << _EVENT_BITS) - 1
#: Requests of one stream between two prunings of what the log remembers of it, in bytes or serial numbers.
_FORGET_STEP = 16 * 1024


class Journal:
    """The open log.

    Args:
        writer: the chain's writer; owned by the journal from here on.
        directory: where the log is.
        signer: its keys.
        known_logs: path of the file of pinned keys.
        witnesses: of the log.
        tree: the resource tree that the log adds up to.
        ledgers: where the rest is kept beside the log.
        policy: which segments are archived and pruned.

    Attributes:
        directory: where the log is.
        retention: archives and prunes.
        failed: why the log cannot be written any more, or ``None``.
        sync_wanted: somebody waits for the disk; reset by ``sync``.
        unsynced_since: monotonic time of the oldest event that may not be on disk yet, in seconds, or ``None``.
    """

    def __init__(
        self,
        writer: chain.ChainWriter,
        directory: str,
        signer: chain.Signer,
        known_logs: str,
        witnesses: Witnesses,
        tree: TreeKeeper,
        ledgers: LedgerSettings,
        policy: RetentionPolicy,
    ) -> None:
        self._writer = writer
        self._append = writer.append
        self.directory = directory
        self._signer = signer
        self._known_logs = known_logs
        self._forgotten: dict[str, int] = {}
        self._appends = self._durable_groups = 0
        self._dirty = False
        self._witnesses = witnesses
        self.tree = tree
        self.delegation_key = DelegationKey(signer.folder)
        self.ledgers = Ledgers(ledgers, writer, directory, known_logs, self.put)
        self._checkpoints = CheckpointThread(witnesses)
        self._pages = Pages(directory)
        self._cosigned_size = 0
        self.retention = Retention(
            writer, policy, self._covered, self._keep_tree, lambda: self.tree.snapshot_seq, self.ledgers.secure
        )
        self.failed: str | None = None
        self.credentials: CredentialDesk
        self.sync_wanted = False
        self.unsynced_since: float | None = None

    @classmethod
    def open(
        cls,
        directory: str,
        keys: str,
        known_logs: str,
        boot_id: bytes,
        segment_bytes: int,
        witness_sockets: Sequence[str] = (),
        known_witnesses: str = "",
        ledgers: LedgerSettings | None = None,
        policy: RetentionPolicy | None = None,
    ) -> Self:
        """Open or make the log, with its signing key.

        The service of a kernel that was killed may still be writing down what it had accepted; it is waited for.

        Raises:
            ChainCorrupted: the log contradicts itself, or is shorter than was promised; it is left as it is.
            SignatureInvalid: the log has other keys than those that were pinned for it.
            ChainError, ConfigError: it cannot be opened, or the key is missing, unreadable or readable by others.
        """
        ledgers, policy = ledgers or LedgerSettings(), policy or RetentionPolicy()
        signer = chain.Signer.open(keys)
        deadline = time.monotonic() + limits.SERVICE_LOCK_S
        while True:
            try:
                writer = chain.ChainWriter.open(
                    directory, boot_id=boot_id, signer=signer, segment_bytes=segment_bytes, archive=policy.archive_dir
                )
            except ChainError as error:
                locked = isinstance(error.__cause__, BlockingIOError)
                if not locked or time.monotonic() >= deadline:
                    raise
                log.debug("%s is still held by the service of an earlier kernel", directory)
                time.sleep(limits.POLL_LONGEST_S)
            else:
                break
        try:
            pin_keys(writer, directory, signer.public, known_logs)
            witnesses = Witnesses(witness_sockets, known_witnesses, directory, signer.public)
            assert writer.checkpoints is not None, "the service's log is signed"
            witnesses.check(log_origin(writer.log_id), writer.checkpoints.newest)
            tree = open_tree(writer, ledgers.tree_dir or f"{directory}.tree", directory, boot_id)
            journal = cls(writer, directory, signer, known_logs, witnesses, tree, ledgers, policy)
            journal.ledgers.sealing.look()
            if journal._dirty:
                journal.sync()
        except BaseException:
            writer.abandon()
            raise
        return journal

    def move_tiles(self, move: Callable[[Tiles, int], Tiles]) -> None:
        """Have the tiles made elsewhere from now on; see ``ChainWriter.move_tiles``."""
        self._writer.move_tiles(move)

    @property
    def log_id(self) -> bytes:
        """Name of the log, 16 bytes."""
        return self._writer.log_id

    @property
    def head_seq(self) -> int:
        """Number of the newest record taken."""
        return self._writer.head.seq

    @property
    def boot_id(self) -> bytes:
        """Of the boot of the kernel that this log is written for."""
        return self._writer.boot_id

    def keep_credentials(self, settings: VaultSettings) -> None:
        """Be ready to keep credentials; called once, when the log is open. Errors as for ``append``."""
        self.credentials = CredentialDesk(self, settings)

    # --- appending ----------------------------------------------------------------------------------------------------

    def append(
        self,
        caller: Caller,
        position: int,
        kind: str,
        payload: dict[str, Any],
        subject: str | None = None,
        cause: int | None = None,
    ) -> chain.Ack:
        """Take one event; it is on its way with the next ``write``.

        Raises:
            AppendRefused: the event is not acceptable.
            StorageFailed: the log has failed.
        """
        self._dirty = True
        self._appends += 1
        event = chain.NewEvent(caller.source, kind, payload, subject, cause, caller.producer, position << _EVENT_BITS)
        try:
            ack = self._append(event)
            if caller.kernel:
                if kind in CAUSES:
                    self._change_tree(caller, position, event, ack)
                self.ledgers.learn(event, ack)
            return ack
        except StorageFailed as error:
            self._has_failed(error)
            raise

    def put(self, event: chain.NewEvent) -> chain.Ack:
        """Take an event of the service's own; errors as for ``append``."""
        self._dirty = True
        self._appends += 1
        try:
            return self._append(event)
        except StorageFailed as error:
            self._has_failed(error)
            raise

    def _change_tree(self, caller: Caller, position: int, event: chain.NewEvent, cause: chain.Ack) -> None:
        """Write down what a record of the kernel changes in the tree, once, and change it."""
        delta = self.tree.caused_by(event.kind, event.payload)
        if delta is not None:
            self._put_delta(caller, position, delta, event.subject, cause)

    def _put_delta(self, caller: Caller, position: int, delta: Delta, subject: str | None, cause: chain.Ack) -> int:
        """Put a request's change of the tree behind its cause; returns the number of the record."""
        place = position << _EVENT_BITS | _TREE_EVENT
        event = chain.NewEvent(
            TREE_SOURCE, delta.log_kind, delta.to_payload(), subject, cause.seq, caller.producer, place
        )
        ack = self._append(event)
        self.tree.apply(delta, ack)
        return ack.seq

    def known(self, caller: Caller, position: int) -> chain.Ack | None:
        """Return where the first event of a request lies, if it was carried out before."""
        return self._writer.known(caller.producer, position << _EVENT_BITS)

    def change_tree(self, caller: Caller, position: int, kind: str, payload: dict[str, Any], delta: Delta) -> int:
        """Change the tree, with a record in front that says why; on the disk when this returns.

        Returns:
            The number of the record of the change.

        Raises:
            TreeError: it does not fit the tree; nothing was written.
            StorageFailed: the log has failed.
        """
        if self.known(caller, position) is None:
            self.tree.tree.check(delta)
        cause = self.append(caller, position, kind, payload, subject=str(payload.get("by", "")) or None)
        with self._remembered("a change of the tree"):
            seq = self._put_delta(caller, position, delta, None, cause)
        self.sync()
        return seq

    def change_by_itself(self, delta: Delta) -> None:
        """Change the tree without anybody having asked; on the disk with the next ``write``."""
        self.tree.apply(delta, self.put(chain.NewEvent(TREE_SOURCE, delta.log_kind, delta.to_payload())))

    def append_batch(self, caller: Caller, position: int, events: Sequence[p.Event]) -> list[chain.Ack]:
        """Take several events of one request, all or none; errors as for ``append``."""
        source, producer, first = caller.source, caller.producer, position << _EVENT_BITS
        return self._append_many(
            [
                chain.NewEvent(source, event.kind, event.payload, event.subject, event.cause, producer, first + index)
                for index, event in enumerate(events)
            ]
        )

    def append_run(self, caller: Caller, run: Sequence[tuple[int, p.Append]]) -> list[chain.Ack]:
        """Take one event each of several requests of an agent, all or none; errors as for ``append``.

        Args:
            caller: who asks.
            run: positions and requests, none of which has a key.
        """
        source, producer, new = caller.source, caller.producer, chain.NewEvent
        return self._append_many(
            [
                new(source, one.kind, one.payload, one.subject, one.cause, producer, position << _EVENT_BITS)
                for position, one in run
            ]
        )

    def _append_many(self, events: list[chain.NewEvent]) -> list[chain.Ack]:
        self._dirty = True
        acks = self._writer.append_many(events)
        self._appends += len(events)
        return acks

    def forget(self, caller: Caller, position: int) -> None:
        """Let the log forget requests before ``position``: they will not come again. Cheap to call often."""
        if position - self._forgotten.get(caller.producer, 0) >= _FORGET_STEP:
            self._forgotten[caller.producer] = position
            self._writer.forget_before(caller.producer, position << _EVENT_BITS)

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Hand everything taken so far to the operating system: from here on it survives the end of this process.

        Raises:
            StorageFailed: the log has failed, now or before.
        """
        if not self._dirty:
            return
        self._dirty = False
        self._guarded(sync=False)
        if self.unsynced_since is None:
            self.unsynced_since = time.monotonic()

    def sync(self) -> None:
        """Bring everything taken so far onto the disk; errors as for ``write``."""
        self._dirty = self.sync_wanted = False
        self.unsynced_since = None
        self._guarded(sync=True)
        self._durable_groups += 1

    def checkpoint(self) -> None:
        """Begin a checkpoint of the log as it is, unless one is under way; errors as for ``write``."""
        self.collect_checkpoint()
        if self._checkpoints.pending is not None:
            return
        self._dirty = self.sync_wanted = False
        self.unsynced_since = None
        with self._remembered("a sync"):
            pending = self._writer.begin_checkpoint()
        if pending is not None:
            self.ledgers.fixed(self._writer.head)
            self._checkpoints.start(pending, self.ledgers.sealing.job(pending))

    def checkpoint_now(self) -> dict[str, Any]:
        """Make a checkpoint and wait for it; errors as for ``write``.

        Returns:
            Origin, size, root, id of the keys, and the signed note.
        """
        self._settle()
        with self._remembered("a checkpoint"):
            made = self._writer.checkpoint()
        assert made is not None, "the service's log is signed"
        with open(os.path.join(self.directory, CHECKPOINT_NAME), "rb") as file:
            note = file.read()
        if self._cosigned_size < made.size:
            note = self._cosign(made, note)
        return {
            "cosigned": self._cosigned_size >= made.size,
            "origin": made.origin,
            "size": made.size,
            "root": made.root,
            "pair_id": self._signer.public.pair_id,
            "note": note,
        }

    def rotate_keys(self) -> dict[str, Any]:
        """Hand the log over to a new pair of keys, and pin it.

        Raises:
            ConfigError, ChainError: the ring refuses.
            StorageFailed: the log cannot be written.
        """
        self._settle()
        with self._remembered("a change of keys"):
            rotation = rotate_keys(self._writer, self._signer)
        pin_keys(self._writer, self.directory, self._signer.public, self._known_logs)
        self._witnesses.handed_over(self._signer.public)
        return {"old": rotation.old.pair_id, "new": rotation.new.pair_id, "size": self._writer.head.seq + 1}

    def attest(self) -> dict[str, Any]:
        """Sign what this instance holds, and put that on the log; errors as for ``write``.

        Returns:
            The attestation as a payload, and the number of its record.
        """
        self._settle()
        with self._remembered("an attestation"):
            made = self._writer.checkpoint()
            assert made is not None, "the service's log is signed"
            head = self._writer.head
            attestation = attest(
                self._signer.sign_statement,
                self._signer.public.ed25519,
                epoch=made.size,
                head_hash=head.hash,
                size=made.size,
                roots={"log": made.root, "tree": self.tree.tree.root_hash()},
                t_ns=time.time_ns(),
            )
            ack = self._append(chain.NewEvent("chain", CUSTODY_KIND, attestation.to_payload()))
            self._writer.commit()
        return {"record": ack.seq, "origin": made.origin, "attestation": attestation.to_payload()}

    def redact(self, seq: int, reason: str, by: str) -> dict[str, Any]:
        """Take the payload of a record away for good; errors as for ``ChainWriter.redact``."""
        self._settle()
        self.retention.settle()
        with self._remembered("a redaction"):
            ack = self._writer.redact(seq, reason, by)
        self.ledgers.erased(seq, ack.seq, ack.hash)
        return {"seq": seq, "record": ack.seq}

    def retain(self) -> None:
        """Go on with archiving and pruning, if there is something to do; errors as for ``write``."""
        if self.failed is None and self.retention.is_due():
            with self._remembered("a step of archiving or pruning"):
                self.retention.turn()

    def _covered(self) -> int:
        """Records that may leave the log's folder, as far as checkpoints and witnesses go."""
        if self._witnesses.states:
            return self._cosigned_size
        return self._writer.checkpoints.size if self._writer.checkpoints is not None else 0

    def _keep_tree(self) -> None:
        data, reference = self.tree.snapshot(self._writer.head.seq)
        ack = self._append(chain.NewEvent(TREE_SOURCE, SNAPSHOT_KIND, reference.to_payload()))
        self._writer.commit()
        self.tree.keep(data, ack.seq)

    def _cosign(self, checkpoint: Checkpoint, note: bytes) -> bytes:
        note, signed = self._witnesses.cosign(checkpoint, note)
        if signed:
            replace_file(chain.RealFiles(), os.path.join(self.directory, CHECKPOINT_NAME), note)
        if signed >= self._witnesses.needed:
            self._cosigned_size = checkpoint.size
        return note

    def _settle(self) -> None:
        """Have no checkpoint under way, and nothing that is not on the disk."""
        self._dirty = self.sync_wanted = False
        self.unsynced_since = None
        self.collect_checkpoint(wait=True)

    def collect_checkpoint(self, *, wait: bool = False) -> None:
        """Take note of a checkpoint that is on the disk now; errors as for ``write``."""
        done = self._checkpoints.collect(wait=wait)
        if done is not None:
            with self._remembered("ending a checkpoint"):
                self._writer.end_checkpoint(*done)
            self.ledgers.covered()
            if done[0].witnesses >= self._witnesses.needed:
                self._cosigned_size = done[0].checkpoint.size

    def close(self) -> None:
        """Write, sync and make a checkpoint; errors as for ``write``."""
        try:
            self.collect_checkpoint(wait=True)
            self.retention.settle()
        finally:
            self.retention.end()
            self._checkpoints.close()
            try:
                with self._remembered("closing the log"):
                    self._close()
            finally:
                self.ledgers.close(self._writer.head if self.failed is None else None)

    def _seal_the_rest(self) -> None:
        made = self._writer.checkpoint()
        job = self.ledgers.sealing.job(made, last=True) if made is not None else None
        if job is not None:
            job.run()
            self.ledgers.sealing.collect()

    def _close(self) -> None:
        if self.failed is not None:
            self._writer.close()
            return
        kept = None
        if not self.tree.is_kept:
            data, reference = self.tree.snapshot(self._writer.head.seq)
            ack = self._append(chain.NewEvent(TREE_SOURCE, SNAPSHOT_KIND, reference.to_payload()))
            self.ledgers.derive_snapshot(ack.seq, reference.digest, self.tree.changes)
            kept = data, ack.seq
        self._seal_the_rest()
        self._writer.close()
        try:
            if kept is not None:
                self.tree.keep(*kept)
        except OSError as error:
            log.warning("the snapshot of the resource tree was not kept: %s; the next start reads the log", error)

    @contextmanager
    def _remembered(self, doing: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except StorageFailed as error:
            self._has_failed(error)
            raise
        _note_slow(doing, begun)

    def _has_failed(self, error: StorageFailed) -> None:
        if self.failed is None:
            log.error("the log in %s cannot be written any more: %s", self.directory, error)
        self.failed = str(error)
        self.unsynced_since = None

    def _guarded(self, *, sync: bool) -> None:
        with self._remembered("a sync" if sync else "a write"):
            self._writer.flush(sync)

    # --- looking ------------------------------------------------------------------------------------------------------

    def record(self, seq: int) -> chain.Record:
        """Return one record.

        Raises:
            ChainError: the log cannot be read, or has no such record.
        """
        self.write()
        return record_at(self.directory, seq)

    def tail(self, count: int) -> list[dict[str, Any]]:
        """Return the newest records, oldest first, as mappings of plain values.

        Raises:
            ChainError: the log cannot be read.
        """
        if self.failed is None:
            self.write()
        return [record.view() for record in chain.tail(self.directory, count)]

    def raw_records(self, seq: int, max_records: int, max_bytes: int) -> list[RawRecord]:
        """Return raw records from a number on; see ``Pages.read``.

        Raises:
            ChainError: the log cannot be read.
        """
        if self.failed is None:
            self.write()
        covered = self._writer.checkpoints.size if self._writer.checkpoints is not None else 0
        count = min(max(max_records, 1), limits.CHAIN_PAGE_RECORDS)
        return self._pages.read(max(seq, 0), count, min(max_bytes, limits.CHAIN_PAGE_BYTES), covered)

    def note(self) -> bytes:
        """Return the newest signed checkpoint.

        Raises:
            ChainError: it cannot be read.
        """
        return read_checkpoint(self.directory)

    def head(self) -> dict[str, Any]:
        """Return the state of the log as plain values."""
        writer, numbers = self._writer, self._writer.statistics()
        return {
            "state": "ok" if self.failed is None else "failed",
            "failure": self.failed or "",
            "records": writer.head.seq + 1,
            "head_seq": writer.head.seq,
            "head_hash": writer.head.hash.hex(),
            "dir": self.directory,
            "segments": numbers.segments,
            "bytes": numbers.bytes,
            "last_sync_seconds": numbers.last_sync_seconds,
            "appends_total": self._appends,
            "durable_groups": self._durable_groups,
            "mean_group": self._appends / self._durable_groups if self._durable_groups else 0.0,
            "checkpoint_size": writer.checkpoints.size if writer.checkpoints is not None else 0,
            "cosigned_size": self._cosigned_size,
            "witnesses": [
                {"name": one.key.name if one.key else "", "size": one.size, "problem": one.problem}
                for one in self._witnesses.states
            ],
            "seals": self.ledgers.sealing.status(),
            "pid": os.getpid(),
        }


def _note_slow(what: str, begun: float) -> None:
    took = time.monotonic() - begun
    if took > limits.SERVICE_SLOW_SYNC_S:
        log.warning("%s of the log took %.0f ms", what, took * 1000)

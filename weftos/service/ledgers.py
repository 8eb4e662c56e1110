"""What the service keeps beside the log: its index, the seals, the heads of foreign logs.

The journal writes; this decides what is kept of what was written, and when. A fault of the index never stops the log:
what needs the index fails, with its reason, and everything else goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from weftos import chain
from weftos.chain.index.index_facts import FACTS
from weftos.chain.index.log_index import LogIndex
from weftos.chain.records.record import Ack, Head, NewEvent
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation
from weftos.errors import ChainError, StorageFailed
from weftos.service import protocol as p
from weftos.service.bridges import Bridges
from weftos.service.clients import Caller
from weftos.service.derivations import check_derivation, derivation_of, snapshot_derivation
from weftos.service.keyed import earlier, full_key
from weftos.service.sealing import Sealing, SealSettings

__all__ = ["EVENT_BITS", "LedgerSettings", "Ledgers"]

#: Bits of a producer position that number the events of one request; see ``limits.SERVICE_BATCH_EVENTS``.
EVENT_BITS: Final = 16

log = logging.getLogger(__name__)


class LedgerSettings(msgspec.Struct, frozen=True):
    """Where it is kept.

    Attributes:
        tree_dir: folder of the snapshot of the resource tree; beside the log if empty.
        index_dir: folder of the index of the log; beside the log if empty.
        seals: the seals.
    """

    tree_dir: str = ""
    index_dir: str = ""
    seals: SealSettings = SealSettings()


class Ledgers:
    """See the head of this file.

    Args:
        settings: where it is kept.
        writer: of the log.
        directory: of the log; all of its records are in its files.
        known_logs: path of the file of pinned keys.
        append: takes an event onto the log.

    Attributes:
        index: of the log.
        bridges: heads of foreign logs.
        sealing: its seals.

    Raises:
        StorageFailed: the index cannot be made.
        ChainError: the log cannot be read.
    """

    def __init__(
        self,
        settings: LedgerSettings,
        writer: chain.ChainWriter,
        directory: str,
        known_logs: str,
        append: Callable[[NewEvent], Ack],
    ) -> None:
        self._append = append
        self._writer = writer
        folder = settings.index_dir or f"{directory}.index"
        self.index = LogIndex.open(folder, directory, writer.log_id, writer.head.seq + 1)
        if self.index.rebuilt:
            log.warning("the index of the log in %s was made anew: %s", folder, self.index.rebuilt)
        self.sealing = Sealing(settings.seals, writer.log_id, self.index, self.put)
        self.bridges = Bridges(known_logs, log_origin(writer.log_id), self.index, self.put)
        self._fixed: Head | None = None

    def put(self, event: NewEvent) -> Ack:
        """Take an event onto the log and into the index.

        Raises:
            AppendRefused: the event is not acceptable.
            StorageFailed: the log cannot be written; or the event has a key, and the index cannot.
        """
        ack = self._append(event)
        self.learn(event, ack)
        return ack

    def learn(self, event: NewEvent, ack: Ack) -> None:
        """Take an event into the index that is on the log.

        Raises:
            StorageFailed: it has a key, and the index cannot be written.
        """
        if event.key is not None:
            self.index.take(event, ack.seq, ack.hash)
        elif event.kind in FACTS:
            try:
                self.index.take(event, ack.seq, ack.hash)
            except StorageFailed as error:
                log.error("record %d is on the log and not in its index: %s", ack.seq, error)

    def derive_snapshot(self, seq: int, digest: bytes, changes: int) -> None:
        """Put on the log from what a snapshot of the resource tree came.

        Args:
            seq: number of the record of the snapshot.
            digest: of the snapshot, 32 bytes.
            changes: of the tree since the one before.

        Raises:
            StorageFailed: the log cannot be written.
        """
        try:
            step = snapshot_derivation(self.index, seq, digest, changes)
        except StorageFailed as error:
            log.error("the lineage of the tree's snapshot is not on the log: %s", error)
            return
        self.put(NewEvent("tree", LINEAGE_KIND, step.to_payload(), step.child, seq))

    def append_once(self, caller: Caller, position: int, key: str, request: p.Append) -> tuple[int, bytes]:
        """Take an agent's event under a key of its own onto the log, unless it is there.

        Args:
            caller: who asks.
            position: of the request.
            key: as the agent named it.
            request: the event.

        Returns:
            Number and hash of its record.

        Raises:
            IdempotencyConflict: the key has another event.
            AppendRefused, StorageFailed: as for ``put``.
        """
        event = NewEvent(
            caller.source,
            request.kind,
            request.payload,
            request.subject,
            request.cause,
            position=position << EVENT_BITS,
            key=full_key(caller.scope, key),
        )
        known = earlier(self.index, event)
        if known is not None:
            return known.seq, known.hash
        ack = self.put(event)
        return ack.seq, ack.hash

    def derive(self, caller: Caller, position: int, step: Derivation) -> Ack:
        """Take a derivation that names a thing of the caller's.

        Raises:
            LineageRefused: it does not fit what is on the log.
            AppendRefused, StorageFailed: as for ``put``.
        """
        full = derivation_of(caller.scope, step)
        place = caller.producer, position << EVENT_BITS
        event = NewEvent(caller.source, LINEAGE_KIND, full.to_payload(), full.child, None, *place)
        # A request that is read again finds its own record, and must not be told that it is there already.
        if self._writer.submitted(event) is None:
            check_derivation(self.index, full)
        return self.put(event)

    def fixed(self, head: Head) -> None:
        """Note that everything up to a record is on the disk, and that a checkpoint of it is being made."""
        self._fixed = head

    def covered(self) -> None:
        """Note that this checkpoint is made: the index is complete so far, and a seal may be ready.

        Raises:
            StorageFailed: the log cannot be written.
        """
        head, self._fixed = self._fixed, None
        if head is not None:
            self.settle(head)
        self.sealing.collect()

    def settle(self, head: Head) -> None:
        """Let the index be complete up to a record that is on the disk."""
        try:
            self.index.commit(head)
        except StorageFailed as error:
            log.error("%s", error)

    def secure(self, size: int) -> None:
        """Bring the index onto the disk, because the records that it was made from may go.

        Args:
            size: records that may go.

        Raises:
            ChainError: it cannot be, or it is not complete so far.
        """
        try:
            complete = self.index.secure()
        except StorageFailed as error:
            raise ChainError(f"nothing is pruned, because the index could not be made again: {error}") from error
        if complete < size:
            raise ChainError(
                f"nothing is pruned: the index of the log is complete up to {complete} records, not {size}"
            )

    def erased(self, seq: int, record: int, digest: bytes) -> None:
        """Forget the content of a record whose payload was taken away, as another record says."""
        try:
            self.index.take(NewEvent("chain", "chain.redacted", {"seq": seq}), record, digest)
            self.index.forget_erased()
        except StorageFailed as error:
            log.error("%s", error)

    def close(self, head: Head | None) -> None:
        """Give it up, after the log is closed with this head; ``None`` if it failed, and nobody knows how far it is."""
        if head is not None:
            self.settle(head)
        self.index.close()

"""Seals of the log: when one is due, who makes it, and what happens after a crash.

    loop      ─ a checkpoint begins ─▶ due? ─▶ a job with its size and root ─┐        ┌─▶ record log.seal
    thread                                                                   └─ seal ─┘
    operator  ─ weaver chain seal init ─▶ state file          (the first key goes with him, it was never here)

Why it is as it is: a seal needs the Merkle root over what it seals and some syncs. The root is that of the checkpoint
which is being made anyway, and the thread that writes the checkpoint makes the seal behind it, so the loop waits for
neither. The state file appears while the service runs; whoever makes it sees its first key, and nobody else does.

Guaranteed: each seal covers everything from the first record up to a signed checkpoint, all of it on the disk. The old
key is gone before the seal is on the log; a seal that a crash kept from the log is put there when it is opened next. A
fault of the seals (a damaged state, an older copy put back) never stops the log: sealing stops, and the status says
why.
Single-threaded but for ``SealJob.run``; while a job is under way nobody else touches the state.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from weftos import limits
from weftos.chain.index.log_index import LogIndex
from weftos.chain.records.record import Ack, NewEvent
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.statements.seals import SEAL_KIND, Seal, SealState
from weftos.chain.writing.checkpointing import PendingCheckpoint
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ChainError, ConfigError, StorageFailed

__all__ = ["SealJob", "SealSettings", "Sealing"]

log = logging.getLogger(__name__)


class SealSettings(msgspec.Struct, frozen=True):
    """When a seal is made.

    Attributes:
        path: of the state file; empty for a log that is never sealed.
        seconds: between two seals, at least, unless ``records`` have come.
        records: so many new ones call for a seal at once.
    """

    path: str = ""
    seconds: float = limits.SEAL_INTERVAL_S
    records: int = limits.SEAL_RECORDS


class SealJob:
    """One seal to be made.

    Attributes:
        seal: once it is made.
        failure: why it was not.
    """

    def __init__(self, state: SealState, checkpoint: Checkpoint | PendingCheckpoint) -> None:
        self._state = state
        self._checkpoint = checkpoint
        self.seal: Seal | None = None
        self.failure = ""

    def run(self) -> None:
        """Make it. May run in another thread."""
        try:
            self.seal = self._state.seal(0, self._checkpoint.size, self._checkpoint.root)
        except (ChainError, ConfigError) as error:
            self.failure = str(error)


class Sealing:
    """The seals of the log that the service writes.

    Args:
        settings: where the state is, and when a seal is due.
        log_id: of the log, 16 bytes.
        index: of the log; knows the newest seal on it.
        put: appends an event.
        wall: tells the time, seconds since 1970.
    """

    def __init__(
        self,
        settings: SealSettings,
        log_id: bytes,
        index: LogIndex,
        put: Callable[[NewEvent], Ack],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._log_id = log_id
        self._index = index
        self._put = put
        self._wall = wall
        self._state: SealState | None = None
        self._problem = ""
        self._looked = float("-inf")
        self._made_at = float("-inf")
        self._job: SealJob | None = None

    def look(self) -> None:
        """Take up the state file if there is one now, and put on the log what a crash kept from it."""
        try:
            self._look()
        except StorageFailed as error:
            self._stop(str(error))

    def _look(self) -> None:
        path = self._settings.path
        if self._state is not None or not path or not os.path.lexists(path):
            return
        now = self._wall()
        if self._problem and 0 <= now - self._looked < self._settings.seconds:
            return
        self._looked = now
        try:
            state = SealState.open(RealSecretFiles(), path, self._log_id)
        except (ChainError, ConfigError) as error:
            self._stop(str(error))
            return
        last, newest = state.last, self._index.newest(SEAL_KIND)
        if last is not None and (newest is None or newest.name != last.mac.hex()):
            if self._index.newest(SEAL_KIND, last.mac.hex()) is not None:
                self._stop(
                    f"{path} is an older copy: the log has newer seals than its last, of epoch {last.epoch}. Remove it "
                    "and make a new state: weaver chain seal init"
                )
                return
            log.info("the seal of epoch %d was made and not on the log; it is put there", last.epoch)
            self._put(NewEvent("chain", SEAL_KIND, last.to_payload()))
        self._state, self._problem = state, ""
        log.info("the log is sealed from here on; the next seal has epoch %d", state.epoch)

    def job(self, checkpoint: Checkpoint | PendingCheckpoint, *, last: bool = False) -> SealJob | None:
        """Return the seal that is to be made behind a checkpoint; ``None`` if none is due.

        Args:
            checkpoint: that is being made.
            last: the log is about to be closed.
        """
        self.look()
        try:
            return self._due(checkpoint, last=last)
        except StorageFailed as error:
            self._stop(str(error))
            return None

    def _due(self, checkpoint: Checkpoint | PendingCheckpoint, *, last: bool) -> SealJob | None:
        state = self._state
        if state is None:
            return None
        newest = self._index.newest(SEAL_KIND)
        sealed = state.last.end if state.last is not None else 0
        # A seal is itself a record; alone it calls for no other.
        own = newest is not None and state.last is not None and newest.seq >= sealed
        if checkpoint.size - sealed - own <= 0:
            return None
        waited = self._wall() - self._made_at
        settings = self._settings
        # A clock that was set back counts as a wait that is over.
        if not (last or checkpoint.size - sealed >= settings.records or not 0 <= waited < settings.seconds):
            return None
        self._job = SealJob(state, checkpoint)
        return self._job

    def collect(self) -> None:
        """Put the seal on the log that the job made.

        Raises:
            StorageFailed: the log cannot be written; the seal is put there when it is opened next.
        """
        job, self._job = self._job, None
        if job is None:
            return
        if job.seal is None:
            self._stop(job.failure or "the checkpoint was not made")
            return
        self._made_at = self._wall()
        self._put(NewEvent("chain", SEAL_KIND, job.seal.to_payload()))

    def status(self) -> dict[str, Any]:
        """Return what is known of the seals, as plain values; a state that was just made counts."""
        self.look()
        try:
            newest = self._index.newest(SEAL_KIND)
        except StorageFailed:
            newest = None  # the problem says so
        return {
            "on": self._state is not None,
            "problem": self._problem,
            "epoch": newest.value["epoch"] if newest is not None else 0,
            "sealed": newest.value["end"] if newest is not None else 0,
            "record": newest.seq if newest is not None else -1,
        }

    def _stop(self, problem: str) -> None:
        if problem != self._problem:
            log.error("the log is not sealed: %s", problem)
        self._state, self._problem = None, problem

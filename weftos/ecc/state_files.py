"""What a store of the cognitive layer keeps on disk: a snapshot of its state, and a journal of the changes since.

Guaranteed: what :meth:`StateFiles.sync` returned for is there after a kill at any point; each record of the journal is
there whole or not at all. A snapshot that was altered, or does not belong to the journal, is an error. The caller holds
the lock of the folder. Format in docs/formats/causal.md.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.disk.files import Files, replace_file
from weftos.ecc.journal import Journal, read_head
from weftos.errors import EccError, JournalDamaged, JournalFailed

__all__ = ["State", "StateFiles", "StateStore"]

_MAGIC_BYTES: Final = 8
_DIGEST_BYTES: Final = 32


class State(Protocol):
    """What is kept. Contents are bytes of MessagePack; whoever reads them raises ``EccError`` or ``MsgspecError``."""

    def dump(self, generation: int) -> bytes:
        """Return everything, and the generation, as the body of a snapshot."""

    def load(self, body: bytes) -> int:
        """Become what the body of a snapshot says, from being empty, and return its generation."""

    def replay(self, content: bytes) -> None:
        """Make the changes of one record of the journal again."""


class StateFiles:
    """The files ``NAME.snapshot`` and ``NAME.journal`` of one state.

    Args:
        fs: the calls on files.
        folder: an existing folder, locked by the caller.
        name: of the files, and kind of the journal; at most 16 ASCII characters.
        magic: the first 8 bytes of the snapshot.
        state: an empty one; filled from the files.

    Raises:
        JournalDamaged: the files are not what was written.
        OSError: a call failed.
    """

    def __init__(self, fs: Files, folder: str, name: str, magic: bytes, state: State) -> None:
        assert len(magic) == _MAGIC_BYTES, "a magic has 8 bytes"
        self._fs = fs
        self._name = name
        self._magic = magic
        self._state = state
        self._snapshot_path = os.path.join(folder, f"{name}.snapshot")
        self._journal_path = os.path.join(folder, f"{name}.journal")
        self._failed = False
        if not os.path.lexists(self._snapshot_path):
            if os.path.lexists(self._journal_path):
                raise JournalDamaged(f"{self._snapshot_path} is missing, but its journal is there; restore it")
            self._write_snapshot(1)
        self._journal = self._open_journal(self._read_snapshot())

    @property
    def journal_bytes(self) -> int:
        """Bytes of the journal once everything appended is written."""
        return self._journal.size

    @property
    def outgrown(self) -> bool:
        """Whether the journal has become so large beside the snapshot that :meth:`compact` is worth its cost."""
        bound = max(limits.ECC_JOURNAL_CUT_BYTES, limits.ECC_JOURNAL_CUT_RATIO * self._snapshot_bytes)
        return self._journal.size > bound

    def append(self, content: bytes) -> None:
        """Add a record to the journal; it is on disk with the next :meth:`sync`.

        Raises:
            JournalFailed: an earlier call failed, or the record is too large. State and files differ: open again.
        """
        self.check()
        try:
            self._journal.append(content)
        except JournalFailed:
            self._failed = True
            raise

    def check(self) -> None:
        """Do nothing if changes can be kept.

        Raises:
            JournalFailed: an earlier call failed; open the store again.
        """
        if self._failed:
            raise JournalFailed(f"{self._journal_path}: failed before; open the store again")

    def sync(self) -> None:
        """Bring every record onto the disk.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self.check()
        try:
            self._journal.sync()
        except JournalFailed:
            self._failed = True
            raise

    def compact(self) -> None:
        """Write the whole state as a snapshot and begin the journal anew.

        Raises:
            JournalFailed: it did not work. What was synced is kept; open the store again.
        """
        self.check()
        generation = self._journal.generation + 1
        # Until both files agree, what the journal follows is not known.
        self._failed = True
        self._journal.sync()
        try:
            self._write_snapshot(generation)
        except OSError as error:
            raise JournalFailed(f"{self._snapshot_path}: {error.strerror}; open the store again") from error
        self._journal.cut(generation)
        self._failed = False

    def close(self) -> None:
        """Close the files; what was not synced is dropped."""
        self._journal.close()

    def _open_journal(self, generation: int) -> Journal:
        if not os.path.lexists(self._journal_path):
            if generation != 1:
                raise JournalDamaged(f"{self._journal_path} is missing; restore it")
            return Journal.create(self._fs, self._journal_path, self._name, generation)
        found = read_head(self._journal_path, self._name).generation
        if found > generation:
            raise JournalDamaged(
                f"{self._journal_path} follows snapshot {found}, but {self._snapshot_path} is {generation}; restore it"
            )
        if found < generation:  # killed between snapshot and journal: the snapshot holds what the journal says
            return Journal.create(self._fs, self._journal_path, self._name, generation)
        return Journal.open(self._fs, self._journal_path, self._name, self._replay)

    def _replay(self, content: bytes) -> None:
        try:
            self._state.replay(content)
        except (msgspec.MsgspecError, EccError) as error:
            raise JournalDamaged(f"{self._journal_path}: a change cannot be made again: {error}") from error

    def _write_snapshot(self, generation: int) -> None:
        body = self._state.dump(generation)
        replace_file(self._fs, self._snapshot_path, self._magic + blake3(body).digest() + body)
        self._snapshot_bytes = len(body)

    def _read_snapshot(self) -> int:
        with open(self._snapshot_path, "rb") as file:
            raw = file.read()
        digest, body = raw[_MAGIC_BYTES : _MAGIC_BYTES + _DIGEST_BYTES], raw[_MAGIC_BYTES + _DIGEST_BYTES :]
        if raw[:_MAGIC_BYTES] != self._magic or digest != blake3(body).digest():
            raise JournalDamaged(f"{self._snapshot_path} is not the snapshot that was written; restore it from a copy")
        self._snapshot_bytes = len(body)
        try:
            return self._state.load(body)
        except (msgspec.MsgspecError, EccError) as error:
            raise JournalDamaged(f"{self._snapshot_path}: its content makes no {self._name}: {error}") from error


class StateStore:
    """A state with its files, kept by changes that become one record with each :meth:`sync`.

    Subclasses change their state, and hand every change to :meth:`_add`.

    Args:
        fs: the calls on files.
        folder: an existing folder, locked by the caller.
        name: as for :class:`StateFiles`.
        magic: as for :class:`StateFiles`.
        state: an empty one; filled from the files.

    Raises:
        JournalDamaged: the files are not what was written.
        OSError: a call failed.
    """

    def __init__(self, fs: Files, folder: str, name: str, magic: bytes, state: State) -> None:
        self._files = StateFiles(fs, folder, name, magic, state)
        #: Changes that no record holds yet, each as MessagePack.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def sync(self) -> None:
        """Bring every change so far onto the disk; the journal is cut when it has outgrown the snapshot.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._flush()
        self._files.sync()
        if self._files.outgrown:
            self._files.compact()

    def compact(self) -> None:
        """Write everything as a snapshot and begin the journal anew.

        Raises:
            JournalFailed: it did not work. What was synced is kept; open the store again.
        """
        self._flush()
        self._files.compact()

    def close(self) -> None:
        """Close the files; what was not synced is dropped."""
        self._files.close()

    def _check(self) -> None:
        """Do nothing if changes can be kept; ``JournalFailed`` if an earlier call on the files failed."""
        self._files.check()

    def _add(self, encoded: bytes) -> None:
        """Add a change, encoded; beyond ``ECC_CHANGES_BYTES`` those before become a record of their own."""
        if self._waiting_bytes + len(encoded) > limits.ECC_CHANGES_BYTES:
            self._flush()
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded)

    def _flush(self) -> None:
        """Make a record of the changes: an array of MessagePack, written as a whole or not at all."""
        if self._waiting:
            changes = [msgspec.Raw(change) for change in self._waiting]
            self._waiting, self._waiting_bytes = [], 0
            self._files.append(msgspec.msgpack.encode(changes))

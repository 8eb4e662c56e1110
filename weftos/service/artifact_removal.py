"""What a collection is about to remove, kept beside the store until it is done, so that a successor can finish it.

Why it is as it is: the log says what goes before it goes. After a crash between the two somebody must go on, and
looking for an unfinished collection in a whole log would make every start slow. So a small file says where to look. It
is a hint: the list that counts is the one in the record, and without the record nothing is removed.

Guaranteed: what the record lists and what nobody has put again since is gone once ``finish`` has returned. Not
guaranteed: that it goes if the file was taken away; then the next collection finds it loose again.
"""

from __future__ import annotations

import logging
import os
from typing import Final

import msgspec

from weftos import chain
from weftos.artifacts import ArtifactStore
from weftos.artifacts.collecting import Removed
from weftos.artifacts.holding import GC, Holdings
from weftos.disk.files import RealFiles, replace_file
from weftos.errors import ArtifactStorageFailed, WeftError

__all__ = ["PendingRemoval", "RemovalNote"]

log = logging.getLogger(__name__)

_NAME: Final = "removal"


class RemovalNote(msgspec.Struct, frozen=True):
    """The note: a collection begins.

    Attributes:
        id: random hex digits; the record has the same.
        start: number of the first record among which its record can be.
        before_ns: what was put later stays, nanoseconds since 1970 UTC.
    """

    id: str
    start: int
    before_ns: int


class PendingRemoval:
    """The note on the disk.

    Args:
        store: that the removal is about; the note lies in its folder.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._path = os.path.join(store.directory, _NAME)

    def announce(self, note: RemovalNote) -> None:
        """Write the note down, before the record.

        Raises:
            ArtifactStorageFailed: it cannot be written.
        """
        try:
            replace_file(RealFiles(), self._path, msgspec.json.encode(note))
        except OSError as error:
            raise ArtifactStorageFailed(f"a collection cannot be announced in {self._path}: {error}") from error

    def carry_out(self, hashes: list[str], before_ns: int) -> Removed:
        """Remove what the record lists, and then the note.

        Raises:
            ArtifactStorageFailed: a file call failed; the note is still there.
        """
        done = self._store.remove(hashes, before_ns)
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            log.debug("%s was gone already", self._path)
        except OSError as error:
            raise ArtifactStorageFailed(f"{self._path} cannot be removed: {error}") from error
        return done

    def finish(self, chain_dir: str) -> Removed | None:
        """Go on with what a predecessor announced and put on the log; nothing if there is nothing to finish.

        Raises:
            WeftError: the log cannot be read, or a file call failed.
        """
        try:
            with open(self._path, "rb") as file:
                note = msgspec.json.decode(file.read(1024), type=RemovalNote)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s is of no use: %s; the next collection finds what it was about", self._path, error)
            return self.carry_out([], 0)
        going: list[str] = []
        since = Holdings()
        for record in chain.read(chain_dir, start=note.start):
            since.take(record.seq, record.header.boot_id, record.kind, record.payload)
            if record.kind == GC and record.payload.get("id") == note.id:
                going = [str(one) for one in record.payload["hashes"]]
        # If the removal failed and the service lived on, what was left could be named again.
        held = since.hashes()
        done = self.carry_out([digest for digest in going if digest not in held], note.before_ns)
        if going:
            log.info("a collection that was cut off is finished: %d artifacts removed", len(done.hashes))
        return done

    def try_to_finish(self, chain_dir: str) -> None:
        """As ``finish``; a failure is logged, because artifacts that stay too long keep nobody from starting."""
        try:
            self.finish(chain_dir)
        except WeftError as error:
            log.error("a collection of artifacts cannot be finished: %s; `weaver artifact gc` tries again", error)

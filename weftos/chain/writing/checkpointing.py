"""Making checkpoints: tiles first, then the signed note, then the high-water mark.

Why it is as it is: signing with ML-DSA-65 and bringing a file onto the disk take milliseconds, during which the writer
could take hundreds of records. So a checkpoint has three steps: its content is fixed and its tiles are written by the
writer, at a moment when all of it is on the disk; the slow part touches nothing of the writer's and may run in another
thread; then the writer learns that it is done.

Guaranteed: a checkpoint is on the disk only after the records that it covers are, and whole or not at all. The
high-water mark follows it. No checkpoint is ever signed below an earlier one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

from weftos.chain.folder.segments import CHECKPOINT_NAME
from weftos.chain.signing.checkpoint import Checkpoint, log_origin
from weftos.chain.signing.log_signer import Signer
from weftos.disk.files import Files, replace_file

__all__ = ["Checkpoints", "PendingCheckpoint", "Tiles"]


class Tiles(Protocol):
    """The tree of a log and its tiles, wherever they are made; ``TileStore`` makes them at once, here.

    Attributes:
        size: leaves handed over so far.
    """

    @property
    def size(self) -> int:
        """Leaves handed over so far."""
        ...

    def extend(self, entries: Sequence[bytes]) -> None:
        """Append entries; see ``TileStore.extend``."""
        ...

    def publish(self) -> Callable[[], bytes]:
        """Order the tiles at the right edge; see ``TileStore.publish``.

        Returns:
            Waits until they are written, and returns the root. May be called once, in another thread.
        """
        ...

    def forget_old(self) -> None:
        """Remove partial tiles that nobody needs any more; see ``TileStore.forget_old``."""
        ...

    def keep_edge(self, size: int) -> None:
        """Never remove the partial tiles of a size; see ``TileStore.keep_edge``."""
        ...

    def close(self) -> None:
        """Give up what is held to make them; idempotent."""
        ...


class PendingCheckpoint:
    """A checkpoint whose records are written and whose tiles are ordered, and that is to be signed.

    Attributes:
        size: records that it covers.
        note: the signed note, once it is written.
        witnesses: how many have cosigned it.
    """

    def __init__(
        self, origin: str, size: int, root: Callable[[], bytes], signer: Signer, directory: str, fs: Files
    ) -> None:
        self._origin = origin
        self.size = size
        self._root = root
        self.note = b""
        self.witnesses = 0
        self._signer = signer
        self._path = os.path.join(directory, CHECKPOINT_NAME)
        self._fs = fs

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What it says; waits for the tiles when it is first asked for.

        Raises:
            OSError: a tile cannot be written.
        """
        return Checkpoint(self._origin, self.size, self._root())

    @property
    def root(self) -> bytes:
        """Of the tree, 32 bytes; as ``checkpoint``."""
        return self.checkpoint.root

    def write(self) -> None:
        """Sign it, and bring it onto the disk. May run in another thread than the writer.

        Raises:
            OSError: a call failed; the old checkpoint is still there, or already the new one.
        """
        self.note = self._signer.sign(self.checkpoint)
        replace_file(self._fs, self._path, self.note)
        self._signer.raise_high_water(self.checkpoint, self._fs)

    def add_cosignatures(self, note: bytes, witnesses: int) -> None:
        """Bring the note onto the disk again, with the signatures of witnesses.

        Raises:
            OSError: a call failed; the note without them is still there.
        """
        self.note, self.witnesses = note, witnesses
        replace_file(self._fs, self._path, note)


class Checkpoints:
    """The tree of a log that is written, and its checkpoints.

    Args:
        fs: file calls.
        directory: of the log.
        signer: its keys.
        tiles: the tree over what is in the log.
        log_id: 16 bytes.
        newest: the newest checkpoint, or ``None``.

    Attributes:
        newest: as above; moves on.
    """

    def __init__(
        self, fs: Files, directory: str, signer: Signer, tiles: Tiles, log_id: bytes, newest: Checkpoint | None
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._signer = signer
        self._tiles = tiles
        self._origin = log_origin(log_id)
        self.newest = newest

    @property
    def size(self) -> int:
        """Records that the newest checkpoint covers."""
        return self.newest.size if self.newest is not None else 0

    def extend(self, entries: list[bytes]) -> None:
        """Take records that were written, by their header parts.

        Raises:
            OSError: a tile cannot be written.
        """
        self._tiles.extend(entries)

    def keep_edge(self, size: int) -> None:
        """Keep the partial tiles of the tree of a size that is about to be pruned to; see ``TileStore``."""
        self._tiles.keep_edge(size)

    def make_tiles_with(self, move: Callable[[Tiles], Tiles]) -> None:
        """Have the tiles made elsewhere from now on.

        Args:
            move: takes what makes them now, and returns what makes them from now on.
        """
        self._tiles = move(self._tiles)

    def close(self) -> None:
        """Give up what makes the tiles."""
        self._tiles.close()

    def begin(self) -> PendingCheckpoint | None:
        """Fix a checkpoint of everything taken so far, which must be on the disk; ``None`` if there is nothing new.

        Raises:
            OSError: a tile cannot be written.
        """
        if self.newest is not None and self._tiles.size == self.newest.size:
            return None
        root = self._tiles.publish()
        return PendingCheckpoint(self._origin, self._tiles.size, root, self._signer, self._directory, self._fs)

    def end(self, pending: PendingCheckpoint) -> None:
        """Learn that a checkpoint was written, and remove tiles that only older ones needed.

        Raises:
            OSError: a tile cannot be removed.
        """
        self.newest = pending.checkpoint
        self._tiles.forget_old()

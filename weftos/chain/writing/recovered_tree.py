"""The Merkle tree of a log that is being opened: from its tiles if they are good, from its records if not.

Why it is as it is: tiles are not synced, so after a loss of power they may be missing or stale; and somebody may have
changed them. Either way the records decide: the tree is made again from them, and its root at the checkpoint's size
must be the one that was signed. If it is, the tiles were at fault; if not, the records were.

Guaranteed: the tree that comes out has the signed root at the signed size, and covers every record up to the end.
"""

from __future__ import annotations

import os
from hashlib import sha256

from weftos.chain.folder.segments import Listing
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FrameReader, decode_segment_header
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.retention.prune_check import check_under
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.statements.pruned_file import PRUNED_NAME, Pruned
from weftos.chain.tiles.tile_paths import TILE_WIDTH
from weftos.chain.tiles.tile_store import TileStore, read_tile
from weftos.disk.files import Files, ReadFile
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import EMPTY_ROOT

__all__ = ["RecoveredTree"]


class RecoveredTree:
    """Takes the records of a log as they are read.

    Args:
        directory: of the log.
        fs: for the tiles that are written.
        checkpoint: the signed one, or ``None`` if nothing was signed yet.
        pruned: where the log begins, if its beginning was pruned.
    """

    def __init__(self, directory: str, fs: Files, checkpoint: Checkpoint | None, pruned: Pruned | None = None) -> None:
        self._pruned = pruned
        self._directory = directory
        self._fs = fs
        self._size = checkpoint.size if checkpoint is not None else 0
        self._root = checkpoint.root if checkpoint is not None else EMPTY_ROOT
        self._tiles = self._resumed()

    def _resumed(self) -> TileStore | None:
        try:
            tiles = TileStore.resume(self._fs, self._directory, self._size)
        except ChainCorrupted:
            return None
        if self._pruned is not None:
            tiles.keep_edge(self._pruned.size)
        return tiles if tiles.tree.root() == self._root else None

    def take(self, first_seq: int, entries: list[bytes]) -> None:
        """Take records in a row.

        Args:
            first_seq: number of the first.
            entries: their header parts.
        """
        tiles = self._tiles
        if tiles is None:
            return
        known = max(min(self._size - first_seq, len(entries)), 0)
        if known and not self._agree(first_seq, entries[:known]):
            self._tiles = None
        elif len(entries) > known:
            if first_seq + known == tiles.size:
                tiles.extend(entries[known:])
            else:
                self._tiles = None  # records in between were not read

    def _agree(self, first_seq: int, entries: list[bytes]) -> bool:
        """Whether the tiles say the same of records before the checkpoint."""
        at = 0
        while at < len(entries):
            index, begin = divmod(first_seq + at, TILE_WIDTH)
            width = min(TILE_WIDTH, self._size - index * TILE_WIDTH)
            try:
                hashes = read_tile(self._directory, 0, index, width)
            except ChainCorrupted:
                return False
            part = entries[at : at + width - begin]
            if [sha256(b"\0" + entry).digest() for entry in part] != hashes[begin : begin + len(part)]:
                return False
            at += len(part)
        return True

    def finish(self, size: int, listing: Listing) -> TileStore:
        """Return the tree over all records.

        Args:
            size: records in the log.
            listing: its files.

        Raises:
            ChainCorrupted: the records are not those that were signed for.
            OSError: a file cannot be read or written.
        """
        tiles = self._tiles
        if tiles is not None and tiles.size == size:
            if self._pruned is None:
                return tiles
            try:
                check_under(self._directory, self._pruned, self._size, self._root)
            except ChainCorrupted:
                pass  # the tiles may be at fault; the records decide
            else:
                return tiles
        tiles = self._rebuilt(listing)
        if self._pruned is not None:
            self._vouch(self._pruned, tiles)
        return tiles

    def _vouch(self, pruned: Pruned, tiles: TileStore) -> None:
        """Refuse a beginning of which no signed record says that it was pruned; the tiles were made again."""
        if pruned.seq >= self._size:
            path = os.path.join(self._directory, PRUNED_NAME)
            raise ChainCorrupted(f"{path} names record {pruned.seq}, which no checkpoint covers", path=path)
        tiles.publish()
        check_under(self._directory, pruned, tiles.size, tiles.tree.root())

    def _base(self) -> TileStore:
        """Return the tree over what was pruned, of which the tiles are all that is left."""
        pruned = self._pruned
        if pruned is None:
            return TileStore(self._fs, self._directory)
        path = os.path.join(self._directory, PRUNED_NAME)
        try:
            tiles = TileStore.resume(self._fs, self._directory, pruned.size)
        except ChainCorrupted as error:
            raise ChainCorrupted(
                f"the tiles over the {pruned.size} records that were pruned are gone ({error}); put them back from a "
                "copy, or restore the log from its archive with `weaver chain restore`",
                path=path,
            ) from error
        if tiles.tree.root() != pruned.root or pruned.size > self._size:
            raise ChainCorrupted(f"{path} and the tiles of the log contradict each other", path=path)
        tiles.keep_edge(pruned.size)
        return tiles

    def _rebuilt(self, listing: Listing) -> TileStore:
        tiles = self._base()
        self._compare(tiles, listing.path(listing.segments[0]))
        for number in listing.segments:
            path = listing.path(number)
            with ReadFile(path) as file:
                reader = FrameReader(file)
                header = decode_segment_header(next(iter(reader)))
                cursor = Cursor(header.log_id, header.first_seq, header.prev_hash)
                for found in Scanner(file, reader.offset, cursor, kinds=frozenset()):
                    if isinstance(found, Batch):
                        self._extend(tiles, path, found.entries)
                        continue
                    record = cursor.take(found.body)
                    if record is None or cursor.findings:
                        finding = cursor.findings[0]
                        raise ChainCorrupted(
                            f"{path}, offset {found.offset}: {finding.code}: {finding.detail}",
                            path=path,
                            offset=found.offset,
                        )
                    self._extend(tiles, path, [record.header_bytes])
        return tiles

    def _extend(self, tiles: TileStore, path: str, entries: list[bytes]) -> None:
        short = self._size - tiles.size
        if 0 < short <= len(entries):
            tiles.extend(entries[:short])
            self._compare(tiles, path)
            entries = entries[short:]
        tiles.extend(entries)

    def _compare(self, tiles: TileStore, path: str) -> None:
        if tiles.size == self._size and tiles.tree.root() != self._root:
            raise ChainCorrupted(
                f"{path}: rewritten: the first {self._size} records are not those that the checkpoint was signed for",
                path=path,
                offset=0,
            )

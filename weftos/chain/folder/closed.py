"""Closed segments: which there are, and that one is what the log's keys have signed for.

Why it is as it is: before a segment is copied or taken away somebody must have looked at all of it. A closed one never
grows, so that can be done beside the writer; what it must be compared with, the signed tree, is small and fixed at the
beginning. The walk yields between steps, so that it can be broken off, and holds one window of the file.

Guaranteed: after ``Span.walk`` the records between the two sizes are those under the checkpoint that the span was made
for, whole and in order. Not guaranteed: that a payload which is gone was redacted; ``verify`` tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256

import msgspec

from weftos.chain.folder.reader import segment_header
from weftos.chain.folder.segments import Listing
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FrameReader, decode_segment_header
from weftos.chain.records.record import Record, encode_header
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.tiles.tile_tree import TileTree, frontier_at
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier
from weftos.merkle.proofs import consistency_proof, verify_consistency

__all__ = ["Closed", "Span", "closed_segments"]


class Closed(msgspec.Struct, frozen=True):
    """A segment that nobody writes to any more.

    Attributes:
        number: of the segment.
        first_seq: number of its first record.
        next_seq: number of the first record behind it.
        prev_hash: hash of the record before its first, 32 bytes.
        head_hash: hash of its last record, 32 bytes.
        log_id: 16 bytes.
        end_ns: when the next segment was begun: no record in it is younger. Nanoseconds since 1970 UTC.
        size_bytes: of its file.
    """

    number: int
    first_seq: int
    next_seq: int
    prev_hash: bytes
    head_hash: bytes
    log_id: bytes
    end_ns: int
    size_bytes: int


def closed_segments(listing: Listing) -> list[Closed]:
    """Return the closed segments of a log, oldest first.

    Raises:
        OSError: one cannot be read.
        ChainCorrupted: one does not begin as a segment does.
    """
    found: list[Closed] = []
    before = None
    for number in listing.segments:
        path = listing.path(number)
        with ReadFile(path) as file:
            header = segment_header(file)
        if before is not None:
            found.append(
                Closed(
                    number=before.number,
                    first_seq=before.first_seq,
                    next_seq=header.first_seq,
                    prev_hash=before.prev_hash,
                    head_hash=header.prev_hash,
                    log_id=header.log_id,
                    end_ns=header.t_ns,
                    size_bytes=os.path.getsize(listing.path(before.number)),
                )
            )
        before = header
    return found


class Span:
    """The records of segments in a row, tied to a checkpoint.

    Args:
        listing: files of the log.
        segments: in a row, not empty.
        checkpoint: signed; covers all of them, and its tiles are there.

    Attributes:
        segments: as given.
        root: of the tree of everything up to their end, 32 bytes.
        edge: partial tiles of that tree, by their paths.

    Raises:
        ChainCorrupted: a tile is missing.
        ProofInvalid: the tiles do not lead to the checkpoint's root.
    """

    def __init__(self, listing: Listing, segments: list[Closed], checkpoint: Checkpoint) -> None:
        self.segments = segments
        self._paths = {one.number: listing.path(one.number) for one in segments}
        begin, end = segments[0].first_seq, segments[-1].next_seq
        assert end <= checkpoint.size, "the checkpoint covers them"
        tree = TileTree(listing.directory, checkpoint.size)
        self.root = frontier_at(listing.directory, end, checkpoint.size).root()
        proof = consistency_proof(end, checkpoint.size, tree.node)
        verify_consistency(end, self.root, checkpoint.size, checkpoint.root, proof)
        self._base = frontier_at(listing.directory, begin, checkpoint.size)
        self.edge = tree.edge(end)

    def walk(
        self, kinds: frozenset[str] = frozenset(), go_on: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Record, int]]:
        """Read and check all of it.

        Args:
            kinds: of the records to yield.
            go_on: called now and then; may raise to stop.

        Yields:
            Each record of these kinds, and the number of its segment.

        Raises:
            ChainCorrupted: it is not what was signed.
            OSError: a file cannot be read.
        """
        tree: Frontier = self._base
        first = self.segments[0]
        cursor = Cursor(first.log_id, first.first_seq, first.prev_hash)
        for one in self.segments:
            path = self._paths[one.number]
            with ReadFile(path) as file:
                for record in self._segment(file, one, cursor, tree, kinds, go_on):
                    yield record, one.number
            if (cursor.seq, cursor.prev_hash) != (one.next_seq, one.head_hash):
                raise ChainCorrupted(f"{path} does not end where the next segment begins", path=path)
        if tree.root() != self.root:
            path = self._paths[first.number]
            raise ChainCorrupted(f"{path}: rewritten: its records are not those that were signed for", path=path)

    @staticmethod
    def _segment(
        file: ReadFile, one: Closed, cursor: Cursor, tree: Frontier, kinds: frozenset[str], go_on: Callable[[], None]
    ) -> Iterator[Record]:
        reader = FrameReader(file)
        head = next(iter(reader), None)
        try:
            header = decode_segment_header(head or b"")
        except msgspec.DecodeError as error:
            raise ChainCorrupted(f"{file.path}: {error}", path=file.path) from error
        if (header.number, header.first_seq) != (one.number, one.first_seq):
            raise ChainCorrupted(f"{file.path} is not segment {one.number} any more", path=file.path)
        scanner = Scanner(file, reader.offset, cursor, kinds=kinds)
        for found in scanner:
            go_on()
            if isinstance(found, Batch):
                tree.extend([sha256(b"\0" + entry).digest() for entry in found.entries])
                for picked in found.picked:
                    yield Record(picked.header, encode_header(picked.header), picked.salted, picked.hash)
                continue
            record = cursor.take(found.body)
            if record is None or cursor.findings:
                what = "{}: {}".format(*cursor.findings[0])
                raise ChainCorrupted(f"{file.path}, offset {found.offset}: {what}", path=file.path, offset=found.offset)
            tree.extend([sha256(b"\0" + record.header_bytes).digest()])
            if record.kind in kinds:
                yield record
        if scanner.problem:
            raise ChainCorrupted(
                f"{file.path}, offset {scanner.offset}: {scanner.problem}", path=file.path, offset=scanner.offset
            )

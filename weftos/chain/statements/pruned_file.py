"""What is left of the pruned part of a log: where it ended, and the few records of it that are still needed.

Why it is as it is: only a beginning of the log can be pruned, and the tree's hashes stay. So what has to be known of it
is the border: how many records, the hash of the last one, the root of the tree up to there. But some old records never
get old: the first keys and their changes. They are kept here whole. None of this needs to be believed: the record
``chain.pruned`` names all of it, is signed by the log's keys and stands under a checkpoint.

    pruned          the border that holds
    pruned.next     one that is announced, or about to be; see ``pruning``

Guaranteed: ``read_pruned`` returns what has the form, or raises. Not guaranteed: that it is true; see ``prune_check``.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.record import Record
from weftos.chain.signing.statement import statement
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted

__all__ = ["NEXT_NAME", "PRUNED_NAME", "Act", "Pruned", "kept_hash", "read_pruned"]

PRUNED_NAME: Final = "pruned"
NEXT_NAME: Final = "pruned.next"

_MAGIC: Final = "weftos/pruned"
_KEPT_TAG: Final = b"weftos/kept/v1"
_Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Bin16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bin32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Act(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One act of pruning.

    Attributes:
        first_segment: number of the first segment that went.
        first_seqs: number of the first record of each of them.
        sizes: their files' sizes in bytes.
        size: number of the record behind the last of them.
        archived: they are in the archive.
        where: folder of the archive at that time; empty without one.
    """

    first_segment: _Positive
    first_seqs: Annotated[list[_Natural], msgspec.Meta(min_length=1)]
    sizes: list[_Natural]
    size: _Positive
    archived: bool
    where: str


class Pruned(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The content of the file: a msgpack array of these fields in this order.

    Attributes:
        magic: ``weftos/pruned``.
        version: 1.
        log_id: 16 bytes.
        seq: number of the record ``chain.pruned`` that says all this.
        segment: number of the last segment that was pruned.
        size: records that were pruned, from record 0 on.
        head_hash: hash of the last of them, 32 bytes.
        root: of the Merkle tree over them, 32 bytes.
        acts: all acts of pruning, oldest first.
        kept: bodies of the frames of the records that were kept, in their order.
    """

    magic: str
    version: int
    log_id: _Bin16
    seq: _Positive
    segment: _Positive
    size: _Positive
    head_hash: _Bin32
    root: _Bin32
    acts: Annotated[list[Act], msgspec.Meta(min_length=1)]
    kept: list[bytes]

    @classmethod
    def make(
        cls,
        *,
        log_id: bytes,
        seq: int,
        segment: int,
        size: int,
        head_hash: bytes,
        root: bytes,
        acts: list[Act],
        kept: list[bytes],
    ) -> Pruned:
        """Return the content of a file; arguments as the attributes."""
        return cls(_MAGIC, 1, log_id, seq, segment, size, head_hash, root, acts, kept)

    def encode(self) -> bytes:
        """Return the file."""
        return msgspec.msgpack.encode(self)

    def records(self) -> list[Record]:
        """Return the records that were kept, oldest first.

        Raises:
            ChainCorrupted: one is not whole, of another log, or out of order.
        """
        found: list[Record] = []
        for body in self.kept:
            before = found[-1].seq + 1 if found else 0
            cursor = Cursor(self.log_id, before, b"")
            cursor.lost = True
            record = cursor.take(body)
            if record is None or cursor.findings or not before <= record.seq < self.size or record.withheld:
                what = cursor.findings[0].detail if cursor.findings else f"its place is {before} to {self.size - 1}"
                raise ChainCorrupted(f"{PRUNED_NAME}: a record that was kept of the pruned ones is damaged: {what}")
            found.append(record)
        return found

    def segment_of(self, seq: int) -> tuple[int, Act]:
        """Return the number of the pruned segment that a record was in, and the act that it was pruned by."""
        assert 0 <= seq < self.size, "a record that was pruned"
        act = self.acts[max(bisect_right([act.first_seqs[0] for act in self.acts], seq) - 1, 0)]
        return act.first_segment + max(bisect_right(act.first_seqs, seq) - 1, 0), act


def kept_hash(acts: list[Act], kept: list[bytes]) -> bytes:
    """Return the hash by which the record ``chain.pruned`` names what was kept, 32 bytes."""
    return blake3(statement(_KEPT_TAG, msgspec.msgpack.encode(acts), *kept)).digest()


def read_pruned(directory: str, name: str = PRUNED_NAME) -> Pruned | None:
    """Read the file in the directory of a log; ``None`` if there is none.

    Raises:
        ChainCorrupted: it does not have the form.
        OSError: it cannot be read.
    """
    path = os.path.join(directory, name)
    try:
        with ReadFile(path) as file:
            data = file.read(0, limits.CHAIN_KEPT_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        found = msgspec.msgpack.decode(data, type=Pruned)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ChainCorrupted(f"{path} does not say what was pruned: {error}", path=path) from error
    if (found.magic, found.version) != (_MAGIC, 1):
        raise ChainCorrupted(f"{path} is of the form {found.magic!r:.40} {found.version}, known is 1", path=path)
    segment, size = 1, 0
    for act in found.acts:
        starts = [*act.first_seqs, act.size]
        rising = all(a < b for a, b in pairwise(starts))
        if act.first_segment != segment or starts[0] != size or not rising or len(act.sizes) != len(act.first_seqs):
            raise ChainCorrupted(f"{path}: the acts of pruning do not follow each other", path=path)
        segment, size = segment + len(act.first_seqs), act.size
    if (segment - 1, size) != (found.segment, found.size):
        raise ChainCorrupted(f"{path}: its acts of pruning end elsewhere than it says", path=path)
    return found

"""What is asked of the builder of segments, and what it answers: plain data that crosses a process boundary.

Guaranteed: an order names only files that do not change any more, and all that the builder has to know about them.
"""

from __future__ import annotations

import msgspec

from weftos.ecc.vectors.model import CollectionSpec

__all__ = ["SealOrder", "Sealed", "Source"]


class Source(msgspec.Struct, frozen=True):
    """A segment that goes into the new one.

    Attributes:
        file: its name in the folder.
        digest: of its head, 32 bytes.
        dead: one bit for each row that is left out, lowest first; empty for none.
    """

    file: str
    digest: bytes
    dead: bytes


class SealOrder(msgspec.Struct, frozen=True):
    """Build one segment.

    Attributes:
        number: of the order, unique for as long as the store is open.
        uid: of the collection.
        spec: of the collection.
        folder: where all files are.
        file: name of the segment to be written.
        journals: names of the journals that have the entries of ``ops``.
        ops: numbers of the mutations whose entries are taken from the journals, ascending, 8 bytes each.
        sources: segments that are merged.
        rows: how many the new segment has.
    """

    number: int
    uid: int
    spec: CollectionSpec
    folder: str
    file: str
    journals: list[str]
    ops: bytes
    sources: list[Source]
    rows: int


class Sealed(msgspec.Struct, frozen=True):
    """A segment was built.

    Attributes:
        number: of the order.
        file: name of the segment.
        digest: of its head, 32 bytes.
        rows: how many it has.
        size: bytes of the file.
        ef: length of the list of candidates that is enough; 0 for a segment without graph.
        recall: at ten, with that length, of a sample; 1.0 without graph.
        seconds: how long it took.
    """

    number: int
    file: str
    digest: bytes
    rows: int
    size: int
    ef: int
    recall: float
    seconds: float

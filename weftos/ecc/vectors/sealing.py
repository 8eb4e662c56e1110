"""Building a segment from journals and older segments: a function over files, for a process of its own.

Why it is as it is: linking a million vectors takes minutes. What is read here does not change any more, and what is
written has a name that nobody knows yet, so the builder shares nothing with the store and may be killed at any point.

Guaranteed: the file is whole and on disk, under its name, when :func:`seal` returns. Otherwise there is at most a
temporary file, which the store removes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.files import Files
from weftos.ecc.journal import read_closed
from weftos.ecc.vectors.batches import decode_metadata
from weftos.ecc.vectors.changes import JOURNAL_KIND, Upsert, decode_change
from weftos.ecc.vectors.digests import id_hash
from weftos.ecc.vectors.filters import MetadataColumns
from weftos.ecc.vectors.graph import GraphSearch, build_graph, calibrated, flat_storage
from weftos.ecc.vectors.layout import Field, Head, Section, SegmentWriter, pack_record
from weftos.ecc.vectors.orders import Sealed, SealOrder, Source
from weftos.ecc.vectors.segment import Segment
from weftos.errors import VectorsDamaged

__all__ = ["SealOrder", "Sealed", "Source", "seal"]

#: Metadata and document of a row, read when it is needed.
_Record = Callable[[], tuple[bytes, bytes]]


class _Gathered:
    """The rows of the new segment, in the order of their mutations."""

    def __init__(self, order: SealOrder) -> None:
        self._order = order
        self._segments = [self._load(source) for source in order.sources]
        wanted = np.frombuffer(order.ops, "<u8")
        self.ops: NDArray[np.uint64] = np.sort(
            np.concatenate([wanted, *(segment.ops[segment.alive] for segment in self._segments)])
        )
        if len(self.ops) != order.rows:
            raise VectorsDamaged(f"{order.file}: {len(self.ops)} rows were found, {order.rows} are to be there")
        self.storage, self.vectors = flat_storage(order.rows, order.spec.dimension, order.spec.metric)
        self.ids: list[bytes] = [b""] * order.rows
        self.records: list[_Record | None] = [None] * order.rows
        for segment in self._segments:
            self._take_segment(segment)
        self._take_journals(wanted)
        if None in self.records:
            raise VectorsDamaged(f"{order.file}: not all of its entries are in the journals")

    def close(self) -> None:
        for segment in self._segments:
            segment.close()

    def _load(self, source: Source) -> Segment:
        segment = Segment.load(os.path.join(self._order.folder, source.file), source.digest, with_graph=False)
        segment.kill_bits(source.dead)
        return segment

    def _take_segment(self, segment: Segment) -> None:
        rows = np.flatnonzero(segment.alive)
        places = np.searchsorted(self.ops, segment.ops[rows])
        self.vectors[places] = segment.vectors[rows]
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            self.ids[place] = segment.id_at(row)
            self.records[place] = partial(segment.record, row)

    def _take_journals(self, wanted: NDArray[np.uint64]) -> None:
        if not len(wanted):
            return
        for name in self._order.journals:
            path = os.path.join(self._order.folder, name)
            for content in read_closed(path, JOURNAL_KIND):
                change = decode_change(content, path)
                if isinstance(change, Upsert) and change.uid == self._order.uid:
                    self._take_upsert(change, wanted)

    def _take_upsert(self, change: Upsert, wanted: NDArray[np.uint64]) -> None:
        begin, end = np.searchsorted(wanted, np.array([change.op, change.op + len(change.ids)], np.uint64))
        taken = wanted[begin:end]
        if not len(taken):
            return
        inside = (taken - np.uint64(change.op)).astype(np.int64)
        places = np.searchsorted(self.ops, taken)
        vectors = np.frombuffer(change.vectors, "<f4").reshape(len(change.ids), -1)
        self.vectors[places] = vectors[inside]
        for place, at in zip(places.tolist(), inside.tolist(), strict=True):
            self.ids[place] = change.ids[at].encode()
            self.records[place] = partial(_pair, change.raw[at], change.documents[at])


def _pair(raw: bytes, document: bytes) -> tuple[bytes, bytes]:
    return raw, document


def seal(order: SealOrder, fs: Files, threads: int = 1) -> Sealed:
    """Build the segment that an order asks for.

    Args:
        order: what goes into it.
        fs: the calls on files.
        threads: how many link the graph.

    Raises:
        JournalDamaged: a file that it is made of is damaged or missing.
        OSError: a call failed.
    """
    began = time.monotonic()
    rows = _Gathered(order)
    try:
        links, ef, recall = np.empty(0, np.uint8), 0, 1.0
        metric = order.spec.metric
        if order.rows >= limits.VECTOR_GRAPH_ROWS:
            links = build_graph(rows.vectors, metric, threads)
            ef, recall = calibrated(GraphSearch(links, rows.storage, metric), rows.vectors, metric)
        writer = SegmentWriter(fs, os.path.join(order.folder, order.file))
        try:
            writer.begin()
            sections, fields = _write(writer, rows, links)
            head = Head(order.uid, order.file, order.spec.dimension, metric, order.rows, ef, recall, sections, fields)
            digest, size = writer.finish(head)
        except BaseException:
            writer.abandon()
            raise
    finally:
        rows.close()
    return Sealed(order.number, order.file, digest, order.rows, size, ef, recall, time.monotonic() - began)


def _write(writer: SegmentWriter, rows: _Gathered, links: NDArray[np.uint8]) -> tuple[dict[str, Section], list[Field]]:
    count = len(rows.ops)
    hashes = np.fromiter(map(id_hash, rows.ids), np.uint64, count)
    ordered = np.argsort(hashes, kind="stable")
    sections = {
        "vectors": writer.section(rows.vectors.astype("<f4", copy=False)),
        "graph": writer.section(links),
        "ops": writer.section(rows.ops.astype("<u8", copy=False)),
        "hashes": writer.section(hashes[ordered].astype("<u8", copy=False)),
        "hash_rows": writer.section(ordered.astype("<u4")),
        "id_ends": writer.section(_ends(map(len, rows.ids), count)),
        "ids": writer.section(b"".join(rows.ids)),
    }
    columns, sizes = MetadataColumns(), np.zeros(count, np.int64)
    sections["records"] = writer.records(_records(rows, columns, sizes))
    sections["record_ends"] = writer.section(_ends(iter(sizes.tolist()), count))
    fields = [
        Field(name, writer.section(codes.astype("<u4")), writer.section(msgspec.msgpack.encode(values)))
        for name, codes, values in columns.exported(count)
    ]
    return sections, fields


def _records(rows: _Gathered, columns: MetadataColumns, sizes: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the records in the order of the rows; note their fields and sizes on the way."""
    for row, (op, read) in enumerate(zip(rows.ops.tolist(), rows.records, strict=True)):
        assert read is not None, "every row has its record"
        raw, document = read()
        if raw:
            columns.set(row, decode_metadata(raw))
        content = pack_record(op, raw, document)
        sizes[row] = len(content)
        yield content


def _ends(sizes: Iterator[int] | Any, count: int) -> NDArray[np.uint64]:
    ends = np.zeros(count + 1, "<u8")
    np.cumsum(np.fromiter(sizes, np.uint64, count), out=ends[1:])
    return ends

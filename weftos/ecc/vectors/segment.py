"""A sealed segment in memory: vectors, links, ids; metadata and documents stay in the file until a hit needs them.

Why it is as it is: a million ids as objects of the interpreter take much memory and time to make. Here they are one
piece of bytes, found by a sorted array of 64-bit hashes; so a segment is loaded by reading arrays, and nothing else.
Rows are in the order of the mutations that wrote them, so a mutation is found by bisection.

Rows never change; a row whose entry was replaced or deleted is marked dead here, and the manifest or the journals
remember that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.files import ReadFile
from weftos.ecc.vectors.digests import expansion
from weftos.ecc.vectors.exact import Top, empty_top, exact_top
from weftos.ecc.vectors.filters import Filter, MetadataColumns, Value, fields_of
from weftos.ecc.vectors.layout import RECORD_HEAD_BYTES, Head, read_array, read_segment_head, unpack_record
from weftos.ecc.vectors.model import Columns, Content
from weftos.errors import MetadataInvalid, VectorsDamaged

if TYPE_CHECKING:
    from weftos.ecc.vectors.graph import GraphSearch

__all__ = ["Segment"]

_VALUES = msgspec.msgpack.Decoder(list[Value])
Floats = NDArray[np.float32]


class Segment:
    """A segment that was read and checked.

    Made by :meth:`load`, which may run beside the thread that owns the store.

    Attributes:
        head: what the file says of itself.
        digest: of the head.
        size: bytes of the file.
        vectors: (rows, dimension).
        ops: number of the mutation that wrote each row, ascending.
        alive: which rows count.
        dead: how many do not.
    """

    def __init__(self, file: ReadFile, head: Head, digest: bytes, *, with_graph: bool) -> None:
        # Here, because it loads faiss: the kernel imports this module, and forks agents that have no use for it.
        from weftos.ecc.vectors.graph import GraphSearch, flat_storage

        self.head, self.digest, self.size = head, digest, file.size
        self._file = file
        rows, sections = head.rows, head.sections
        self._storage, self.vectors = flat_storage(rows, head.dimension, head.metric)
        read_array(file, sections["vectors"], self.vectors)
        self.ops: NDArray[np.uint64] = self._array("ops", "<u8", rows)
        self._hashes: NDArray[np.uint64] = self._array("hashes", "<u8", rows)
        self._hash_rows: NDArray[np.uint32] = self._array("hash_rows", "<u4", rows)
        ends = self._array("id_ends", "<u8", rows + 1)
        #: Where each id begins and ends, and ``ops`` again: what a hit needs, side by side, for hits lie anywhere.
        self._heads: NDArray[np.uint64] = np.column_stack((ends[:-1], ends[1:], self.ops))
        ids = self._array("ids", "u1", sections["ids"].size).tobytes()
        #: As text where a byte is a character, as it nearly always is: then a part of it is an id, without decoding.
        self._ids: str | bytes = ids.decode("ascii") if ids.isascii() else ids
        self._record_ends: NDArray[np.uint64] = self._array("record_ends", "<u8", rows + 1)
        self._graph: GraphSearch | None = None
        if with_graph and sections["graph"].size:
            links = self._array("graph", "u1", sections["graph"].size)
            self._graph = GraphSearch(links, self._storage, head.metric)
        self.alive: NDArray[np.bool_] = np.ones(rows, np.bool_)
        self.dead = 0
        self._bits: NDArray[np.uint8] | None = None
        self._columns = MetadataColumns()
        self._fields = {field.name: field for field in head.fields}

    @classmethod
    def load(cls, path: str, digest: bytes, *, with_graph: bool = True) -> Self:
        """Read a segment and check all that is kept in memory.

        Args:
            path: the file.
            digest: of its head, which says which segment is meant.
            with_graph: whether it will be searched.

        Raises:
            VectorsDamaged: it is missing, altered, cut or another.
            OSError: it cannot be read.
        """
        try:
            file = ReadFile(path)
        except FileNotFoundError as error:
            raise VectorsDamaged(f"{path} is missing; restore it from a copy") from error
        try:
            return cls(file, read_segment_head(file, digest), digest, with_graph=with_graph)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def live(self) -> int:
        """Rows that count."""
        return self.head.rows - self.dead

    def dead_bits(self) -> bytes:
        """Return one bit for each row that does not count, lowest first; empty if all do."""
        return np.packbits(~self.alive, bitorder="little").tobytes() if self.dead else b""

    def kill_bits(self, bits: bytes) -> None:
        """Mark the rows that ``dead_bits`` gave.

        Raises:
            VectorsDamaged: they are not bits of this segment.
        """
        self.alive = self.alive_in(bits)
        self.dead = self.head.rows - int(np.count_nonzero(self.alive))
        self._bits = None

    def alive_in(self, bits: bytes) -> NDArray[np.bool_]:
        """Return which rows counted when ``dead_bits`` gave these.

        Raises:
            VectorsDamaged: they are not bits of this segment.
        """
        if not bits:
            return np.ones(self.head.rows, np.bool_)
        if len(bits) != -(-self.head.rows // 8):
            raise VectorsDamaged(f"{self._file.path}: the rows that are dead do not fit the segment")
        return ~np.unpackbits(np.frombuffer(bits, np.uint8), count=self.head.rows, bitorder="little").view(np.bool_)

    def kill(self, row: int) -> None:
        """Mark a row that counts as dead."""
        self.alive[row] = False
        self.dead += 1
        self._bits = None

    def kill_ops(self, ops: NDArray[np.uint64]) -> None:
        """Mark the rows that these mutations wrote."""
        places = np.searchsorted(self.ops, ops)
        for row, op in zip(places.tolist(), ops.tolist(), strict=True):
            if row < self.head.rows and int(self.ops[row]) == op and self.alive[row]:
                self.kill(row)

    def row_of_op(self, op: int) -> int | None:
        """Return the row that a mutation wrote, if it counts."""
        row = int(np.searchsorted(self.ops, np.uint64(op)))
        return row if row < self.head.rows and int(self.ops[row]) == op and self.alive[row] else None

    def id_at(self, row: int) -> bytes:
        """Return the id of a row."""
        begin, end, _op = self._heads[row].tolist()
        found = self._ids[begin:end]
        return found.encode() if isinstance(found, str) else found

    def rows_of(self, hashes: NDArray[np.uint64], ids: Sequence[bytes]) -> dict[int, int]:
        """Find ids among the rows that count.

        Args:
            hashes: ``id_hash`` of each.
            ids: the ids.

        Returns:
            The row, by the place of its id in ``ids``.
        """
        if not self.live:
            return {}
        first = np.searchsorted(self._hashes, hashes)
        likely = self._hashes[np.minimum(first, self.head.rows - 1)] == hashes
        found = {}
        for place in np.flatnonzero(likely).tolist():
            at = int(first[place])
            while at < self.head.rows and self._hashes[at] == hashes[place]:
                row = int(self._hash_rows[at])
                if self.alive[row] and self.id_at(row) == ids[place]:
                    found[place] = row
                at += 1
        return found

    def record(self, row: int, *, whole: bool = True) -> tuple[bytes, bytes]:
        """Read metadata and document of a row; the document is empty if the record is not read ``whole``.

        Raises:
            VectorsDamaged: the record was altered.
            OSError: it cannot be read.
        """
        begin, end = int(self._record_ends[row]), int(self._record_ends[row + 1])
        if begin == end:
            return b"", b""
        offset = self.head.sections["records"].offset
        count = end - begin if whole else min(end - begin, RECORD_HEAD_BYTES + limits.VECTOR_METADATA_BYTES)
        content = self._file.read(offset + begin, count)
        if len(content) < count:
            raise VectorsDamaged(f"{self._file.path} was cut; restore it from a copy")
        return unpack_record(int(self.ops[row]), content, self._file.path, whole=whole)

    def entries(self, rows: NDArray[np.int64], content: Content) -> Columns:
        """Return what is in rows.

        Raises:
            VectorsDamaged: a record was altered.
            OSError: it cannot be read.
        """
        heads = self._heads.take(rows, 0)
        ids = self._texts(heads[:, 0].tolist(), heads[:, 1].tolist())
        ops = heads[:, 2]
        if content == "none":
            return Columns(ids, ops, [], [])
        whole = content == "all"
        records = [self.record(row, whole=whole) for row in rows.tolist()]
        raw = [raw for raw, _document in records]
        return Columns(ids, ops, raw, [document for _raw, document in records] if whole else [])

    def _texts(self, begins: list[int], ends: list[int]) -> list[str]:
        text = self._ids
        # No loop of the interpreter: an answer for many vectors has hundreds of ids.
        if isinstance(text, str):
            return list(map(text.__getitem__, map(slice, begins, ends)))
        return [text[begin:end].decode() for begin, end in zip(begins, ends, strict=True)]

    def expansion(self, row: int) -> bytes:
        """Return what stands for a row in the sum of the content."""
        raw, document = self.record(row)
        return expansion(self.id_at(row), self.vectors[row].astype("<f4").tobytes(), raw, document)

    def matching(self, condition: Filter | None) -> NDArray[np.intp]:
        """Return the rows that count and meet a condition.

        Raises:
            FilterInvalid: the condition cannot be evaluated.
        """
        if condition is None:
            return np.flatnonzero(self.alive)
        self._load_fields(fields_of(condition))
        return np.flatnonzero(self.alive & self._columns.mask(condition, self.head.rows))

    def field(self, name: str) -> tuple[NDArray[np.int64], list[Value]]:
        """Return the code of a field for each row, 0 for none, and the values of codes 1, 2, …"""
        self._load_fields({name})
        return self._columns.column(name, self.head.rows)

    def search(self, queries: Floats, k: int, condition: Filter | None, ef: int | None) -> Top:
        """Return scores and rows of the best that count and match: always k of them where there are as many.

        Args:
            queries: (queries, dimension).
            k: results for each query.
            condition: what a row has to meet.
            ef: length of the list of candidates; None for what the segment was calibrated to.

        Raises:
            FilterInvalid: the condition cannot be evaluated.
        """
        rows, allowed = self.head.rows, self.alive
        if condition is not None:
            self._load_fields(fields_of(condition))
            allowed = allowed & self._columns.mask(condition, rows)
        matching = self.live if condition is None else int(np.count_nonzero(allowed))
        if not matching:
            return empty_top(len(queries))
        length = max(ef or self.head.ef, 1)
        if self._graph is None or k >= matching or matching**2 <= limits.VECTOR_SCAN_PER_CANDIDATE * length * rows:
            return self._scan(queries, k, allowed, matching)
        # Candidates that may not be found fill the list as well, so it has to be longer by their share.
        length = min(-(-length * rows // matching), limits.VECTOR_EF_MAX)
        scores, found = self._graph.search(queries, k, length, self._allowed_bits(allowed, condition, matching))
        if min(found[:, -1].tolist(), default=0) < 0:
            short = np.flatnonzero(found[:, -1] < 0)
            scores[short], found[short] = self._scan(queries[short], k, allowed, matching)
        return scores, found

    def _scan(self, queries: Floats, k: int, allowed: NDArray[np.bool_], matching: int) -> Top:
        return exact_top(self.vectors, queries, k, self.head.metric, None if matching == self.head.rows else allowed)

    def _allowed_bits(
        self, allowed: NDArray[np.bool_], condition: Filter | None, matching: int
    ) -> NDArray[np.uint8] | None:
        if matching == self.head.rows:
            return None
        if condition is not None:
            return np.packbits(allowed, bitorder="little")
        if self._bits is None:
            self._bits = np.packbits(allowed, bitorder="little")
        return self._bits

    def _load_fields(self, names: set[str]) -> None:
        """Read the columns of fields, if they were not read before."""
        for name in names & self._fields.keys():
            field = self._fields[name]
            codes = np.empty(self.head.rows, "<u4")
            read_array(self._file, field.codes, codes)
            values = np.empty(field.values.size, np.uint8)
            read_array(self._file, field.values, values)
            try:
                self._columns.restore(name, codes, _VALUES.decode(values.tobytes()))
            except (msgspec.MsgspecError, MetadataInvalid) as error:
                raise VectorsDamaged(f"{self._file.path}: the column {name!r} cannot be used: {error}") from error
            del self._fields[name]

    def _array(self, name: str, form: str, count: int) -> NDArray[Any]:
        array = np.empty(count, form)
        read_array(self._file, self.head.sections[name], array)
        return array

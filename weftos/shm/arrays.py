"""Numpy arrays as bytes: a small header (type, shape, metadata), then the data, 64-byte aligned. Never a pickle.

Why it is as it is: the element type travels as a description built from numpy's own short codes (``<f4``, ``|S16``), or
for records as a list of (name, code, offset, shape) with the item size. The reader rebuilds the type from a whitelist
of codes, so a hostile description can name neither objects nor anything that numpy would evaluate. Types are cached by
their description: a stream of equal batches pays for parsing once.

Guaranteed: what ``decode`` returns lies within the payload it was given, owns no reference into Python objects, and has
the item count that the payload carries. Not guaranteed: that the values make sense.
"""

from __future__ import annotations

import re
import struct
import sys
import weakref
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from weftos import limits
from weftos.errors import PayloadRefused, RingCorrupted
from weftos.shm.segment import Segment

__all__ = ["ArrayRecord", "ArrayView", "Description", "copy_array", "decode", "describe"]

AnyArray = npt.NDArray[Any]

#: dims u8, flags u8 (0), type bytes u16, metadata bytes u32, offset of the data from the start of the payload u32,
#: reserved u32 (0).
HEAD: Final = struct.Struct("<BBHIII")
_CODE: Final = re.compile(r"[<>|](?:[biufc][0-9]{1,2}|[SUV][0-9]{1,9}|[mM]8(?:\[[0-9]{0,9}[A-Za-z]{1,2}\])?)\Z")
_CACHE_MAX: Final = 64
#: Bytes of an array record that are copied first; they hold the whole lead in nearly every case.
_LEAD_BYTES_MOST: Final = 512


class ArrayRecord(msgspec.Struct, frozen=True, eq=False):
    """An array as it came out of a ring.

    Attributes:
        array: the data; its own copy, or a view into the ring while inside ``RingConsumer.view``.
        meta: bytes that the sender put beside it.
    """

    array: AnyArray
    meta: bytes = b""


class _Field(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: str
    code: str
    offset: int
    shape: tuple[int, ...]


class _RecordType(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    itemsize: int
    fields: tuple[_Field, ...]


_decode_records = msgspec.json.Decoder(_RecordType).decode
_described: dict[np.dtype[Any], bytes] = {}
_parsed: dict[bytes, np.dtype[Any]] = {}


def _code_of(dtype: np.dtype[Any]) -> str:
    code = dtype.str
    if dtype.hasobject or _CODE.match(code) is None:
        raise PayloadRefused(f"arrays of type {dtype} cannot travel; numbers, booleans, fixed-width text and times can")
    return code


def _describe_type(dtype: np.dtype[Any]) -> bytes:
    known = _described.get(dtype)
    if known is not None:
        return known
    if dtype.fields is None:
        text = _code_of(dtype).encode()
    else:
        fields = []
        for name in dtype.names or ():
            kind, offset = dtype.fields[name][:2]
            base, shape = kind.subdtype if kind.subdtype is not None else (kind, ())
            if base.fields is not None:
                raise PayloadRefused(f"field {name} is itself a record; flatten the type first")
            fields.append(_Field(name, _code_of(base), int(offset), tuple(shape)))
        if not fields or len(fields) > limits.ARRAY_FIELDS or dtype.itemsize == 0:
            raise PayloadRefused(f"a record type has 1 to {limits.ARRAY_FIELDS} fields and a size, not {len(fields)}")
        text = msgspec.json.encode(_RecordType(dtype.itemsize, tuple(fields)))
    if len(text) > limits.ARRAY_DTYPE_BYTES:
        raise PayloadRefused(
            f"the description of the array type takes {len(text)} bytes; the limit is {limits.ARRAY_DTYPE_BYTES}"
        )
    if len(_described) < _CACHE_MAX:
        _described[dtype] = text
    return text


def _checked_code(code: str) -> np.dtype[Any]:
    if _CODE.match(code) is None:
        raise RingCorrupted(f"array type {code[:40]!r} is not on the list")
    try:
        dtype: np.dtype[Any] = np.dtype(code)
    except (TypeError, ValueError, OverflowError) as error:
        raise RingCorrupted(f"array type {code[:40]!r} is not understood") from error
    if dtype.hasobject:
        raise RingCorrupted("arrays of objects do not travel")
    return dtype


def _parse_records(text: bytes) -> np.dtype[Any]:
    try:
        described = _decode_records(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RingCorrupted("the description of a record type does not parse") from error
    fields = described.fields
    if not 1 <= len(fields) <= limits.ARRAY_FIELDS or not 0 < described.itemsize <= limits.MAX_MESSAGE_BYTES:
        raise RingCorrupted("a record type with impossible sizes")
    formats: list[Any] = []
    for field in fields:
        base = _checked_code(field.code)
        if len(field.shape) > limits.ARRAY_MAX_DIMS or any(not 0 <= n <= limits.MAX_MESSAGE_BYTES for n in field.shape):
            raise RingCorrupted("a record field with an impossible shape")
        size = base.itemsize
        for n in field.shape:
            size *= n
        if field.offset < 0 or field.offset + size > described.itemsize:
            raise RingCorrupted("a record field reaches outside its record")
        formats.append((base, field.shape) if field.shape else base)
    layout: Any = {
        "names": [field.name for field in fields],
        "formats": formats,
        "offsets": [field.offset for field in fields],
        "itemsize": described.itemsize,
    }
    try:
        dtype: np.dtype[Any] = np.dtype(layout)
    except (TypeError, ValueError, OverflowError) as error:
        raise RingCorrupted("a record type that numpy refuses") from error
    return dtype


def _parse_type(text: bytes) -> np.dtype[Any]:
    known = _parsed.get(text)
    if known is not None:
        return known
    dtype: np.dtype[Any]
    if text[:1] == b"[":
        dtype = _parse_records(text)
    else:
        try:
            dtype = _checked_code(text.decode("ascii"))
        except UnicodeDecodeError as error:
            raise RingCorrupted("an array type that is not text") from error
    if len(_parsed) < _CACHE_MAX:
        _parsed[bytes(text)] = dtype
    return dtype


class Description:
    """The header of one array, ready to be written in front of its data.

    Attributes:
        array: the array, C-contiguous order assumed for its elements.
        head: type, shape and metadata, without the fixed part.
    """

    __slots__ = ("_dims", "_meta_bytes", "_type_bytes", "array", "head", "plain_bytes")

    def __init__(self, array: AnyArray, meta: bytes = b"") -> None:
        text = _describe_type(array.dtype)
        if array.ndim > limits.ARRAY_MAX_DIMS:
            raise PayloadRefused(f"an array of {array.ndim} dimensions; the limit is {limits.ARRAY_MAX_DIMS}")
        if array.dtype.itemsize == 0:
            raise PayloadRefused("an array whose elements have no size")
        self.array = array
        self.head = struct.pack(f"<{array.ndim}Q", *array.shape) + text + meta
        self._dims = array.ndim
        self._type_bytes = len(text)
        self._meta_bytes = len(meta)
        #: Bytes before the data when nothing is known about the alignment of the payload.
        self.plain_bytes = HEAD.size + len(self.head)

    def lead(self, address: int) -> bytes:
        """Return all that precedes the data, padded so that it is 64-byte aligned if the payload is at ``address``."""
        offset = -(-(address + self.plain_bytes) // 64) * 64 - address
        fixed = HEAD.pack(self._dims, 0, self._type_bytes, self._meta_bytes, offset, 0)
        return (fixed + self.head).ljust(offset, b"\0")

    @property
    def bytes_at_most(self) -> int:
        """Largest payload this array can need, whatever the alignment."""
        return self.plain_bytes + 64 + self.array.nbytes


def describe(array: AnyArray, meta: bytes = b"") -> Description:
    """Describe an array for the way through a ring.

    Raises:
        PayloadRefused: objects, nested records, too many dimensions or fields.
    """
    return Description(array, meta)


def lead_bytes(payload: bytes) -> int:
    """Return how many bytes of an array payload precede its data, as far as its fixed head tells."""
    if len(payload) < HEAD.size:
        return 0
    dims, _, type_bytes, meta_bytes, _, _ = HEAD.unpack_from(payload)
    return int(HEAD.size + dims * 8 + type_bytes + meta_bytes)


def parse(payload: bytes | memoryview, total: int) -> tuple[np.dtype[Any], tuple[int, ...], bytes, int]:
    """Check the head of an array payload.

    Args:
        payload: at least the part before the data, as a private copy.
        total: bytes of the whole payload.

    Returns:
        Element type, shape, metadata, and the offset of the data.

    Raises:
        RingCorrupted: the head contradicts itself or the payload's size.
    """
    if total < HEAD.size or len(payload) < HEAD.size:
        raise RingCorrupted("an array record shorter than its head")
    dims, flags, type_bytes, meta_bytes, offset, reserved = HEAD.unpack_from(payload)
    end = HEAD.size + dims * 8 + type_bytes + meta_bytes
    if flags or reserved or dims > limits.ARRAY_MAX_DIMS or type_bytes > limits.ARRAY_DTYPE_BYTES:
        raise RingCorrupted("an array record with an impossible head")
    if not end <= offset <= min(end + 63, total) or end > len(payload):
        raise RingCorrupted("an array record whose head reaches outside of it")
    at = HEAD.size + dims * 8
    shape: tuple[int, ...] = struct.unpack_from(f"<{dims}Q", payload, HEAD.size)
    dtype = _parse_type(bytes(payload[at : at + type_bytes]))
    size = dtype.itemsize
    if size == 0:
        raise RingCorrupted("an array record whose elements have no size")
    for n in shape:
        size *= n
        if n > limits.MAX_MESSAGE_BYTES:
            raise RingCorrupted("an array record with an impossible shape")
    if size != total - offset:
        raise RingCorrupted("an array record whose shape does not match its data")
    return dtype, shape, bytes(payload[at + type_bytes : end]), offset


def decode(payload: bytes | bytearray | memoryview) -> ArrayRecord:
    """Rebuild an array over a private copy of its payload.

    Args:
        payload: the whole payload; the array shares its memory and is writable if it is.

    Raises:
        RingCorrupted: the head contradicts itself or the payload's size.
    """
    view = memoryview(payload)
    dtype, shape, meta, offset = parse(view, len(view))
    if offset == len(view):
        return ArrayRecord(np.empty(shape, dtype), meta)
    flat: AnyArray = np.frombuffer(view, dtype, offset=offset)
    return ArrayRecord(flat.reshape(shape), meta)


def _parse_in_place(segment: Segment, at: int, n: int) -> tuple[np.dtype[Any], tuple[int, ...], bytes, int]:
    """Copy the head of an array payload at byte ``at`` of a segment, then check the copy."""
    lead = segment.map[at : at + min(n, _LEAD_BYTES_MOST)]
    if len(lead) < n and lead_bytes(lead) > len(lead):
        lead = segment.map[at : at + n]
    return parse(lead, n)


def copy_array(segment: Segment, at: int, n: int) -> ArrayRecord:
    """Copy an array out of a segment: head and data once each, into memory of our own.

    Args:
        segment: the ring's.
        at: byte offset of the payload.
        n: bytes of the payload, checked to lie within the segment.

    Raises:
        RingCorrupted: the head contradicts itself or ``n``.
    """
    dtype, shape, meta, offset = _parse_in_place(segment, at, n)
    if offset == n:
        return ArrayRecord(np.empty(shape, dtype), meta)
    source: AnyArray = np.frombuffer(segment.map, dtype, (n - offset) // dtype.itemsize, at + offset)
    if source.nbytes < limits.SHELF_FROM_BYTES:
        return ArrayRecord(source.copy().reshape(shape), meta)
    flat: AnyArray = _shelf.take(source.nbytes)[: source.nbytes].view(dtype)
    np.copyto(flat, source)
    return ArrayRecord(flat.reshape(shape), meta)


class _Shelf:
    """Memory of large arrays that nobody holds any more, for the next ones.

    Fresh memory comes from the system page by page, each zeroed first, which costs more than the copy itself. A piece
    is free again when only the shelf refers to it: every array made from it, however indirectly, keeps a reference.
    """

    def __init__(self) -> None:
        self._pieces: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def take(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a piece of at least ``size`` bytes that nobody else uses."""
        for index in range(len(self._pieces)):
            nbytes = self._pieces[index].nbytes
            # Two references: the list's, and the argument of the question.
            if size <= nbytes <= 2 * size and sys.getrefcount(self._pieces[index]) == _LISTED_ONLY:
                return self._pieces[index]
        piece = np.empty(size, np.uint8)
        held = sum(kept.nbytes for kept in self._pieces)
        while self._pieces and held + size > limits.SHELF_BYTES:
            held -= self._pieces.pop(0).nbytes
        if size <= limits.SHELF_BYTES:
            self._pieces.append(piece)
        return piece


_probe: Final = [object()]
#: What ``sys.getrefcount`` says of an element of a list that nothing else refers to; asked as ``take`` asks.
_LISTED_ONLY: Final = sys.getrefcount(_probe[0])
_shelf: Final = _Shelf()


class ArrayView:
    """An array that still lies in the ring.

    Attributes:
        array: read-only; empty after ``release``.
        meta: bytes that the sender put beside it.
    """

    __slots__ = ("_watch", "array", "meta")

    def __init__(self, segment: Segment, at: int, n: int) -> None:
        dtype, shape, self.meta, offset = _parse_in_place(segment, at, n)
        piece = memoryview(segment.map)[at + offset : at + n].toreadonly()
        flat: AnyArray = np.frombuffer(piece, dtype) if offset < n else np.empty(0, dtype)
        # Every array derived from it keeps this one alive: it is the first that is not itself based on an array.
        self._watch = weakref.ref(flat)
        self.array: AnyArray = flat.reshape(shape)

    def release(self) -> bool:
        """Let go of the ring's memory. Returns whether someone else still holds it."""
        self.array = np.empty(0, self.array.dtype)
        return self._watch() is not None

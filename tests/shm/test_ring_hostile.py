"""A liar writes the ring: whatever the bytes, the other end soon gets valid items or RingCorrupted."""

from __future__ import annotations

import json
import random
import struct
import time
import zlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from weftos.errors import PayloadRefused, RingCorrupted, RingFull, SegmentInvalid
from weftos.shm import ArrayRecord, RingConsumer, RingInspector, RingProducer, create_ring, layout, read_geometry

CAPACITY = 4096
LIVE = layout.HEADER_BYTES


def fill(segment: object, seed: int) -> None:
    rng = random.Random(seed)
    producer = RingProducer(segment)  # type: ignore[arg-type]
    try:
        while True:
            form = rng.randrange(5)
            if form == 0:
                producer.put(rng.randbytes(rng.randrange(60)))
            elif form == 1:
                producer.put_many([rng.randbytes(9) for _ in range(5)])
            elif form == 2:
                producer.put_many([rng.randbytes(rng.randrange(9)) for _ in range(5)])
            elif form == 3:
                producer.put_array(np.arange(rng.randrange(9), dtype="<i4"), b"meta")
            else:
                producer.put_records(np.zeros(3, [("a", "<i4"), ("b", "S5", (2,))]))
    except RingFull:
        return


def read_all(segment: object) -> None:
    started = time.monotonic()
    consumer = RingConsumer(segment)  # type: ignore[arg-type]
    bound = 0
    while True:
        for _, item in consumer.take(7):
            if isinstance(item, ArrayRecord):
                assert not item.array.dtype.hasobject
                assert len(item.meta) <= CAPACITY
                size = item.array.nbytes
            elif isinstance(item, np.ndarray):
                assert not item.dtype.hasobject
                size = item.nbytes
            else:
                assert type(item) is bytes
                size = len(item)
            assert size <= CAPACITY
        consumer.commit()
        bound += 1
        assert bound < 10_000
        assert time.monotonic() - started < 20
        if not consumer.has_work():
            return


def attack(segment: object) -> None:
    for step in (
        read_all,
        lambda s: RingInspector(s).peek(100),
        lambda s: RingInspector(s).commit_before(RingInspector(s).current or 0),
        lambda s: RingInspector(s).discard_one(),
        lambda s: RingProducer(s).put(b"x"),
    ):
        try:
            step(segment)  # type: ignore[arg-type]
        except (RingCorrupted, RingFull):
            continue


flips = st.lists(st.tuples(st.integers(0, CAPACITY + 1024 - 1), st.integers(1, 255)), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 50), flips=flips)
def test_flipped_bytes_in_the_data(seed: int, flips: list[tuple[int, int]]) -> None:
    with create_ring(CAPACITY) as segment:
        fill(segment, seed)
        for offset, mask in flips:
            segment.map[LIVE + offset] ^= mask
        attack(segment)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 50),
    words=st.lists(
        st.tuples(st.integers(8, 80), st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3 * CAPACITY))),
        min_size=1,
        max_size=4,
    ),
)
def test_any_value_in_the_live_words(seed: int, words: list[tuple[int, int]]) -> None:
    with create_ring(CAPACITY) as segment:
        fill(segment, seed)
        for word, value in words:
            segment.words[word] = value
        segment.words[layout.STATE] = 0
        attack(segment)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), head=st.integers(0, CAPACITY // 8))
def test_random_pages(seed: int, head: int) -> None:
    with create_ring(CAPACITY) as segment:
        segment.map[LIVE : LIVE + 4096] = random.Random(seed).randbytes(4096)
        segment.words[layout.HEAD] = head * 8
        attack(segment)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.integers(0, 6),
    flags=st.integers(0, 5),
    whole=st.integers(0, 4),
    length=st.integers(0, 1016),
    payload=st.one_of(
        st.binary(max_size=200), st.lists(st.integers(0, 40), max_size=12).map(lambda v: struct.pack(f"<{len(v)}I", *v))
    ),
)
def test_records_that_almost_make_sense(kind: int, flags: int, whole: int, length: int, payload: bytes) -> None:
    with create_ring(CAPACITY) as segment:
        at = LIVE + 8
        segment.map[at : at + len(payload)] = payload
        segment.words[layout.DATA_WORD] = length | kind << 32 | (flags | whole << 8) << 40
        segment.words[layout.HEAD] = layout.record_bytes(length)
        attack(segment)


def corrupt(kind: int, payload: bytes) -> None:
    with create_ring(CAPACITY) as segment:
        segment.map[LIVE + 8 : LIVE + 8 + len(payload)] = payload
        segment.words[layout.DATA_WORD] = len(payload) | kind << 32
        segment.words[layout.HEAD] = layout.record_bytes(len(payload))
        consumer = RingConsumer(segment)
        for _ in range(2):  # the second try must not step over it
            with pytest.raises(RingCorrupted):
                consumer.get()
        with pytest.raises(RingCorrupted):
            consumer.take(5)


def array_payload(
    dtype: bytes, shape: tuple[int, ...] = (1,), data: bytes = b"12345678", offset: int | None = None
) -> bytes:
    lead = 16 + 8 * len(shape) + len(dtype)
    at = -(-lead // 64) * 64 if offset is None else offset
    head = struct.pack("<BBHIII", len(shape), 0, len(dtype), 0, at, 0) + struct.pack(f"<{len(shape)}Q", *shape) + dtype
    return head.ljust(at, b"\0") + data


RECORDS = [
    [8, [["a", "|O", 0, []]]],
    [8, [["a", "<i8", 4, []]]],
    [8, [["a", "<i8", -8, []]]],
    [8, [["a", "<i4", 0, [3]]]],
    [8, [["a", "<i8", 0, [2**40, 2**40]]]],
    [8, [["a", "<i8", 0, [-1]]]],
    [8, []],
    [0, [["a", "<i8", 0, []]]],
    [8, [["a", "<i4", 0, []], ["a", "<i4", 4, []]]],
    [8, [["a", "i8;import os", 0, []]]],
    [8, [["a", "<i8", 0, [], 1]]],
    {"x": 1},
]


@pytest.mark.parametrize(
    "payload",
    [
        array_payload(b"|O"),
        array_payload(b"O"),
        array_payload(b"<O8"),
        array_payload(b"<i8,<i8"),
        array_payload(b"float64"),
        array_payload(b"<i3"),
        array_payload(b"<M8[xx]"),
        array_payload(b"\xff\xff"),
        array_payload(b"<i8", (2,)),
        array_payload(b"<i8", (2**63, 2)),
        array_payload(b"<i8", (0, 2**40)),
        array_payload(b"<i8", (2**64 - 1,)),
        array_payload(b"<i8", (1,) * 33),
        array_payload(b"<i8", offset=5000),
        array_payload(b"|S0", (5,), b""),
        array_payload(b"|S999999999"),
        array_payload(b"<U999999999", (2**20,)),
        b"",
        b"\0" * 15,
        *[array_payload(json.dumps(r).encode()) for r in RECORDS],
        array_payload(b"[" * 3000),
    ],
)
@pytest.mark.parametrize("kind", [layout.ARRAY, layout.RECORDS])
def test_impossible_arrays(kind: int, payload: bytes) -> None:
    if len(payload) > 1016:
        payload = payload[:1016]
    corrupt(kind, payload)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (layout.BATCH_UNIFORM, b""),
        (layout.BATCH_UNIFORM, struct.pack("<II", 0, 2**32 - 1)),
        (layout.BATCH_UNIFORM, struct.pack("<II", 3, 3) + b"12345678"),
        (layout.BATCH_UNIFORM, struct.pack("<II", 8, 0)),
        (layout.BATCH_TABLE, struct.pack("<II", 0, 0)),
        (layout.BATCH_TABLE, struct.pack("<III", 2**30, 0, 1)),
        (layout.BATCH_TABLE, struct.pack("<IIII", 2, 0, 5, 2**32 - 1) + b"12345"),
        (layout.BATCH_TABLE, struct.pack("<IIII", 2, 0, 5, 1) + b"12345"),
        (layout.BATCH_TABLE, struct.pack("<IIII", 2, 1, 4, 1) + b"12345"),
        (6, b"abc"),
        (255, b"abc"),
    ],
)
def test_impossible_batches_and_kinds(kind: int, payload: bytes) -> None:
    corrupt(kind, payload)


def put_many_times(producer: RingProducer) -> None:
    for _ in range(100):
        producer.put(b"x" * 100)


def test_lies_about_positions() -> None:
    with create_ring(CAPACITY) as segment:
        consumer = RingConsumer(segment)
        for head in (4, CAPACITY + 8, 2**63, 2**64 - 8):
            segment.words[layout.HEAD] = head
            with pytest.raises(RingCorrupted):
                consumer.get()
        segment.words[layout.HEAD] = 0
        producer = RingProducer(segment)
        for tail in (2**63, 2**64 - 8, 3):
            segment.words[layout.TAIL] = tail
            with pytest.raises(RingCorrupted):
                put_many_times(producer)
            segment.words[layout.TAIL] = 0


def test_valid_items_before_a_bad_record_still_arrive() -> None:
    with create_ring(CAPACITY) as segment:
        producer, consumer = RingProducer(segment), RingConsumer(segment)
        producer.put(b"good")
        bad = producer.put(b"bad")
        segment.words[layout.DATA_WORD + bad // 8] = 9 << 32
        assert [item for _, item in consumer.take(10)] == [b"good"]
        with pytest.raises(RingCorrupted):
            consumer.take(10)


def test_a_record_that_changed_between_reading_and_commit() -> None:
    with create_ring(CAPACITY) as segment:
        producer, consumer = RingProducer(segment), RingConsumer(segment)
        first = producer.put(b"good")
        producer.put(b"more")
        consumer.take(1)
        segment.words[layout.DATA_WORD + first // 8] = 900
        with pytest.raises(RingCorrupted):
            consumer.commit_to(first)


def test_static_headers_that_lie() -> None:
    def rewritten(**change: int) -> None:
        with create_ring(CAPACITY) as segment:
            fields = {
                "version": 1,
                "header": 4096,
                "capacity": CAPACITY,
                "record": 1024,
                "ring": 0,
                "generation": 1,
                **change,
            }
            static = layout.STATIC.pack(b"WEFTRING", *fields.values())
            segment.map[: len(static)] = static
            segment.map[layout.CRC_OFFSET : layout.CRC_OFFSET + 4] = zlib.crc32(static).to_bytes(4, "little")
            read_geometry(segment)

    rewritten()
    for change in (
        {"version": 2}, {"header": 8192}, {"capacity": 8192}, {"capacity": 4097}, {"capacity": 2**63}, {"capacity": 0},
        {"record": 0}, {"record": 1000}, {"record": 4096}, {"record": 2**64 - 64},
    ):  # fmt: skip
        with pytest.raises(SegmentInvalid):
            rewritten(**change)
    with create_ring(CAPACITY) as segment:
        segment.map[20] ^= 1
        with pytest.raises(SegmentInvalid, match="checksum"):
            RingConsumer(segment)
        segment.map[:8] = b"NOTARING"
        with pytest.raises(SegmentInvalid, match="magic"):
            RingInspector(segment)


def test_what_cannot_travel_is_refused() -> None:
    with create_ring(CAPACITY) as segment:
        producer = RingProducer(segment)
        nested = np.zeros(2, [("a", [("b", "<i4")])])
        for array in (
            np.array([object()]),
            np.array(["x"], dtype=object),
            nested,
            np.zeros(2, [("o", "O")]),
            np.zeros(3, "V0"),
        ):
            with pytest.raises(PayloadRefused):
                producer.put_array(array)
        with pytest.raises(PayloadRefused):
            producer.put_records(np.zeros((2, 2)))
        assert producer.position == 0

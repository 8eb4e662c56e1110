"""What is ordered when, and that a store stays small and right while segments come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors_by_hand import UnsyncedFiles, small_limits

from weftos import limits
from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.sealing import SealOrder, seal
from weftos.ecc.vectors.store import VectorStore
from weftos.ecc.vectors.tiers import Plan, Sizes, plan
from weftos.errors import VectorRefused

FULL = limits.VECTOR_DELTA_ROWS


def _plan(
    delta: int = 0, segments: Any = (), *, quiet: bool = False, pinned: bool = False, beside: bool = False
) -> Any:
    pairs = [one if isinstance(one, tuple) or one is None else (one, 0) for one in segments]
    return plan(Sizes(delta, 0, pairs, is_quiet=quiet, is_pinned=pinned), only_tables=beside)


def test_plans() -> None:
    fan = limits.VECTOR_FANOUT
    assert _plan(FULL - 1) is None
    assert _plan(FULL) == _plan(FULL, beside=True) == Plan(True, [])
    assert _plan(1, pinned=True) == Plan(True, [])
    assert _plan(0, pinned=True) is None
    assert _plan(0, [FULL] * fan) == Plan(False, list(range(fan)))
    assert _plan(0, [FULL] * fan, beside=True) is None
    assert _plan(0, [FULL] * (fan - 1)) is None
    assert _plan(0, [*[FULL] * (fan - 1), FULL * fan]) is None
    assert _plan(0, [None, *[FULL] * fan]) == Plan(False, list(range(1, fan + 1)))
    assert _plan(0, [(70, 30), (71, 29)]) == Plan(False, [0])
    assert _plan(limits.VECTOR_QUIET_ROWS, quiet=True) == Plan(True, [])
    assert _plan(limits.VECTOR_QUIET_ROWS - 1, [FULL], quiet=True) is None
    assert _plan(0, [FULL * 3, FULL], quiet=True) == Plan(False, [1, 0])
    large = FULL * limits.VECTOR_REBUILD_SHARE * 3
    assert _plan(0, [large, FULL], quiet=True) is None
    assert _plan(0, [FULL, large, FULL], quiet=True) == Plan(False, [0, 2])
    assert _plan(FULL - 1, [FULL, large], quiet=True) == Plan(True, [0])
    assert _plan(0, [limits.VECTOR_SEGMENT_ROWS] * 20, quiet=True) is None


@given(batches=st.lists(st.integers(1, 3 * FULL), min_size=1, max_size=120))
def test_the_number_of_segments_is_bounded_and_rows_are_built_few_times(batches: list[int]) -> None:
    segments: list[int] = []
    built = delta = 0
    for batch in batches:
        delta += batch
        while (chosen := _plan(delta, segments)) is not None:
            rows = (delta if chosen.with_tables else 0) + sum(segments[place] for place in chosen.segments)
            segments = [one for place, one in enumerate(segments) if place not in chosen.segments] + [rows]
            delta = 0 if chosen.with_tables else delta
            built += rows
    total = sum(batches)
    levels = 2 + int(np.log(max(1, total / FULL)) / np.log(limits.VECTOR_FANOUT))
    assert len(segments) <= levels * (limits.VECTOR_FANOUT - 1)
    assert built <= total * levels
    steps = 0
    while (chosen := _plan(0, segments, quiet=True)) is not None:
        rows = sum(segments[place] for place in chosen.segments)
        segments = [one for place, one in enumerate(segments) if place not in chosen.segments] + [rows]
        steps += 1
    assert len(segments) <= 2
    assert steps <= 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_limits(monkeypatch)
    return tmp_path / "s"


def _put(store: VectorStore, name: str, begin: int, count: int = 8) -> None:
    numbers = range(begin, begin + count)
    store.upsert(name, [Entry(f"e{one}", np.array([one, 1, 1], np.float32), {"n": one}) for one in numbers])


def _build(order: SealOrder | None) -> Any:
    """As in another process: all that is known comes through bytes."""
    assert order is not None
    sealed = seal(msgspec.msgpack.decode(msgspec.msgpack.encode(order), type=SealOrder), UnsyncedFiles())
    return msgspec.msgpack.decode(msgspec.msgpack.encode(sealed), type=type(sealed))


def test_a_delta_is_sealed_beside_a_merge(folder: Path) -> None:
    store = VectorStore.open(UnsyncedFiles(), str(folder), lambda: 0.0)
    store.create(CollectionSpec("c", 3))
    for begin in (0, 8):
        _put(store, "c", begin)
        store.adopt(_build(store.wanted()))
    merge = store.wanted()
    assert (merge.rows, merge.ops, len(merge.sources)) == (16, b"", 2)
    _put(store, "c", 4)
    assert store.wanted() is None
    beside = store.wanted(beside=True)
    assert (beside.rows, beside.sources) == (8, [])
    assert store.wanted(beside=True) is None
    merged = _build(merge)
    store.adopt(_build(beside))
    store.delete("c", ["e15", "e4"])
    store.adopt(merged)
    found = store.collections()[0]
    assert (found.live, found.segments, found.tombstones, found.generation) == (14, 2, 10, 4)
    root = store.content_root("c")
    store.sync()
    store.close()
    store = VectorStore.open(UnsyncedFiles(), str(folder), lambda: 0.0)
    assert store.content_root("c") == root
    assert len(store.search("c", np.ones((1, 3), np.float32), 30)[0]) == 14
    store.close()


def test_files_that_nobody_needs_go(folder: Path) -> None:
    now = [0.0]
    store = VectorStore.open(UnsyncedFiles(), str(folder), lambda: now[0])
    store.create(CollectionSpec("c", 3))
    store.create(CollectionSpec("tiny", 3))
    _put(store, "tiny", 0, 2)
    for turn in range(12):
        _put(store, "c", turn * 4)
        while (order := store.wanted()) is not None:
            store.adopt(_build(order))
    assert len(list(folder.glob("segment-*"))) == store.collections()[0].segments
    assert store.statistics().journals > 10  # the small delta is in the first of them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weftos.limits.VECTOR_JOURNAL_BYTES", 100)
        store.adopt(_build(store.wanted()))
        while (order := store.wanted()) is not None:
            store.adopt(_build(order))
    assert store.statistics().journals == len(list(folder.glob("journal-*"))) == 1
    store.delete("tiny", ["e0", "e1"])
    store.drop("c")
    assert store.wanted() is None
    assert list(folder.glob("segment-*")) == []
    assert [one.live for one in store.collections()] == [0]
    store.close()
    store = VectorStore.open(UnsyncedFiles(), str(folder))
    assert [one.spec.name for one in store.collections()] == ["tiny"]
    store.close()


def test_an_order_of_a_collection_that_was_dropped_leaves_nothing(folder: Path) -> None:
    store = VectorStore.open(UnsyncedFiles(), str(folder))
    store.create(CollectionSpec("c", 3))
    _put(store, "c", 0)
    order = store.wanted()
    store.drop("c")
    store.create(CollectionSpec("c", 3))
    sealed = _build(order)
    with pytest.raises(VectorRefused, match="dropped"):
        store.load(sealed)
    store.adopt(sealed)
    assert store.wanted() is None
    assert list(folder.glob("segment-*")) == []
    assert store.search("c", np.ones((1, 3), np.float32), 3) == [[]]
    store.close()


def test_what_a_builder_left_is_removed(folder: Path) -> None:
    store = VectorStore.open(UnsyncedFiles(), str(folder))
    store.create(CollectionSpec("c", 3))
    _put(store, "c", 0)
    order = store.wanted()
    (folder / f"{order.file}.tmp").write_bytes(b"half")
    store.give_up(order)
    with pytest.raises(VectorRefused):
        store.give_up(order)
    again = store.wanted()
    sealed = _build(again)
    store.adopt(sealed)
    assert [one.name for one in folder.glob("segment-*")] == [again.file]
    (folder / "segment-000000000000000000000000").write_bytes(b"not adopted")
    (folder / "notes").write_bytes(b"of somebody else")
    store.close()
    VectorStore.open(UnsyncedFiles(), str(folder)).close()
    assert [one.name for one in folder.glob("segment-*")] == [again.file]
    assert (folder / "notes").exists()

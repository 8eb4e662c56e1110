"""What a store of vectors refuses, and that it is as before then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vectors_by_hand import UnsyncedFiles

from weftos import limits
from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.ecc.vectors.filters import Eq, Range
from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import (
    CollectionExists,
    CollectionNotFound,
    DimensionMismatch,
    FilterInvalid,
    MetadataInvalid,
    VectorRefused,
)

SPEC = CollectionSpec("c", 3, "cosine", EmbeddingIdentity("hashing", 1, 3, "00"), "agent 7")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    opened = VectorStore.open(UnsyncedFiles(), str(tmp_path / "s"))
    opened.create(SPEC)
    opened.create(CollectionSpec("plain", 3, "l2"))
    opened.upsert("c", [_entry("one")])
    opened.upsert("plain", [_entry("one")])
    yield opened
    opened.close()


def _vector(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def _entry(identity: Any = "x", vector: Any = None, metadata: Any = None, document: Any = b"") -> Entry:
    return Entry(identity, _vector(1, 2, 3) if vector is None else vector, metadata or {}, document)


BAD_ENTRIES = [
    (_entry(vector=_vector(np.nan, 1, 1)), VectorRefused, "not finite"),
    (_entry(vector=_vector(1, np.inf, 1)), VectorRefused, "not finite"),
    (_entry(vector=_vector(1, -np.inf, 1)), VectorRefused, "not finite"),
    (_entry(vector=_vector(0, 0, 0)), VectorRefused, "length zero"),
    (_entry(vector=_vector(1, 2)), DimensionMismatch, r"\(3,\)"),
    (_entry(vector=_vector(1, 2, 3, 4)), DimensionMismatch, r"\(3,\)"),
    (_entry(vector=np.ones((1, 3), np.float32)), DimensionMismatch, r"\(3,\)"),
    (_entry(vector=np.ones(3)), DimensionMismatch, "float64"),
    (_entry(vector=np.ones(3, np.int32)), DimensionMismatch, "int32"),
    (_entry(vector=[1.0, 2.0, 3.0]), DimensionMismatch, "float32"),
    (_entry(""), VectorRefused, "0 bytes"),
    (_entry("x" * 257), VectorRefused, "257 bytes"),
    (_entry("é" * 129), VectorRefused, "258 bytes"),
    (_entry("\ud800"), VectorRefused, "Unicode"),
    (_entry(7), VectorRefused, "is text"),
    (_entry(metadata={"n": float("nan")}), MetadataInvalid, "'n'"),
    (_entry(metadata={"n": [1]}), MetadataInvalid, "'n'"),
    (_entry(metadata={"n": None}), MetadataInvalid, "'n'"),
    (_entry(metadata={7: 1}), MetadataInvalid, "text"),
    (_entry(metadata={"n": 1 << 70}), MetadataInvalid, "written"),
    (_entry(metadata={"n": "\ud800"}), MetadataInvalid, "written"),
    (_entry(metadata={"n": "x" * limits.VECTOR_METADATA_BYTES}), MetadataInvalid, "at most"),
    (_entry(metadata=[("n", 1)]), MetadataInvalid, "mapping"),
    (_entry(document="text"), VectorRefused, "give bytes"),
    (_entry(document=b"x" * (limits.VECTOR_DOCUMENT_BYTES + 1)), VectorRefused, "at most"),
]


@pytest.mark.parametrize(("bad", "error", "text"), BAD_ENTRIES)
def test_a_batch_with_a_bad_entry_is_refused_as_a_whole(
    store: VectorStore, bad: Entry, error: type[Exception], text: str
) -> None:
    before = store.collections(), store.statistics()
    with pytest.raises(error, match=text):
        store.upsert("c", [_entry("good"), bad, _entry("better")])
    assert (store.collections(), store.statistics()) == before
    assert store.get("c", ["good", "better"]) == [None, None]


def test_batches_of_a_wrong_size_are_refused(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VectorRefused, match="0 entries"):
        store.upsert("c", [])
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(VectorRefused, match="do not match"):
        store.upsert_arrays("c", ["a", "b"], ones, [{}], [b"", b""])
    many = limits.VECTOR_BATCH_ENTRIES + 1
    with pytest.raises(VectorRefused, match="split"):
        store.upsert_arrays("c", ["a"] * many, np.ones((many, 3), np.float32), [{}] * many, [b""] * many)
    monkeypatch.setattr("weftos.limits.VECTOR_BATCH_BYTES", 50)
    with pytest.raises(VectorRefused, match="split"):
        store.upsert_arrays("c", ["a", "b"], ones, [{}, {}], [b"x" * 30, b""])
    assert store.statistics().live == 2


def test_vectors_that_are_not_normalised_may_be_zero_but_not_endless(store: VectorStore) -> None:
    store.upsert("plain", [_entry("zero", _vector(0, 0, 0)), _entry("far", _vector(1e17, 0, 0))])
    hits = store.search("plain", np.zeros((1, 3), np.float32), 3)[0]
    assert [hit.id for hit in hits] == ["zero", "one", "far"]
    with pytest.raises(VectorRefused, match="scale"):
        store.upsert("plain", [_entry("x", _vector(1e30, 0, 0))])


@pytest.mark.parametrize(
    ("queries", "given", "error"),
    [
        (np.full((1, 3), np.nan, np.float32), {}, VectorRefused),
        (np.zeros((1, 3), np.float32), {}, VectorRefused),
        (np.ones((1, 4), np.float32), {}, DimensionMismatch),
        (np.ones(3, np.float32), {}, DimensionMismatch),
        (np.ones((1, 3)), {}, DimensionMismatch),
        (np.ones((1, 3), np.float32), {"k": 0}, VectorRefused),
        (np.ones((1, 3), np.float32), {"k": limits.VECTOR_RESULTS + 1}, VectorRefused),
        (np.ones((1, 3), np.float32), {"ef": 0}, VectorRefused),
        (np.ones((1, 3), np.float32), {"ef": limits.VECTOR_EF_MAX + 1}, VectorRefused),
        (np.ones((limits.VECTOR_QUERIES + 1, 3), np.float32), {}, VectorRefused),
        (np.ones((1, 3), np.float32), {"condition": Range("n")}, FilterInvalid),
        (np.ones((1, 3), np.float32), {"condition": Eq("n", float("inf"))}, FilterInvalid),
    ],
)
def test_searches_that_cannot_be_answered_are_refused(
    store: VectorStore, queries: Any, given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.search("c", queries, given.pop("k", 1), **given)
    assert store.search("c", np.empty((0, 3), np.float32), 1) == []


@pytest.mark.parametrize(
    "spec",
    [
        CollectionSpec("", 3),
        CollectionSpec("with space", 3),
        CollectionSpec("-x", 3),
        CollectionSpec("x" * 161, 3),
        CollectionSpec("x", 0),
        CollectionSpec("x", limits.VECTOR_DIMENSION_MAX + 1),
        CollectionSpec("x", 3, "hamming"),  # type: ignore[arg-type]
        CollectionSpec("x", 4, identity=SPEC.identity),
        CollectionSpec("x", 3, owner="x" * 257),
        CollectionSpec("x", 3, owner="\ud800"),
    ],
)
def test_specs_that_no_collection_can_have_are_refused(store: VectorStore, spec: CollectionSpec) -> None:
    with pytest.raises(VectorRefused):
        store.create(spec)
    assert len(store.collections()) == 2


def test_a_collection_is_made_once_and_is_another_one_after_it_was_dropped(
    store: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = store.statistics().last_op
    store.create(SPEC)
    assert store.statistics().last_op == last
    assert store.spec("c") == SPEC
    with pytest.raises(CollectionExists):
        store.create(CollectionSpec("c", 4))
    assert store.drop("c") == 1
    for ask in (store.spec, store.drop, store.content_root, lambda name: store.get(name, [])):
        with pytest.raises(CollectionNotFound):
            ask("c")
    store.create(CollectionSpec("c", 4))
    assert store.search("c", np.ones((1, 4), np.float32), 5) == [[]]
    monkeypatch.setattr("weftos.limits.VECTOR_COLLECTIONS", 2)
    with pytest.raises(VectorRefused, match="drop one"):
        store.create(CollectionSpec("e", 4))
    store.sync()
    store.close()
    again = VectorStore.open(UnsyncedFiles(), str(tmp_path / "s"))
    assert [(one.spec.dimension, one.live) for one in again.collections()] == [(4, 0), (3, 1)]
    again.close()


def test_ids_and_commitments_that_make_no_sense_are_refused(store: VectorStore) -> None:
    for bad in (["x", ""], "x", ["x" * 300], [3]):
        with pytest.raises(VectorRefused):
            store.delete("c", bad)  # type: ignore[arg-type]
        with pytest.raises(VectorRefused):
            store.get("c", bad)  # type: ignore[arg-type]
    for last, seq in ((0, 1), (99, 1), (1, 0), (1, 1 << 64)):
        with pytest.raises(VectorRefused):
            store.committed(last, seq)
    with pytest.raises(VectorRefused, match="not committed"):
        store.proof(1)
    with pytest.raises(VectorRefused, match="no mutation"):
        store.proof(5)
    store.committed(3, 8)
    store.committed(2, 9)  # a record that was noted before is noted again
    assert [store.search("c", np.ones((1, 3), np.float32), 1)[0][0].chain_seq, store.proof(3).chain_seq] == [8, 8]
    assert store.uncommitted().counts == {"upsert": 1}


def test_who_only_talks_about_vectors_loads_no_index() -> None:
    code = "import sys, weftos.ecc.vectors.model, weftos.ecc.vectors.filters, weftos.ecc.vectors.orders; "
    subprocess.run([sys.executable, "-c", code + "assert 'faiss' not in sys.modules"], check=True)

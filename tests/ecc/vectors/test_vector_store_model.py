"""A store against a dictionary and brute force, under changes, searches, builds, restarts and crashes in any order."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from vectors_by_hand import Kept, UnsyncedFiles, kept_vector, root_of, score, small_limits

from weftos.ecc.vectors.filters import And, Eq, In, Not, Range
from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.sealing import seal
from weftos.ecc.vectors.store import VectorStore
from weftos.merkle.proofs import verify_inclusion

DIMENSION = 5
IDS = [f"e{number}" for number in range(40)]
#: Few different numbers, so that equal vectors and equal scores happen; none is the zero vector.
VECTORS = st.integers(0, 400).map(
    lambda seed: np.random.default_rng(seed).integers(-3, 4, DIMENSION).astype(np.float32) + np.float32(0.25)
)
METADATA = st.fixed_dictionaries({}, optional={"kind": st.sampled_from(["a", "b"]), "size": st.integers(0, 9)})
ENTRIES = st.lists(st.tuples(st.sampled_from(IDS), VECTORS, METADATA, st.sampled_from([b"", b"text"])), min_size=1)
CONDITIONS: dict[Any, Any] = {
    None: lambda _m: True,
    Eq("kind", "a"): lambda m: m.get("kind") == "a",
    In("size", (1, 2, 3)): lambda m: m.get("size") in (1, 2, 3),
    And((Range("size", 2, 6), Not(Eq("kind", "b")))): lambda m: 2 <= m.get("size", -1) <= 6 and m.get("kind") != "b",
    Eq("nowhere", 1): lambda _m: False,
}
#: Searches that scan, whatever the graph: their results have to be the best ones.
SCANS = 1 << 40


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        small_limits(self.patch)
        self.folder = tempfile.mkdtemp()
        self.now = 0.0
        self.store: VectorStore | None = None
        self.order: Any = None
        self.built: Any = None

    @initialize(metric=st.sampled_from(["cosine", "l2", "inner"]))
    def begin(self, metric: str) -> None:
        self.metric = metric
        self._open()
        self.store.create(CollectionSpec("c", DIMENSION, metric))
        self.store.sync()
        self.content: dict[str, Kept] = {}
        self.durable: dict[str, Kept] = {}

    def _open(self) -> None:
        self.store = VectorStore.open(UnsyncedFiles(), os.path.join(self.folder, "store"), lambda: self.now)
        self.order = self.built = None

    def _newest_journal(self) -> str:
        names = os.listdir(os.path.join(self.folder, "store"))
        return max(name for name in names if name.startswith("journal-") and not name.endswith(".tmp"))

    @rule(entries=ENTRIES)
    def upsert(self, entries: Any) -> None:
        before = self.store.statistics().last_op
        given = [Entry(*one) for one in entries]
        assert self.store.upsert("c", given) == before + len(entries)
        for one in given:
            self.content[one.id] = (kept_vector(one.vector, self.metric), one.metadata, one.document)

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=12))
    def delete(self, ids: list[str]) -> None:
        present = {one for one in ids if one in self.content}
        assert self.store.delete("c", ids) == len(present)
        for one in present:
            del self.content[one]

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=8))
    def get(self, ids: list[str]) -> None:
        for identity, found in zip(ids, self.store.get("c", ids), strict=True):
            if found is None:
                assert identity not in self.content
                continue
            vector, metadata, document = self.content[identity]
            assert (found.id, found.metadata, found.document) == (identity, metadata, document)
            np.testing.assert_allclose(found.vector, vector, rtol=1e-6)

    @rule(
        seeds=st.lists(VECTORS, min_size=1, max_size=3),
        k=st.integers(1, 12),
        condition=st.sampled_from(list(CONDITIONS)),
        ef=st.sampled_from([None, 1, 100]),
        scans=st.sampled_from([0, SCANS]),
    )
    def search(self, seeds: Any, k: int, condition: Any, ef: Any, scans: int) -> None:
        self.patch.setattr("weftos.limits.VECTOR_SCAN_PER_CANDIDATE", scans)
        matching = {one: kept for one, kept in self.content.items() if CONDITIONS[condition](kept[1])}
        for query, hits in zip(
            seeds, self.store.search("c", np.stack(seeds), k, condition=condition, ef=ef), strict=True
        ):
            assert len(hits) == min(k, len(matching))
            assert len({hit.id for hit in hits}) == len(hits)
            truth = sorted((score(query, kept[0], self.metric) for kept in matching.values()), reverse=True)
            for place, hit in enumerate(hits):
                vector, metadata, document = matching[hit.id]
                assert (hit.metadata, hit.document) == (metadata, document)
                assert hit.score == pytest.approx(score(query, vector, self.metric), rel=1e-4, abs=1e-4)
                if scans:
                    assert hit.score == pytest.approx(truth[place], rel=1e-4, abs=1e-4)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @precondition(lambda self: self.order is None)
    @rule(quiet=st.booleans())
    def ask(self, quiet: bool) -> None:
        self.now += 1000 if quiet else 0
        before = self._newest_journal()
        self.order = self.store.wanted()
        # A new journal begins when all that was changed is on disk, whether it is for an order or for a clean folder.
        self.durable = dict(self.content) if self._newest_journal() != before else self.durable
        assert self.order is None or self.store.wanted() is None

    @precondition(lambda self: self.order is not None and self.built is None)
    @rule()
    def build(self) -> None:
        self.built = seal(self.order, UnsyncedFiles())

    @precondition(lambda self: self.built is not None)
    @rule(beside=st.booleans())
    def adopt(self, beside: bool) -> None:
        before = self.store.content_root("c")
        self.store.adopt(self.built, self.store.load(self.built) if beside else None)
        assert self.store.content_root("c") == before
        self.order = self.built = None
        self.durable = dict(self.content)

    @precondition(lambda self: self.order is not None)
    @rule()
    def give_up(self) -> None:
        self.store.give_up(self.order)
        self.order = self.built = None

    @rule()
    def sync(self) -> None:
        self.store.sync()
        self.durable = dict(self.content)

    @rule(share=st.floats(0, 1))
    def commit(self, share: float) -> None:
        self.store.sync()
        self.durable = dict(self.content)
        waiting = self.store.uncommitted()
        count = waiting.last_op - waiting.first_op + 1
        assert sum(waiting.counts.values()) == count
        if not count:
            return
        last = waiting.first_op + int(share * (count - 1))
        self.store.committed(last, 1000 + last)
        proof = self.store.proof(last)
        assert (proof.chain_seq, proof.size) == (1000 + last, last - waiting.first_op + 1)
        verify_inclusion(proof.leaf, proof.index, proof.size, proof.path, proof.root)
        if last == waiting.last_op:
            assert proof.root == waiting.root

    @rule()
    def reopen(self) -> None:
        self.store.sync()
        before = (self.store.uncommitted(), self.store.collections()[0].upserts, self.store.collections()[0].deletes)
        self.store.close()
        self._open()
        after = (self.store.uncommitted(), self.store.collections()[0].upserts, self.store.collections()[0].deletes)
        assert before == after
        self.durable = dict(self.content)

    @rule()
    def crash(self) -> None:
        self.store.close()
        self.content = dict(self.durable)
        self._open()

    @invariant()
    def content_is_the_models(self) -> None:
        if self.store is None:
            return
        found = self.store.collections()[0]
        assert found.live == len(self.content)
        assert self.store.content_root("c") == found.content_root == root_of(self.content)

    def teardown(self) -> None:
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder)
        self.patch.undo()


StoreAgainstModel.TestCase.settings = settings(max_examples=15, stateful_step_count=30)
TestStoreAgainstModel = StoreAgainstModel.TestCase


@pytest.mark.slow
class TestStoreAgainstModelAtLength(StoreAgainstModel.TestCase):
    settings = settings(max_examples=600, stateful_step_count=80)

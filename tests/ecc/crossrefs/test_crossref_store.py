"""Cross-references against a plain dict, and on disk: killed at every byte and every call, altered at every byte."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from dying_files import DyingFiles, UnsyncedFiles
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from store_deaths import die_at_every_call

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.crossrefs.model import ROW_BYTES, CrossRef, CrossRefType, from_row, to_row
from weftos.ecc.crossrefs.store import CrossRefStore
from weftos.ecc.journal import HEADER_BYTES
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import CrossRefRefused, JournalDamaged, JournalFailed

TAGS = (StructureTag.EXO_CHAIN, StructureTag.CAUSAL_GRAPH, StructureTag(0x42))
TYPES = (CrossRefType.TRIGGERED_BY, CrossRefType.CALLS, CrossRefType.custom(0xEE))


def _node(number: int) -> UniversalNodeId:
    return UniversalNodeId(bytes([number]) * 32)


def _ref(source: int, target: int, ref_type: CrossRefType = TYPES[0], at: int = 5, seq: int = 9) -> CrossRef:
    ends = (_node(source), TAGS[source % 3], _node(target), TAGS[target % 3])
    return CrossRef(*ends, ref_type, at, seq)


NUMBERS = st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """The store beside a dict, synced, killed and opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.store = CrossRefStore.open(UnsyncedFiles(), self.folder)
        self.model: dict[tuple[bytes, bytes, int], CrossRef] = {}
        self.synced = dict(self.model)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(start=NUMBERS, end=NUMBERS, kind=st.sampled_from(TYPES), at=st.integers(0, 1 << 63), seq=NUMBERS)
    def insert(self, start: int, end: int, kind: CrossRefType, at: int, seq: int) -> None:
        ref = _ref(start, end, kind, at, seq)
        key = (ref.source, ref.target, int(kind))
        assert self.store.insert(ref) == (key not in self.model)
        self.model.setdefault(key, ref)

    @rule(start=NUMBERS, end=NUMBERS, kind=st.sampled_from(TYPES))
    def remove(self, start: int, end: int, kind: CrossRefType) -> None:
        key = (_node(start), _node(end), int(kind))
        assert self.store.remove(*key[:2], kind) == (self.model.pop(key, None) is not None)

    @rule(number=NUMBERS)
    def remove_all_of(self, number: int) -> None:
        gone = [key for key in self.model if _node(number) in key[:2]]
        assert self.store.remove_all_of(_node(number)) == len(gone)
        for key in gone:
            del self.model[key]

    @rule()
    def sync(self) -> None:
        self.store.sync()
        self.synced = dict(self.model)

    @rule()
    def compact(self) -> None:
        self.store.compact()
        self.synced = dict(self.model)

    @rule()
    def kill_and_open(self) -> None:
        self.store.close()
        self.store = CrossRefStore.open(UnsyncedFiles(), self.folder)
        self.model = dict(self.synced)

    @invariant()
    def answers_are_those_of_the_dict(self) -> None:
        refs = list(self.model.values())
        assert self.store.count == len(self.store) == len(refs)
        assert set(map(to_row, self.store)) == set(map(to_row, refs))
        rows = lambda found: sorted(map(to_row, found))  # noqa: E731
        for number in range(6):
            node = _node(number)
            assert rows(self.store.forward(node)) == rows(ref for ref in refs if ref.source == node)
            assert rows(self.store.reverse(node)) == rows(ref for ref in refs if ref.target == node)
            assert rows(self.store.both(node)) == rows(ref for ref in refs if node in (ref.source, ref.target))
        for kind in TYPES:
            assert rows(self.store.by_type(kind)) == rows(ref for ref in refs if ref.ref_type == kind)
        for tag in TAGS:
            assert rows(self.store.by_target_structure(tag)) == rows(ref for ref in refs if ref.target_structure == tag)
        for key, ref in self.model.items():
            assert self.store.get(key[0], key[1], CrossRefType(key[2])) == ref


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_answers_come_in_the_order_of_adding(tmp_path: Path) -> None:
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    for target in (5, 2, 4):
        store.insert(_ref(1, target))
    store.insert(_ref(1, 2, at=99))
    assert [ref.target[0] for ref in store.forward(_node(1))] == [5, 2, 4]
    assert store.forward(_node(1))[1].created_at == 5, "what is there keeps its provenance"
    store.close()


def _work(store: CrossRefStore, roots: list[bytes]) -> None:
    """Change, sync, cut; after each change note what must be found again."""
    changes = [
        lambda: store.insert(_ref(1, 2)),
        lambda: (store.insert(_ref(2, 3)), store.insert(_ref(3, 3, TYPES[1]))),
        lambda: store.remove(_node(1), _node(2), TYPES[0]),
        lambda: store.insert(_ref(4, 1, TYPES[2], 1 << 60, 1 << 63)),
        lambda: store.remove_all_of(_node(3)),
        lambda: store.insert(_ref(1, 5)),
    ]
    for step, change in enumerate(changes):
        change()
        roots.append(store.content_root())
        store.sync()
        if step == 2:
            store.compact()


def _root(folder: Path) -> bytes:
    store = CrossRefStore.open(UnsyncedFiles(), str(folder))
    try:
        return store.content_root()
    finally:
        store.close()


def test_a_journal_cut_at_any_byte_gives_the_references_of_that_time(tmp_path: Path) -> None:
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    roots: list[bytes] = []
    _work(store, roots)
    store.close()
    journal = tmp_path / "crossrefs.journal"
    whole = journal.read_bytes()
    seen = []
    for cut in range(HEADER_BYTES, len(whole) + 1):
        journal.write_bytes(whole[:cut])
        seen.append(roots.index(_root(tmp_path)))
    assert sorted(seen) == seen
    assert set(seen) == {2, 3, 4, 5}


def test_an_altered_byte_is_damage_or_a_torn_last_sync(tmp_path: Path) -> None:
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    roots: list[bytes] = []
    _work(store, roots)
    store.close()
    for name, always in (("crossrefs.snapshot", True), ("crossrefs.journal", False)):
        path = tmp_path / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            altered = bytearray(whole)
            altered[place] ^= 0x11
            path.write_bytes(altered)
            try:
                # Only what the last sync wrote may be missing, for it looks like a torn tail.
                assert _root(tmp_path) == roots[-2]
                assert not always
            except JournalDamaged:
                assert path.read_bytes() == altered, "damage is left as it was found"
            path.write_bytes(whole)
    assert _root(tmp_path) == roots[-1]


def test_a_death_at_any_call_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    die_at_every_call(tmp_path, CrossRefStore.open, _work, CrossRefStore.content_root)


def test_after_a_failed_sync_the_store_takes_nothing_more(tmp_path: Path) -> None:
    CrossRefStore.open(RealFiles(), str(tmp_path)).close()
    store = CrossRefStore.open(DyingFiles(2), str(tmp_path))
    store.insert(_ref(1, 2))
    with pytest.raises(JournalFailed):
        store.sync()
    for call in (lambda: store.insert(_ref(2, 1)), store.sync, store.compact, lambda: store.remove_all_of(_node(1))):
        with pytest.raises(JournalFailed, match="open"):
            call()
    store.close()


def test_the_content_root_does_not_depend_on_the_way(tmp_path: Path) -> None:
    roots = set()
    for name, order in (("a", (1, 2, 3)), ("b", (3, 1, 2))):
        (tmp_path / name).mkdir()
        store = CrossRefStore.open(RealFiles(), str(tmp_path / name))
        for number in order:
            store.insert(_ref(number, 4))
        store.insert(_ref(4, 4))
        store.remove(_node(4), _node(4), TYPES[0])
        roots.add(store.content_root())
        assert len(store.content_root()) == 32
        store.insert(_ref(5, 5))
        assert store.content_root() not in roots
        store.close()
    assert len(roots) == 1


def test_what_cannot_be_kept_is_refused_and_the_store_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    ends = (_node(1), TAGS[0], _node(2), TAGS[1], TYPES[0])
    for ref in (CrossRef(*ends, -1, 0), CrossRef(*ends, 0, 1 << 64)):
        with pytest.raises(CrossRefRefused, match="64"):
            store.insert(ref)
    store.insert(CrossRef(*ends, 1, 2))
    with pytest.raises(CrossRefRefused, match="one of both is wrong"):
        store.insert(CrossRef(_node(1), TAGS[2], *ends[2:], 1, 2))
    monkeypatch.setattr(limits, "CROSSREFS", 1)
    with pytest.raises(CrossRefRefused, match="has room for 1"):
        store.insert(_ref(3, 4))
    assert not store.insert(CrossRef(*ends, 1, 2)), "what is there needs no room"
    store.sync()
    store.close()
    again = CrossRefStore.open(RealFiles(), str(tmp_path))
    assert [ref.chain_seq for ref in again] == [2]
    again.close()


def test_the_journal_is_cut_when_it_has_outgrown_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ECC_JOURNAL_CUT_BYTES", 2000)
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    largest = 0
    for number in range(200):
        store.insert(_ref(number % 200, 7, at=number))
        store.sync()
        largest = max(largest, (tmp_path / "crossrefs.journal").stat().st_size)
        bound = max(2000, 2 * (tmp_path / "crossrefs.snapshot").stat().st_size)
        assert (tmp_path / "crossrefs.journal").stat().st_size <= bound
    assert largest > 2000
    root = store.content_root()
    store.close()
    assert _root(tmp_path) == root


def test_many_changes_become_several_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ECC_CHANGES_BYTES", 300)
    store = CrossRefStore.open(RealFiles(), str(tmp_path))
    for number in range(20):
        store.insert(_ref(number, 21))
    store.sync()
    store.close()
    again = CrossRefStore.open(RealFiles(), str(tmp_path))
    assert [ref.source[0] for ref in again] == list(range(20))
    again.close()


def test_a_row_that_is_none_is_refused() -> None:
    row = to_row(_ref(1, 2))
    assert len(row) == ROW_BYTES == 83
    assert from_row(row) == _ref(1, 2)
    for bad in (row[:-1], row + b"\0", row[:64] + b"\x05" + row[65:]):
        with pytest.raises(CrossRefRefused):
            from_row(bad)

"""A causal graph on disk: killed at every byte and at every call, altered, put together from foreign parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_deaths import die_at_every_call

from weftos.disk.files import RealFiles
from weftos.ecc.causal.graph import Edge, EdgeType
from weftos.ecc.causal.store import GraphStore, content_root
from weftos.ecc.journal import HEADER_BYTES
from weftos.errors import CycleRefused, GraphRefused, JournalDamaged


def _work(store: GraphStore, roots: list[bytes]) -> None:
    """Change, sync, snapshot; after each sync note what must be found again."""
    for number in range(4):
        store.add_node(f"n{number}", created_at=number, universal_id=bytes([number]) * 32)
    roots.append(content_root(store.graph))
    store.sync()
    for step, change in enumerate(
        (
            lambda: store.link(1, 2, EdgeType.CAUSES, 0.5, created_at=1),
            lambda: store.link_arrays(
                np.array([2, 3]),
                np.array([3, 4]),
                np.array([1, 5]),
                np.array([1.0, 0.25]),
                np.zeros(2, int),
            ),
            lambda: store.unlink(2, 3),
            lambda: store.remove_node(4),
            lambda: store.link(1, 2, EdgeType.CAUSES, 0.75, created_at=2),
        )
    ):
        change()
        roots.append(content_root(store.graph))
        store.sync()
        if step == 2:
            store.snapshot()


def test_a_journal_cut_at_any_byte_gives_the_graph_of_that_time(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    store = GraphStore(RealFiles(), str(folder))
    roots: list[bytes] = [content_root(store.graph)]
    _work(store, roots)
    store.close()
    whole = (folder / "causal.journal").read_bytes()
    seen = set()
    for cut in range(HEADER_BYTES, len(whole) + 1):
        (folder / "causal.journal").write_bytes(whole[:cut])
        again = GraphStore(RealFiles(), str(folder))
        seen.add(roots.index(content_root(again.graph)))
        again.close()
    assert seen == {4, 5, 6}, "the snapshot came after the change number 4"
    assert content_root(again.graph) == roots[-1]
    assert again.graph.edges(1) == [Edge(1, 2, EdgeType.CAUSES, 0.75, 2, 9)]


def test_a_death_at_any_call_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    die_at_every_call(tmp_path, GraphStore, _work, lambda store: content_root(store.graph))


def test_an_altered_snapshot_or_foreign_parts_are_damage(tmp_path: Path) -> None:
    store = GraphStore(RealFiles(), str(tmp_path))
    _work(store, [])
    store.close()
    snapshot, journal = tmp_path / "causal.snapshot", tmp_path / "causal.journal"
    whole = snapshot.read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1
        snapshot.write_bytes(altered)
        with pytest.raises(JournalDamaged):
            GraphStore(RealFiles(), str(tmp_path))
        snapshot.write_bytes(whole[:place])
        with pytest.raises(JournalDamaged):
            GraphStore(RealFiles(), str(tmp_path))
    snapshot.unlink()
    with pytest.raises(JournalDamaged, match="is missing"):
        GraphStore(RealFiles(), str(tmp_path))
    snapshot.write_bytes(whole)
    journal.unlink()
    with pytest.raises(JournalDamaged, match="is missing"):
        GraphStore(RealFiles(), str(tmp_path))


def test_a_graph_without_cycles_stays_so_when_it_is_opened_again(tmp_path: Path) -> None:
    store = GraphStore(RealFiles(), str(tmp_path), acyclic=True)
    for number in range(3):
        store.add_node(str(number), created_at=0, universal_id=bytes(32))
    store.link(3, 1, EdgeType.CAUSES, 1.0, created_at=0)
    store.snapshot()
    store.close()
    again = GraphStore(RealFiles(), str(tmp_path))
    with pytest.raises(CycleRefused):
        again.link(1, 3, EdgeType.CAUSES, 1.0, created_at=0)
    again.close()


def test_what_cannot_be_written_is_refused_and_the_store_goes_on(tmp_path: Path) -> None:
    store = GraphStore(RealFiles(), str(tmp_path))
    for label, created_at in (("\ud800", 0), ("n", 1 << 64), ("n", -1), ("n" * 2000, 0)):
        with pytest.raises(GraphRefused):
            store.add_node(label, created_at=created_at, universal_id=bytes(32))
    with pytest.raises(GraphRefused):
        store.link(1 << 40, -1, EdgeType.CAUSES, 1.0, created_at=0)
    assert store.add_node("n", created_at=0, universal_id=bytes(32)) == 1
    store.sync()
    root = content_root(store.graph)
    store.close()
    again = GraphStore(RealFiles(), str(tmp_path))
    assert content_root(again.graph) == root
    again.close()


def test_what_the_log_vouches_for_is_the_same_after_snapshot_and_restart(tmp_path: Path) -> None:
    store = GraphStore(RealFiles(), str(tmp_path))
    first = store.add_node("a", created_at=1, universal_id=b"a" * 32)
    second = store.add_node("b", created_at=1, universal_id=b"b" * 32)
    store.committed(2, 40)
    store.link(first, second, EdgeType.CAUSES, 0.5, created_at=2)
    waiting = store.commitment.uncommitted()
    store.snapshot()
    gone = store.add_node("c", created_at=3, universal_id=b"c" * 32)
    store.remove_node(gone)
    store.committed(4, 41)
    store.sync()
    store.close()
    again = GraphStore(RealFiles(), str(tmp_path))
    assert (waiting.first, waiting.last) == (3, 3)
    assert [again.commitment.seq_of(op) for op in range(1, 6)] == [40, 40, 41, 41, 0]
    assert (again.find(b"b" * 32), again.find(b"c" * 32)) == (second, None)
    assert again.commitment.seq_of(again.graph.edges(first)[0].op) == 41
    with pytest.raises(GraphRefused, match="waits for a record"):
        again.committed(4, 42)
    again.close()

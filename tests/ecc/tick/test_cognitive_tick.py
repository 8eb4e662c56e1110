"""The cognitive tick over real stores: what impulses become, in which portions, and what happens when a part fails."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from ecc_mind import SOURCE, Killed, Mind
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.ecc.causal.graph import EdgeType
from weftos.ecc.crossrefs.model import CrossRefType, to_row
from weftos.ecc.impulses.model import ImpulseSettings, ImpulseType
from weftos.ecc.tick.batch import AddCrossRef, AddEdge, AddNode, AddVector, leaf
from weftos.ecc.tick.controller import TickController
from weftos.ecc.tick.model import TickResult, TickSettings
from weftos.ecc.tick.ports import Hit
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import ConfigError, EccError, GraphRefused
from weftos.merkle.frontier import Frontier

MUCH = 1e9


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[Mind] = []

    def one(**settings: Any) -> Mind:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Mind(folder, **settings))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def mind(make: Any) -> Mind:
    return make()


def _edges(mind: Mind) -> list[tuple[int, int, EdgeType, float]]:
    graph = mind.graph.graph
    return [
        (edge.source, edge.target, edge.type, round(edge.weight, 4)) for n in graph.nodes() for edge in graph.edges(n)
    ]


def test_an_impulse_becomes_a_node_a_vector_and_a_reference(mind: Mind) -> None:
    mind.emit(3, 4, kind=ImpulseType.custom(42))
    (held,) = mind.queue.lease(1)
    mind.queue.release([1])
    result = mind.tick.tick(MUCH)
    (node,) = mind.graph.graph.all_nodes()
    content = SOURCE + blake3(b'{"v":[3,4]}').digest()
    own = UniversalNodeId.v1(
        StructureTag.CAUSAL_GRAPH, b"impulse:Custom(42):1", held.impulse.hlc, content, UniversalNodeId.ZERO
    )
    assert (node.label, node.universal_id, node.created_at) == ("impulse:Custom(42):1", own, held.impulse.hlc)
    vector, about = mind.index.rows[own]
    assert np.allclose(vector, [0.6, 0.8])
    assert about == {"impulse_id": 1, "impulse_type": "Custom(42)", "hlc": held.impulse.hlc}
    (ref,) = mind.refs
    assert (ref.source, ref.source_structure) == (own, StructureTag.CAUSAL_GRAPH)
    assert (ref.target, ref.target_structure) == (SOURCE, StructureTag.HNSW_INDEX)
    assert (ref.ref_type, ref.created_at, ref.chain_seq) == (CrossRefType.TRIGGERED_BY, held.impulse.hlc, 100)
    assert (result.impulses_sensed, result.impulses_done, result.nodes_added, result.crossrefs_added) == (1, 1, 1, 1)
    assert (result.embeddings_produced, result.searches_performed, result.chain_seq) == (1, 1, 100)
    assert len(mind.queue) == 0


def test_the_event_has_the_root_over_what_was_added(mind: Mind) -> None:
    mind.emit(1, 0)
    mind.emit(1, 0)
    mind.tick.tick(MUCH)
    (event,) = mind.log.events
    nodes = list(mind.graph.graph.all_nodes())
    operations: list[Any] = []
    for node, ref in zip(nodes, mind.refs, strict=True):
        operations.append(AddNode(node.universal_id, node.label, node.created_at))
        row = np.asarray(mind.index.rows[node.universal_id][0], "<f4")
        operations.append(AddVector(node.universal_id, blake3(row.tobytes()).digest()))
        for edge in mind.graph.graph.edges(node.id):
            target = mind.graph.graph.node(edge.target).universal_id
            operations.append(AddEdge(node.universal_id, target, edge.type.value, edge.weight, edge.created_at))
        operations.append(AddCrossRef(to_row(msgspec.structs.replace(ref, chain_seq=0))))
    tree = Frontier()
    tree.extend(leaf(one) for one in operations)
    assert event.root == tree.root()
    assert (event.first_op, event.last_op, event.impulses) == (1, 7, 2)
    assert (event.nodes, event.vectors, event.edges, event.crossrefs) == (2, 2, 1, 2)
    assert event.hlc == nodes[1].created_at
    mind.emit(0, 1)
    mind.tick.tick(MUCH)
    assert (mind.log.events[1].first_op, mind.log.events[1].last_op) == (8, 10)
    assert mind.tick.statistics().next_op == 11


def test_impulses_of_one_tick_see_each_other_the_later_the_earlier(mind: Mind) -> None:
    mind.emit(1, 0)
    mind.emit(1, 0.1)
    mind.tick.tick(MUCH)
    assert _edges(mind) == [(2, 1, EdgeType.CORRELATES, 0.995)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ImpulseType.BELIEF_UPDATE, EdgeType.FOLLOWS),
        (ImpulseType.NOVELTY_DETECTED, EdgeType.FOLLOWS),
        (ImpulseType.custom(9), EdgeType.FOLLOWS),
        (ImpulseType.EDGE_CONFIRMED, EdgeType.CAUSES),
        (ImpulseType.COHERENCE_ALERT, EdgeType.EVIDENCE_FOR),
        (ImpulseType.EMBEDDING_REFINED, EdgeType.ENABLES),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_cosine_decides_what_a_link_says(make: Any, kind: ImpulseType, expected: EdgeType, together: bool) -> None:
    for cosine, link in ((0.75, EdgeType.CORRELATES), (0.65, expected), (0.35, expected), (0.25, None), (-0.9, None)):
        mind = make()
        mind.emit(1, 0)
        if not together:
            mind.tick.tick(MUCH)
        mind.emit(cosine, (1 - cosine**2) ** 0.5, kind=kind)
        mind.tick.tick(MUCH)
        assert _edges(mind) == ([] if link is None else [(2, 1, link, cosine)])


def test_only_the_nearest_are_linked(make: Any) -> None:
    mind = make(search_k=2)
    for angle in (0.0, 0.1, 0.2, 0.3):
        mind.emit(np.cos(angle), np.sin(angle))
    mind.tick.tick(MUCH)
    mind.emit(np.cos(0.16), np.sin(0.16))
    mind.tick.tick(MUCH)
    assert sorted(edge[1] for edge in _edges(mind) if edge[0] == 5) == [2, 3]


def test_a_tick_without_work_calls_nothing_and_commits_nothing(mind: Mind) -> None:
    for _ in range(3):
        result = mind.tick.tick(MUCH)
        assert result == TickResult(duration_us=0.0)
        assert not result.worked
    assert mind.calls == 3, "the queue was asked, and nobody else"
    assert mind.log.events == []
    assert mind.tick.statistics().ticks == 3


def test_a_burst_larger_than_a_tick_is_worked_off_over_later_ones(make: Any) -> None:
    mind = make(max_impulses_per_tick=10)
    for number in range(150):
        mind.emit(np.cos(number), np.sin(number))
    done = [mind.tick.tick(MUCH).impulses_done for _ in range(15)]
    assert done == [10] * 15
    assert [node.label for node in mind.graph.graph.all_nodes()] == [
        f"impulse:NoveltyDetected:{number}" for number in range(1, 151)
    ]
    assert len(mind.refs) == len(mind.index.rows) == 150
    assert len(mind.log.events) == 15


def test_only_what_fits_the_budget_is_taken_and_the_rest_waits_in_its_place(make: Any) -> None:
    mind = make(chunk=4)
    mind.embedder.cost_ms = 1.0
    for number in range(40):
        mind.emit(1, number)
    first = mind.tick.tick(10_000)
    # Chunks of four take 4 ms each: two fit, a third would not.
    assert (first.impulses_sensed, first.impulses_done, first.impulses_released) == (40, 8, 32)
    assert first.budget_exceeded
    assert first.duration_us == 8_000
    second = mind.tick.tick(10_000)
    assert (second.impulses_sensed, second.impulses_done, second.impulses_released) == (10, 8, 2)
    third = mind.tick.tick(4_000)
    assert (third.impulses_sensed, third.impulses_done, third.budget_exceeded) == (4, 4, False)
    mind.until_empty(10_000)
    assert [node.label.rpartition(":")[2] for node in mind.graph.graph.all_nodes()] == [str(n) for n in range(1, 41)]
    assert mind.queue.statistics().dropped == {}
    assert mind.tick.statistics().impulses_done == 40


def test_each_tick_makes_progress_however_small_the_budget_is(make: Any) -> None:
    mind = make(chunk=16)
    mind.embedder.cost_ms = 5.0
    for number in range(40):
        mind.emit(1, number)
    results = [mind.tick.tick(0.0) for _ in range(25)]
    assert [one.impulses_done for one in results] == [16] + [1] * 24
    assert all(one.budget_exceeded for one in results)
    assert len(mind.queue) == 0


def test_the_controller_and_the_tick_together_keep_the_share(make: Any) -> None:
    mind = make(chunk=1)
    mind.embedder.cost_ms = 2.0
    controller = TickController()
    for number in range(100):
        mind.emit(1, number)
    while len(mind.queue):
        result = mind.tick.tick(controller.budget_us)
        controller.record(result.duration_us, now_ns=mind.clock.mono_ns(), worked=result.worked)
        mind.clock.pass_ms(controller.next_delay_ms)
    assert controller.statistics().drift_count == 0
    assert controller.statistics().tick_count == 15, "seven of 2 ms fit 15 ms"


POINTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 3)), min_size=1, max_size=14)


@settings(max_examples=25, deadline=None)
@given(POINTS, st.integers(1, 5), st.integers(1, 4), st.integers(0, 6))
def test_how_a_burst_falls_into_ticks_makes_no_difference(
    points: list[tuple[int, int]], cap: int, chunk: int, budget_ms: int
) -> None:
    contents = []
    for number, tick in enumerate(({}, {"max_impulses_per_tick": cap, "chunk": chunk})):
        with tempfile.TemporaryDirectory() as folder:
            mind = Mind(Path(folder), search_k=20, **tick)
            mind.embedder.cost_ms = float(number)
            for point in points:
                mind.emit(*point)
            mind.until_empty(budget_ms * 1000.0)
            contents.append(mind.content())
            mind.close()
    assert contents[0] == contents[1]


# --- embedding --------------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_be_embedded_takes_no_others_with_it(mind: Mind) -> None:
    mind.emit(1, 0)
    mind.emit(1, 0, bad=True)
    mind.emit(1, 0)
    result = mind.tick.tick(MUCH)
    assert (result.embeddings_produced, result.embeddings_failed, result.searches_performed) == (2, 1, 2)
    assert (result.nodes_added, result.crossrefs_added, result.impulses_done) == (3, 3, 3)
    assert result.embedding_failure == "ecc.embedding_refused: nothing to embed"
    assert len(mind.index.rows) == 2
    assert _edges(mind) == [(3, 1, EdgeType.CORRELATES, 1.0)]
    assert mind.log.events[0].vectors == 2


def test_without_an_embedder_there_are_nodes_and_references_and_no_search(mind: Mind) -> None:
    mind.embedder.down = True
    mind.emit(1, 0)
    mind.emit(1, 0)
    result = mind.tick.tick(MUCH)
    assert mind.embedder.calls == [2], "one that is away is not asked again for each text"
    assert (result.embeddings_produced, result.embeddings_failed, result.searches_performed) == (0, 2, 0)
    assert (result.nodes_added, result.crossrefs_added, result.impulses_done) == (2, 2, 2)
    assert mind.index.rows == {}
    assert result.failure is None
    assert mind.tick.statistics().embeddings_failed == 2


@pytest.mark.parametrize("vector", [(2.0, 0.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 0.0)])
def test_what_is_no_unit_vector_is_left_out(mind: Mind, vector: tuple[float, float], monkeypatch: Any) -> None:
    mind.emit(1, 0)
    mind.emit(1, 0)
    monkeypatch.setattr(mind.embedder, "embed", lambda texts: np.array([(1.0, 0.0), vector][: len(texts)]))
    result = mind.tick.tick(MUCH)
    assert (result.embeddings_produced, result.embeddings_failed) == (1, 1)
    assert "not 1" in str(result.embedding_failure)
    assert len(mind.index.rows) == 1


def test_an_array_of_another_shape_is_left_out(mind: Mind, monkeypatch: Any) -> None:
    mind.emit(1, 0)
    monkeypatch.setattr(mind.embedder, "embed", lambda _texts: np.ones((3, 1)))
    result = mind.tick.tick(MUCH)
    assert (result.embeddings_failed, result.impulses_done) == (1, 1)
    assert "(3, 1)" in str(result.embedding_failure)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_commit_changes_nothing_and_the_impulses_come_again(mind: Mind) -> None:
    mind.emit(1, 0)
    mind.emit(1, 0)
    mind.log.down = True
    result = mind.tick.tick(MUCH)
    assert result.failure == "ecc: the log is away"
    assert (result.impulses_done, result.chain_seq, result.nodes_added) == (0, None, 0)
    assert (mind.graph.graph.node_count, len(mind.refs), len(mind.index.rows)) == (0, 0, 0)
    assert mind.queue.statistics().ready == 2
    mind.log.down = False
    assert mind.tick.tick(MUCH).waiting, "it does not try again at once"
    mind.clock.pass_ms(100)
    again = [mind.tick.tick(MUCH) for _ in range(2)]
    assert [one.impulses_done for one in again] == [1, 1], "one is tried first"
    assert (again[0].chain_seq, again[1].chain_seq, again[1].edges_added) == (100, 101, 1)
    assert (mind.log.events[0].first_op, len(mind.log.events)) == (1, 2)
    assert mind.tick.statistics().failed == 1
    assert mind.tick.statistics().last_failure == "ecc: the log is away"


def test_a_log_that_is_away_for_long_uses_up_no_attempts(make: Any) -> None:
    mind = make(queue=ImpulseSettings(half_life_ms=None, max_attempts=2))
    for _ in range(3):
        mind.emit(1, 0)
    mind.log.down = True
    tried = 0
    for _ in range(3 * 60 * 20):  # three minutes of ticks of 50 ms
        tried += mind.tick.tick(MUCH).failure is not None
        mind.clock.pass_ms(50)
    assert 10 < tried < 20, "it waits twice as long each time, up to 30 s"
    mind.log.down = False
    mind.clock.pass_ms(30_000)
    assert [mind.tick.tick(MUCH).impulses_done for _ in range(2)] == [1, 2]
    assert mind.queue.statistics().dead == 0


def test_an_impulse_that_always_fails_ends_as_dead_and_holds_up_no_others(make: Any, monkeypatch: Any) -> None:
    mind = make(queue=ImpulseSettings(half_life_ms=None, max_attempts=3))
    for _ in range(5):
        mind.emit(1, 0)
    insert = mind.refs.insert

    def picky(ref: Any) -> bool:
        if ref.created_at == first:
            raise EccError("not this one")
        return insert(ref)

    first = mind.queue.lease(1)[0].impulse.hlc
    mind.queue.release([1])
    monkeypatch.setattr(mind.refs, "insert", picky)
    mind.until_empty()
    assert [one.impulse.id for one in mind.queue.dead()] == [1]
    assert mind.queue.statistics().done == 4
    assert mind.queue.statistics().dropped == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [EccError, Killed], ids=["failure", "kill"])
def test_a_fault_at_any_call_loses_nothing_and_doubles_nothing(
    tmp_path: Path, error: type[BaseException], after: bool
) -> None:
    """For each call of each part: it fails, or the process dies there, before it or when it was done."""

    def prepared(name: str) -> Mind:
        (tmp_path / name).mkdir()
        mind = Mind(tmp_path / name, max_impulses_per_tick=3, chunk=2)
        for angle in (0.0, 0.2, 2.0, 0.4):
            mind.emit(np.cos(angle), np.sin(angle))
        mind.queue.sync()
        return mind

    whole = prepared("whole")
    whole.until_empty()
    expected, calls = whole.content(), whole.calls
    whole.close()
    assert calls > 30
    for fault in range(1, calls + 1):
        mind = prepared(str(fault))
        mind.close()
        mind.open(fault, error, after=after)
        try:
            mind.until_empty()
        except Killed:
            mind.kill()
            mind.open()
            mind.until_empty()
        labels, edges, refs = mind.content()
        assert (labels, refs) == (expected[0], expected[2])
        failed = mind.tick.statistics().embeddings_failed
        if not failed:
            # After a fault within COMMIT, what was added already is a neighbour like any other.
            assert expected[1] <= edges
        assert {frozenset(edge[:2]) for edge in edges} <= {frozenset(edge[:2]) for edge in expected[1]}
        assert len(mind.index.rows) == 4 - failed
        assert mind.queue.statistics().done == 4
        spans = [(event.first_op, event.last_op) for event in mind.log.events]
        assert all(later[0] == earlier[1] + 1 for earlier, later in pairwise(spans)) or after
        mind.close()
        again = Mind(tmp_path / str(fault))
        assert again.content() == (labels, edges, refs), "all of it is on disk"
        again.close()


def test_an_error_that_is_none_of_ours_is_raised_and_loses_nothing(mind: Mind, monkeypatch: Any) -> None:
    mind.emit(1, 0)

    def broken(_texts: object) -> None:
        raise ZeroDivisionError("a mistake in a provider")

    monkeypatch.setattr(mind.embedder, "embed", broken)
    with pytest.raises(ZeroDivisionError):
        mind.tick.tick(MUCH)
    monkeypatch.undo()
    mind.clock.pass_ms(5_000)
    assert mind.tick.tick(MUCH).impulses_done == 1


def test_a_neighbour_that_is_in_no_graph_is_left_out(mind: Mind) -> None:
    mind.index.rows[bytes(32)] = (np.array([1, 0], np.float32), {})
    mind.emit(1, 0)
    result = mind.tick.tick(MUCH)
    assert (result.ghosts, result.edges_added, result.impulses_done) == (1, 0, 1)


def test_an_edge_that_would_close_a_cycle_is_counted_and_the_rest_is_added(make: Any, monkeypatch: Any) -> None:
    mind = make(acyclic=True)
    mind.emit(1, 0)
    mind.emit(1, 0)
    mind.tick.tick(MUCH)
    first, second = (node.universal_id for node in mind.graph.graph.all_nodes())
    # As after a fault: it is there already and has an edge to it, and finds those that lead there.
    mind.emit(1, 0)
    monkeypatch.setattr(mind.index, "search_batch", lambda _vectors, _k: [[Hit(first, 0.9), Hit(second, 0.8)]])
    own = mind.nodes.add_node("x", created_at=0, universal_id=_third(mind))
    mind.graph.link(1, own, EdgeType.FOLLOWS, 0.5, created_at=0)
    result = mind.tick.tick(MUCH)
    assert (result.edges_refused, result.edges_added, result.impulses_done) == (2, 0, 1)
    assert len(mind.refs) == 3


def _third(mind: Mind) -> bytes:
    from weftos.ecc.tick.plan import universal_id_of

    (held,) = mind.queue.lease(1)
    mind.queue.release([held.impulse.id])
    return bytes(universal_id_of(held.impulse))


def test_a_full_graph_fails_the_tick_and_not_the_impulse(mind: Mind, monkeypatch: Any) -> None:
    mind.emit(1, 0)

    def full(*_arguments: object, **_named: object) -> int:
        raise GraphRefused("the graph is full")

    monkeypatch.setattr(mind.nodes, "add_node", full)
    result = mind.tick.tick(MUCH)
    assert result.failure == "ecc.graph: the graph is full"
    monkeypatch.undo()
    mind.until_empty()
    assert (mind.graph.graph.node_count, len(mind.log.events)) == (1, 2)
    assert mind.log.events[1].first_op == mind.log.events[0].last_op + 1


def test_impulses_for_another_structure_are_left_alone(make: Any) -> None:
    mind = make(target=StructureTag.EXO_CHAIN)
    mind.emit(1, 0)
    assert not mind.tick.tick(MUCH).worked
    assert mind.queue.statistics().ready == 1


def test_the_sums_are_those_of_the_results(make: Any) -> None:
    mind = make(max_impulses_per_tick=3)
    for number in range(10):
        mind.emit(1, number, **({"bad": 1} if number == 4 else {}))
    results = [mind.tick.tick(MUCH) for _ in range(6)]
    totals = mind.tick.statistics()
    for name in ("impulses_sensed", "impulses_done", "nodes_added", "edges_added", "embeddings_failed", "duration_us"):
        assert getattr(totals, name) == sum(getattr(one, name) for one in results)
    assert (totals.ticks, totals.worked, totals.failed) == (6, 4, 0)
    totals.ticks = 99
    assert mind.tick.statistics().ticks == 6


def test_removed_nodes_are_no_neighbours(mind: Mind) -> None:
    mind.emit(1, 0)
    mind.tick.tick(MUCH)
    (one,) = mind.index.rows
    assert mind.graph.remove_node(mind.nodes.number_of(one)) == 0
    mind.emit(1, 0)
    assert mind.tick.tick(MUCH).ghosts == 1


@pytest.mark.parametrize(
    "tick",
    [
        {"max_impulses_per_tick": 0},
        {"chunk": 0},
        {"chunk": 100_000},
        {"search_k": -1},
        {"link_floor": -0.1},
        {"link_floor": 0.8},
        {"correlation_threshold": 1.1},
        {"correlation_threshold": float("nan")},
        {"retry_ms": -1},
    ],
    ids=repr,
)
def test_settings_out_of_range_are_refused(tick: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(tick))):
        TickSettings(**tick)

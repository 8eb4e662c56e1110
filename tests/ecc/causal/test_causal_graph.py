"""The causal graph against a model of dicts and against networkx."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import limits
from weftos.ecc.causal.graph import CausalGraph, Edge, EdgeType
from weftos.ecc.causal.spectrum import components, spectra, spectrum
from weftos.ecc.causal.walks import effects, roots, shortest_path, strongest_path, walk
from weftos.errors import CycleRefused, GraphRefused

CAUSES = EdgeType.CAUSES
NODES = 9
PAIRS = st.tuples(st.integers(1, NODES), st.integers(1, NODES)).filter(lambda pair: pair[0] != pair[1])
WEIGHTS = st.integers(0, 16).map(lambda number: number / 16)
ROWS = st.lists(st.tuples(PAIRS, st.sampled_from(list(EdgeType)[:3]), WEIGHTS), max_size=25)


def graph_of(pairs: list[tuple[int, int]], nodes: int, *, acyclic: bool = False) -> CausalGraph:
    graph = CausalGraph(acyclic=acyclic)
    for number in range(nodes):
        graph.add_node(f"n{number}", created_at=number, universal_id=bytes(32))
    graph.link([Edge(a, b, CAUSES, 1.0) for a, b in pairs])
    return graph


def peer_of(rows: dict[tuple[int, int, EdgeType], float]) -> nx.MultiDiGraph:
    peer = nx.MultiDiGraph()
    peer.add_nodes_from(range(1, NODES + 1))
    for (a, b, _), weight in rows.items():
        peer.add_edge(a, b, weight=weight)
    return peer


@given(
    st.lists(st.one_of(ROWS, PAIRS, st.integers(1, NODES), st.just(None)), max_size=12),
)
@settings(deadline=None, max_examples=200)
def test_random_changes_give_what_a_dict_gives(steps: list[object]) -> None:
    graph = graph_of([], NODES)
    model: dict[tuple[int, int, EdgeType], float] = {}
    alive = set(range(1, NODES + 1))
    for step in steps:
        if step is None:
            graph.columns.lay_out()
        elif isinstance(step, list):
            edges = [Edge(a, b, kind, weight) for (a, b), kind, weight in step]
            if any({edge.source, edge.target} - alive for edge in edges):
                with pytest.raises(GraphRefused, match="no node"):
                    graph.link(edges)
                continue
            new = {(edge.source, edge.target, edge.type): edge.weight for edge in edges}
            assert graph.link(edges) == len(new.keys() - model.keys())
            model |= new
        elif isinstance(step, tuple):
            gone = [key for key in model if key[:2] == step]
            assert graph.unlink(*step) == len(gone)
            for key in gone:
                del model[key]
        elif step in alive:
            gone = [key for key in model if step in key[:2]]
            assert graph.remove_node(step) == len(gone)
            alive.discard(step)
            for key in gone:
                del model[key]
    assert graph.edge_count == len(model)
    assert graph.nodes() == sorted(alive)
    for node in alive:
        out = {(edge.source, edge.target, edge.type): edge.weight for edge in graph.edges(node)}
        into = {(edge.source, edge.target, edge.type): edge.weight for edge in graph.edges(node, forward=False)}
        assert out == {key: weight for key, weight in model.items() if key[0] == node}
        assert into == {key: weight for key, weight in model.items() if key[1] == node}


@given(ROWS, st.integers(1, NODES), st.integers(1, NODES), st.booleans())
@settings(deadline=None, max_examples=200)
def test_walks_and_paths_are_those_of_networkx(rows: list, start: int, goal: int, laid_out: bool) -> None:
    graph = graph_of([], NODES)
    edges = [Edge(a, b, kind, weight) for (a, b), kind, weight in rows]
    graph.link(edges)
    if laid_out:
        graph.columns.lay_out()
    peer = peer_of({(edge.source, edge.target, edge.type): edge.weight for edge in edges})
    for forward, depth in itertools.product((True, False), (1, 2, 3, 20)):
        view = peer if forward else peer.reverse()
        lengths = nx.single_source_shortest_path_length(view, start, cutoff=depth)
        found = walk(graph, start, forward=forward, depth=depth)
        assert [(one.depth, one.id) for one in found] == sorted((d, n) for n, d in lengths.items() if n != start)
    assert roots(graph, start) == sorted(n for n in nx.ancestors(peer, start) if not peer.in_degree(n))
    assert effects(graph, start) == sorted(n for n in nx.descendants(peer, start) if not peer.out_degree(n))
    path = shortest_path(graph, start, goal)
    if nx.has_path(peer, start, goal):
        assert path is not None
        assert path in list(nx.all_shortest_paths(peer, start, goal))
    else:
        assert path is None
    strong = nx.DiGraph()
    strong.add_nodes_from(peer)
    for a, b, weight in peer.edges(data="weight"):
        if weight:
            cost = min(-math.log(weight), strong.get_edge_data(a, b, {"cost": math.inf})["cost"])
            strong.add_edge(a, b, cost=cost)
    best = strongest_path(graph, start, goal)
    if nx.has_path(strong, start, goal):
        assert best is not None
        assert best[1] == pytest.approx(math.exp(-nx.dijkstra_path_length(strong, start, goal, "cost")))
    else:
        assert best is None


def test_a_walk_can_be_limited_by_type_and_number() -> None:
    graph = graph_of([(1, 2), (1, 3), (3, 4)], 5)
    graph.link([Edge(1, 5, EdgeType.INHIBITS, 0.5)])
    assert [one.id for one in walk(graph, 1, types=[EdgeType.INHIBITS])] == [5]
    assert [one.id for one in walk(graph, 1, limit=2)] == [2, 3]


@given(st.lists(PAIRS, max_size=40), st.booleans())
@settings(deadline=None, max_examples=200)
def test_a_graph_without_cycles_refuses_what_would_close_one(pairs: list[tuple[int, int]], at_once: bool) -> None:
    graph = graph_of([], NODES, acyclic=True)
    peer = nx.DiGraph()
    peer.add_nodes_from(range(1, NODES + 1))
    for batch in [pairs] if at_once else [[pair] for pair in pairs]:
        trial = peer.copy()
        trial.add_edges_from(batch)
        if nx.is_directed_acyclic_graph(trial):
            graph.link([Edge(a, b, CAUSES, 1.0) for a, b in batch])
            peer = trial
        else:
            with pytest.raises(CycleRefused):
                graph.link([Edge(a, b, CAUSES, 1.0) for a, b in batch])
        assert graph.edge_count == peer.number_of_edges()


@given(ROWS)
@settings(deadline=None, max_examples=150)
def test_components_and_spectrum_are_those_of_a_dense_laplacian(rows: list) -> None:
    graph = graph_of([], NODES)
    edges = {((a, b), kind): weight for (a, b), kind, weight in rows}
    graph.link([Edge(a, b, kind, weight) for ((a, b), kind), weight in edges.items()])
    adjacency = np.zeros((NODES, NODES))
    for ((a, b), _), weight in edges.items():
        adjacency[a - 1, b - 1] += weight
        adjacency[b - 1, a - 1] += weight
    peer = nx.from_numpy_array(adjacency)
    expected = sorted(
        (sorted(n + 1 for n in part) for part in nx.connected_components(peer)),
        key=lambda part: (-len(part), part[0]),
    )
    assert components(graph) == expected
    values = np.linalg.eigvalsh(np.diag(adjacency.sum(axis=1)) - adjacency)
    found = spectrum(graph)
    assert found.lambda_2 == pytest.approx(max(0.0, values[1]), abs=1e-6)
    if len(expected) > 1:
        assert (found.lambda_2, found.fiedler) == (0.0, {})
    for part, of_part in zip(expected, spectra(graph), strict=True):
        rows_of = np.array(part) - 1
        own = adjacency[np.ix_(rows_of, rows_of)]
        truth = np.linalg.eigvalsh(np.diag(own.sum(axis=1)) - own)
        assert of_part.lambda_2 == pytest.approx(truth[1] if len(part) > 1 else 0.0, abs=1e-6)


KNOWN = {
    "triangle": ([(1, 2), (2, 3), (3, 1)], 3, 3.0),
    "triangle backward": ([(2, 1), (3, 2), (1, 3)], 3, 3.0),
    "path of 4": ([(1, 2), (2, 3), (3, 4)], 4, 2 - math.sqrt(2)),
    "complete of 4": (list(itertools.combinations(range(1, 5), 2)), 4, 4.0),
    "two edges, nested": ([(1, 4), (2, 3)], 4, 0.0),
    "one node": ([], 1, 0.0),
    "nothing": ([], 0, 0.0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_spectra_that_are_known(name: str) -> None:
    pairs, nodes, expected = KNOWN[name]
    assert spectrum(graph_of(pairs, nodes)).lambda_2 == pytest.approx(expected, abs=1e-9)


def test_two_large_cliques_apart_have_no_connectivity() -> None:
    pairs = [(a + base, b + base) for base in (0, 50) for a, b in itertools.combinations(range(1, 51), 2)]
    graph = graph_of(pairs, 100)
    assert spectrum(graph).lambda_2 == 0.0
    assert [one.lambda_2 for one in spectra(graph)] == [pytest.approx(50.0), pytest.approx(50.0)]


def test_a_long_path_is_solved_sparsely_and_its_fiedler_vector_is_by_node() -> None:
    length = limits.CAUSAL_DENSE_NODES + 101
    graph = graph_of([], length + 1)
    graph.remove_node(1)
    graph.link([Edge(a, a + 1, CAUSES, 1.0) for a in range(2, length + 1)])
    found = spectrum(graph)
    assert found.lambda_2 == pytest.approx(2 - 2 * math.cos(math.pi / length), rel=1e-6)
    assert found.lambda_3 == pytest.approx(2 - 2 * math.cos(2 * math.pi / length), rel=1e-6)
    values = [found.fiedler[node] for node in range(2, length + 2)]
    assert sorted(values, reverse=True) == values, "along a path the vector falls"


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (Edge(1, 9, CAUSES, 0.5), "no node 9"),
        (Edge(1, 1, CAUSES, 0.5), "with itself"),
        (Edge(1, 2, CAUSES, math.nan), "from 0 to 1"),
        (Edge(1, 2, CAUSES, 1.5), "from 0 to 1"),
        (Edge(1, 2, CAUSES, -0.5), "from 0 to 1"),
        (Edge(1, 2, CAUSES, 0.5, created_at=-1), "whole numbers"),
        (Edge(1 << 64, 2, CAUSES, 0.5), "whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused_whole(edge: Edge, message: str) -> None:
    graph = graph_of([], 2)
    with pytest.raises(GraphRefused, match=message):
        graph.link([Edge(2, 1, CAUSES, 0.5), edge])
    assert graph.edge_count == 0


def test_numbers_of_nodes_are_not_used_again_and_provenance_is_kept() -> None:
    graph = graph_of([], 2)
    graph.remove_node(2)
    assert graph.add_node("new", created_at=7, universal_id=b"u" * 32, op=5) == 3
    assert (graph.node(3).created_at, graph.node(3).universal_id, graph.node(3).op) == (7, b"u" * 32, 5)
    graph.link([Edge(1, 3, CAUSES, 0.5, 11, 12)])
    graph.link([Edge(1, 3, CAUSES, 0.25, 13, 14)])
    assert graph.edges(1) == [Edge(1, 3, CAUSES, 0.25, 13, 14)]

"""Communities: the examples that everybody agrees on, and what holds for every graph."""

from __future__ import annotations

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.ecc.causal.communities import communities
from weftos.ecc.causal.graph import CausalGraph, Edge, EdgeType
from weftos.ecc.causal.spectrum import components


def graph_of(nodes: int, edges: list[tuple[int, int, float]]) -> CausalGraph:
    graph = CausalGraph()
    for number in range(nodes):
        graph.add_node(str(number + 1), created_at=0, universal_id=number.to_bytes(32, "big"))
    graph.link(Edge(a, b, EdgeType.CAUSES, weight) for a, b, weight in edges)
    return graph


def test_two_triangles_and_a_weak_bridge_are_two() -> None:
    triangles = [(1, 2, 1.0), (2, 3, 1.0), (3, 1, 1.0), (4, 5, 1.0), (5, 6, 1.0), (6, 4, 1.0), (3, 4, 0.1)]
    assert communities(graph_of(6, triangles)) == [[1, 2, 3], [4, 5, 6]]


def test_nodes_without_neighbours_are_alone_and_nothing_has_none() -> None:
    assert communities(graph_of(2, [])) == [[1], [2]]
    assert communities(CausalGraph()) == []


def test_cliques_in_a_ring_are_found_as_another_library_finds_them() -> None:
    ring = nx.ring_of_cliques(5, 9)
    found = communities(graph_of(45, [(a + 1, b + 1, 1.0) for a, b in ring.edges]))
    theirs = nx.community.asyn_lpa_communities(ring, seed=1)
    assert {frozenset(one) for one in found} == {frozenset(node + 1 for node in one) for one in theirs}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1.0)), max_size=40))
def test_a_community_lies_within_one_component_and_all_nodes_are_in_one(edges: list[tuple[int, int, float]]) -> None:
    graph = graph_of(12, [(a, b, weight) for a, b, weight in edges if a != b])
    found = communities(graph)
    assert sorted(node for members in found for node in members) == list(range(1, 13))
    whole = components(graph)
    assert all(any(set(members) <= set(one) for one in whole) for members in found)
    assert found == communities(graph)

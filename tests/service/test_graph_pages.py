"""Whole parts of a causal graph, asked for page by page, against the graph itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.causal.graph import EdgeType
from weftos.ecc.causal.store import GraphStore
from weftos.errors import GraphNotFound, InvalidRequest, WeftError
from weftos.service.causal_steps import CausalSteps
from weftos.service.ecc_protocol import LinkCauses
from weftos.service.ecc_questions import QUESTIONS
from weftos.service.protocol import Done

KINDS = (EdgeType.CONTAINS, EdgeType.REFERENCES, EdgeType.CAUSES)


def uid(number):
    return number.to_bytes(32, "big")


def drive(steps, graph, room):
    """Answer the questions of steps from a graph, as the service does."""

    def find(_space):
        if graph is None:
            raise GraphNotFound("none")
        return graph

    def answer(request):
        try:
            asked = request.params | {"room": room}
            return Done(QUESTIONS[request.question].answer(SimpleNamespace(graph=find), request.space, asked))
        except WeftError as error:
            return error

    try:
        requests = next(steps)
        while True:
            requests = steps.send([answer(request) for request in requests])
    except StopIteration as end:
        return end.value


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["a/", "b/", "a/long"]), min_size=1, max_size=12),
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11), st.sampled_from(KINDS)), max_size=40),
    st.sets(st.integers(0, 11)),
    st.sampled_from(["", "a/", "a/long", "none"]),
    st.sampled_from([(), ("Contains",), ("Contains", "References")]),
    st.integers(90, 400),
)
def test_pages_of_any_size_give_the_whole(tmp_path_factory, labels, edges, removed, prefix, types, room):
    graph = GraphStore(RealFiles(), str(tmp_path_factory.mktemp("graph")))
    numbers = [graph.add_node(label, created_at=0, universal_id=uid(n)) for n, label in enumerate(labels)]
    edges = {edge for edge in edges if edge[0] != edge[1] and max(edge[:2]) < len(labels)}
    for source, target, kind in edges:
        graph.link(numbers[source], numbers[target], kind, 1.0, created_at=0)
    for gone in removed & set(range(len(labels))):
        graph.remove_node(numbers[gone])
    left = {n for n in range(len(labels)) if n not in removed}
    found = drive(CausalSteps(65536).content(prefix, types, "s"), graph, room + limits.SERVICE_ANSWER_HEAD_BYTES)
    graph.close()
    own = {n for n in left if labels[n].startswith(prefix)}
    assert found.labels == {uid(n): labels[n] for n in own}
    assert found.edges == {
        (uid(source), uid(target), kind.value)
        for source, target, kind in edges
        if source in own and target in left and (not types or kind.value in types)
    }


def test_no_graph_has_nothing_and_a_row_that_never_fits_is_refused(tmp_path):
    assert drive(CausalSteps(65536).content("", (), "s"), None, 1000).labels == {}
    graph = GraphStore(RealFiles(), str(tmp_path))
    graph.add_node("x" * 500, created_at=0, universal_id=uid(1))
    with pytest.raises(InvalidRequest, match="a row"):
        drive(CausalSteps(65536).content("", (), "s"), graph, 400 + limits.SERVICE_ANSWER_HEAD_BYTES)
    graph.close()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=80), st.integers(600, 3000))
def test_batches_of_edges_fit_and_lose_nothing(pairs, largest):
    import msgspec

    edges = [((uid(a), f"é{a}" * 20), (uid(b), f"é{b}" * 20), "EvidenceFor", 0.5) for a, b in pairs]
    steps = CausalSteps(largest + limits.SERVICE_ANSWER_HEAD_BYTES)
    sent = list(steps._batches(edges, "s"))
    back = [(r.nodes[a], r.nodes[b], kind, weight) for r in sent for a, b, kind, weight in r.edges]
    assert back == edges
    assert all(isinstance(request, LinkCauses) for request in sent)
    assert all(len(msgspec.msgpack.encode(request)) <= largest for request in sent)

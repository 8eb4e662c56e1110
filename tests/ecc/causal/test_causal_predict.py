"""The impact of an edge against the true spectrum, and trends that are known."""

from __future__ import annotations

import math

import pytest

from weftos.ecc.causal.graph import CausalGraph, Edge, EdgeType
from weftos.ecc.causal.predict import Trend, course_of, impact, rank
from weftos.ecc.causal.spectrum import spectrum
from weftos.errors import GraphRefused


def test_the_impact_is_the_derivative_of_the_true_connectivity() -> None:
    graph = CausalGraph()
    for _ in range(6):
        graph.add_node("", created_at=0, universal_id=bytes(32))
    graph.remove_node(1)  # so that numbers are no positions
    graph.link([Edge(a, a + 1, EdgeType.CAUSES, 1.0) for a in range(2, 6)])
    before = spectrum(graph)
    predicted = impact(before.fiedler, 2, 6, 1e-4)
    graph.link([Edge(2, 6, EdgeType.CAUSES, 1e-4)])
    assert spectrum(graph).lambda_2 - before.lambda_2 == pytest.approx(predicted.delta, rel=1e-2)
    assert predicted.bridges
    ranked = rank(before.fiedler, [(2, 3, 1.0), (2, 6, 1.0), (99, 98, 1.0)])
    assert [(one.source, one.target) for one in ranked] == [(2, 6), (2, 3), (99, 98)]


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ([1.0] * 3, Trend.TOO_EARLY),
        ([1.0] * 5, Trend.STUCK),
        ([1.0, 1.1] * 5 + [1.0], Trend.OSCILLATING),
        ([0.0, 1.0, 2.0, 3.0, 4.0], Trend.CONVERGING),
        ([4.0, 3.0, 2.0, 1.0, 0.0], Trend.DIVERGING),
        ([0.0, 2.0, 1.0, 3.0, 4.0], Trend.CONVERGING),
    ],
)
def test_trends(values: list[float], trend: Trend) -> None:
    assert course_of(values, 5, 0.01).trend is trend


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(GraphRefused):
        course_of([0.0, math.nan], 2, 0.1)
    with pytest.raises(GraphRefused):
        impact({}, 1, 2, math.nan)

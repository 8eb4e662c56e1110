"""Scores: the worked figures of the reference, what is refused, and sums that do not depend on the order."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import NodeInvalid
from weftos.tree.scoring import DEFAULT_SCORING, DIMENSIONS, Scoring, aggregate

UNIT = st.floats(0, 1)
SCORINGS = st.builds(Scoring, *[UNIT] * 6)
ZERO = Scoring(0, 0, 0, 0, 0, 0)
ONE = Scoring(1, 1, 1, 1, 1, 1)


def test_order_and_default() -> None:
    assert DIMENSIONS == ("trust", "performance", "difficulty", "reward", "reliability", "velocity")
    assert Scoring().values == (0.5,) * 6
    assert Scoring(0.1, 0.2, 0.3, 0.4, 0.5, 0.6).values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert Scoring.__struct_fields__ == DIMENSIONS


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-9, 1 + 1e-9, 2, -1, True, "0.5", None, 10**400])
@pytest.mark.parametrize("name", DIMENSIONS)
def test_figures_out_of_range(name: str, bad: object) -> None:
    with pytest.raises(NodeInvalid, match=name):
        Scoring(**{name: bad})  # type: ignore[arg-type]


def test_one_form_of_zero_and_of_one() -> None:
    negative = Scoring(trust=-0.0)
    assert negative.to_bytes() == Scoring(trust=0).to_bytes()
    assert math.copysign(1, negative.trust) == 1
    assert type(Scoring(trust=1).trust) is float
    assert len(ONE.to_bytes()) == 48


@pytest.mark.parametrize(("alpha", "result"), [(0, 0.5), (1, 0.9), (0.5, 0.7), (0.25, 0.6)])
def test_blend(alpha: float, result: float) -> None:
    blended = Scoring().blend(Scoring(*[0.9] * 6), alpha)
    assert blended.values == pytest.approx((result,) * 6)


@pytest.mark.parametrize("alpha", [math.nan, -0.1, 1.1, math.inf, True, "1"])
def test_blend_takes_a_weight(alpha: float) -> None:
    with pytest.raises(NodeInvalid):
        DEFAULT_SCORING.blend(ONE, alpha)


@given(SCORINGS, SCORINGS, UNIT)
def test_a_blend_lies_between(old: Scoring, new: Scoring, alpha: float) -> None:
    for a, b, mean in zip(old.values, new.values, old.blend(new, alpha).values, strict=True):
        assert min(a, b) - 1e-15 <= mean <= max(a, b) + 1e-15


def test_aggregate_of_nothing_and_of_equal_ones() -> None:
    assert aggregate([]) == DEFAULT_SCORING
    for count in (1, 3, 10, 1000):
        assert aggregate([DEFAULT_SCORING] * count) == DEFAULT_SCORING, "many halves are one half, exactly"


def test_aggregate_is_weighted_by_reward() -> None:
    rich, poor = Scoring(trust=1.0, reward=0.75), Scoring(trust=0.0, reward=0.25)
    assert aggregate([rich, poor]).trust == 0.75
    assert aggregate([rich, poor]).reward == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert aggregate([Scoring(trust=1.0, reward=0), Scoring(trust=0.0, reward=0)]).trust == 0.5, "no reward: plain mean"


@given(st.lists(SCORINGS, max_size=30), st.randoms(use_true_random=False))
def test_aggregate_does_not_depend_on_the_order(children: list[Scoring], dice: random.Random) -> None:
    mixed = list(children)
    dice.shuffle(mixed)
    assert aggregate(mixed).to_bytes() == aggregate(children).to_bytes()


def test_similarity() -> None:
    assert ONE.cosine_similarity(DEFAULT_SCORING) == pytest.approx(1.0)
    assert Scoring(1, 0, 0, 0, 0, 0).cosine_similarity(Scoring(0, 1, 0, 0, 0, 0)) == 0.0
    assert ZERO.cosine_similarity(ONE) == 0.0
    assert ZERO.l2_distance(ONE) == pytest.approx(math.sqrt(6)) == ONE.magnitude
    assert Scoring(1, 0, 0, 0, 0, 0).l2_distance(ZERO) == 1.0


@given(SCORINGS, SCORINGS)
def test_similarity_is_symmetric(a: Scoring, b: Scoring) -> None:
    assert a.cosine_similarity(b) == b.cosine_similarity(a)
    assert a.l2_distance(b) == b.l2_distance(a)
    assert 0 <= a.cosine_similarity(b) <= 1
    assert a.l2_distance(a) == 0


def test_weighted_score() -> None:
    assert Scoring(0.1, 0.2, 0.3, 0.4, 0.5, 0.6).weighted_score([1, 0, 0, 0, 0, -1]) == pytest.approx(-0.5)
    assert ONE.weighted_score([0.5] * 6) == 3.0


@pytest.mark.parametrize("weights", [[], [1] * 5, [1] * 7, [1, 1, 1, 1, 1, math.nan], [math.inf] * 6, [1e308] * 6])
def test_weights_are_six_finite_numbers(weights: list[float]) -> None:
    with pytest.raises(NodeInvalid):
        ONE.weighted_score(weights)


def test_dominates() -> None:
    assert ONE.dominates(DEFAULT_SCORING)
    assert not DEFAULT_SCORING.dominates(ONE)
    assert not ONE.dominates(ONE)
    assert Scoring(trust=0.6).dominates(DEFAULT_SCORING)
    assert not Scoring(trust=0.6, velocity=0.4).dominates(DEFAULT_SCORING)

"""Fusion of rankings: by places alone, in a fixed order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.embedding.fusion import RANK_OFFSET, fused

_RANKINGS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=8), max_size=4)


@given(_RANKINGS)
def test_scores_are_sums_over_places(rankings: list[list[int]]) -> None:
    found = fused(rankings)
    for thing, score in found:
        places = [ranking.index(thing) + 1 for ranking in rankings if thing in ranking]
        assert score == pytest.approx(sum(1 / (RANK_OFFSET + place) for place in places))
    assert {thing for thing, _ in found} == {thing for ranking in rankings for thing in ranking}
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@given(st.lists(st.integers(), unique=True))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [thing for thing, _ in fused([ranking])] == ranking
    assert [thing for thing, _ in fused([ranking, ranking])] == ranking


def test_equal_scores_keep_the_order_of_the_rankings() -> None:
    assert [thing for thing, _ in fused([["a", "b"], ["c", "d"]])] == ["a", "c", "b", "d"]


def test_a_ranking_that_holds_something_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        fused([["a", "a"]])

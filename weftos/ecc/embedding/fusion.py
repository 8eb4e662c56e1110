"""One ranking out of several of the same things, by their places alone: reciprocal rank fusion.

Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009. Scores of different kinds (a cosine, a BM25) cannot be added; places can.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

__all__ = ["RANK_OFFSET", "fused"]

#: What is added to a place, from 1: the constant of the paper; it keeps one first place from outweighing all else.
RANK_OFFSET: Final = 60

Thing = TypeVar("Thing", bound=Hashable)


def fused(rankings: Sequence[Sequence[Thing]]) -> list[tuple[Thing, float]]:
    """Make one ranking out of several.

    Args:
        rankings: each with the best first and nothing twice; they may differ in what they hold.

    Returns:
        Everything that is in any of them with its score, the best first; of equal scores the one that is met first,
        taking the rankings in their order.

    Raises:
        ValueError: a ranking holds something twice.
    """
    scores: dict[Thing, float] = {}
    for ranking in rankings:
        if len(set(ranking)) != len(ranking):
            raise ValueError("a ranking holds something twice")
        for place, thing in enumerate(ranking, 1):
            scores[thing] = scores.get(thing, 0.0) + 1 / (RANK_OFFSET + place)
    return sorted(scores.items(), key=lambda pair: -pair[1])

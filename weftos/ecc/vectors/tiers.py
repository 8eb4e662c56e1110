"""Which parts of a collection are to be merged into one segment. Pure: sizes in, a plan out.

Why it is as it is: each segment costs every search, and each merge builds the rows in it again. Segments are therefore
merged when there are ``VECTOR_FANOUT`` of about one size, so that a row is built again once for each size, and the
number of segments grows with the logarithm of the rows. Once a collection is quiet, what is small beside its largest
segment becomes one segment; and all become one if the rest is worth building the largest again.
"""

from __future__ import annotations

from typing import NamedTuple

from weftos import limits

__all__ = ["Plan", "Sizes", "plan", "whole"]


class Sizes(NamedTuple):
    """What the plan depends on.

    Attributes:
        delta_rows: entries in tables.
        delta_bytes: their metadata and documents.
        segments: rows that count and dead ones of each segment; None for one that is being merged.
        is_quiet: whether the collection was not changed for a while.
        is_pinned: whether the journals are too large, so that even a small delta has to be sealed.
    """

    delta_rows: int
    delta_bytes: int
    segments: list[tuple[int, int] | None]
    is_quiet: bool
    is_pinned: bool


class Plan(NamedTuple):
    """Which parts become one segment: the tables or not, and the segments with these places."""

    with_tables: bool
    segments: list[int]


def plan(sizes: Sizes, *, only_tables: bool) -> Plan | None:
    """Say what to build, or None.

    Args:
        sizes: of the parts.
        only_tables: whether no segments may be merged now.
    """
    full = sizes.delta_rows >= limits.VECTOR_DELTA_ROWS or sizes.delta_bytes >= limits.VECTOR_DELTA_BYTES
    if full or (sizes.is_pinned and sizes.delta_rows):
        return Plan(True, [])
    if only_tables:
        return None
    free = {place: one for place, one in enumerate(sizes.segments) if one is not None}
    tiers: dict[int, list[int]] = {}
    for place, (live, dead) in free.items():
        if dead and dead >= limits.VECTOR_DEAD_SHARE * (live + dead):
            return Plan(False, [place])
        if live < limits.VECTOR_SEGMENT_ROWS:
            tiers.setdefault(_tier(live), []).append(place)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= limits.VECTOR_FANOUT:
            return Plan(False, tiers[tier])
    return _quiet_plan(sizes, free) if sizes.is_quiet else None


def whole(sizes: Sizes) -> Plan | None:
    """Say how all becomes one segment without dead rows, or None if it is one or nothing."""
    parts = [one for one in sizes.segments if one is not None]
    dead = sum(dead for _live, dead in parts)
    if not sizes.delta_rows and not dead and len(parts) <= 1:
        return None
    return Plan(sizes.delta_rows > 0, [place for place, one in enumerate(sizes.segments) if one is not None])


def _quiet_plan(sizes: Sizes, free: dict[int, tuple[int, int]]) -> Plan | None:
    with_tables = sizes.delta_rows >= limits.VECTOR_QUIET_ROWS
    by_size = sorted((live, place) for place, (live, _dead) in free.items() if live < limits.VECTOR_SEGMENT_ROWS)
    if not by_size:
        return Plan(True, []) if with_tables else None
    largest, place = by_size.pop()
    rest = sum(live for live, _place in by_size) + (sizes.delta_rows if with_tables else 0)
    others = [place for _live, place in by_size]
    if rest and rest * limits.VECTOR_REBUILD_SHARE >= largest:
        return Plan(with_tables, [*others, place])
    return Plan(with_tables, others) if with_tables or len(others) > 1 else None


def _tier(rows: int) -> int:
    """Number of a size: each is ``VECTOR_FANOUT`` times the one before."""
    tier, bound = 0, limits.VECTOR_DELTA_ROWS * limits.VECTOR_FANOUT
    while rows >= bound:
        tier, bound = tier + 1, bound * limits.VECTOR_FANOUT
    return tier

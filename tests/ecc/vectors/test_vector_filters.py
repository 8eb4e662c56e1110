"""Filters over columns say what a plain reading of each entry says."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.ecc.vectors.filters import And, Eq, In, MetadataColumns, Not, Or, Range
from weftos.errors import FilterInvalid, MetadataInvalid

NUMBERS = st.sampled_from([0, 1, 2, -3, 1.0, 0.5, 2**53, 2**53 + 1, float(2**53)])
TEXTS = st.sampled_from(["", "a", "b", "é"])
VALUES = NUMBERS | TEXTS | st.booleans()
FIELDS = st.sampled_from(["x", "y"])


def ranges(values):
    bounds = st.tuples(st.none() | values, st.none() | values).filter(lambda pair: pair != (None, None))
    return st.builds(lambda field, pair: Range(field, *pair), FIELDS, bounds)


LEAVES = (
    st.builds(Eq, FIELDS, VALUES)
    | st.builds(In, FIELDS, st.lists(VALUES, max_size=3).map(tuple))
    | ranges(NUMBERS)
    | ranges(TEXTS)
)


def nested(inner):
    parts = st.lists(inner, max_size=3).map(tuple)
    return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, inner)


def kind(value):
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def same(one, other):
    return kind(one) == kind(other) and one == other


def holds(condition, entry):
    match condition:
        case And(parts):
            return all(holds(part, entry) for part in parts)
        case Or(parts):
            return any(holds(part, entry) for part in parts)
        case Not(part):
            return not holds(part, entry)
    if condition.field not in entry:
        return False
    value = entry[condition.field]
    match condition:
        case Eq(_, wanted):
            return same(value, wanted)
        case In(_, values):
            return any(same(value, wanted) for wanted in values)
        case Range(_, low, high):
            if kind(value) != kind(high if low is None else low):
                return False
            return (low is None or low <= value) and (high is None or value <= high)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.none() | st.dictionaries(FIELDS, VALUES)), max_size=40),
    st.recursive(LEAVES, nested, max_leaves=8),
    st.integers(0, 50),
)
def test_columns_agree_with_each_entry_read_alone(changes, condition, rows):
    columns, model = MetadataColumns(), {}
    for slot, entry in changes:
        if entry is None:
            columns.clear(slot)
        else:
            columns.set(slot, entry)
        model[slot] = entry or {}
    expected = [holds(condition, model.get(slot, {})) for slot in range(rows)]
    assert columns.mask(condition, rows).tolist() == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, [1], b"x"])
def test_metadata_that_cannot_be_compared_changes_nothing(bad):
    columns = MetadataColumns()
    columns.set(0, {"x": 1})
    with pytest.raises(MetadataInvalid, match="'y'"):
        columns.set(0, {"x": 2, "y": bad})
    assert columns.mask(Eq("x", 1), 1).tolist() == [True]


@pytest.mark.parametrize(
    "condition",
    [
        Eq("x", float("nan")),
        In("x", (1, float("inf"))),
        Range("x"),
        Range("x", 1, "b"),
        Range("x", float("nan"), 2),
        In("x", tuple(range(limits.VECTOR_FILTER_TERMS))),
        And(tuple(Eq("x", 1) for _ in range(limits.VECTOR_FILTER_TERMS))),
        reduce(lambda inner, _: Not(inner), range(5_000), Eq("x", 1)),
    ],
    ids=["nan", "inf", "open", "mixed", "nan-bound", "many-values", "wide", "deep"],
)
def test_hostile_filters_are_refused(condition):
    with pytest.raises(FilterInvalid):
        MetadataColumns().mask(condition, 4)

"""Entries by what their metadata says, without a vector: which there are, and which values their fields have together.

Why it is as it is: pages go by the number of the mutation that wrote an entry. That is an array in every part, so a
page costs one pass over numbers, however many entries there are and wherever they lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from weftos.ecc.vectors.collection import Collection
from weftos.ecc.vectors.filters import Filter, Value

__all__ = ["Facet", "facets", "select"]

#: Values of some fields, ``None`` where an entry has none, and how many entries have them.
Facet: TypeAlias = tuple[tuple[Value | None, ...], int]


def select(collection: Collection, condition: Filter | None, after: int, limit: int) -> list[tuple[int, str]]:
    """Return mutation and id of the first entries that were written after a mutation, in the order of writing.

    Args:
        collection: whose entries.
        condition: what their metadata has to meet.
        after: number of a mutation.
        limit: how many at most.

    Raises:
        FilterInvalid: the condition cannot be evaluated.
    """
    found: list[tuple[int, str]] = []
    for part in collection.parts():
        rows = part.matching(condition)
        ops = part.ops[rows]
        later = ops > after
        rows, ops = rows[later], ops[later]
        if len(rows) > limit:
            first = np.argpartition(ops, limit - 1)[:limit]
            rows, ops = rows[first], ops[first]
        found += [(op, part.id_at(row).decode()) for op, row in zip(ops.tolist(), rows.tolist(), strict=True)]
    return sorted(found)[:limit]


def facets(collection: Collection, names: Sequence[str], condition: Filter | None) -> list[Facet]:
    """Return which values fields have together, in order.

    Args:
        collection: whose entries.
        names: of the fields.
        condition: what the metadata of an entry has to meet to count.

    Raises:
        FilterInvalid: the condition cannot be evaluated.
    """
    counts: Counter[tuple[Value | None, ...]] = Counter()
    for part in collection.parts():
        rows = part.matching(condition)
        if not len(rows):
            continue
        columns = [part.field(name) for name in names]
        codes = np.stack([codes[rows] for codes, _values in columns], axis=1)
        kinds, times = np.unique(codes, axis=0, return_counts=True)
        for kind, count in zip(kinds.tolist(), times.tolist(), strict=True):
            pairs = zip(kind, columns, strict=True)
            counts[tuple(values[code - 1] if code else None for code, (_codes, values) in pairs)] += count
    # By text as well, because numbers and texts have no order among each other.
    return sorted(counts.items(), key=lambda one: [(value is not None, str(value)) for value in one[0]])

"""The columns of metadata over which filters (``conditions``) are evaluated, and what filters must be like.

Each field keeps one code per slot, and one table of its distinct values. A condition is decided once for each distinct
value and then looked up for all slots at once, so its cost is that of the distinct values and one pass of numpy.

Guaranteed: an integer and a float are compared by their exact value, a boolean is no number, and a slot without the
field (or with a value of another type) meets no condition on it; ``Not`` of such a condition it does meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from weftos import limits
from weftos.ecc.vectors.conditions import And, Eq, Filter, In, Not, Or, Range, Value
from weftos.errors import FilterInvalid, MetadataInvalid

__all__ = [
    "And",
    "Eq",
    "Filter",
    "In",
    "Metadata",
    "MetadataColumns",
    "Not",
    "Or",
    "Range",
    "Value",
    "check_filter",
    "check_metadata",
    "fields_of",
]

Metadata: TypeAlias = Mapping[str, Value]
Mask: TypeAlias = npt.NDArray[np.bool_]
_Key: TypeAlias = tuple[str, Value]
_KINDS: Final = {bool: "flag", int: "number", float: "number", str: "text"}


def _key(value: Any) -> _Key | None:
    kind = _KINDS.get(type(value))
    if kind is None or (type(value) is float and not isfinite(value)):
        return None
    return kind, value


def check_metadata(metadata: Metadata) -> None:
    """Refuse metadata that no filter can look at.

    Raises:
        MetadataInvalid: a field that is no text, or a value that is no finite number, text or boolean.
    """
    for field, value in metadata.items():
        if not isinstance(field, str):
            raise MetadataInvalid(f"a field of metadata is named by text, not by {type(field).__name__}")
        if _key(value) is None:
            raise MetadataInvalid(f"metadata {field!r} must be a finite number, text or boolean")


def check_filter(condition: Filter) -> None:
    """Refuse a filter that is too large or that nothing can be compared with.

    Args:
        condition: the filter, from outside.

    Raises:
        FilterInvalid: too many conditions and values, a value that is not finite, or bounds of two types.
    """
    left: list[Filter] = [condition]
    count = 0
    while left:
        part = left.pop()
        count += 1 + (len(part.values) if isinstance(part, In) else 0)
        if isinstance(part, And | Or):
            left.extend(part.parts)
        elif isinstance(part, Not):
            left.append(part.part)
        else:
            _check_values(part)
        if count + len(left) > limits.VECTOR_FILTER_TERMS:
            raise FilterInvalid(f"a filter has at most {limits.VECTOR_FILTER_TERMS} terms; split the search")


def fields_of(condition: Filter) -> set[str]:
    """Return the fields that a filter looks at."""
    left: list[Filter] = [condition]
    found = set()
    while left:
        part = left.pop()
        if isinstance(part, And | Or):
            left.extend(part.parts)
        elif isinstance(part, Not):
            left.append(part.part)
        else:
            found.add(part.field)
    return found


def _check_values(leaf: Eq | In | Range) -> None:
    values = leaf.values if isinstance(leaf, In) else (leaf.value,) if isinstance(leaf, Eq) else (leaf.low, leaf.high)
    keys = [_key(value) for value in values if not (isinstance(leaf, Range) and value is None)]
    if None in keys:
        raise FilterInvalid(f"the filter on {leaf.field!r} has a value that is no finite number, text or boolean")
    kinds = {key[0] for key in keys if key is not None}
    if isinstance(leaf, Range) and (len(kinds) != 1 or "flag" in kinds):
        raise FilterInvalid(f"the range of {leaf.field!r} needs one or two bounds, both numbers or both text")


class _Column:
    """Codes of one field: 0 where a slot has no value, else 1 + the place in ``values``."""

    def __init__(self) -> None:
        self.codes: npt.NDArray[np.int64] = np.zeros(16, dtype=np.int64)
        self.values: list[_Key] = []
        self.places: dict[_Key, int] = {}

    def put(self, slot: int, key: _Key) -> None:
        if slot >= len(self.codes):
            wider = np.zeros(max(slot + 1, 2 * len(self.codes)), dtype=np.int64)
            wider[: len(self.codes)] = self.codes
            self.codes = wider
        code = self.places.get(key)
        if code is None:
            self.values.append(key)
            code = self.places[key] = len(self.values)
        self.codes[slot] = code

    def mask(self, table: Mask, rows: int) -> Mask:
        found = np.zeros(rows, dtype=np.bool_)
        known = self.codes[:rows]
        found[: len(known)] = table[known]
        return found


def _one_of(column: _Column, values: tuple[Value, ...]) -> Mask:
    table = np.zeros(len(column.values) + 1, dtype=np.bool_)
    table[[column.places.get((_KINDS[type(value)], value), 0) for value in values]] = True
    table[0] = False
    return table


def _between(column: _Column, leaf: Range) -> Mask:
    bound: Any = leaf.low if leaf.low is not None else leaf.high
    kind, low, high = _KINDS[type(bound)], leaf.low, leaf.high

    def holds(key: _Key) -> bool:
        value: Any = key[1]
        return key[0] == kind and (low is None or value >= low) and (high is None or value <= high)

    return np.fromiter((False, *map(holds, column.values)), dtype=np.bool_, count=len(column.values) + 1)


_LEAVES: Final[dict[type, Callable[[_Column, Any], Mask]]] = {
    Eq: lambda column, leaf: _one_of(column, (leaf.value,)),
    In: lambda column, leaf: _one_of(column, leaf.values),
    Range: _between,
}


class MetadataColumns:
    """The metadata of slots 0, 1, 2, …, kept by field."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}

    def set(self, slot: int, metadata: Metadata) -> None:
        """Give a slot its metadata, in place of what it had.

        Args:
            slot: number of the slot, 0 or more.
            metadata: its fields.

        Raises:
            MetadataInvalid: a value that is no finite number, text or boolean; nothing has changed then.
        """
        check_metadata(metadata)
        self.clear(slot)
        for field, value in metadata.items():
            column = self._columns.get(field)
            if column is None:
                column = self._columns[field] = _Column()
            column.put(slot, (_KINDS[type(value)], value))

    def clear(self, slot: int) -> None:
        """Take all fields from a slot."""
        for column in self._columns.values():
            if slot < len(column.codes):
                column.codes[slot] = 0

    def mask(self, condition: Filter, rows: int) -> Mask:
        """Say which of the first slots meet a filter.

        Args:
            condition: the filter.
            rows: how many slots are asked about.

        Returns:
            One boolean for each slot.

        Raises:
            FilterInvalid: see `check_filter`.
        """
        check_filter(condition)
        return self._mask(condition, rows)

    def column(self, field: str, rows: int) -> tuple[npt.NDArray[np.int64], list[Value]]:
        """Return the code of one field for each slot, 0 for none, and the values of codes 1, 2, …"""
        column = self._columns.get(field)
        codes = np.zeros(rows, dtype=np.int64)
        if column is None:
            return codes, []
        known = column.codes[:rows]
        codes[: len(known)] = known
        return codes, [value for _kind, value in column.values]

    def exported(self, rows: int) -> Iterator[tuple[str, npt.NDArray[np.int64], list[Value]]]:
        """Yield each field with one code per slot, 0 for none, and the values of codes 1, 2, …"""
        for field in self._columns:
            yield field, *self.column(field, rows)

    def restore(self, field: str, codes: npt.NDArray[np.int64], values: Sequence[Value]) -> None:
        """Put a field in place as ``exported`` gave it.

        Raises:
            MetadataInvalid: a code without value, or a value that is none.
        """
        column = _Column()
        for value in values:
            key = _key(value)
            if key is None:
                raise MetadataInvalid(f"metadata {field!r} must be a finite number, text or boolean")
            column.values.append(key)
            column.places[key] = len(column.values)
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) <= len(values):
            raise MetadataInvalid(f"metadata {field!r} has codes without a value")
        column.codes = codes
        self._columns[field] = column

    def _mask(self, condition: Filter, rows: int) -> Mask:
        if isinstance(condition, Not):
            return ~self._mask(condition.part, rows)
        if isinstance(condition, And | Or):
            join = np.logical_and if isinstance(condition, And) else np.logical_or
            joined = np.full(rows, isinstance(condition, And), dtype=np.bool_)
            for part in condition.parts:
                join(joined, self._mask(part, rows), out=joined)
            return joined
        column = self._columns.get(condition.field)
        if column is None:
            return np.zeros(rows, dtype=np.bool_)
        return column.mask(_LEAVES[type(condition)](column, condition), rows)

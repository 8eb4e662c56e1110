"""Filters over the metadata of entries, as data. Without NumPy, so that whoever only passes them on starts fast."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = ["And", "Eq", "Filter", "In", "Not", "Or", "Range", "Value"]

Value: TypeAlias = bool | int | float | str


class Eq(msgspec.Struct, frozen=True, tag="eq"):
    """The field has this value."""

    field: str
    value: Value


class In(msgspec.Struct, frozen=True, tag="in"):
    """The field has one of these values."""

    field: str
    values: tuple[Value, ...]


class Range(msgspec.Struct, frozen=True, tag="range"):
    """The field is between both bounds, which are included; None leaves a side open."""

    field: str
    low: int | float | str | None = None
    high: int | float | str | None = None


class And(msgspec.Struct, frozen=True, tag="and"):
    """All parts hold; with no part, this holds."""

    parts: tuple[Filter, ...]


class Or(msgspec.Struct, frozen=True, tag="or"):
    """At least one part holds; with no part, this does not hold."""

    parts: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Eq | In | Range | And | Or | Not

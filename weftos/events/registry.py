"""The table of kinds, and the check of a payload against its kind.

Why it is as it is: an auditor searches by kind and reads fields by name, so a misspelt kind or field would be an event
that nobody finds. Both are refused when the event is appended, by whomever. Kinds below ``app.`` belong to agents: any
map is theirs to define.

Guaranteed: a payload that is accepted has all required fields of its kind, each of its type, and no other. Not
guaranteed: that records of earlier versions of this table have the fields that were added later.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Final

import msgspec
from msgspec.inspect import StructType, type_info

from weftos.errors import AppendRefused
from weftos.events import (
    access,
    agents,
    artifacts,
    budgets,
    capabilities,
    channels,
    decisions,
    governance,
    kernel,
    log,
    memory,
    tree,
)
from weftos.events.event import Event

__all__ = ["APP_PREFIX", "KINDS", "SCHEMAS", "check_payload", "fields_of"]

#: Kinds below this prefix belong to agents; they are in no table.
APP_PREFIX: Final = "app."

_ROOMS: Final = (
    log, kernel, agents, channels, decisions, governance, capabilities, budgets, access, artifacts, memory, tree,
)  # fmt: skip

#: The form of the payload of every kind outside ``app.``.
SCHEMAS: Final[dict[str, type[Event]]] = {
    event.kind: event
    for room in _ROOMS
    for event in vars(room).values()
    if isinstance(event, type) and issubclass(event, Event) and hasattr(event, "kind")
}

#: Every kind outside ``app.``, with what it says.
KINDS: Final[dict[str, str]] = {
    kind: cleandoc(str(event.__doc__)).partition("\n")[0].rstrip(".") for kind, event in SCHEMAS.items()
}

_convert: Final = msgspec.convert


def check_payload(kind: str, payload: dict[str, Any]) -> None:
    """Refuse a payload that does not have the form of its kind; a kind that is in no table has none.

    Raises:
        AppendRefused: a field is missing, unknown or of another type.
    """
    schema = SCHEMAS.get(kind)
    if schema is None:
        return
    try:
        _convert(payload, schema)
    except (msgspec.ValidationError, TypeError, RecursionError) as error:
        raise AppendRefused(
            f"the payload of {kind} does not have its form (`weaver chain kinds {kind}`): {error}"
        ) from error


def fields_of(kind: str) -> list[tuple[str, str, bool]]:
    """Return the fields of a kind: name, type, and whether it must be there.

    Raises:
        KeyError: there is no such kind.
    """
    info = type_info(SCHEMAS[kind])
    assert isinstance(info, StructType)
    return [(field.encode_name, _name(field.type), field.required) for field in info.fields]


def _name(found: msgspec.inspect.Type) -> str:
    if isinstance(found, msgspec.inspect.UnionType):
        return " or ".join(_name(one) for one in found.types)
    if isinstance(found, msgspec.inspect.LiteralType):
        return " | ".join(str(value) for value in found.values)
    name = type(found).__name__.removesuffix("Type").lower()
    if isinstance(found, msgspec.inspect.BytesType) and found.min_length is not None:
        return f"bytes[{found.min_length}]"
    if isinstance(found, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        return f"list of {_name(found.item_type)}"
    if isinstance(found, msgspec.inspect.DictType):
        return "map"
    return {"str": "text", "none": "null", "struct": "map"}.get(name, name)

"""Between structs of this room and plain values: paths and names travel as their texts."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from weftos.tree.names import Action, Kind, Role
from weftos.tree.paths import ResourcePath

__all__ = ["convert", "to_builtins"]

_TEXTS: Final = (ResourcePath, Kind, Role, Action)


def convert(value: Any, cls: Any) -> Any:
    """Build a struct from plain values, strictly.

    Args:
        value: maps, lists, text, bytes, numbers.
        cls: a struct, or a union of tagged ones.

    Raises:
        msgspec.ValidationError: the value does not have the form.
        TreeError: a part of it is refused by the type that it is for.
    """
    return msgspec.convert(value, cls, strict=True, dec_hook=_read)


def to_builtins(value: Any) -> Any:
    """Return a struct as maps, lists, text, bytes and numbers."""
    return msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_text)


def _read(cls: type, value: Any) -> Any:
    if cls not in _TEXTS:
        raise TypeError(f"{cls.__name__} is not read from plain values")
    return cls(value)


def _text(value: Any) -> str:
    if type(value) not in _TEXTS:
        raise TypeError(f"{type(value).__name__} has no plain form")
    return str(value)

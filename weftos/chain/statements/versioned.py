"""The fields of a statement as they lie in the payload of a record, beside the version of their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from weftos.errors import WeftError

__all__ = ["fields_of"]


def fields_of(
    payload: Mapping[str, Any], kind: type[msgspec.Struct], *, version: int, name: str, error: type[WeftError]
) -> dict[str, Any]:
    """Return the fields of a payload without its version, if they are those of this kind of statement.

    Args:
        payload: of the record.
        kind: what has the fields; all of them have to be there.
        version: of the form.
        name: what the statement is called, with its article, for the error.
        error: to raise.

    Raises:
        WeftError: of the given type: the version is another, a field is missing, or there is one too many.
    """
    fields = dict(payload)
    found = fields.pop("version", None)
    if type(found) is not int or found != version:
        raise error(f"{name} of version {found!r:.40} is unknown here")
    if fields.keys() != set(kind.__struct_fields__):
        names = ", ".join(kind.__struct_fields__)
        raise error(f"{name} has the fields {names}, not {sorted(fields, key=repr)!r:.200}")
    return fields

"""From a record of the chain and the service's figures to what the control socket and ``weaver`` show.

Both the kernel (which asks the service process) and ``weaver`` without a kernel (which reads the files) show the same
rows, so they are made in one place. Pure functions over mappings of plain values; nothing here reads the chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from weftos.errors import ProtocolError
from weftos.rpc.chain_types import ChainRow, ChainStatus

__all__ = ["chain_row", "chain_status", "detail_line", "plain"]

#: Members of payloads that tell most, in the order in which a reader wants them; the others follow.
_FIRST: Final = (
    "agent_id", "agent", "name", "pid", "os_pid", "parent", "program", "incarnation", "from", "to", "ring", "topic",
    "action", "method", "reason", "code", "signal", "message", "state", "count", "bytes",
)  # fmt: skip
#: Members of a reference to an artifact.
_REFERENCE: Final = {"hash", "size", "content_type"}
#: Longest ``detail``, and longest single value in it, in characters: a line on a wide terminal.
_DETAIL_CHARS: Final = 160
_VALUE_CHARS: Final = 60
#: The service's names for what the rest of the system calls otherwise.
_RENAMED: Final = {"pid": "os_pid", "uptime_seconds": "uptime_secs"}


def chain_row(view: Mapping[str, Any]) -> ChainRow:
    """Make a row of a record's view (its fields as plain values, bytes as hex digits).

    Raises:
        ProtocolError: the mapping is no view of a record.
    """
    payload = view.get("payload")
    try:
        return ChainRow(
            sequence=view["seq"],
            timestamp=view["t_ns"] / 1e9,
            source=view["source"],
            kind=view["kind"],
            subject=view.get("subject"),
            detail=detail_line(payload),
            hash=view["hash"],
            payload=payload,
        )
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"this is no record of the chain: {error!r}") from error


def chain_status(values: Mapping[str, Any]) -> ChainStatus:
    """Make the status of the service's figures (``protocol.Head``); figures that the status does not have are left out.

    Raises:
        ProtocolError: a figure that the status needs is missing or of another type.
    """
    named = {_RENAMED.get(name, name): value for name, value in values.items()}
    try:
        return msgspec.convert(named, ChainStatus)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"these are no figures of the chain: {error}") from error


def detail_line(payload: Any) -> str:
    """A payload in one line.

    ``name=value`` with what tells most first, nested values as JSON, cut to a readable length.
    """
    if not isinstance(payload, Mapping):
        return "" if payload is None else _short(_text(payload), _DETAIL_CHARS)
    names = [name for name in _FIRST if name in payload]
    names += [name for name in payload if name not in _FIRST]
    parts = [f"{name}={_short(_text(payload[name]), _VALUE_CHARS)}" for name in names if payload[name] is not None]
    return _short(" ".join(parts), _DETAIL_CHARS)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value.keys() == _REFERENCE:
        # A reference to an artifact: enough of it to find it, and what to expect.
        return f"{value['hash']!s:.12}… ({value['size']} bytes, {value['content_type']})"
    if isinstance(value, str):
        return value.replace("\n", "\\n")
    return msgspec.json.encode(value).decode("utf-8")


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(value: Any) -> Any:
    """Return a value with all bytes in it as hex digits, so that JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value

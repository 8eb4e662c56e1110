"""What a message carries: the payload kinds, and the one codec that puts them on a ring and takes them off.

Plain Python values need no wrapper: ``str`` is Text, ``bytes`` is Bytes, an ndarray is Array, anything else that
MessagePack can hold is Json. The structured kinds (ToolCall, ToolResult, Signal, Rvf) travel as a small integer tag and
a list. Nothing is ever unpickled.

A message on the wire is a MessagePack array ``[tag, body, correlation, trace, target, number]`` whose tail may be
missing; that is why the common case costs two elements. ``docs/formats/message.md`` has the bytes.
"""

from __future__ import annotations

import enum
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from weftos.errors import ProtocolError

__all__ = [
    "Failure",
    "KernelSignal",
    "Payload",
    "PayloadTag",
    "Rvf",
    "Signal",
    "ToolCall",
    "ToolResult",
    "body_from_wire",
    "body_to_wire",
    "payload_type",
]


class PayloadTag(enum.IntEnum):
    """First element of a message on the wire."""

    NATURAL = 0
    TOOL_CALL = 1
    TOOL_RESULT = 2
    SIGNAL = 3
    RVF = 4
    ARRAY = 5
    FAILURE = 6
    BATCH = 7


class KernelSignal(enum.StrEnum):
    """Signals of the kernel. Only the first three may travel between agents; the others come from the kernel alone."""

    PING = "Ping"
    PONG = "Pong"
    USER_DEFINED = "UserDefined"
    SHUTDOWN = "Shutdown"
    KILL = "Kill"
    SUSPEND = "Suspend"
    RESUME = "Resume"
    RELOAD_CONFIG = "ReloadConfig"
    DUMP_STATE = "DumpState"
    LINK_EXIT = "LinkExit"
    MONITOR_DOWN = "MonitorDown"
    RESOURCE_WARNING = "ResourceWarning"


#: Signals that one agent may send to another.
AGENT_SIGNALS: Final = frozenset({KernelSignal.PING, KernelSignal.PONG, KernelSignal.USER_DEFINED})


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A request to run a tool: its name, its arguments (a mapping), and an id that the result repeats."""

    name: str
    args: dict[str, Any] = {}
    call_id: str = ""


class ToolResult(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a ToolCall."""

    call_id: str
    result: Any = None


class Signal(msgspec.Struct, frozen=True, array_like=True):
    """A kernel signal with its data (for example the number of UserDefined, or pid and reason of LinkExit)."""

    signal: KernelSignal
    data: dict[str, Any] = {}


class Rvf(msgspec.Struct, frozen=True, array_like=True):
    """An RVF segment: its type byte and its bytes, opaque to the kernel."""

    segment_type: int
    data: bytes


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """The reply to a call whose handler failed: a stable error code and a text. ``call`` raises it at the caller."""

    code: str
    message: str


Payload: TypeAlias = Any

_WRAPPED: Final[dict[type, PayloadTag]] = {
    ToolCall: PayloadTag.TOOL_CALL,
    ToolResult: PayloadTag.TOOL_RESULT,
    Signal: PayloadTag.SIGNAL,
    Rvf: PayloadTag.RVF,
    Failure: PayloadTag.FAILURE,
}
_UNWRAP: Final[dict[int, type]] = {tag: kind for kind, tag in _WRAPPED.items()}
_TYPE_NAMES: Final[dict[type, str]] = {
    str: "text",
    bytes: "bytes",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    Signal: "signal",
    Rvf: "rvf",
    Failure: "failure",
    np.ndarray: "array",
}


def payload_type(payload: Payload) -> str:
    """Name the kind of a payload, as events and listings show it (``text``, ``json``, ``bytes``, ``array``,
    ``tool_call``, …).
    """
    return _TYPE_NAMES.get(type(payload), "json")


def body_to_wire(payload: Payload) -> tuple[int, Any]:
    """Return ``(tag, body)`` for any payload but an array (whose data travels beside the envelope)."""
    return _WRAPPED.get(type(payload), 0), payload


def body_from_wire(tag: int, body: Any) -> Payload:
    """Rebuild a structured payload from its decoded parts.

    Raises:
        ProtocolError: unknown tag, or a body of the wrong shape.
    """
    kind = _UNWRAP.get(tag)
    if kind is None:
        raise ProtocolError(f"payload tag {tag} is unknown")
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"payload of kind {kind.__name__} is malformed: {error}") from error

"""What all payloads of the kernel's events have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec

__all__ = ["Bytes16", "Bytes32", "Event", "Natural", "Pid"]

Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
#: A kernel pid; 0 is the kernel itself.
Pid: TypeAlias = Natural
Bytes16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The payload of one kind of event. The first line of a subclass says what such an event means.

    A kind may get further optional fields; what it has keeps its name and meaning, because logs outlive versions.
    """

    kind: ClassVar[str]

"""Events of the artifact store."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec

from weftos.events.event import Event, Natural

_Hash: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Put(Event, frozen=True, kw_only=True):
    """Content was stored under its hash, and by whom."""

    kind: ClassVar[str] = "artifact.put"
    hash: _Hash
    size: Natural
    content_type: str
    by: str


class Release(Event, frozen=True, kw_only=True):
    """Who put an artifact needs it no more."""

    kind: ClassVar[str] = "artifact.release"
    hash: _Hash
    by: str


class Collect(Event, frozen=True, kw_only=True):
    """Artifacts that nothing refers to are about to be removed."""

    kind: ClassVar[str] = "artifact.gc"
    id: str
    hashes: list[_Hash]
    bytes: Natural
    by: str


class Damaged(Event, frozen=True, kw_only=True):
    """A stored file does not have the content that its name promises; it was set aside."""

    kind: ClassVar[str] = "artifact.damaged"
    hash: _Hash
    reason: str
    file: str

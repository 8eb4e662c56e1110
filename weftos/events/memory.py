"""Events of memory: collections, and what was changed between two of these records."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from weftos.events.event import Bytes32, Event, Natural


class CollectionCreate(Event, frozen=True, kw_only=True):
    """A memory space got a collection of vectors, with what can be compared in it."""

    kind: ClassVar[str] = "ecc.collection.create"
    space: str
    dimension: Natural
    metric: Literal["cosine", "l2", "inner"]
    identity: dict[str, Any] | None
    owner: str


class CollectionDrop(Event, frozen=True, kw_only=True):
    """The collection of a memory space was removed with all that was in it."""

    kind: ClassVar[str] = "ecc.collection.drop"
    space: str
    entries: Natural


class Committed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of one store, by their numbers, and the Merkle root over them."""

    store: str
    first: Natural
    last: Natural
    root: Bytes32


class Commit(Event, frozen=True, kw_only=True):
    """What was changed in memory since the record before: this one vouches for it."""

    kind: ClassVar[str] = "ecc.commit"
    number: Natural
    changes: list[Committed]
    counts: dict[str, Natural]
    by: dict[str, Natural]
    took_us: Natural


class Tick(Event, frozen=True, kw_only=True):
    """A cognitive tick: how many impulses it works off, what it adds for them, and the Merkle root over that."""

    kind: ClassVar[str] = "ecc.tick"
    space: str
    first_op: Natural
    last_op: Natural
    impulses: Natural
    nodes: Natural
    vectors: Natural
    edges: Natural
    crossrefs: Natural
    hlc: Natural
    root: Bytes32


class CrossRefsCreate(Event, frozen=True, kw_only=True):
    """Cross-references were added to a memory space; the Merkle root is over their rows."""

    kind: ClassVar[str] = "ecc.crossref.create"
    space: str
    count: Natural
    root: Bytes32


class CrossRefsRemove(Event, frozen=True, kw_only=True):
    """Cross-references were taken out of a memory space; the Merkle root is over their rows."""

    kind: ClassVar[str] = "ecc.crossref.remove"
    space: str
    count: Natural
    root: Bytes32


class Roots(Event, frozen=True, kw_only=True):
    """What memory holds: a hash of the content of each collection and each graph."""

    kind: ClassVar[str] = "ecc.roots"
    roots: dict[str, Bytes32]


class Calibration(Event, frozen=True, kw_only=True):
    """What this machine does in a tick, measured on copies."""

    kind: ClassVar[str] = "ecc.boot.calibration"
    figures: dict[str, Any]


class Failed(Event, frozen=True, kw_only=True):
    """Memory cannot be used any more: damaged, or without room. Its files were left as they are."""

    kind: ClassVar[str] = "ecc.failed"
    reason: str

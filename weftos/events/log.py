"""Events of the log itself: its beginning, its keys, its repair, and what is said about it."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from weftos.events.event import Bytes16, Bytes32, Event, Natural


class Genesis(Event, frozen=True, kw_only=True):
    """The log begins."""

    kind: ClassVar[str] = "genesis"
    log_id: Bytes16
    format: Natural
    hash: str


class Recovered(Event, frozen=True, kw_only=True):
    """Bytes of an unfinished write were set aside when the log was opened."""

    kind: ClassVar[str] = "chain.recovered"
    lost_bytes: Natural
    offset: Natural
    segment: Natural
    files: list[str]


class Redacted(Event, frozen=True, kw_only=True):
    """The payload of a record was taken away for good."""

    kind: ClassVar[str] = "chain.redacted"
    seq: Natural
    record_kind: str = msgspec.field(name="kind")
    payload_hash: Bytes32
    reason: str
    by: str


class Archived(Event, frozen=True, kw_only=True):
    """A segment was copied to the archive."""

    kind: ClassVar[str] = "chain.archived"
    segment: Natural
    first_seq: Natural
    count: Natural
    size: Natural
    blake3: Bytes32
    sha256: Bytes32
    content_size: Natural
    content_blake3: Bytes32
    where: str


class Pruned(Event, frozen=True, kw_only=True):
    """The oldest segments are removed from the log's folder."""

    kind: ClassVar[str] = "chain.pruned"
    version: Literal[1]
    first_seq: Natural
    last_seq: Natural
    count: Natural
    first_segment: Natural
    last_segment: Natural
    file_bytes: Natural
    size: Natural
    root: Bytes32
    head_hash: Bytes32
    kept: Natural
    kept_hash: Bytes32
    archived: bool
    where: str
    note: bytes


class KeyGenesis(Event, frozen=True, kw_only=True):
    """The first signing keys of the log, by their public halves."""

    kind: ClassVar[str] = "key.genesis"
    version: Literal[2]
    pair_id: str
    ed25519: bytes
    ml_dsa_65: bytes


class KeyRotate(Event, frozen=True, kw_only=True):
    """The log's keys were handed over to a new pair."""

    kind: ClassVar[str] = "key.rotate"
    version: Literal[1]
    origin: str
    old_ed25519: bytes
    old_ml_dsa_65: bytes
    new_ed25519: bytes
    new_ml_dsa_65: bytes
    endorse_ed25519: bytes
    endorse_ml_dsa_65: bytes
    accept_ed25519: bytes
    accept_ml_dsa_65: bytes


class Sealed(Event, frozen=True, kw_only=True):
    """A seal of everything before it, by a key that exists no more."""

    kind: ClassVar[str] = "log.seal"
    version: Literal[1]
    log_id: Bytes16
    epoch: Natural
    first_seq: Natural
    size: Natural
    root: Bytes32
    previous: Bytes32
    mac: Bytes32


class Bridge(Event, frozen=True, kw_only=True):
    """A head of a foreign log, signed by keys that are pinned for it."""

    kind: ClassVar[str] = "chain.bridge"
    version: Literal[1]
    origin: str
    size: Natural
    root: Bytes32
    pair_id: str
    note: bytes
    previous: Natural | None
    proof: list[bytes] | None


class SplitView(Event, frozen=True, kw_only=True):
    """A foreign log showed a head that contradicts one that was noted before; both are kept."""

    kind: ClassVar[str] = "chain.split_view"
    version: Literal[1]
    origin: str
    reason: str
    size: Natural
    root: Bytes32
    note: bytes
    known_record: Natural
    known_size: Natural
    known_root: Bytes32


class Derivation(Event, frozen=True, kw_only=True):
    """Something was derived from something that is on the log."""

    kind: ClassVar[str] = "lineage.derivation"
    version: Literal[1]
    child: str
    child_hash: Bytes32
    parent: str | None
    parent_hash: Bytes32 | None
    type: str
    mutations: Natural
    description: str


class Attestation(Event, frozen=True, kw_only=True):
    """Who holds what, signed."""

    kind: ClassVar[str] = "custody.attestation"
    version: Literal[1]
    device_id: bytes
    epoch: Natural
    head_hash: Bytes32
    size: Natural
    roots: dict[str, bytes]
    t_ns: Natural
    algorithm: str
    signature: bytes

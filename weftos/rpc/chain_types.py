"""Parameters and results of the methods about the chain: its state, records, checkpoints, keys, heads of other logs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from weftos import limits

__all__ = [
    "AttestResult",
    "BridgeHead",
    "BridgeParams",
    "ChainRow",
    "ChainStatus",
    "CheckpointResult",
    "PageParams",
    "PageRecord",
    "PageResult",
    "RedactParams",
    "RedactResult",
    "RotateResult",
    "SealInfo",
    "WitnessInfo",
]


class WitnessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One witness of the log.

    Attributes:
        name: under which it signs; empty if it was never reached.
        size: records that it has signed for; -1 if that is not known.
        problem: why it did not sign last; empty if it did.
    """

    name: str
    size: int
    problem: str


class SealInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The seals of the log.

    Attributes:
        on: a sealing key is at hand and seals are made.
        problem: why not, if there is a key.
        epoch: of the newest seal on the log; 0 without one.
        sealed: records that it covers.
        record: its number; -1 without one.
    """

    on: bool
    problem: str = ""
    epoch: int = 0
    sealed: int = 0
    record: int = -1


class ChainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of the log. What only the service process knows is ``None`` when read from files.

    Attributes:
        dir: directory with the segment files.
        state: ``ok``, ``failed``, or ``offline`` when read from files.
        records: records in the log.
        head_seq: sequence number of the newest record.
        head_hash: its hash, 64 hex digits.
        segments: segment files.
        bytes: size of all segments.
        failure: why the log has failed; empty when it has not.
        last_sync_seconds: duration of the last sync to disk.
        appends_total: appends since the service started.
        durable_groups: syncs since the service started.
        mean_group: records that shared a sync, on average.
        clients: agents attached to the service.
        requests_total: requests served.
        rejected: requests refused.
        dropped_replies: answers that found no room.
        os_pid: process of the service.
        uptime_secs: its age.
        checkpoint_size: records that the newest checkpoint covers.
        cosigned_size: records that enough witnesses have signed for.
        witnesses: what is known of each witness.
        seals: of the log.
    """

    dir: str
    state: str
    records: int
    head_seq: int
    head_hash: str
    segments: int
    bytes: int
    failure: str = ""
    last_sync_seconds: float | None = None
    appends_total: int | None = None
    durable_groups: int | None = None
    mean_group: float | None = None
    clients: int | None = None
    requests_total: int | None = None
    rejected: int | None = None
    dropped_replies: int | None = None
    os_pid: int | None = None
    uptime_secs: float | None = None
    checkpoint_size: int | None = None
    cosigned_size: int | None = None
    witnesses: list[WitnessInfo] = []
    seals: SealInfo | None = None


class CheckpointResult(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint of the log.

    Attributes:
        origin: names the log.
        size: records that it covers.
        root: Merkle root, 64 hex digits.
        pair_id: of the keys that signed it.
        cosigned: enough witnesses have signed it too.
        note: the signed note.
    """

    origin: str
    size: int
    root: str
    pair_id: str
    cosigned: bool
    note: str


class AttestResult(msgspec.Struct, frozen=True, kw_only=True):
    """A custody attestation.

    Attributes:
        record: number of its record on the log.
        origin: of the log.
        attestation: its fields; bytes as hex digits.
    """

    record: int
    origin: str
    attestation: dict[str, Any]


class RotateResult(msgspec.Struct, frozen=True, kw_only=True):
    """A change of keys: ids of the old and the new pair, and the size of the log after it."""

    old: str
    new: str
    size: int


class PageParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records somebody wants who copies the log.

    Attributes:
        seq: number of the first.
        max_records: at most.
        max_bytes: of records, at most; one is sent, however large.
    """

    seq: Annotated[int, msgspec.Meta(ge=0)]
    max_records: Annotated[int, msgspec.Meta(ge=1, le=limits.CHAIN_PAGE_RECORDS)] = limits.CHAIN_PAGE_RECORDS
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=limits.CHAIN_PAGE_BYTES)] = limits.CHAIN_PAGE_BYTES


class PageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it is stored, in base64: its header part; salt and payload, empty if the payload was taken away."""

    header: bytes
    salted: bytes


class PageResult(msgspec.Struct, frozen=True, kw_only=True):
    """Records in a row.

    Attributes:
        first_seq: number of the first.
        records: from that number on without a gap; none if the log ends before it.
        note: the newest signed checkpoint, in base64.
    """

    first_seq: int
    records: list[PageRecord]
    note: bytes


class BridgeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A head of a foreign log.

    Attributes:
        note: its signed checkpoint, as text.
        proof: hashes, 64 hex digits each, that lead to it from the newest head of that log which is noted; left out if
            there are none.
    """

    note: Annotated[str, msgspec.Meta(max_length=48 * 1024)]
    proof: (
        Annotated[list[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]], msgspec.Meta(max_length=64)] | None
    ) = None


class BridgeHead(msgspec.Struct, frozen=True, kw_only=True):
    """A head of a foreign log that is noted on this one.

    Attributes:
        record: number of its record.
        origin: names the log.
        size: records that it covers.
        root: Merkle root, 64 hex digits.
        proven: it was shown to continue the head before.
        pair_id: of the keys that signed it.
    """

    record: int
    origin: str
    size: int
    root: str
    proven: bool
    pair_id: str


class RedactParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which record loses its payload, and why.

    Attributes:
        seq: number of the record.
        reason: for the log.
    """

    seq: Annotated[int, msgspec.Meta(ge=0)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class RedactResult(msgspec.Struct, frozen=True, kw_only=True):
    """The record that lost its payload, and the record that says so."""

    seq: int
    record: int


class ChainRow(msgspec.Struct, frozen=True, kw_only=True):
    """One record for reading.

    Attributes:
        sequence: number of the record, from 0.
        timestamp: wall clock when it was appended.
        source: who caused it (``kernel``, ``agent:3``, …).
        kind: what happened.
        detail: the payload in one line.
        hash: of the record, 64 hex digits.
        subject: what it is about, if it names something.
        payload: all of it; bytes as hex digits.
    """

    sequence: int
    timestamp: float
    source: str
    kind: str
    detail: str
    hash: str
    subject: str | None = None
    payload: Any = None

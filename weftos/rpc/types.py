"""Parameters and results of the control socket's methods but ``agent.*``, which are in ``agent_types``.

The same rules hold: parameters refuse unknown fields, results are flat, their keys are those of ``weaver --json`` and
are never renamed. Times named ``timestamp`` or ``*_at`` are seconds since 1970, spans are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from weftos import limits
from weftos.rpc.agent_types import AgentPid

__all__ = [
    "AttestResult",
    "ChainRow",
    "ChainStatus",
    "CheckpointResult",
    "CountParams",
    "DeadLetterInfo",
    "HealthReport",
    "KernelStatus",
    "KillParams",
    "KillResult",
    "LogEntry",
    "LogLevelName",
    "LogsParams",
    "NameParams",
    "NoParams",
    "PublishParams",
    "PublishResult",
    "RedactParams",
    "RedactResult",
    "RestartServiceResult",
    "RotateResult",
    "ServiceHealth",
    "ServiceInfo",
    "ShutdownResult",
    "SubscribeParams",
    "SubscribeResult",
    "TopicInfo",
]

#: How many rows a list may ask for; 0 means all that exist.
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
#: Exact name of a topic.
TopicName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
LogLevelName: TypeAlias = Literal["debug", "info", "warn", "error"]


class NoParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The method takes nothing."""


class CountParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest ``count`` rows; 0 means all."""

    count: Count = 20


class NameParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one service."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


# --- kernel ---------------------------------------------------------------------------------------


class KernelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of the kernel.

    Attributes:
        os_pid: process id of the kernel.
        state: ``booting``, ``running``, ``shutting_down`` or ``halted``.
        version: version of WeftOS.
        boot_id: 32 hex digits naming this boot.
        home: directory of the instance.
        uptime_secs: age.
        process_count: living agents.
        service_count: registered services, the system's own included.
        max_processes: living agents allowed; 0 is unlimited.
        health_check_interval_secs: how often services are checked.
        rss_bytes: resident memory of the kernel process.
        clean_start: whether nothing had to be repaired at boot.
        unclean_shutdown: whether the boot before ended without a shutdown.
        socket: path of the control socket.
        log: path of the kernel's log.
        config: path of the configuration file in force, ``None`` when there is none.
    """

    os_pid: int
    state: str
    version: str
    boot_id: str
    home: str
    uptime_secs: float
    process_count: int
    service_count: int
    max_processes: int
    health_check_interval_secs: float
    rss_bytes: int
    clean_start: bool
    unclean_shutdown: bool
    socket: str
    log: str
    config: str | None = None


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One service.

    Attributes:
        name: under which it is called.
        service_type: ``system`` for the kernel's own, ``agent`` for one offered by an agent.
        state: ``running``, ``starting``, ``degraded``, ``failed`` or ``stopped``.
        health: ``healthy``, ``degraded`` or ``unhealthy``.
        os_pid: process that serves it, ``None`` while there is none.
        owner_pid: agent that offers it; ``None`` for the kernel's own.
        restarts: restarts of its process so far.
        uptime_secs: age of its process.
        methods: methods it announces.
    """

    name: str
    service_type: str
    state: str
    health: str
    os_pid: int | None = None
    owner_pid: int | None = None
    restarts: int = 0
    uptime_secs: float = 0.0
    methods: list[str] = []


class LogsParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest ``count`` lines (0.

    All kept) of at least ``level``; with ``since``, only those with a greater serial.
    """

    count: Count = 50
    level: LogLevelName = "debug"
    since: Annotated[int, msgspec.Meta(ge=0)] = 0


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the kernel's log; ``serial`` grows by one with each line of a boot."""

    timestamp: float
    phase: str
    level: str
    message: str
    serial: int


class ShutdownResult(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel has begun to shut down."""

    state: str


class KillParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End an agent without waiting for it; ``graceful`` asks first."""

    pid: AgentPid
    graceful: bool = True


class KillResult(msgspec.Struct, frozen=True, kw_only=True):
    """The signal is sent; ``state`` is the agent's state now."""

    pid: int
    graceful: bool
    state: str


class RestartServiceResult(msgspec.Struct, frozen=True, kw_only=True):
    """The service runs again; pids are those of the operating system, ``None`` where none was."""

    name: str
    old_pid: int | None = None
    new_pid: int | None = None


class ServiceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Health of one service: ``healthy``, ``degraded`` or ``unhealthy``, with a sentence."""

    name: str
    health: str
    detail: str = ""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Health of the whole.

    Attributes:
        overall: the worst of what follows: ``healthy``, ``degraded`` or ``unhealthy``.
        services: one row for each service.
        limits_enforced: limits that this machine really enforces on agents.
        degraded: what does not work as promised, one sentence each; empty when all is well.
    """

    overall: str
    services: list[ServiceHealth] = []
    limits_enforced: list[str] = []
    degraded: list[str] = []


# --- chain ----------------------------------------------------------------------------------------


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


# --- messages -------------------------------------------------------------------------------------


class TopicInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One topic with the pids that subscribe and publish."""

    topic: str
    subscriber_count: int
    subscribers: list[int]
    publishers: list[int] = []


class PublishParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message from the operator to all subscribers: a string is text, everything else is JSON."""

    topic: TopicName
    message: Any


class PublishResult(msgspec.Struct, frozen=True, kw_only=True):
    """``subscribers`` were registered, into the rings of ``delivered`` of them the message was written."""

    topic: str
    subscribers: int
    delivered: int


class SubscribeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subscribe an agent to a topic."""

    pid: AgentPid
    topic: TopicName


class SubscribeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The agent is subscribed."""

    pid: int
    topic: str


class DeadLetterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A message that nobody will handle.

    Attributes:
        message_id: where it lay.
        timestamp: when it was given up.
        sender: pid; 0 is the kernel.
        target: pid.
        reason: ``target_not_found``, ``inbox_full``, ``timeout``, ``governance_denied``, ``agent_exited`` or
            ``poisoned``.
        detail: one sentence, with the exit of the reader where that is the reason.
        payload_type: kind of its payload.
        size_bytes: bytes kept of it.
        preview: the beginning of it, for reading.
        deliveries: how often it had been delivered.
    """

    message_id: str
    timestamp: float
    sender: int
    target: int
    reason: str
    detail: str = ""
    payload_type: str = ""
    size_bytes: int = 0
    preview: str = ""
    deliveries: int = 0

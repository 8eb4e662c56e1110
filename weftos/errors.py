"""Every error that WeftOS raises on purpose, in one hierarchy.

Each class names the promise that could not be kept and carries a stable ``code`` (used on the control socket and in
``--json`` output) and an ``exit_code`` for ``weaver``. The message says what happened and, where there is one, the
next step. Programming mistakes are ``AssertionError``; they are never caught here.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessDenied",
    "AgentExited",
    "AppendRefused",
    "ArchiveFailed",
    "ArtifactCorrupted",
    "ArtifactError",
    "ArtifactNotFound",
    "ArtifactQuotaReached",
    "ArtifactStorageFailed",
    "AttestationInvalid",
    "BackendNotAvailable",
    "BenchFailed",
    "BootFailed",
    "BudgetExhausted",
    "BudgetUnknown",
    "CalibrationInvalid",
    "CapabilityDenied",
    "ChainCorrupted",
    "ChainError",
    "ChannelClosed",
    "ClockRefused",
    "CollectionExists",
    "CollectionNotFound",
    "ConfigError",
    "ConstitutionDrift",
    "CredentialRefused",
    "CrossRefRefused",
    "CycleRefused",
    "DelegationError",
    "DelegationExpired",
    "DelegationInvalid",
    "DelegationRevoked",
    "DeltaInvalid",
    "DeltaRefused",
    "DimensionMismatch",
    "DoorbellLost",
    "EccError",
    "EccUnavailable",
    "EmbeddingDenied",
    "EmbeddingInvalid",
    "EmbeddingNotInstalled",
    "EmbeddingRefused",
    "EmbeddingUnavailable",
    "FilterInvalid",
    "GateDeferred",
    "GateUnavailable",
    "GovernanceDenied",
    "GraphNotFound",
    "GraphRefused",
    "IdempotencyConflict",
    "IdentityMismatch",
    "ImpulseQueueFull",
    "ImpulseRefused",
    "InvalidRequest",
    "InvalidStateTransition",
    "JournalDamaged",
    "JournalFailed",
    "KernelAlreadyRunning",
    "KernelNotRunning",
    "LineageRefused",
    "MemoryQuotaReached",
    "MessageTooLarge",
    "MetadataInvalid",
    "MethodNotFound",
    "NodeExists",
    "NodeInvalid",
    "NodeNotEmpty",
    "NodeNotFound",
    "PassageRefused",
    "PathInvalid",
    "PayloadRefused",
    "PeerRefused",
    "ProcessNotFound",
    "ProcessTableFull",
    "ProofInvalid",
    "ProtocolError",
    "RecordPruned",
    "RemoteUnavailable",
    "ResourceLimitExceeded",
    "RingCorrupted",
    "RingFull",
    "SandboxFailed",
    "SealFailed",
    "SealGap",
    "SealInvalid",
    "SegmentInvalid",
    "ServiceError",
    "ServiceNotFound",
    "ServiceUnavailable",
    "SharedMemoryError",
    "SharedMemoryExhausted",
    "SignatureInvalid",
    "SnapshotInvalid",
    "SpawnFailed",
    "SplitView",
    "StorageFailed",
    "TileProcessLost",
    "TokenRefused",
    "TreeError",
    "UniversalIdInvalid",
    "VaultDamaged",
    "VectorRefused",
    "VectorsDamaged",
    "WeftError",
    "WeftTimeout",
    "WitnessUnavailable",
    "WrongState",
    "error_for_code",
]


class WeftError(Exception):
    """Base of all errors raised by WeftOS. ``str(error)`` is a sentence for a person."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


# --- shared memory ----------------------------------------------------------------------------------------------------


class SharedMemoryError(WeftError):
    """Base of the errors of segments, rings, mailboxes and doorbells."""

    code = "shm"


class SegmentInvalid(SharedMemoryError):
    """A descriptor is not a sealed WeftOS segment of the promised size and kind."""

    code = "shm.segment"


class SharedMemoryExhausted(SharedMemoryError):
    """The system has no shared memory, no space in tmpfs or no descriptor left for a segment."""

    code = "shm.exhausted"


class RingCorrupted(SharedMemoryError):
    """Bytes in a ring contradict its format. The ring must be detached; its peer is broken or hostile."""

    code = "shm.ring_corrupted"


class RingFull(SharedMemoryError):
    """The ring has no room and the deadline (possibly zero) has passed. Nothing was written.

    Attributes:
        depth_bytes: bytes waiting in the ring when the attempt was given up.
        capacity: the ring's capacity in bytes.
    """

    code = "shm.ring_full"

    def __init__(self, message: str, *, depth_bytes: int = 0, capacity: int = 0) -> None:
        super().__init__(message)
        self.depth_bytes = depth_bytes
        self.capacity = capacity


class DoorbellLost(SharedMemoryError):
    """The semaphore behind a doorbell no longer exists: its owner is gone."""

    code = "shm.doorbell"


# --- messages ---------------------------------------------------------------------------------------------------------


class MessageTooLarge(WeftError):
    """A message is larger than the limit of the path it was to take.

    Attributes:
        size: bytes of the encoded message.
        limit: bytes that the path accepts.
    """

    code = "ipc.message_too_large"

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class PayloadRefused(WeftError):
    """A value cannot travel: an object array, a nested record type, or a description that is too long."""

    code = "ipc.payload_refused"


class ProtocolError(WeftError):
    """Bytes from another process do not decode to a message of the agreed vocabulary."""

    code = "ipc.protocol"


class ChannelClosed(WeftError):
    """The channel was revoked, or the process at its other end is gone for good."""

    code = "ipc.channel_closed"


class RemoteUnavailable(WeftError):
    """The target is on another node, and this kernel has no mesh."""

    code = "ipc.remote_unavailable"


class WeftTimeout(WeftError):
    """A deadline passed. The message names the operation and the time allowed, in seconds."""

    code = "timeout"


# --- processes --------------------------------------------------------------------------------------------------------


class ProcessNotFound(WeftError):
    """No live or remembered process has this kernel pid."""

    code = "process.not_found"


class AgentExited(WeftError):
    """The agent existed and has ended; it will not read this message."""

    code = "process.exited"


class InvalidStateTransition(WeftError):
    """The process state machine has no such arrow."""

    code = "process.state"


class ProcessTableFull(WeftError):
    """As many agents are alive as ``kernel.max_processes`` allows."""

    code = "process.table_full"


class SpawnFailed(WeftError):
    """The agent did not reach the ready state; the message carries the cause."""

    code = "process.spawn_failed"


class SandboxFailed(SpawnFailed):
    """An agent cannot be confined as its profile demands, or cannot be given what it was to be given."""

    code = "process.sandbox"


class BackendNotAvailable(WeftError):
    """The requested kind of execution (wasm, container, …) does not exist on this machine or in this version."""

    code = "process.backend"


class ResourceLimitExceeded(WeftError):
    """A limit or its permitted range is exceeded; the message gives both numbers and their unit."""

    code = "process.limit"


class WrongState(WeftError):
    """The kernel or a process is in a state that does not allow this operation."""

    code = "kernel.wrong_state"


# --- authority --------------------------------------------------------------------------------------------------------


class CapabilityDenied(WeftError):
    """The caller's capabilities do not include this action. The message names the missing one."""

    code = "gate.capability"
    exit_code = 4


class GovernanceDenied(WeftError):
    """The gate answered Deny."""

    code = "gate.denied"
    exit_code = 4


class ConstitutionDrift(WeftError):
    """The rules that the log adds up to are not those that were in force here before. Nothing is started."""

    code = "governance.drift"
    exit_code = 5


class GateDeferred(WeftError):
    """The gate answered Defer: the action was not done and waits for a decision."""

    code = "gate.deferred"
    exit_code = 3


class BudgetExhausted(WeftError):
    """A budget does not reach for an act, or the act repeats itself; the act must not happen.

    Attributes:
        dimension: ``turns``, ``tool_calls``, ``tokens``, ``cost``, ``wall_ms``, or ``loop``.
        rule_pid: the agent whose rule says so; 0 is the kernel's.
        asked: how much was asked for.
        remaining: what is left.
        given: what was given.
    """

    code = "budget.exhausted"
    exit_code = 4

    def __init__(
        self, text: str, *, dimension: str = "", rule_pid: int = 0, asked: int = 0, remaining: int = 0, given: int = 0
    ) -> None:
        super().__init__(text)
        self.dimension = dimension
        self.rule_pid = rule_pid
        self.asked = asked
        self.remaining = remaining
        self.given = given


class BudgetUnknown(WeftError):
    """The budgets cannot be added up from the log, so nothing is reserved."""

    code = "budget.unknown"


class GateUnavailable(WeftError):
    """The gate could not be asked (service process down or late). Fails closed: the action was not done."""

    code = "gate.unavailable"


# --- services ---------------------------------------------------------------------------------------------------------


class ServiceError(WeftError):
    """Base of errors answered by a service."""

    code = "service"


class ServiceNotFound(ServiceError):
    """No service of that name, or it has no such method."""

    code = "service.not_found"


class ServiceUnavailable(ServiceError):
    """The service process is down or did not answer in time. The request may be repeated: it is deduplicated."""

    code = "service.unavailable"


# --- chain ------------------------------------------------------------------------------------------------------------


class ChainError(ServiceError):
    """Base of the chain's errors."""

    code = "chain"


class ChainCorrupted(ChainError):
    """The log on disk contradicts itself. It is left untouched as evidence.

    Attributes:
        path: the damaged file.
        offset: byte offset of the first bad frame in it.
    """

    code = "chain.corrupted"
    exit_code = 5

    def __init__(self, message: str, *, path: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset


class AppendRefused(ChainError):
    """The event itself is not acceptable: unknown kind, too large, or not canonical."""

    code = "chain.append_refused"


class IdempotencyConflict(AppendRefused):
    """The place in a stream, or the key, under which an event was submitted belongs to another event on the log.

    Attributes:
        seq: number of the record that has it; -1 where only the message names it, as behind a process boundary.
    """

    code = "chain.conflict"

    def __init__(self, message: str, *, seq: int = -1) -> None:
        super().__init__(message)
        self.seq = seq


class LineageRefused(AppendRefused):
    """A derivation does not fit what is on the log: its child is recorded already, or its parent is not, or differs."""

    code = "chain.lineage"


class StorageFailed(ChainError):
    """A write or sync failed (disk full, I/O error). The log has stopped; what was acknowledged is safe."""

    code = "chain.storage"


class SignatureInvalid(ChainError):
    """A signature is wrong, a required one is missing, or the keys are not those that were trusted before.

    Attributes:
        algorithm: of the signature or key, as in ``SignaturePolicy``; empty if it is about no single one.
    """

    code = "chain.signature"
    exit_code = 5

    def __init__(self, message: str, *, algorithm: str = "") -> None:
        super().__init__(message)
        self.algorithm = algorithm


class ProofInvalid(ChainError):
    """A proof does not show what it claims, or has no proper form."""

    code = "chain.proof"
    exit_code = 5


class SealInvalid(ChainError):
    """A seal of the log, or the file with the key that makes them, is not what it must be.

    Attributes:
        epoch: of the first bad seal; 0 if it is not about one seal.
        index: where that seal stands among those examined, from 0.
    """

    code = "chain.seal"
    exit_code = 5

    def __init__(self, message: str, *, epoch: int = 0, index: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.index = index


class SealGap(SealInvalid):
    """All seals examined are genuine, but epochs between them are missing: lost in a crash, or taken away.

    Attributes:
        epoch: the first missing one.
        missing: how many are missing in all.
    """

    code = "chain.seal_gap"

    def __init__(self, message: str, *, epoch: int = 0, index: int = 0, missing: int = 0) -> None:
        super().__init__(message, epoch=epoch, index=index)
        self.missing = missing


class SplitView(ChainError):
    """A log has signed two things that cannot both be true, or takes back what it signed. Keep both as evidence.

    Attributes:
        reason: ``root``, two roots for one size; ``regress``, fewer records than it signed for before; empty where only
            the message tells.
    """

    code = "chain.split_view"
    exit_code = 5

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class AttestationInvalid(ChainError):
    """A custody attestation is malformed, or its signature is not that of the device it names."""

    code = "chain.attestation"
    exit_code = 5


class RecordPruned(ChainError):
    """A record is not in the log's folder any more: its segment was pruned. It may be in the archive."""

    code = "chain.pruned"


class ArchiveFailed(ChainError):
    """A segment could not be archived, or its archive cannot be used. The log itself goes on."""

    code = "chain.archive"


class WitnessUnavailable(ChainError):
    """A witness could not be asked: no connection, no answer in time, or one that makes no sense. Nothing is known."""

    code = "chain.witness"


class TileProcessLost(ServiceError):
    """The process that writes the tiles of the log has ended, or could not be made; nothing is lost by that."""

    code = "service.tiles"


# --- resource tree ----------------------------------------------------------------------------------------------------


class TreeError(WeftError):
    """Base of the errors of the resource tree."""

    code = "tree"


class PathInvalid(TreeError):
    """A text is no path of the tree."""

    code = "tree.path"
    exit_code = 2


class NodeInvalid(TreeError):
    """What a node was to hold is not acceptable: its kind, its metadata, its scoring or a policy."""

    code = "tree.node"
    exit_code = 2


class NodeNotFound(TreeError):
    """The tree has no node at this path."""

    code = "tree.not_found"


class NodeExists(TreeError):
    """The tree has a node at this path already."""

    code = "tree.exists"


class NodeNotEmpty(TreeError):
    """A node that has children cannot be removed."""

    code = "tree.not_empty"


class DeltaInvalid(TreeError):
    """The payload of a record does not have the form of the change that its kind promises."""

    code = "tree.delta"
    exit_code = 5


class DeltaRefused(TreeError):
    """A change has the right form and does not fit the state that it was to change. Nothing was changed."""

    code = "tree.delta_refused"


class SnapshotInvalid(TreeError):
    """A snapshot is malformed, or is not the one that was expected. Nothing was loaded."""

    code = "tree.snapshot"
    exit_code = 5


class DelegationError(WeftError):
    """Base of the reasons for which a delegation gives no authority."""

    code = "delegation"
    exit_code = 4


class DelegationInvalid(DelegationError):
    """A certificate is malformed, wrongly signed, not rooted in a trusted key, or grants more than its parent has."""

    code = "delegation.invalid"


class DelegationExpired(DelegationError):
    """A certificate of the chain is not valid yet, or no more."""

    code = "delegation.expired"


class DelegationRevoked(DelegationError):
    """A certificate of the chain was revoked."""

    code = "delegation.revoked"


# --- artifacts --------------------------------------------------------------------------------------------------------


class ArtifactError(WeftError):
    """Base of the artifact store's errors."""

    code = "artifact"


class ArtifactNotFound(ArtifactError):
    """The store holds nothing under this hash."""

    code = "artifact.not_found"


class ArtifactStorageFailed(ArtifactError):
    """The store's folder or disk failed or is full, or the source could not be read. Nothing half is there."""

    code = "artifact.storage"


class ArtifactQuotaReached(ArtifactStorageFailed):
    """The store, or the share of it that an agent may fill, has no room for this. The message gives both numbers."""

    code = "artifact.quota"


class ArtifactCorrupted(ArtifactError):
    """A stored file does not have the content that its name promises. It was set aside as evidence.

    Attributes:
        path: where the file is now.
        identity: its device and inode.
    """

    code = "artifact.corrupted"
    exit_code = 5

    def __init__(self, message: str, *, path: str = "", identity: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message)
        self.path = path
        self.identity = identity


# --- kernel and control socket ----------------------------------------------------------------------------------------


class BootFailed(WeftError):
    """A required boot step failed; what had been started was rolled back."""

    code = "kernel.boot"


class KernelAlreadyRunning(WeftError):
    """Another kernel holds this instance's lock."""

    code = "kernel.already_running"


class KernelNotRunning(WeftError):
    """No kernel answers for this instance."""

    code = "kernel.not_running"
    exit_code = 6


class ConfigError(WeftError):
    """A configuration file or value is wrong; the message names file, key and what is accepted."""

    code = "config"
    exit_code = 2


class InvalidRequest(WeftError):
    """A request on the control socket is malformed or its parameters have the wrong type."""

    code = "rpc.invalid"
    exit_code = 2


class MethodNotFound(WeftError):
    """The control socket has no such method."""

    code = "rpc.method_not_found"


class PeerRefused(WeftError):
    """The process at the other end of the socket runs as another user."""

    code = "rpc.peer_refused"


class AccessDenied(WeftError):
    """Who asks on the control socket may not ask this. Nothing was done, and the refusal is on the log."""

    code = "rpc.access_denied"
    exit_code = 4


# --- credentials and tokens -------------------------------------------------------------------------------------------


class TokenRefused(WeftError):
    """A token is malformed, unknown, expired, revoked or not for this user."""

    code = "auth.token"
    exit_code = 4


class CredentialRefused(WeftError):
    """A credential does not exist, exists already, or is not for who asks for it."""

    code = "auth.credential"
    exit_code = 4


class VaultDamaged(WeftError):
    """The key of the vault or an encrypted credential is missing, was altered, or does not belong together."""

    code = "auth.vault"
    exit_code = 5


# --- cognitive layer --------------------------------------------------------------------------------------------------


class EccError(WeftError):
    """Base of the errors of the cognitive layer."""

    code = "ecc"


class EccUnavailable(EccError):
    """The stores of the cognitive layer cannot be used: damaged, without room, or failed before. Log and gate go on."""

    code = "ecc.unavailable"


class MemoryQuotaReached(EccError):
    """A memory space, an agent or the whole of memory has no room for more. Nothing was changed."""

    code = "ecc.quota"


class GraphNotFound(EccError):
    """A memory space has no causal graph."""

    code = "ecc.graph_not_found"


class SealFailed(EccError):
    """A segment of the vector index could not be built. The index is as it was."""

    code = "ecc.seal_failed"


class IdentityMismatch(EccError):
    """Vectors of one model were to be compared or kept with those of another."""

    code = "ecc.identity"
    exit_code = 2


class JournalDamaged(EccError):
    """A file of the cognitive layer is not what was written: altered, shortened, or another's. Nothing was changed."""

    code = "ecc.journal_damaged"
    exit_code = 5


class JournalFailed(EccError):
    """A journal or snapshot could not be written; what was acknowledged before is kept."""

    code = "ecc.journal_failed"


class GraphRefused(EccError):
    """A change or a question does not fit the causal graph: an unknown node, a weight out of range, a full graph."""

    code = "ecc.graph"


class CycleRefused(GraphRefused):
    """An edge would close a cycle in a graph that was made without cycles. Nothing was added."""

    code = "ecc.cycle"


class EmbeddingRefused(EccError):
    """A text or a setting is outside what an embedding provider takes. No vector was made."""

    code = "ecc.embedding_refused"
    exit_code = 2


class EmbeddingUnavailable(EccError):
    """A server of embeddings cannot be reached, takes too long, or has no capacity. The same call may work later."""

    code = "ecc.embedding_unavailable"


class EmbeddingDenied(EccError):
    """A server of embeddings does not take the key, or the key cannot be read. The message never holds the key."""

    code = "ecc.embedding_denied"
    exit_code = 3


class EmbeddingInvalid(EccError):
    """What a server or a model gave is no answer to what was asked: another count, dimension, or no finite numbers."""

    code = "ecc.embedding_invalid"
    exit_code = 5


class EmbeddingNotInstalled(EccError):
    """A provider of embeddings needs packages that are not installed. The message names the extra to install."""

    code = "ecc.embedding_not_installed"


class PassageRefused(EccError):
    """A folder or a document cannot be cut into passages: it cannot be read, or is larger than the limits."""

    code = "ecc.passage_refused"
    exit_code = 2


class FilterInvalid(EccError):
    """A filter over metadata is too large or compares what cannot be compared."""

    code = "ecc.filter"


class MetadataInvalid(EccError):
    """Metadata of an entry has a value that is no finite number, text or boolean."""

    code = "ecc.metadata"


class ClockRefused(EccError):
    """A time is none, or that of another node is too far ahead of this one's clock. It was not taken over."""

    code = "ecc.clock"


class UniversalIdInvalid(EccError):
    """Bytes, a text or a number make no universal id or kind of structure."""

    code = "ecc.universal_id"


class CrossRefRefused(EccError):
    """A cross-reference cannot be kept: its type is unknown, it contradicts one that is there, or the store is full."""

    code = "ecc.crossref"


class ImpulseRefused(EccError):
    """An impulse cannot be queued: its payload, strength or type is outside the limits. Nothing was queued."""

    code = "ecc.impulse"


class ImpulseQueueFull(ImpulseRefused):
    """The queue of impulses is full, and nothing in it is weaker than the new one. Emit again when it was worked off.

    Attributes:
        count: impulses that wait.
        size: bytes that they have.
    """

    code = "ecc.impulse_queue_full"

    def __init__(self, message: str, *, count: int = 0, size: int = 0) -> None:
        super().__init__(message)
        self.count = count
        self.size = size


class CalibrationInvalid(EccError):
    """A calibration cannot be made with these settings, or a stored one is damaged or of another machine."""

    code = "ecc.calibration"


class VectorRefused(EccError):
    """A spec, an entry or a search is outside what a collection of vectors takes. Nothing was changed."""

    code = "ecc.vector"
    exit_code = 2


class DimensionMismatch(VectorRefused):
    """Vectors have another number of dimensions, or another type of numbers, than their collection."""

    code = "ecc.dimension"


class CollectionNotFound(EccError):
    """There is no collection of vectors with this name."""

    code = "ecc.collection_not_found"


class CollectionExists(EccError):
    """There is a collection of this name, and it was made with another spec."""

    code = "ecc.collection_exists"


class VectorsDamaged(JournalDamaged):
    """A file of the store of vectors is missing, altered, shortened or another's. Nothing was changed."""

    code = "ecc.vectors_damaged"


class BenchFailed(WeftError):
    """A measurement gave no figure: a worker of it ended early, or was not done in time."""

    code = "bench"


def _all_subclasses(base: type[WeftError]) -> dict[str, type[WeftError]]:
    found: dict[str, type[WeftError]] = {base.code: base}
    for child in base.__subclasses__():
        found.update(_all_subclasses(child))
    return found


_BY_CODE = _all_subclasses(WeftError)


def error_for_code(code: str, message: str) -> WeftError:
    """Rebuild an error that crossed a process boundary as ``(code, message)``.

    Args:
        code: the ``code`` of a class in this module; an unknown one gives a plain ``WeftError``.
        message: the text for a person.

    Returns:
        An instance of the matching class, not raised.
    """
    return _BY_CODE.get(code, WeftError)(message)

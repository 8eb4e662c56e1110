"""Requests to the service process and its replies; frames between kernel and service.

Here are the requests about the log, the gate and budgets; those about the rest are in files of their own, named
``…_protocol``.

Agents send requests through their own request ring and read replies from their own reply ring; the kernel uses the
control socket, so that it never waits. A request says what it wants, never who asks: the service knows that from the
ring or the socket.

A request is named by where it lay: an agent's by its position in the request ring, the kernel's by its serial number.
That name shifted left by 16 bits, plus the index within a batch, is the *producer position* of each event in the log. A
request that is read again after a crash of the service finds its events there and gets the answer it would have had.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from weftos import limits
from weftos.chain.folder.pages import RawRecord
from weftos.chain.statements.lineage import DerivationType
from weftos.governance.capability import AgentCapabilities
from weftos.governance.gate import Defer, Deny, Permit
from weftos.service.access_protocol import AccessRequest
from weftos.service.artifact_protocol import ArtifactRequest
from weftos.service.ecc_protocol import EccRequest, Found, Remembered
from weftos.service.governance_protocol import GovernanceRequest
from weftos.service.tree_protocol import TreeRequest

__all__ = [
    "NOTICE",
    "AddBridge",
    "Append",
    "AppendBatch",
    "Appended",
    "ArtifactFrame",
    "AttachClient",
    "Attest",
    "BudgetReserve",
    "BudgetSet",
    "BudgetSettle",
    "BudgetShow",
    "BudgetState",
    "BudgetStop",
    "BudgetTicket",
    "ChainHead",
    "ChainTail",
    "ClientReport",
    "Decided",
    "Derive",
    "DetachClient",
    "Done",
    "Event",
    "Failed",
    "FromService",
    "GateCheck",
    "Head",
    "KernelReply",
    "KernelRequest",
    "ListBridges",
    "MakeCheckpoint",
    "Noticed",
    "Ping",
    "Pong",
    "RawPage",
    "Redact",
    "Reply",
    "ReplyFrame",
    "Request",
    "Retain",
    "RotateKeys",
    "ServiceBootFailed",
    "ServiceFrame",
    "ServiceReady",
    "StopService",
    "Tail",
    "TailFrom",
]


class Event(msgspec.Struct, array_like=True, gc=False):
    """One event to append: kind, payload (a mapping), optional subject and sequence number of its cause."""

    kind: str
    payload: dict[str, Any]
    subject: str | None = None
    cause: int | None = None


class Append(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Append one event. ``durable`` asks for the answer after it is on disk, else after it is accepted.

    Under a ``key`` it is appended once in the life of the log, see ``keyed``.
    """

    kind: str
    payload: dict[str, Any]
    subject: str | None = None
    cause: int | None = None
    durable: bool = True
    key: str | None = None


class AppendBatch(msgspec.Struct, array_like=True, tag=2):
    """Append several events in order, all or none; one answer."""

    events: list[Event]
    durable: bool = True


class GateCheck(msgspec.Struct, array_like=True, tag=3):
    """Ask the gate. From an agent the subject is the agent; the kernel names the agent that it asks for.

    With a ``permit`` (a token) that was made for exactly this, what a person approved is permitted, once; an executor
    names the agent whose permit it is. ``intent`` says that the asker carries it out if it is permitted: that is a
    record then, whose number comes with the answer. ``executor`` says who else is to carry it out.
    """

    action: str
    context: dict[str, Any] = {}
    on_behalf: int | None = None
    permit: bytes = b""
    intent: bool = False
    executor: int | None = None


class ChainHead(msgspec.Struct, array_like=True, tag=4):
    """Ask for the state of the chain and the service."""


class ChainTail(msgspec.Struct, array_like=True, tag=5):
    """Ask for the newest ``count`` records, oldest first."""

    count: int = 20


class Ping(msgspec.Struct, array_like=True, tag=6):
    """Ask whether the service answers."""


class MakeCheckpoint(msgspec.Struct, array_like=True, tag=7):
    """Make a checkpoint of everything so far, now. Only the kernel may; likewise the next two."""


class RotateKeys(msgspec.Struct, array_like=True, tag=8):
    """Hand the log over to a new pair of keys."""


class Redact(msgspec.Struct, array_like=True, tag=9):
    """Take the payload of a record away for good. ``reason`` and ``by`` go on the log."""

    seq: int
    reason: str
    by: str


class Attest(msgspec.Struct, array_like=True, tag=11):
    """Sign what this instance holds: its log and its resource tree."""


class Derive(msgspec.Struct, array_like=True, tag=12):
    """Record from what a thing of the asker's own was made, and how. Fields as in ``lineage.Derivation``."""

    child: str
    child_hash: bytes
    parent: str | None = None
    parent_hash: bytes | None = None
    how: DerivationType = "user"
    mutations: int = 0
    description: str = ""


class AddBridge(msgspec.Struct, array_like=True, tag=13):
    """Note a head of a foreign log: its signed note, and the hashes that lead to it from the head before."""

    note: bytes
    proof: list[bytes] | None = None


class ListBridges(msgspec.Struct, array_like=True, tag=14):
    """Ask for the newest head of each foreign log."""


class TailFrom(msgspec.Struct, array_like=True, tag=15):
    """Ask for raw records from a number on, at most so many and so many bytes, and for the newest checkpoint.

    An answer may be smaller than a record. Then it has one record, whose salt and payload are cut; ``skip`` asks for
    what comes behind so many bytes of them.
    """

    seq: int
    max_records: int = limits.CHAIN_PAGE_RECORDS
    max_bytes: int = limits.CHAIN_PAGE_BYTES
    skip: int = 0


class Retain(msgspec.Struct, array_like=True, tag=40):
    """Archive or prune segments of the log, or ask how that goes; see ``retention``.

    ``action`` is ``archive``, ``prune`` or ``status``; ``rules`` are fields of the policy that differ from the
    configured ones.
    """

    action: str
    dry_run: bool = False
    rules: dict[str, Any] = {}


class BudgetReserve(msgspec.Struct, array_like=True, tag=60, gc=False):
    """Reserve what an act of the asker may use: amounts by dimension, the name of the act, a hash of its arguments."""

    amounts: dict[str, int]
    action: str = ""
    args_hash: bytes = b""


class BudgetSettle(msgspec.Struct, array_like=True, tag=61, gc=False):
    """End a reservation of the asker: what was used, by dimension; ``None`` is all that was reserved."""

    reservation: int
    used: dict[str, int] | None = None


class BudgetShow(msgspec.Struct, array_like=True, tag=62):
    """Ask what may still be used, and by whose rule. From an agent it is about the agent, whatever ``pid`` is."""

    pid: int = 0


class BudgetSet(msgspec.Struct, array_like=True, tag=63):
    """Give a budget to an agent (0: the kernel) and all below it. Only the kernel may.

    Of ``given`` a dimension that is missing stays as it was, and 0 takes its limit away.
    """

    pid: int
    given: dict[str, int]
    claims: bool | None
    loop_repeats: int | None
    loop_window_s: int | None
    by: str
    reason: str


class BudgetState(msgspec.Struct, array_like=True, tag=64):
    """Ask for all budgets, as of the newest record. Only the kernel may."""


Request: TypeAlias = (
    Append
    | AppendBatch
    | GateCheck
    | ChainHead
    | ChainTail
    | Ping
    | MakeCheckpoint
    | RotateKeys
    | Redact
    | Attest
    | Derive
    | AddBridge
    | ListBridges
    | TailFrom
    | Retain
    | BudgetReserve
    | BudgetSettle
    | BudgetShow
    | BudgetSet
    | BudgetState
    | AccessRequest
    | EccRequest
    | TreeRequest
    | GovernanceRequest
)


class Appended(msgspec.Struct, array_like=True, tag=1, gc=False):
    """The events are in: sequence number of the last one, its hash (32 bytes), and whether they are on disk.

    The events of a batch lie from ``first_seq`` to ``seq`` in their order. They lie without a gap, unless the service
    was killed in the middle of writing them; then the missing ones follow behind what came between.
    """

    seq: int
    hash: bytes
    durable: bool
    first_seq: int = 0


class Decided(msgspec.Struct, array_like=True, tag=2):
    """The gate's answer; with the number of the record of the intent, if there is one."""

    decision: Permit | Defer | Deny
    record: int | None = None


class Failed(msgspec.Struct, array_like=True, tag=3):
    """The request was not carried out: code of an error in ``weftos.errors`` and a text."""

    code: str
    message: str


class Head(msgspec.Struct, array_like=True, tag=4):
    """State of the chain and the service, as a mapping of plain values."""

    values: dict[str, Any]


class Tail(msgspec.Struct, array_like=True, tag=5):
    """Records of the chain, newest last, as mappings of plain values."""

    records: list[dict[str, Any]]


class Pong(msgspec.Struct, array_like=True, tag=6):
    """The service answers."""


class Done(msgspec.Struct, array_like=True, tag=7):
    """It is done; what came of it, as a mapping of plain values."""

    values: dict[str, Any]


class RawPage(msgspec.Struct, array_like=True, tag=8):
    """Raw records from ``seq`` on without a gap; none if the log ends before it.

    ``missing`` bytes of the last record did not fit; it is the only one then. ``note`` is the newest checkpoint.
    """

    seq: int
    records: list[RawRecord]
    missing: int = 0
    note: bytes = b""


class BudgetTicket(msgspec.Struct, array_like=True, tag=60, gc=False):
    """What was asked for is reserved; ``reservation`` names it, and is the number of its record."""

    reservation: int


class BudgetStop(msgspec.Struct, array_like=True, tag=61):
    """Nothing is reserved: which dimension is used up, by whose rule; see ``governance.budget.Stop``."""

    dimension: str
    rule_pid: int
    asked: int
    remaining: int
    given: int


class Noticed(msgspec.Struct, array_like=True, tag=9):
    """A request for approval was decided; ``AskApproval`` tells how."""

    request: int


Reply: TypeAlias = (
    Appended
    | Decided
    | Failed
    | Head
    | Tail
    | Pong
    | Done
    | RawPage
    | BudgetTicket
    | BudgetStop
    | Noticed
    | Found
    | Remembered
)


class ReplyFrame(msgspec.Struct, array_like=True, gc=False):
    """One reply on a reply ring: ``request`` is the position of the request in the request ring.

    ``NOTICE`` in its place says that nobody asked: a request for approval was decided, see ``Noticed``.
    """

    request: int
    reply: Reply


#: Stands in a reply frame where there was no request.
NOTICE = -1


# --- frames on the kernel-service socket ------------------------------------------------------------------------------


class AttachClient(msgspec.Struct, array_like=True, tag=1):
    """Kernel to service: an agent exists (or a new incarnation of it).

    Three descriptors ride along on its first attachment, in this order: request ring, reply ring, the agent's mailbox.
    ``slot`` is the request ring's ready byte in the *service's* mailbox, ``reply_slot`` the reply ring's in the
    *agent's*. ``bell`` is the name of the agent's doorbell. ``scope`` is where its keys belong, see ``keyed``;
    without it they belong to ``agent_id``. The kernel process itself is never attached.
    """

    pid: int
    agent_id: str
    incarnation: int
    capabilities: AgentCapabilities
    parent: int | None
    slot: int
    reply_slot: int
    ring_id: int
    bell: str
    scope: str = ""


class DetachClient(msgspec.Struct, array_like=True, tag=2):
    """Kernel to service: the agent ended for good; finish what lies in its request ring, then forget it."""

    pid: int


class KernelRequest(msgspec.Struct, array_like=True, tag=3):
    """Kernel to service: a request. ``serial`` counts the *new* requests of this boot and makes appends idempotent."""

    serial: int
    source: str
    request: Request


class ArtifactFrame(msgspec.Struct, array_like=True, tag=5):
    """Kernel to service: a request about artifacts, with its descriptor if it has one. Serials as for
    ``KernelRequest``.

    ``by`` says for whom it is: ``agent:PID``, as the kernel knows it from the socket, or ``operator``.
    """

    serial: int
    by: str
    request: ArtifactRequest


class StopService(msgspec.Struct, array_like=True, tag=4):
    """Kernel to service: finish, sync, sign the head, exit 0."""


class ServiceReady(msgspec.Struct, array_like=True, tag=1):
    """Service to kernel: the chain is open. ``values`` as in ``Head``."""

    values: dict[str, Any]


class ServiceBootFailed(msgspec.Struct, array_like=True, tag=2):
    """Service to kernel: the chain cannot be opened; the process ends after this frame."""

    code: str
    message: str


class KernelReply(msgspec.Struct, array_like=True, tag=3):
    """Service to kernel: answer to the request with that serial, and a descriptor if that was asked for."""

    serial: int
    reply: Reply


class ClientReport(msgspec.Struct, array_like=True, tag=4):
    """Service to kernel: something is wrong with an agent's ring (code and text).

    ``detached`` tells whether the service has given the ring up. If not, answers were dropped, because the agent does
    not read its reply ring; the requests themselves were carried out.
    """

    pid: int
    code: str
    message: str
    detached: bool = True


ServiceFrame: TypeAlias = AttachClient | DetachClient | KernelRequest | ArtifactFrame | StopService
FromService: TypeAlias = ServiceReady | ServiceBootFailed | KernelReply | ClientReport

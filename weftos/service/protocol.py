"""Requests to the service process and its replies; frames between kernel and service.

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

from weftos.governance.capability import AgentCapabilities
from weftos.governance.gate import Defer, Deny, Permit

__all__ = [
    "Append",
    "AppendBatch",
    "Appended",
    "AskTree",
    "AttachClient",
    "Attest",
    "ChainHead",
    "ChainTail",
    "ClientReport",
    "Decided",
    "DetachClient",
    "Done",
    "Event",
    "Failed",
    "FromService",
    "GateCheck",
    "Head",
    "KernelReply",
    "KernelRequest",
    "MakeCheckpoint",
    "Ping",
    "Pong",
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
]


class Event(msgspec.Struct, array_like=True, gc=False):
    """One event to append: kind, payload (a mapping), optional subject and sequence number of its cause."""

    kind: str
    payload: dict[str, Any]
    subject: str | None = None
    cause: int | None = None


class Append(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Append one event. ``durable`` asks for the answer after it is on disk, else after it is accepted."""

    kind: str
    payload: dict[str, Any]
    subject: str | None = None
    cause: int | None = None
    durable: bool = True


class AppendBatch(msgspec.Struct, array_like=True, tag=2):
    """Append several events in order, all or none; one answer."""

    events: list[Event]
    durable: bool = True


class GateCheck(msgspec.Struct, array_like=True, tag=3):
    """Ask the gate. From an agent the subject is the agent; the kernel names the agent that it asks for."""

    action: str
    context: dict[str, Any] = {}
    on_behalf: int | None = None


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


class AskTree(msgspec.Struct, array_like=True, tag=10):
    """Ask about the resource tree: a question of ``tree_desk.QUESTIONS``, a path, and what else it takes."""

    question: str
    path: str = "/"
    params: dict[str, Any] = {}


class Attest(msgspec.Struct, array_like=True, tag=11):
    """Sign what this instance holds: its log and its resource tree."""


class Retain(msgspec.Struct, array_like=True, tag=40):
    """Archive or prune segments of the log, or ask how that goes; see ``retention``.

    ``action`` is ``archive``, ``prune`` or ``status``; ``rules`` are fields of the policy that differ from the
    configured ones.
    """

    action: str
    dry_run: bool = False
    rules: dict[str, Any] = {}


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
    | AskTree
    | Attest
    | Retain
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
    """The gate's answer."""

    decision: Permit | Defer | Deny


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


Reply: TypeAlias = Appended | Decided | Failed | Head | Tail | Pong | Done


class ReplyFrame(msgspec.Struct, array_like=True, gc=False):
    """One reply on a reply ring: ``request`` is the position of the request in the request ring."""

    request: int
    reply: Reply


# --- frames on the kernel-service socket ------------------------------------------------------------------------------


class AttachClient(msgspec.Struct, array_like=True, tag=1):
    """Kernel to service: an agent exists (or a new incarnation of it).

    Three descriptors ride along on its first attachment, in this order: request ring, reply ring, the agent's mailbox.
    ``slot`` is the request ring's ready byte in the *service's* mailbox, ``reply_slot`` the reply ring's in the
    *agent's*. ``bell`` is the name of the agent's doorbell. The kernel process itself is never attached.
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


class DetachClient(msgspec.Struct, array_like=True, tag=2):
    """Kernel to service: the agent ended for good; finish what lies in its request ring, then forget it."""

    pid: int


class KernelRequest(msgspec.Struct, array_like=True, tag=3):
    """Kernel to service: a request. ``serial`` counts the *new* requests of this boot and makes appends idempotent."""

    serial: int
    source: str
    request: Request


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
    """Service to kernel: answer to the request with that serial."""

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


ServiceFrame: TypeAlias = AttachClient | DetachClient | KernelRequest | StopService
FromService: TypeAlias = ServiceReady | ServiceBootFailed | KernelReply | ClientReport

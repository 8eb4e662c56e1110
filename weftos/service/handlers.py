"""What the service does for each kind of request: one table, one small function per entry.

Why it is as it is: a request that is not in the table does not exist, whoever sends it. The functions write nothing
themselves; they hand events to the journal, and the loop releases their answers when the journal is on disk. What the
gate decides is written down before the answer goes out, so there is no permit that the log does not know.

Guaranteed: every function returns an answer. A decision that cannot be recorded is a denial. Not guaranteed: that an
answer returned here is sent as it is: if the write fails, the loop turns it into a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.artifacts.holding import REFERENCE
from weftos.errors import (
    AppendRefused,
    CapabilityDenied,
    DelegationError,
    ProtocolError,
    StorageFailed,
    WeftError,
)
from weftos.governance.gate import Deny, GateBackend, Permit, Subject
from weftos.service import protocol as p
from weftos.service import tree_protocol as tp
from weftos.service.artifact_desk import ArtifactDesk
from weftos.service.budget_calls import BUDGET_HANDLERS
from weftos.service.budget_desk import BudgetDesk
from weftos.service.clients import Caller, only_kernel
from weftos.service.cognition import Cognition
from weftos.service.credential_desk import ACCESS_HANDLERS
from weftos.service.ecc_desk import ECC_HANDLERS
from weftos.service.ecc_protocol import Remembered
from weftos.service.gate_desk import GATE_HANDLERS
from weftos.service.governance import Governance
from weftos.service.governance_desk import GOVERNANCE_HANDLERS
from weftos.service.journal import Journal
from weftos.service.log_desk import LOG_HANDLERS
from weftos.service.tree_changes import change_tree
from weftos.service.tree_desk import ask_as_agent, ask_tree, fitting
from weftos.tree.acl import EffectiveAcl

__all__ = ["HANDLERS", "Desk", "Handler", "answer", "refusal", "waits_for_disk", "without_storage"]

#: What agents may write besides their own ``app.`` kinds: their side of the audit of messages.
_AGENT_KINDS: Final = frozenset(("ipc.window", "ipc.topic_window", "ipc.heartbeat"))
AGENT_PREFIX: Final = "app."
#: Bytes of a tail answer around its records.
_FRAME_BYTES: Final = 64


class Desk:
    """What the functions work with.

    Args:
        journal: takes events.
        gate: decides.
        head: gives the state of chain and service.
        subject: gives what the kernel said about an agent.
        artifacts: knows which references hold.
        governance: knows what is in force, and who may do what once.
        cognition: keeps memory.
    """

    __slots__ = (
        "acl",
        "artifacts",
        "budgets",
        "cognition",
        "encoder",
        "gate",
        "governance",
        "head",
        "journal",
        "refused",
        "subject",
    )

    def __init__(
        self,
        journal: Journal,
        gate: GateBackend,
        head: Callable[[], dict[str, Any]],
        subject: Callable[[str], Subject | None],
        artifacts: ArtifactDesk,
        governance: Governance,
        cognition: Cognition,
    ) -> None:
        self.cognition = cognition
        self.journal = journal
        self.governance = governance
        self.gate = gate
        self.subject = subject
        self.acl = EffectiveAcl(journal.tree.tree)
        self.head = head
        self.artifacts = artifacts
        self.budgets = BudgetDesk(journal)
        self.encoder = msgspec.msgpack.Encoder()
        self.refused = 0


Handler = Callable[[Desk, Caller, int, Any], p.Reply]


def refusal(error: WeftError) -> p.Failed:
    """Return the answer that carries an error to the caller, who raises it again."""
    return p.Failed(error.code, str(error)[: limits.SERVICE_REFUSAL_CHARS])


def waits_for_disk(reply: p.Reply) -> bool:
    """Return whether an answer may be given only when what it says is on disk."""
    return (type(reply) is p.Appended and reply.durable) or type(reply) is Remembered


def without_storage(reply: p.Reply, failed: str | None, memory_failed: WeftError | None = None) -> p.Reply:
    """Return what is true of an answer after a write failed: nothing was appended, nothing recorded is permitted.

    Args:
        reply: as it was to be given.
        failed: why the log cannot be written, or ``None``.
        memory_failed: why memory cannot be written, or ``None``.
    """
    if memory_failed is not None and isinstance(reply, Remembered):
        return refusal(memory_failed)
    if failed is None:
        return reply
    if isinstance(reply, p.Appended | p.BudgetTicket):
        return p.Failed(StorageFailed.code, failed)
    if isinstance(reply, p.Decided) and isinstance(reply.decision, Permit) and reply.decision.reason != "kernel":
        return p.Decided(Deny(f"decisions cannot be recorded: {failed}"))
    return reply


def answer(desk: Desk, caller: Caller, position: int, request: Any) -> p.Reply:
    """Carry out one request.

    Args:
        desk: what to work with.
        caller: who asks.
        position: of the request in the caller's stream: ring position or serial number.
        request: a decoded struct.

    Returns:
        The answer; ``Failed`` for whatever could not be done.
    """
    handler = HANDLERS.get(type(request))
    if handler is None:
        return p.Failed(ProtocolError.code, f"there is no request {type(request).__name__}")
    try:
        return handler(desk, caller, position, request)
    except WeftError as error:
        desk.refused += 1
        return refusal(error)
    except RecursionError:
        desk.refused += 1
        return p.Failed(ProtocolError.code, "a value is nested too deeply")


def _refuse_kind(desk: Desk, caller: Caller, position: int, kind: str) -> AppendRefused:
    """Write down that an agent tried to pose as the kernel, and return the error to raise."""
    payload = {"action": "chain.append", "kind": kind[:100], "reason": "kinds outside app. belong to the kernel"}
    desk.journal.append(caller, position, "capability.deny", payload, subject=caller.source)
    return AppendRefused(f"agents append kinds that start with {AGENT_PREFIX}, not {kind[:100]!r}")


def _append(desk: Desk, caller: Caller, position: int, request: p.Append) -> p.Reply:
    kind = request.kind
    if not (caller.kernel or kind.startswith(AGENT_PREFIX) or kind in _AGENT_KINDS):
        raise _refuse_kind(desk, caller, position, kind)
    if REFERENCE in request.payload:
        desk.artifacts.check_payloads((request.payload,))
    journal, durable = desk.journal, request.durable
    if request.key is not None:
        seq, digest = journal.ledgers.append_once(caller, position, request.key, request)
        journal.sync_wanted |= durable
        return p.Appended(seq, digest, durable, seq)
    ack = journal.append(caller, position, kind, request.payload, request.subject, request.cause)
    if caller.kernel and kind.startswith("agent."):
        desk.budgets.life(kind, request.payload)
    if durable:
        journal.sync_wanted = True
    return p.Appended(ack.seq, ack.hash, durable, ack.seq)


def _append_batch(desk: Desk, caller: Caller, position: int, request: p.AppendBatch) -> p.Reply:
    events = request.events
    if not events or len(events) > limits.SERVICE_BATCH_EVENTS:
        raise AppendRefused(f"a batch holds 1 to {limits.SERVICE_BATCH_EVENTS} events, not {len(events)}")
    if not caller.kernel:
        for event in events:
            if not (event.kind.startswith(AGENT_PREFIX) or event.kind in _AGENT_KINDS):
                raise _refuse_kind(desk, caller, position, event.kind)
    desk.artifacts.check_payloads([event.payload for event in events])
    acks = desk.journal.append_batch(caller, position, events)
    if request.durable:
        desk.journal.sync_wanted = True
    return p.Appended(acks[-1].seq, acks[-1].hash, request.durable, acks[0].seq)


def _head(desk: Desk, _caller: Caller, _position: int, _request: p.ChainHead) -> p.Reply:
    return p.Head(desk.head())


def _tail(desk: Desk, caller: Caller, _position: int, request: p.ChainTail) -> p.Reply:
    room = caller.reply_bytes - _FRAME_BYTES
    records: list[dict[str, Any]] = []
    for record in reversed(desk.journal.tail(min(max(request.count, 0), limits.SERVICE_TAIL_RECORDS))):
        room -= len(desk.encoder.encode(record)) + 1
        if room < 0:
            break
        records.append(record)
    records.reverse()
    return p.Tail(records)


def _ping(_desk: Desk, _caller: Caller, _position: int, _request: p.Ping) -> p.Reply:
    return p.Pong()


def _make_checkpoint(desk: Desk, caller: Caller, _position: int, _request: p.MakeCheckpoint) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.checkpoint_now())


def _rotate_keys(desk: Desk, caller: Caller, _position: int, _request: p.RotateKeys) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.rotate_keys())


def _redact(desk: Desk, caller: Caller, _position: int, request: p.Redact) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.redact(request.seq, request.reason, request.by))


def _ask_tree(desk: Desk, caller: Caller, position: int, request: tp.AskTree) -> p.Reply:
    tree = desk.journal.tree.tree
    if caller.kernel:
        return p.Done(ask_tree(tree, request.question, request.path, request.params))
    subject = desk.subject(caller.agent_id)
    try:
        values = ask_as_agent(tree, desk.acl, subject.agent_id if subject is not None else "", request)
    except (CapabilityDenied, DelegationError) as error:
        payload = {"action": "resource.read", "pid": int(caller.agent_id), "reason": str(error)}
        desk.journal.append(caller, position, "capability.deny", payload, subject=caller.source)
        raise
    return p.Done(fitting(values, caller.reply_bytes - _FRAME_BYTES, desk.encoder))


def _change_tree(desk: Desk, caller: Caller, position: int, request: tp.ChangeTree) -> p.Reply:
    only_kernel(caller)
    return p.Done(change_tree(desk.journal, caller, position, request))


def _attest(desk: Desk, caller: Caller, _position: int, _request: p.Attest) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.attest())


def _retain(desk: Desk, caller: Caller, _position: int, request: p.Retain) -> p.Reply:
    only_kernel(caller)
    retention = desk.journal.retention
    if request.action == "status":
        return p.Done(retention.status())
    return p.Done(retention.request(request.action, request.rules, dry_run=request.dry_run))


#: Every request there is.
HANDLERS: Final[dict[type, Handler]] = {
    p.Append: _append,
    p.AppendBatch: _append_batch,
    p.ChainHead: _head,
    p.ChainTail: _tail,
    p.Ping: _ping,
    p.MakeCheckpoint: _make_checkpoint,
    p.RotateKeys: _rotate_keys,
    p.Redact: _redact,
    tp.AskTree: _ask_tree,
    p.Attest: _attest,
    p.Retain: _retain,
    tp.ChangeTree: _change_tree,
    **LOG_HANDLERS,
    **BUDGET_HANDLERS,
    **GATE_HANDLERS,
    **GOVERNANCE_HANDLERS,
    **ACCESS_HANDLERS,
    **ECC_HANDLERS,
}

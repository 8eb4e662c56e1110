"""What the kernel does with messages whose reader died: count who died on what, and move the poisoned and the orphaned
aside.
"""

from __future__ import annotations

import time

from weftos import limits
from weftos.errors import ProtocolError, RingCorrupted
from weftos.ids import message_id
from weftos.ipc.message import decode_message, handling_mark
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason
from weftos.kernel.state import LogLevel
from weftos.shm import ArrayRecord, Item, RingInspector

__all__ = ["bury_unread", "note_deaths"]

#: Bytes of a message kept in its letter.
_KEEP_BYTES = 64 * 1024


def note_deaths(core: Core, agent: Agent) -> None:
    """An incarnation died abnormally: find the message in its handler, count the death, and take the message out at the
    limit.
    """
    mark = agent.lines.handling
    if not mark:
        return
    for record in core.channels.incoming(agent.pid):
        with record.inspect() as inspector:
            if _died_on(core, agent, inspector, record.ring_id, record.src, mark):
                return
    inspector = RingInspector(agent.lines.to_agent)
    _died_on(core, agent, inspector, agent.lines.to_agent_id, 0, mark)


def _died_on(core: Core, agent: Agent, inspector: RingInspector, ring_id: int, sender: int, mark: int) -> bool:
    try:
        waiting = inspector.peek(1)
    except RingCorrupted as error:
        core.emit(LogLevel.ERROR, f"ring {ring_id} to agent {agent.pid} is broken: {error}")
        return False
    if not waiting or handling_mark(ring_id, waiting[0][0]) != mark:
        return False
    position, item = waiting[0]
    before = inspector.redelivery
    attempts = before.attempts + 1 if before is not None and before.position == position else 1
    if attempts < limits.MAX_DELIVERIES:
        inspector.set_redelivery(position, attempts)
        return True
    exit_record = agent.entry.last_exit
    why = f"its reader died {attempts} times while it handled it" + (
        f", last: {exit_record.message}" if exit_record else ""
    )
    inspector.discard_one()
    inspector.clear_redelivery()
    core.bury(_letter(ring_id, position, item, sender, agent.pid, DeadLetterReason.POISONED, why, attempts))
    core.emit(LogLevel.WARN, f"message {message_id(ring_id, position)} to agent {agent.pid} is a dead letter: {why}")
    return True


def bury_unread(
    core: Core, inspector: RingInspector, sender: int, target: int, reason: DeadLetterReason, detail: str
) -> int:
    """Move everything uncommitted in a ring to the dead letters; returns how many messages."""
    buried = 0
    try:
        while waiting := inspector.peek(1):
            position, item = waiting[0]
            core.bury(_letter(inspector.statistics().ring_id, position, item, sender, target, reason, detail, 0))
            inspector.discard_one()
            buried += 1
    except RingCorrupted as error:
        core.emit(LogLevel.ERROR, f"what was left in ring {inspector.statistics().ring_id} cannot be read: {error}")
    return buried


def _letter(
    ring_id: int,
    position: int,
    item: Item,
    sender: int,
    target: int,
    reason: DeadLetterReason,
    detail: str,
    deliveries: int,
) -> DeadLetter:
    data = item.meta if isinstance(item, ArrayRecord) else item if isinstance(item, bytes) else b""
    try:
        kind = "array" if isinstance(item, ArrayRecord) else decode_message(data).type
    except ProtocolError:
        kind = "unknown"
    return DeadLetter(
        message_id=message_id(ring_id, position),
        sender=sender,
        target=target,
        reason=reason,
        detail=detail,
        payload_type=kind,
        data=data[:_KEEP_BYTES],
        timestamp=time.time(),
        deliveries=deliveries,
    )

"""What the kernel does with messages whose reader died: count who died on what, and move the poisoned and the orphaned
aside.
"""

from __future__ import annotations

import logging
import time

from weftos import limits
from weftos.errors import ProtocolError, RingCorrupted
from weftos.ids import KERNEL_PID, message_id
from weftos.ipc.message import decode_message
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason
from weftos.kernel.state import LogLevel
from weftos.shm import ArrayRecord, Item, RingInspector

__all__ = ["bury_unread", "settle_dead_reader"]

log = logging.getLogger(__name__)

#: Bytes of a message kept in its letter.
_KEEP_BYTES = 64 * 1024


def settle_dead_reader(core: Core, agent: Agent) -> None:
    """An incarnation ended: commit what it had done, and count its death on the message it was handling.

    A message that killed its reader too often is taken out, so that the next incarnation does not meet it.
    """
    for record in core.channels.incoming(agent.pid):
        with record.inspect() as inspector:
            _settle(core, agent, inspector, record.src)
    _settle(core, agent, RingInspector(agent.lines.to_agent), KERNEL_PID)


def _settle(core: Core, agent: Agent, inspector: RingInspector, sender: int) -> None:
    ring_id = inspector.statistics().ring_id
    try:
        position = inspector.current
        if position is not None:
            inspector.commit_before(position)
            exit_record = agent.entry.last_exit
            if exit_record is not None and exit_record.abnormal:
                _died_on(core, agent, inspector, position, sender)
    except RingCorrupted as error:
        core.emit(log, LogLevel.ERROR, f"ring {ring_id} to agent {agent.pid} is broken: {error}")
    inspector.clear_current()
    inspector.retire_consumer()


def _died_on(core: Core, agent: Agent, inspector: RingInspector, position: int, sender: int) -> None:
    before = inspector.redelivery
    attempts = before.attempts + 1 if before is not None and before.position == position else 1
    if attempts < limits.MAX_DELIVERIES:
        inspector.set_redelivery(position, attempts)
        return
    taken = inspector.discard_one()
    inspector.clear_redelivery()
    if taken is None or taken[0] != position:
        raise RingCorrupted(f"message {position} is not where its reader said it was")
    exit_record = agent.entry.last_exit
    last = f", last: {exit_record.message}" if exit_record else ""
    why = f"its reader died {attempts} times while it handled it{last}"
    ring_id = inspector.statistics().ring_id
    core.bury(_letter(ring_id, position, taken[1], sender, agent.pid, DeadLetterReason.POISONED, why, attempts))
    core.emit(
        log, LogLevel.WARN, f"message {message_id(ring_id, position)} to agent {agent.pid} is a dead letter: {why}"
    )


def bury_unread(
    core: Core, inspector: RingInspector, sender: int, target: int, reason: DeadLetterReason, detail: str
) -> int:
    """Move everything uncommitted in a ring to the dead letters; returns how many messages.

    One event on the chain for all of a ring: an inbox may hold many thousands. The letters themselves are kept one by
    one, as far as the store reaches.
    """
    ring_id = inspector.statistics().ring_id
    first: DeadLetter | None = None
    last = count = 0
    try:
        for position, item in inspector.drain():
            count, last = count + 1, position
            if count > limits.DEAD_LETTERS_MAX:
                core.dead_letters.evicted += 1
                continue
            letter = _letter(ring_id, position, item, sender, target, reason, detail, 0)
            if first is None:
                first = letter
            else:
                core.dead_letters.add(letter)
    except RingCorrupted as error:
        core.emit(log, LogLevel.ERROR, f"what was left in ring {ring_id} cannot be read: {error}")
    if first is not None:
        core.bury(first, count=count, last_id=message_id(ring_id, last))
    return count


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

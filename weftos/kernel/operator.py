"""Messages from and to pid 0: what ``weaver agent send`` and ``ipc publish`` write, and what agents send to the kernel.

The kernel writes without waiting: a full ring is an error for the operator, never a pause for everybody. A reply finds
its request by agent and position, so concurrent requests never take each other's answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from weftos.errors import AgentExited, ProtocolError, RingCorrupted, WeftError, WeftTimeout, error_for_code
from weftos.ipc.message import Message, decode_message, encode_message
from weftos.ipc.payloads import Failure, KernelSignal, Signal, payload_type
from weftos.ipc.targets import Topic, target_to_wire
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason
from weftos.kernel.lines import KERNEL_SLOT
from weftos.kernel.state import LogLevel
from weftos.shm import ArrayRecord

__all__ = ["Operator"]

log = logging.getLogger(__name__)

#: Messages taken from one agent in a turn.
_TAKE = 64


class Operator:
    """The kernel as a sender and receiver of messages.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: dict[tuple[int, int], asyncio.Future[Any]] = {}

    # --- out ----------------------------------------------------------------------------------------------------------

    def post(self, agent: Agent, payload: Any, *, topic: str | None = None) -> int:
        """Write one message into an agent's ring and wake it; returns its position.

        Raises:
            RingFull: the agent has not read what is there.
            MessageTooLarge: larger than one record of that ring; large things go from agent to agent.
        """
        wire = target_to_wire(Topic(topic)) if topic is not None else None
        position = agent.lines.producer.put(encode_message(payload, 0, None, wire))
        agent.lines.ring(KERNEL_SLOT)
        return position

    async def ask(self, agent: Agent, payload: Any, timeout_s: float) -> Any:
        """Send and wait for the reply.

        Returns:
            The reply's payload.

        Raises:
            WeftTimeout: no reply in time (the message stays delivered).
            AgentExited: the agent ended for good before it replied.
            WeftError: the agent replied with a failure.
        """
        position = self.post(agent, payload)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[agent.pid, position] = future
        try:
            reply = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise WeftTimeout(
                f"agent {agent.pid} took the message but did not reply within {timeout_s:g} s"
                if agent.lines.producer.depth_bytes() == 0
                else f"agent {agent.pid} has not handled the message within {timeout_s:g} s; it stays in its inbox"
            ) from None
        finally:
            del self._waiting[agent.pid, position]
        if isinstance(reply, Failure):
            raise error_for_code(reply.code, reply.message)
        return reply

    def publish(self, topic: str, payload: Any) -> tuple[int, int]:
        """Send to all subscribers of a topic; returns how many there are and how many took it."""
        subscribers = self._core.topics.subscribers(topic)
        delivered = 0
        for pid in subscribers:
            agent = self._core.agents.get(pid)
            if agent is None:
                continue
            try:
                self.post(agent, payload, topic=topic)
                delivered += 1
            except WeftError as error:
                self._bury_unsent(pid, payload, str(error))
        return len(subscribers), delivered

    def _bury_unsent(self, pid: int, payload: Any, detail: str) -> None:
        self._core.bury(
            DeadLetter(
                message_id="",
                sender=0,
                target=pid,
                reason=DeadLetterReason.INBOX_FULL,
                detail=detail,
                payload_type=payload_type(payload),
                data=encode_message(payload)[:4096],
                timestamp=time.time(),
            )
        )

    # --- in -----------------------------------------------------------------------------------------------------------

    def kicked(self, agent: Agent) -> None:
        """An agent says that its ring to the kernel holds something."""
        consumer = agent.lines.consumer
        try:
            items = consumer.take(_TAKE)
        except RingCorrupted as error:
            self._core.emit(log, LogLevel.ERROR, f"agent {agent.pid} broke its ring to the kernel: {error}")
            agent.broken_rings += 1
            return
        for position, item in items:
            try:
                self._received(agent, self._decode(item), position)
            except ProtocolError as error:
                self._core.emit(log, LogLevel.WARN, f"agent {agent.pid} sent the kernel a bad message: {error}")
        consumer.commit()
        if len(items) == _TAKE:
            asyncio.get_running_loop().call_soon(self.kicked, agent)

    @staticmethod
    def _decode(item: Any) -> Message:
        if isinstance(item, bytes):
            return decode_message(item)
        if isinstance(item, ArrayRecord):
            return decode_message(item.meta, item.array)
        raise ProtocolError("a block of records is no message")

    def _received(self, agent: Agent, message: Message, position: int) -> None:
        if message.correlation:
            future = self._waiting.get((agent.pid, message.correlation - 1))
            if future is not None and not future.done():
                future.set_result(message.payload)
            return
        answer = self._answer(message.payload)
        try:
            wire = encode_message(answer, position + 1, message.trace_id)
            agent.lines.producer.put(wire)
            agent.lines.ring(KERNEL_SLOT)
        except WeftError as error:
            self._core.emit(log, LogLevel.WARN, f"the kernel's answer to agent {agent.pid} was not sent: {error}")

    def _answer(self, payload: Any) -> Any:
        if isinstance(payload, Signal) and payload.signal is KernelSignal.PING:
            return Signal(KernelSignal.PONG)
        command = payload.get("cmd") if isinstance(payload, dict) else payload
        if command == "ping":
            uptime = time.monotonic() - self._core.started_monotonic
            return {"status": "ok", "pid": 0, "uptime_ms": int(uptime * 1000)}
        return Failure("ipc.protocol", f"the kernel understands 'ping', not {str(command)[:60]!r}")

    def gone(self, agent: Agent) -> None:
        """An agent ended for good: whoever waits for its reply is told."""
        for (pid, _position), future in self._waiting.items():
            if pid == agent.pid and not future.done():
                exit_record = agent.entry.last_exit
                why = exit_record.message if exit_record else "it ended"
                future.set_exception(AgentExited(f"agent {pid} ended before it replied: {why}"))

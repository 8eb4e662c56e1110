"""Parameters and results of the methods about topics, messages of the operator, and dead letters."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

from weftos.rpc.agent_types import AgentPid

__all__ = [
    "DeadLetterInfo",
    "PublishParams",
    "PublishResult",
    "SubscribeParams",
    "SubscribeResult",
    "TopicInfo",
]

#: Exact name of a topic.
TopicName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


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

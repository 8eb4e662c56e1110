"""Events of messages between agents: channels, topics, audit windows, dead letters."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from weftos.events.event import Bytes32, Event, Natural, Pid


class Grant(Event, frozen=True, kw_only=True):
    """A channel between two agents was granted."""

    kind: ClassVar[str] = "ipc.grant"
    ring: Natural
    sender: Pid = msgspec.field(name="from")
    receiver: Pid = msgspec.field(name="to")
    direct: bool
    broadcast: bool
    topics: list[str]
    capacity_bytes: Natural


class Revoke(Event, frozen=True, kw_only=True):
    """A channel was closed by the kernel."""

    kind: ClassVar[str] = "ipc.revoke"
    ring: Natural
    sender: Pid = msgspec.field(name="from")
    receiver: Pid = msgspec.field(name="to")
    reason: str


class Denied(Event, frozen=True, kw_only=True):
    """A channel or a topic was refused."""

    kind: ClassVar[str] = "ipc.deny"
    pid: Pid
    action: str
    context: dict[str, Any]
    reason: str


class _Window(Event, frozen=True, kw_only=True):
    """What one end of a stream commits to; see docs/formats/windows.md."""

    side: Literal["producer", "consumer"]
    incarnation: Natural
    window: Natural
    prev: Bytes32
    first: Natural
    last: Natural
    count: Natural
    bytes: Natural
    lost: list[list[Any]]
    lost_count: Natural
    complete: bool
    final: bool
    opened_ns: Natural
    closed_ns: Natural
    root: Bytes32 | None = None
    leaves: Natural | None = None


class Window(_Window, frozen=True, kw_only=True):
    """One end of a ring commits to the messages that passed."""

    kind: ClassVar[str] = "ipc.window"
    ring: Natural
    producer: Pid
    consumer: Pid
    start: Natural = msgspec.field(name="from")
    end: Natural = msgspec.field(name="to")
    digest: Bytes32
    resumed: bool


class TopicWindow(_Window, frozen=True, kw_only=True):
    """One end of a topic commits to the messages that passed."""

    kind: ClassVar[str] = "ipc.topic_window"
    topic: str
    publisher: Pid
    late: Natural


class Heartbeat(Event, frozen=True, kw_only=True):
    """Streams of an agent on which nothing passed."""

    kind: ClassVar[str] = "ipc.heartbeat"
    heartbeat: bool
    count: Natural
    incarnation: Natural
    rings: list[list[Any]]
    topics: list[list[Any]]


class DeadLetter(Event, frozen=True, kw_only=True):
    """A message nobody will handle was put aside."""

    kind: ClassVar[str] = "ipc.dead_letter"
    message_id: str
    sender: Pid = msgspec.field(name="from")
    target: Pid
    reason: str
    detail: str
    payload_type: str
    deliveries: Natural
    count: Natural
    last_message_id: str = ""


class _Subscription(Event, frozen=True, kw_only=True):
    """Who and what."""

    pid: Pid
    topic: str


class Subscribe(_Subscription, frozen=True, kw_only=True):
    """An agent subscribed to a topic."""

    kind: ClassVar[str] = "ipc.subscribe"
    by: str = ""


class Publish(_Subscription, frozen=True, kw_only=True):
    """An agent was allowed to publish to a topic."""

    kind: ClassVar[str] = "ipc.publish"


class Unpublish(_Subscription, frozen=True, kw_only=True):
    """An agent may not publish to a topic any more."""

    kind: ClassVar[str] = "ipc.unpublish"


class Unsubscribe(_Subscription, frozen=True, kw_only=True):
    """An agent left a topic."""

    kind: ClassVar[str] = "ipc.unsubscribe"

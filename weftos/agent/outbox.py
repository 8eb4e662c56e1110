"""The sending half of an agent: channels on first contact, sending with patience, topics and broadcast.

A channel is a ring to one process. It is opened by the kernel, grows when a message asks for it, and is closed by the
kernel. What waits for room waits in slices, and serves the control socket in between, so that neither a revocation nor
a Shutdown waits for a slow reader.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.outgoing import Outgoing
from weftos.agent.rights import LocalRights
from weftos.agent.streams import Streams
from weftos.agent.topic_streams import TopicEnd
from weftos.errors import ChannelClosed, ProtocolError, RemoteUnavailable, RingFull, WeftError, WeftTimeout
from weftos.ids import KERNEL_PID
from weftos.ipc.frames import FrameChannel, close_all
from weftos.ipc.message import Message, encode_batch, encode_message, encode_message_for
from weftos.ipc.payloads import payload_type
from weftos.ipc.targets import (
    Broadcast,
    Kernel,
    Process,
    RemoteNode,
    Service,
    ServiceMethod,
    Target,
    Topic,
    target_to_wire,
)
from weftos.shm import Doorbell

__all__ = ["Engine", "Outbox"]

#: A blocking wait is cut into slices of this many seconds, so that control frames are served in between.
_SLICE_S: Final = 0.25
#: Room for the description of an array in its record.
_ARRAY_HEADER_BYTES: Final = 1024


class Engine(Protocol):
    """What the outbox needs of the agent's engine."""

    pid: int
    stopping: bool
    bell: Doorbell
    control: FrameChannel[f.ToAgent]
    rights: LocalRights

    def request(self, body: f.AgentRequestBody) -> tuple[f.Answer, list[int]]:
        """Ask the kernel and wait for its answer."""
        ...

    def dispatch(self) -> None:
        """Serve what is there."""
        ...

    def serve_control(self) -> None:
        """Take every frame that lies on the control socket."""
        ...


class Outbox:
    """All outgoing channels of one agent.

    Args:
        engine: asks the kernel, and keeps the agent responsive while something waits.
        streams: numbers what is published to topics; told of each channel before it is closed.
    """

    def __init__(self, engine: Engine, streams: Streams) -> None:
        self._engine = engine
        self._streams = streams
        self.outgoing: dict[int, Outgoing] = {}
        #: Channels on which direct messages are granted; a ring in ``outgoing`` may be there for a topic alone.
        self.direct: dict[int, Outgoing] = {}
        self.topics: dict[str, set[int]] = {}
        self._service_pids: dict[str, int] = {}

    def attach_kernel(self, channel: Outgoing) -> None:
        """The ring to the kernel is there from the start."""
        self.direct[KERNEL_PID] = self.outgoing[KERNEL_PID] = channel

    def revoke(self, ring_id: int) -> int | None:
        """The kernel closed a ring; returns the pid at its other end, if this was the ring to it."""
        for channel in self.outgoing.values():
            if channel.ring_id == ring_id:
                del self.outgoing[channel.pid]
                self.direct.pop(channel.pid, None)
                for members in self.topics.values():
                    members.discard(channel.pid)
                self._close(channel)
                return channel.pid
        return None

    def member(self, topic: str, pid: int, *, on: bool) -> None:
        """A subscriber of a topic that this agent publishes to joined or left."""
        if not pid and not on:
            # The kernel forgot that we publish there, so we have to ask again.
            self.topics.pop(topic, None)
            return
        members = self.topics.get(topic)
        if members is not None:
            (members.add if on else members.discard)(pid)

    def _close(self, channel: Outgoing) -> None:
        self._streams.collect((channel.ring_id, "producer", channel.pid, channel.producer), final=True)
        channel.close()

    # --- messages out -------------------------------------------------------------------------------------------------

    def send(
        self,
        target: Target,
        payload: Any,
        timeout_s: float,
        *,
        correlation: int = 0,
        trace_id: str | None = None,
    ) -> tuple[int, int]:
        """Send to one process; returns its pid and the message's position in the ring to it.

        Raises:
            RingFull: no room before the deadline; nothing was sent.
            CapabilityDenied, ProcessNotFound, ChannelClosed, …: as the kernel answered the request for a channel.
        """
        channel = self.channel_to(target, payload)
        wire = target_to_wire(target)
        if type(payload) is np.ndarray:
            meta = encode_message_for(payload, correlation, trace_id, wire)
            size = payload.nbytes + len(meta) + _ARRAY_HEADER_BYTES
            channel = self.roomy(channel, size)
            put: Callable[[float], int] = partial(channel.producer.put_array, payload, meta)
            return channel.pid, self._put(channel, put, timeout_s, size)
        data = encode_message(payload, correlation, trace_id, wire)
        channel = self.roomy(channel, len(data))
        return channel.pid, self._put(channel, partial(channel.put, data), timeout_s, len(data))

    def roomy(self, channel: Outgoing, size: int) -> Outgoing:
        """Return a channel that suits messages of ``size`` bytes: this one, or its larger replacement.

        Only what no ring's record holds travels in fragments; that takes a rendezvous with the reader, so two agents
        that send each other such messages at the same time wait for each other until their deadlines.
        """
        if size <= channel.easy_payload or channel.pid == KERNEL_PID or size > limits.MAX_RING_BYTES // 2 - 64:
            return channel
        answer, fds = self._engine.request(f.GrowChannel(channel.pid, size))
        if answer.grant is None:
            return channel
        return self.add_channel(answer.grant, fds)

    def send_many(self, pid: int, payloads: Sequence[Any], timeout_s: float) -> int:
        """Send plain payloads to one process in as few units as fit; returns how many found room in time."""
        channel = self.channel_to(Process(pid) if pid else Kernel(), None)
        deadline = time.monotonic() + timeout_s
        sent = 0
        queue = deque([payloads])
        while queue:
            part = queue.popleft()
            data = encode_batch(part)
            if len(data) > channel.max_payload and len(part) > 1:
                half = len(part) // 2
                queue.extendleft((part[half:], part[:half]))
                continue
            channel = self.roomy(channel, len(data))
            try:
                self._put(channel, partial(channel.put, data), max(deadline - time.monotonic(), 0.0), len(data))
            except RingFull:
                if not sent:
                    raise
                return sent
            sent += len(part)
        return sent

    def _put(self, channel: Outgoing, put: Callable[[float], int], timeout_s: float, size: int) -> int:
        if size > channel.max_payload:
            # Fragments need the whole patience at once: a rendezvous that was given up cannot be taken up again.
            return put(timeout_s)
        try:
            return put(0.0)
        except RingFull:
            if timeout_s <= 0:
                raise
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            try:
                return put(min(max(left, 0.0), _SLICE_S))
            except RingFull:
                if left <= 0:
                    raise
            self._engine.dispatch()
            if self._engine.stopping:
                raise ChannelClosed(f"agent {self._engine.pid} is stopping; the message to {channel.pid} was not sent")
            if self.outgoing.get(channel.pid) is not channel:
                raise ChannelClosed(f"the channel to agent {channel.pid} was closed while the message waited for room")

    def channel_to(self, target: Target, payload: Any) -> Outgoing:
        """Return the ring to a process or service, opening it on first contact.

        Raises:
            RemoteUnavailable: the target is on another node.
            ProtocolError: the target is no single process.
            WeftError: what the kernel answered.
        """
        match target:
            case Process(pid) if pid in self.direct:
                return self.direct[pid]
            case Kernel():
                return self.outgoing[0]
            case Process() | Service() | ServiceMethod():
                body = self.missing_channel(target, payload)
                if body is not None:
                    return self.take_channel(body, *self._engine.request(body))
                assert isinstance(target, Service | ServiceMethod)
                name = target.name if isinstance(target, Service) else target.service
                return self.outgoing[self._service_pids[name]]
            case RemoteNode(node, _):
                raise RemoteUnavailable(f"node {node!r} cannot be reached: this kernel has no mesh")
            case _:
                raise ProtocolError(f"{target} is no single process: use publish or broadcast")

    def missing_channel(self, target: Target, payload: Any) -> f.OpenChannel | None:
        """The request that opens the channel to a target, or ``None`` when it is open."""
        match target:
            case Process(pid) if pid not in self.direct:
                return f.OpenChannel(pid=pid, size=_size_of(payload))
            case Service(name) | ServiceMethod(name, _) if self._service_pids.get(name) not in self.direct:
                return f.OpenChannel(service=name, size=_size_of(payload))
            case _:
                return None

    def take_channel(self, body: f.OpenChannel, answer: f.Answer, fds: list[int]) -> Outgoing:
        """Use the kernel's answer to ``OpenChannel``."""
        pid = int(answer.values["pid"])
        if body.service is not None:
            self._service_pids[body.service] = pid
        if answer.grant is not None:
            self.add_channel(answer.grant, fds)
        channel = self.direct[pid] = self.outgoing[pid]
        return channel

    def add_channel(self, grant: f.ChannelGrant, fds: list[int]) -> Outgoing:
        """Take an outgoing ring from the kernel."""
        if len(fds) != 2:
            close_all(fds)
            raise ProtocolError(f"a channel comes with 2 descriptors, not {len(fds)}")
        old = self.outgoing.pop(grant.pid, None)
        if old is not None:
            self._close(old)
        streams = self._streams
        channel = Outgoing(
            grant,
            fds[0],
            fds[1],
            self._engine.bell,
            audit=streams.audit,
            leaves=streams.leaves(grant.ring_id, "producer"),
            on_window=streams.nudged,
        )
        self.outgoing[grant.pid] = channel
        if grant.pid in self.direct:
            # A larger ring in place of the old one.
            self.direct[grant.pid] = channel
        return channel

    def reply(self, message: Message, payload: Any, timeout_s: float) -> None:
        """Answer a message; its sender's ``call`` gets exactly this reply."""
        sender = message.sender
        self.send(
            Process(sender) if sender else Kernel(),
            payload,
            timeout_s,
            correlation=message.position + 1,
            trace_id=message.trace_id,
        )

    # --- topics -------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: Any, timeout_s: float) -> int:
        """Send to every subscriber of a topic; returns how many took it. A full subscriber is skipped and
        dead-lettered.
        """
        wire = target_to_wire(Topic(topic))
        # A topic stays open, so a right to it that was taken since would not show.
        self._engine.rights.require("ipc.publish", topic)
        if topic not in self.topics:
            self.topics[topic] = set()
            try:
                answer, fds = self._engine.request(f.OpenTopic(topic))
            except WeftError:
                del self.topics[topic]
                raise
            close_all(fds)
            self.topics[topic].update(answer.values.get("members", ()))
        else:
            self._engine.serve_control()
        return self._fan_out(sorted(self.topics[topic]), payload, wire, timeout_s, self._streams.publication(topic))

    def broadcast(self, payload: Any, timeout_s: float) -> int:
        """Send to every live agent; returns how many took it."""
        answer, fds = self._engine.request(f.BroadcastPeers())
        close_all(fds)
        return self._fan_out(answer.values.get("members", []), payload, target_to_wire(Broadcast()), timeout_s)

    def _fan_out(
        self, pids: Sequence[int], payload: Any, wire: str | None, timeout_s: float, stream: TopicEnd | None = None
    ) -> int:
        is_array = type(payload) is np.ndarray
        number = stream.next if stream is not None else 0
        encode = encode_message_for if is_array else encode_message
        data = encode(payload, 0, None, wire, number)
        if stream is None:
            return self._deliver(pids, payload, data, wire, timeout_s, None)
        try:
            return self._deliver(pids, payload, data, wire, timeout_s, stream)
        finally:
            # Whoever took it, and whatever went wrong: the number is used.
            size = len(data) + (payload.nbytes if is_array else 0)
            leaf = b"" if stream.leaves is None else data + payload.tobytes() if is_array else data
            stream.note(number, size, 0, leaf)

    def _deliver(
        self,
        pids: Sequence[int],
        payload: Any,
        data: bytes,
        wire: str | None,
        timeout_s: float,
        stream: TopicEnd | None,
    ) -> int:
        is_array = type(payload) is np.ndarray
        size = len(data) + (payload.nbytes + _ARRAY_HEADER_BYTES if is_array else 0)
        delivered = 0
        for pid in pids:
            channel = self.outgoing.get(pid)
            if channel is None:
                continue
            try:
                channel = self.roomy(channel, size)
                if is_array:
                    channel.producer.put_array(payload, data, timeout_s)
                else:
                    channel.put(data, timeout_s)
                delivered += 1
            except (RingFull, ChannelClosed, WeftTimeout) as error:
                report = f.DeadLetterReport(pid, error.code, payload_type(payload), wire or "")
                self._engine.control.send_wait(report)
                if stream is not None:
                    stream.lose((stream.next, error.code, pid))
        return delivered


def _size_of(payload: Any) -> int:
    if isinstance(payload, np.ndarray):
        return int(payload.nbytes) + 4096
    return len(payload) + 64 if isinstance(payload, bytes | str) else 256

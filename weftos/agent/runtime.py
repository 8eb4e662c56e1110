"""The engine inside an agent process: it owns the mailbox, turns bytes into messages, keeps calls and replies together.

::

    kernel ══control socket══▶ ┌──────────┐ ──▶ Outgoing rings ──▶ other agents
    other agents ══rings═════▶ │ runtime  │ ──▶ request ring ────▶ service
    service ══reply ring═════▶ └──────────┘
                                  ▲   context (what the program sees) calls in; nothing here calls the program

One thread. Everything that waits, waits in ``pump``: it sleeps on the mailbox and then serves, in this order, the
control socket, the
replies of the service, and the incoming rings, so that a flood of messages never keeps a Shutdown from being seen.
"""

from __future__ import annotations

import faulthandler
import itertools
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.inbox import Inbox
from weftos.agent.outgoing import Outgoing
from weftos.errors import (
    ChannelClosed,
    ProtocolError,
    RemoteUnavailable,
    RingFull,
    WeftError,
    WeftTimeout,
    error_for_code,
)
from weftos.ids import KERNEL_PID
from weftos.ipc.frames import FrameChannel, close_all
from weftos.ipc.message import Message, MessageBatch, Source, encode_batch, encode_message, encode_message_for
from weftos.ipc.payloads import Failure, KernelSignal, PayloadTag, Signal, payload_type
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
from weftos.service.client import ServiceClient
from weftos.service.protocol import AppendBatch, Event
from weftos.shm import Doorbell, Mailbox, MailboxPeer, RingConsumer, RingProducer, Segment, Window

__all__ = ["AgentBoot", "AgentRuntime", "PendingCall", "checked_answer"]

#: A blocking wait is cut into slices of this many seconds, so that control frames are served in between.
_SLICE_S: Final = 0.25


@dataclass(slots=True, kw_only=True)
class AgentBoot:
    """What the kernel leaves for the child at fork: identity and descriptors."""

    pid: int
    incarnation: int
    spec: f.SpawnSpec
    control: socket.socket
    mailbox_fd: int
    bell_name: str
    to_agent_fd: int
    from_agent_fd: int
    to_agent_ring: int
    from_agent_ring: int
    kernel_slot: int
    request_fd: int
    reply_fd: int
    service_slot: int
    service_mailbox_fd: int
    service_bell: str
    service_request_slot: int
    audit: bool = True
    work_dir: str | None = None


@dataclass(slots=True)
class PendingCall:
    """A call whose reply has not come."""

    pid: int
    position: int
    reply: Message | None = None
    error: WeftError | None = None


class AgentRuntime:
    """The engine. Programs do not use it directly; see ``weftos.agent.context``.

    Args:
        boot: descriptors and identity from the kernel.
    """

    def __init__(self, boot: AgentBoot) -> None:
        self.boot = boot
        self.pid = boot.pid
        self.control: FrameChannel[f.ToAgent] = FrameChannel(boot.control, f.ToAgent)
        self.bell = Doorbell.open(boot.bell_name)
        self.mailbox = Mailbox(Segment.attach(boot.mailbox_fd, keep_fd=False), self.bell)
        self.inbox = Inbox(boot.pid, self._report_ring, audit=boot.audit)
        self.outgoing: dict[int, Outgoing] = {}
        self.topics: dict[str, set[int]] = {}
        self._service_pids: dict[str, int] = {}
        #: Channels on which direct messages are granted; a ring in ``outgoing`` may be there for a topic alone.
        self.direct: dict[int, Outgoing] = {}
        self.stopping = False
        self._serial = itertools.count(1)
        self._answers: dict[int, tuple[f.Answer, list[int]] | None] = {}
        self._calls: dict[tuple[int, int], PendingCall] = {}
        self._abandoned: dict[tuple[int, int], None] = {}
        self._windows: list[dict[str, Any]] = []
        self._windows_sent = time.monotonic()
        self.late_replies = 0
        self._control_looked = 0.0
        self._kernel_source = Source(0, 0, boot.pid)
        self._attach_kernel()
        self.service = self._attach_service()

    def _attach_kernel(self) -> None:
        boot = self.boot
        offer = f.Offer(boot.kernel_slot, boot.to_agent_ring, 0, 0, "", direct=True, broadcast=True, topics=[])
        self.inbox.offer(offer, boot.to_agent_fd)
        grant = f.ChannelGrant(0, boot.from_agent_ring, 0, "")
        self.direct[0] = self.outgoing[0] = Outgoing(
            grant, boot.from_agent_fd, None, self.bell, audit=False, kick=self._kick
        )

    def _attach_service(self) -> ServiceClient:
        boot = self.boot
        self._service_mailbox = Segment.attach(boot.service_mailbox_fd, keep_fd=False)
        self._service_bell = Doorbell.open(boot.service_bell)
        wake = MailboxPeer(self._service_mailbox, self._service_bell).notifier(boot.service_request_slot)
        producer = RingProducer(Segment.attach(boot.request_fd, keep_fd=False), wake=wake, space=self.bell)
        consumer = RingConsumer(Segment.attach(boot.reply_fd, keep_fd=False))
        return ServiceClient(producer, consumer, self.pump)

    def _kick(self) -> None:
        # A full socket holds a kick already, or other frames that make the kernel look.
        self.control.send(f.Kick())

    # --- waiting ------------------------------------------------------------------------------------------------------

    def pump(self, timeout_s: float) -> bool:
        """Wait until something may have arrived, at most ``timeout_s`` seconds, and serve it.

        Returns:
            Whether anything was there. Messages are then to be had from the inbox.
        """
        if not self.mailbox.wait(timeout_s, self.has_work):
            return False
        self.dispatch()
        return True

    def dispatch(self) -> None:
        """Serve what is marked ready, without waiting."""
        self.serve_control()
        served_control = True
        while (slot := self.mailbox.next_ready()) is not None:
            if slot == _CONTROL_SLOT:
                self.serve_control()
            elif slot == self.boot.service_slot:
                self.service.on_ready()
            elif not self.inbox.mark(slot) and served_control:
                # The ring's offer is on the control socket: the kernel sends it before it tells the sender.
                self.serve_control()
                self.inbox.mark(slot)
        self.service.on_ready()

    def has_work(self) -> bool:
        """Look at the rings themselves and, now and then, at the control socket: ready bytes are only hints."""
        if self.stopping or self.inbox.has_work() or self.service.has_reply():
            return True
        now = time.monotonic()
        if now - self._control_looked < limits.WAIT_SLICE_S:
            return False
        self._control_looked = now
        return bool(_readable(self.control.fileno()))

    # --- messages in --------------------------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Message | None:
        """Commit the message handed out before, and return the next one.

        Returns:
            ``None`` at the deadline, or when the agent is to stop.
        """
        message = self.inbox.next()
        if message is not None and not message.correlation and not self.stopping:
            return message
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping:
            if message is not None and not (message.correlation and self._is_late(message)):
                return message
            if message is None:
                self.send_windows()
                left = _LONGEST_S if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return None
                self.pump(left)
            message = self.inbox.next()
        if message is None:
            self.inbox.settle()
        return None

    def finish_current(self) -> None:
        """Commit the message that was handed out last: its handler returned."""
        self.inbox.settle()

    def _is_late(self, message: Message) -> bool:
        key = (message.sender, message.correlation - 1)
        if key in self._abandoned:
            del self._abandoned[key]
            self.late_replies += 1
            return True
        return False

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
        """Return a channel whose records hold ``size`` bytes: this one, or its larger replacement.

        Only what no ring's record holds travels in fragments; that takes a rendezvous with the reader, so two agents that send each
        other such messages at the same time wait for each other until their deadlines.
        """
        if size <= channel.max_payload or channel.pid == KERNEL_PID or size > limits.MAX_RING_BYTES // 2 - 64:
            return channel
        answer, fds = self.request(f.GrowChannel(channel.pid, size))
        if answer.grant is None:
            return channel
        return self.add_channel(answer.grant, fds)

    def send_many(self, pid: int, payloads: Sequence[Any], timeout_s: float) -> int:
        """Send plain payloads to one process in as few units as fit; returns how many found room before the deadline."""
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

    def receive_many(self, timeout: float | None = None) -> MessageBatch | None:
        """As ``receive``, but what was sent as a batch comes as one. Replies to calls given up come as well."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping:
            batch = self.inbox.next_many()
            if batch is not None:
                return batch
            self.send_windows()
            left = _LONGEST_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            self.pump(left)
        self.inbox.settle()
        return None

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
            self.dispatch()
            if self.stopping:
                raise ChannelClosed(f"agent {self.pid} is stopping; the message to {channel.pid} was not sent")
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
                    return self.take_channel(body, *self.request(body))
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
            self._close_outgoing(old)
        channel = Outgoing(grant, fds[0], fds[1], self.bell, audit=self.boot.audit)
        self.outgoing[grant.pid] = channel
        if grant.pid in self.direct:
            # A larger ring in place of the old one.
            self.direct[grant.pid] = channel
        return channel

    # --- calls --------------------------------------------------------------------------------------------------------

    def call(self, target: Target, payload: Any, timeout_s: float) -> Message:
        """Send and wait for the reply to this very message. Other messages wait in the queue meanwhile.

        Raises:
            WeftTimeout: no reply in time; a late one is dropped and counted.
            ChannelClosed: the other end was closed while we waited, or this agent is to stop.
            WeftError: what the other end's handler raised, rebuilt.
        """
        deadline = time.monotonic() + timeout_s
        call = self.begin_call(*self.send(target, payload, timeout_s))
        try:
            while (reply := self.call_result(call)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.abandon(call)
                    raise WeftTimeout(f"agent {call.pid} did not reply within {timeout_s:g} s")
                self.pump(min(left, _LONGEST_S))
        finally:
            self.end_call(call)
        return reply

    def begin_call(self, pid: int, position: int) -> PendingCall:
        """Expect a reply to the message that went to ``pid`` at ``position``."""
        call = self._calls[pid, position] = PendingCall(pid, position)
        return call

    def call_result(self, call: PendingCall) -> Message | None:
        """Look for the reply; ``None`` while there is none. Raises as ``call`` does."""
        self.inbox.pick(self._match)
        if call.reply is not None:
            payload = call.reply.payload
            if type(payload) is Failure:
                raise error_for_code(payload.code, payload.message)
            return call.reply
        if call.error is not None:
            raise call.error
        if self.stopping:
            raise ChannelClosed(f"agent {self.pid} is stopping; the call to {call.pid} was given up")
        return None

    def end_call(self, call: PendingCall) -> None:
        """Expect it no more."""
        del self._calls[call.pid, call.position]

    def abandon(self, call: PendingCall) -> None:
        """Recognise a late reply when it comes, and drop it."""
        self._abandoned[call.pid, call.position] = None
        while len(self._abandoned) > _ABANDONED_MAX:
            del self._abandoned[next(iter(self._abandoned))]

    def _match(self, message: Message) -> bool:
        if not message.correlation:
            return False
        call = self._calls.get((message.sender, message.correlation - 1))
        if call is None:
            return False
        call.reply = message
        return True

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
        if topic not in self.topics:
            self.topics[topic] = set()
            try:
                answer, fds = self.request(f.OpenTopic(topic))
            except WeftError:
                del self.topics[topic]
                raise
            close_all(fds)
            self.topics[topic].update(answer.values.get("members", ()))
        else:
            self.serve_control()
        return self._fan_out(sorted(self.topics[topic]), payload, wire, timeout_s)

    def broadcast(self, payload: Any, timeout_s: float) -> int:
        """Send to every live agent; returns how many took it."""
        answer, fds = self.request(f.BroadcastPeers())
        close_all(fds)
        return self._fan_out(answer.values.get("members", []), payload, target_to_wire(Broadcast()), timeout_s)

    def _fan_out(self, pids: Sequence[int], payload: Any, wire: str | None, timeout_s: float) -> int:
        is_array = type(payload) is np.ndarray
        data = encode_message_for(payload, 0, None, wire) if is_array else encode_message(payload, 0, None, wire)
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
                self.control.send_wait(report)
        return delivered

    # --- requests to the kernel ---------------------------------------------------------------------------------------

    def request(
        self, body: f.AgentRequestBody, timeout_s: float = limits.CONTROL_TIMEOUT_S
    ) -> tuple[f.Answer, list[int]]:
        """Ask the kernel and wait for its answer.

        Raises:
            WeftTimeout: no answer in time.
            WeftError: the kernel refused; the class says why.
        """
        deadline = time.monotonic() + timeout_s
        serial = self.begin_request(body)
        try:
            while (answered := self.answer(serial)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WeftTimeout(f"the kernel did not answer {type(body).__name__} within {timeout_s:g} s")
                self.pump(min(left, _SLICE_S))
                self.serve_control()
        finally:
            self.end_request(serial)
        return checked_answer(answered)

    def begin_request(self, body: f.AgentRequestBody) -> int:
        """Send a request to the kernel; returns its serial."""
        serial = next(self._serial)
        self.control.send_wait(f.AgentRequest(serial, body))
        self._answers[serial] = None
        return serial

    def answer(self, serial: int) -> tuple[f.Answer, list[int]] | None:
        """The answer to a request, if it has come."""
        return self._answers[serial]

    def end_request(self, serial: int) -> None:
        """Expect its answer no more."""
        del self._answers[serial]

    def serve_control(self) -> None:
        """Take every frame that lies on the control socket."""
        while (received := self.control.recv()) is not None:
            frame, fds = received
            handler = _HANDLERS.get(type(frame))
            assert handler is not None, f"no handler for {type(frame).__name__}"
            handler(self, frame, fds)

    def _on_offer(self, frame: f.Offer, fds: list[int]) -> None:
        self.inbox.offer(frame, fds[0] if fds else None)

    def _on_revoke(self, frame: f.Revoke, _fds: list[int]) -> None:
        self.inbox.revoke(frame.ring_id)
        for channel in [c for c in self.outgoing.values() if c.ring_id == frame.ring_id]:
            del self.outgoing[channel.pid]
            self.direct.pop(channel.pid, None)
            for members in self.topics.values():
                members.discard(channel.pid)
            self._close_outgoing(channel)
            for call in self._calls.values():
                if call.pid == channel.pid:
                    call.error = error_for_code(frame.code, frame.reason)

    def _on_grant(self, frame: f.ChannelGrant, fds: list[int]) -> None:
        self.add_channel(frame, fds)

    def _on_member(self, frame: f.Member, _fds: list[int]) -> None:
        members = self.topics.get(frame.topic)
        if members is not None:
            (members.add if frame.on else members.discard)(frame.pid)

    def _on_answer(self, frame: f.Answer, fds: list[int]) -> None:
        if frame.serial in self._answers:
            self._answers[frame.serial] = (frame, fds)
        else:
            close_all(fds)

    def _on_signal(self, frame: f.SignalFrame, _fds: list[int]) -> None:
        name = frame.signal
        if name == KernelSignal.SHUTDOWN:
            self.stopping = True
        elif name == KernelSignal.PING:
            self.control.send(f.PongFrame())
        elif name == KernelSignal.DUMP_STATE:
            faulthandler.dump_traceback(sys.stderr)
        else:
            message = Message(int(PayloadTag.SIGNAL), Signal(KernelSignal(name), frame.data))
            message.source = self._kernel_source
            message.received_ns = time.time_ns()
            self.inbox.add_local(message)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def send_windows(self, *, force: bool = False, flush: bool = False) -> None:
        """Commit closed audit windows of all rings to the chain, several at a time."""
        for channel in self.outgoing.values():
            self._collect(channel.producer.audit_windows(flush=flush), "producer")
        for incoming in self.inbox.rings():
            self._collect(incoming.consumer.audit_windows(flush=flush), "consumer")
        now = time.monotonic()
        due = force or len(self._windows) >= _WINDOWS_BATCH or now - self._windows_sent > _WINDOWS_EVERY_S
        if self._windows and due:
            events = [Event("ipc.window", payload) for payload in self._windows[:_WINDOWS_BATCH]]
            if self.service.offer(AppendBatch(events, durable=False)):
                del self._windows[:_WINDOWS_BATCH]
                self._windows_sent = now

    def _collect(self, windows: list[Window], side: str) -> None:
        for window in windows:
            self._windows.append(
                {
                    "ring": window.ring_id,
                    "side": side,
                    "from": window.start,
                    "to": window.end,
                    "count": window.count,
                    "bytes": window.bytes,
                    "digest": window.digest,
                    "complete": window.complete,
                }
            )

    def _report_ring(self, ring_id: int, code: str, text: str) -> None:
        # Not waiting: a flood of bad messages must not stop us; the kernel counts what arrives.
        self.control.send(f.RingReport(ring_id, code, text[:500]))

    def _close_outgoing(self, channel: Outgoing) -> None:
        self._collect(channel.producer.audit_windows(flush=True), "producer")
        channel.close()

    def flush(self) -> None:
        """Before the process ends in order: close open audit windows and hand them to the service."""
        self.send_windows(force=True, flush=True)
        while self._windows:
            before = len(self._windows)
            self.send_windows(force=True)
            if len(self._windows) == before:
                return


def _size_of(payload: Any) -> int:
    if isinstance(payload, np.ndarray):
        return int(payload.nbytes) + 4096
    return len(payload) + 64 if isinstance(payload, bytes | str) else 256


def _readable(fd: int) -> list[tuple[int, int]]:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return poller.poll(0)


def checked_answer(answered: tuple[f.Answer, list[int]]) -> tuple[f.Answer, list[int]]:
    """Return the kernel's answer, or raise the error that it carries."""
    answer, fds = answered
    if answer.code:
        close_all(fds)
        raise error_for_code(answer.code, answer.message)
    return answer, fds


_CONTROL_SLOT: Final = 0
#: Room for the description of an array in its record.
_ARRAY_HEADER_BYTES: Final = 1024
#: Longest single wait while a call is under way, in seconds.
_LONGEST_S: Final = 10.0
#: Calls given up whose late replies are still recognised.
_ABANDONED_MAX: Final = 1024
#: Audit windows travel to the chain in batches, at least this often while there are any.
_WINDOWS_BATCH: Final = 32
_WINDOWS_EVERY_S: Final = 1.0

_HANDLERS: Final[dict[type, Callable[[AgentRuntime, Any, list[int]], None]]] = {
    f.Offer: AgentRuntime._on_offer,
    f.Revoke: AgentRuntime._on_revoke,
    f.ChannelGrant: AgentRuntime._on_grant,
    f.Member: AgentRuntime._on_member,
    f.Answer: AgentRuntime._on_answer,
    f.SignalFrame: AgentRuntime._on_signal,
}

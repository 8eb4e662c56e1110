"""The engine inside an agent process: it owns the mailbox, turns bytes into messages, keeps calls and replies together.

::

    kernel ══control socket══▶ ┌──────────┐ ──▶ Outgoing rings ──▶ other agents
    other agents ══rings═════▶ │ runtime  │ ──▶ request ring ────▶ service
    service ══reply ring═════▶ └──────────┘
                                  ▲   context (what the program sees) calls in; nothing here calls the program

One thread. Everything that waits, waits in ``pump``: it sleeps on the mailbox and then serves, in this order, the
control socket, the replies of the service, and the incoming rings, so that a flood of messages never keeps a Shutdown
from being seen.
"""

from __future__ import annotations

import faulthandler
import itertools
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.boot import AgentBoot
from weftos.agent.calls import Calls, PendingCall
from weftos.agent.hot_receive import build_receive
from weftos.agent.inbox import Inbox
from weftos.agent.outbox import Outbox
from weftos.agent.outgoing import Outgoing
from weftos.agent.rights import LocalRights, RightsPage
from weftos.agent.streams import Place, Streams
from weftos.errors import (
    ChannelClosed,
    WeftTimeout,
    error_for_code,
)
from weftos.ipc.frames import FrameChannel, close_all
from weftos.ipc.message import Arrival, Message, MessageBatch, Source
from weftos.ipc.payloads import KernelSignal, PayloadTag, Signal
from weftos.ipc.targets import (
    Target,
)
from weftos.service.client import ServiceClient
from weftos.shm import Doorbell, Mailbox, MailboxPeer, RingConsumer, RingProducer, Segment

__all__ = ["AgentRuntime", "checked_answer"]

#: A blocking wait is cut into slices of this many seconds, so that control frames are served in between.
_SLICE_S: Final = 0.25


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
        self.service = self._attach_service()
        self._streams = Streams(boot, self.service)
        self.inbox = Inbox(boot.pid, self._report_ring, self._streams)
        self.outbox = Outbox(self, self._streams)
        self._streams.places = self._ring_ends
        self.stopping = False
        #: ``receive(timeout=None)``: commit the message handed out before, and return the next one; ``None`` at the
        #: deadline (``timeout`` in seconds; ``None`` waits for ever), or when the agent is to stop.
        self.receive = build_receive(self.inbox, self, self._receive_patiently)
        page = RightsPage(boot.pid, boot.spec.parent, boot.spec.capabilities, boot.spec.limits)
        self.rights = LocalRights(boot.rights_fd, page, self.control.send, self.request)
        self._serial = itertools.count(1)
        self._answers: dict[int, tuple[f.Answer, list[int]] | None] = {}
        #: Token of the permit that goes with each request to the kernel, see ``Context.under``.
        self.permit = b""
        self.calls = Calls()
        self._control_looked = 0.0
        #: There is something on the control socket that nobody has taken yet.
        self._control_due = True
        self._kernel_source = Source(0, 0, boot.pid)
        self._attach_kernel()

    def _attach_kernel(self) -> None:
        boot = self.boot
        offer = f.Offer(boot.kernel_slot, boot.to_agent_ring, 0, 0, "", direct=True, broadcast=True, topics=[])
        self.inbox.offer(offer, boot.to_agent_fd)
        grant = f.ChannelGrant(0, boot.from_agent_ring, 0, "")
        channel = Outgoing(grant, boot.from_agent_fd, None, self.bell, audit=False, kick=self._kick)
        self.outbox.attach_kernel(channel)

    def _attach_service(self) -> ServiceClient:
        boot = self.boot
        self._service_mailbox = Segment.attach(boot.service_mailbox_fd, keep_fd=False)
        self._service_bell = Doorbell.open(boot.service_bell)
        wake = MailboxPeer(self._service_mailbox, self._service_bell).notifier(boot.service_request_slot)
        producer = RingProducer(Segment.attach(boot.request_fd, keep_fd=False), wake=wake, space=self.bell)
        consumer = RingConsumer(Segment.attach(boot.reply_fd, keep_fd=False))
        return ServiceClient(producer, consumer, self.pump, durable=boot.durable)

    def _kick(self) -> None:
        # A full socket holds a kick already, or other frames that make the kernel look.
        self.control.send(f.Kick())

    # --- waiting ------------------------------------------------------------------------------------------------------

    def pump(self, timeout_s: float) -> bool:
        """Wait for kernel or service, at most ``timeout_s`` seconds, and serve what came; messages wait meanwhile.

        Returns:
            Whether anything was there.
        """
        return self._wait(timeout_s, self._has_answer)

    def _wait(self, timeout_s: float, look: Callable[[], bool]) -> bool:
        if not self.mailbox.wait(timeout_s, look):
            return False
        self.dispatch()
        return True

    def dispatch(self) -> None:
        """Serve what is marked ready, without waiting."""
        # The kernel marks its slot with whatever it sends; should a mark be lost, its socket is looked at all the same.
        now = time.monotonic()
        control = self._control_due or now - self._control_looked >= limits.WAIT_SLICE_S
        if control:
            self.serve_control()
            self._control_due, self._control_looked = False, now
        while (slot := self.mailbox.next_ready()) is not None:
            if slot == _CONTROL_SLOT:
                self.serve_control()
            elif slot != self.boot.service_slot and not self.inbox.mark(slot):
                # The ring's offer is on the control socket: the kernel sends it before it tells the sender.
                self.serve_control()
                self.inbox.mark(slot)
        self.service.on_ready()

    def has_news(self) -> bool:
        """Look at the rings themselves (ready bytes are only hints): is there anything new for a receiver?"""
        return self.stopping or self.inbox.has_news() or self._has_answer()

    def _has_answer(self) -> bool:
        if self.service.has_reply():
            return True
        now = time.monotonic()
        if now - self._control_looked < limits.WAIT_SLICE_S:
            return False
        self._control_looked = now
        self._control_due = _readable(self.control.fileno())
        return self._control_due

    # --- messages in --------------------------------------------------------------------------------------------------

    def _receive_patiently(self, timeout: float | None) -> Message | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping:
            message = self.inbox.next()
            if message is not None:
                if message.correlation and self.calls.is_late(message):
                    continue
                return message
            self._streams.send()
            left = _LONGEST_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            self._wait(min(left, self._streams.due_in), self.has_news)
        self.inbox.settle()
        return None

    def finish_current(self) -> None:
        """Commit the message that was handed out last: its handler returned."""
        self.inbox.settle()

    def receive_many(self, timeout: float | None = None) -> MessageBatch | None:
        """As ``receive``, but what was sent as a batch comes as one. Replies to calls given up come as well."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping:
            batch = self.inbox.next_many()
            if batch is not None:
                return batch
            self._streams.send()
            left = _LONGEST_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            self._wait(min(left, self._streams.due_in), self.has_news)
        self.inbox.settle()
        return None

    # --- calls --------------------------------------------------------------------------------------------------------

    def call(self, target: Target, payload: Any, timeout_s: float) -> Message:
        """Send and wait for the reply to this very message. Other messages wait in the queue meanwhile.

        Raises:
            WeftTimeout: no reply in time; a late one is dropped and counted.
            ChannelClosed: the other end was closed while we waited, or this agent is to stop.
            WeftError: what the other end's handler raised, rebuilt.
        """
        deadline = time.monotonic() + timeout_s
        call = self.calls.begin(*self.outbox.send(target, payload, timeout_s))
        try:
            while (reply := self.call_result(call)) is None:
                if self._streams.due_in <= 0:
                    self._streams.send()
                left = deadline - time.monotonic()
                if left <= 0:
                    self.calls.abandon(call)
                    raise WeftTimeout(f"agent {call.pid} did not reply within {timeout_s:g} s")
                self._wait(min(left, _LONGEST_S, self._streams.due_in), self.has_news)
        finally:
            self.calls.end(call)
        return reply

    def call_result(self, call: PendingCall) -> Message | None:
        """Look for the reply; ``None`` while there is none. Raises as ``call`` does."""
        self.inbox.pick(self.calls.match)
        reply = call.result()
        if reply is None and self.stopping:
            raise ChannelClosed(f"agent {self.pid} is stopping; the call to {call.pid} was given up")
        return reply

    # --- requests to the kernel ---------------------------------------------------------------------------------------

    def request(
        self, body: f.AgentRequestBody, timeout_s: float = limits.CONTROL_TIMEOUT_S, fds: Sequence[int] = ()
    ) -> tuple[f.Answer, list[int]]:
        """Ask the kernel and wait for its answer. Descriptors that go along stay the caller's.

        Raises:
            WeftTimeout: no answer in time.
            WeftError: the kernel refused; the class says why.
        """
        deadline = time.monotonic() + timeout_s
        serial = self.begin_request(body, fds)
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

    def begin_request(self, body: f.AgentRequestBody, fds: Sequence[int] = ()) -> int:
        """Send a request to the kernel; returns its serial.

        Raises:
            CapabilityDenied: the kernel would refuse it.
        """
        self.rights.require_for(body)
        serial = next(self._serial)
        self.control.send_wait(f.AgentRequest(serial, body, self.permit), fds)
        self._answers[serial] = None
        return serial

    def answer(self, serial: int) -> tuple[f.Answer, list[int]] | None:
        """The answer to a request, if it has come."""
        return self._answers[serial]

    def end_request(self, serial: int) -> None:
        """Expect its answer no more. Who has read it owns its descriptors."""
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
        pid = self.outbox.revoke(frame.ring_id)
        if pid is not None:
            self.calls.fail(pid, error_for_code(frame.code, frame.reason))

    def _on_grant(self, frame: f.ChannelGrant, fds: list[int]) -> None:
        self.outbox.add_channel(frame, fds)

    def _on_member(self, frame: f.Member, _fds: list[int]) -> None:
        self.outbox.member(frame.topic, frame.pid, on=frame.on)

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
            message.arrival = Arrival(self._kernel_source, time.time_ns())
            self.inbox.add_local(message)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _ring_ends(self) -> list[Place]:
        out = [(one.ring_id, "producer", one.pid, one.producer) for one in self.outbox.outgoing.values()]
        return [*out, *((one.ring_id, "consumer", one.pid, one.consumer) for one in self.inbox.rings())]

    def _on_find_leaf(self, frame: f.FindLeaf, _fds: list[int]) -> None:
        self.control.send_wait(self._streams.find(frame))

    def _report_ring(self, ring_id: int, code: str, text: str) -> None:
        # Not waiting: a flood of bad messages must not stop us; the kernel counts what arrives.
        self.control.send(f.RingReport(ring_id, code, text[:500]))

    def flush(self) -> None:
        """Before the process ends in order: close all streams and hand their last windows to the service."""
        self._streams.send(final=True)


def _readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def checked_answer(answered: tuple[f.Answer, list[int]]) -> tuple[f.Answer, list[int]]:
    """Return the kernel's answer, or raise the error that it carries."""
    answer, fds = answered
    if answer.code:
        close_all(fds)
        raise error_for_code(answer.code, answer.message)
    return answer, fds


_CONTROL_SLOT: Final = 0
#: Longest single wait while a call is under way, in seconds.
_LONGEST_S: Final = 10.0
_HANDLERS: Final[dict[type, Callable[[AgentRuntime, Any, list[int]], None]]] = {
    f.Offer: AgentRuntime._on_offer,
    f.Revoke: AgentRuntime._on_revoke,
    f.ChannelGrant: AgentRuntime._on_grant,
    f.Member: AgentRuntime._on_member,
    f.Answer: AgentRuntime._on_answer,
    f.SignalFrame: AgentRuntime._on_signal,
    f.FindLeaf: AgentRuntime._on_find_leaf,
}

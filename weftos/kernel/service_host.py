"""The kernel's side of the service process: start it, restart it, ask it, and never wait for it in the dark.

Requests go over the control socket and are answered by serial number. What is not yet answered stays here in order, so
a service process
that dies loses nothing: its successor gets the same appends again and recognises the ones it already has. Gate
    questions are not kept:
while the service is down they fail closed at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import (
    BootFailed,
    MessageTooLarge,
    ServiceUnavailable,
    error_for_code,
)
from weftos.home import Home
from weftos.ipc.frames import FrameChannel, close_all
from weftos.kernel.fork import ChildHandle, fork_child
from weftos.kernel.link import FrameLink
from weftos.service import artifact_protocol as ap
from weftos.service import protocol as p
from weftos.service.process import ServiceBoot, run_service
from weftos.shm import Doorbell, MailboxPeer, create_mailbox

__all__ = ["ServiceHost"]

log = logging.getLogger(__name__)

#: The control channel's ready byte in the service's mailbox.
_CONTROL_SLOT: Final = 0
#: Requests that the service may have at once; more than it groups into one sync, less than its socket holds.
_IN_FLIGHT_MAX: Final = 256

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class _Pending:
    frame: p.KernelRequest | p.ArtifactFrame
    future: asyncio.Future[Any]
    #: Kept for the next incarnation when this one dies.
    survives: bool
    #: Descriptors to send along; the caller keeps them open until the future is done.
    fds: Sequence[int] = ()
    #: Whether the future gets the descriptors of the answer as well.
    with_fds: bool = False


@dataclass(slots=True)
class _Client:
    frame: p.AttachClient
    fds: list[int] = field(default_factory=list)


class ServiceHost:
    """Owns the service process.

    Args:
        home: where the chain and the keys are.
        boot_id: 16 bytes naming this boot.
        prefix: prefix of all semaphore names of this instance, for the last one to sweep.
        settings: passed through to the process (segment size, default durability).
        on_report: called when the service detaches an agent's ring.
        group: of the agents that have a user of their own, so that they can ring; ``None`` if none has.
    """

    def __init__(
        self,
        home: Home,
        boot_id: bytes,
        prefix: str,
        settings: dict[str, Any],
        on_report: Callable[[p.ClientReport], None],
        group: int | None = None,
    ) -> None:
        self._home = home
        self._boot_id = boot_id
        self._prefix = prefix
        self._settings = settings
        self._on_report = on_report
        self.segment = create_mailbox(owner_pid=0)
        self.bell = Doorbell.create(f"{prefix}service-{os.urandom(8).hex()}", group=group)
        self._notify = MailboxPeer(self.segment, self.bell).notifier(_CONTROL_SLOT)
        self._link: FrameLink[p.FromService] | None = None
        self.child: ChildHandle | None = None
        self.ready = False
        self.incarnation = 0
        self.started_at = 0.0
        self.head: dict[str, Any] = {}
        self._serial = 0
        self._pending: dict[int, _Pending] = {}
        self._unsent: deque[int] = deque()
        self._in_flight: set[int] = set()
        self._clients: dict[int, _Client] = {}
        self._slots = iter(range(1, 1 << 30))
        self._free_slots: list[int] = []
        self._ready_future: asyncio.Future[dict[str, Any]] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self, log_fd: int, now: float, timeout_s: float = limits.START_TIMEOUT_S) -> dict[str, Any]:
        """Fork the service process and wait until its chain is open.

        Returns:
            The state of the chain, as in ``protocol.Head``.

        Raises:
            WeftError: of the class that the service reported (``ChainCorrupted``, …), or ``BootFailed`` when it did not
                come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = ServiceBoot(
            control=theirs,
            chain_dir=str(self._home.chain),
            keys_dir=str(self._home.keys),
            known_logs=str(self._home.known_logs),
            boot_id=self._boot_id,
            mailbox_fd=self.segment.fd,
            bell_name=self.bell.name,
            semaphore_prefix=self._prefix,
            **self._settings,
        )
        loop = asyncio.get_running_loop()
        self._ready_future = loop.create_future()
        self.incarnation += 1
        self.started_at = now
        # SIGTERM, not SIGKILL, when the kernel dies: it can still write what was accepted.
        self.child = fork_child(
            lambda: run_service(boot),
            keep=[theirs.fileno(), self.segment.fd],
            log_fd=log_fd,
            death_signal=signal.SIGTERM,
        )
        theirs.close()
        log.info("service process forked: OS process %d, incarnation %d", self.child.os_pid, self.incarnation)
        self._link = FrameLink(FrameChannel(ours, p.FromService), self._on_frame, self._on_closed)
        try:
            self.head = await asyncio.wait_for(self._ready_future, timeout_s)
        except TimeoutError:
            raise BootFailed(f"the service process was not ready within {timeout_s:g} s") from None
        self.ready = True
        for client in self._clients.values():
            self._send(client.frame, client.fds)
        self._in_flight.clear()
        self._unsent = deque(sorted(self._pending))
        log.info(
            "service process %d is ready: %s records, %d agents introduced, %d requests sent again",
            self.child.os_pid,
            self.head.get("records"),
            len(self._clients),
            len(self._unsent),
        )
        self._send_requests()
        return self.head

    def exited(self) -> None:
        """The supervisor reaped the process: fail what cannot wait, keep what can."""
        self.ready = False
        if self._link is not None:
            self._link.drain()
            self._link.close()
            self._link = None
        if self.child is not None:
            self.child.close()
            self.child = None
        log.debug("%d requests were without an answer when the service process ended", len(self._pending))
        for serial, pending in list(self._pending.items()):
            if not pending.survives:
                del self._pending[serial]
                _fail(pending.future, ServiceUnavailable("the service process ended before it answered"))
        if self._ready_future is not None and not self._ready_future.done():
            self._ready_future.set_exception(
                BootFailed("the service process ended while it started; see the kernel's log")
            )

    def stop(self) -> None:
        """Ask it to finish, sync, sign and exit."""
        self._send(p.StopService())

    def close(self) -> None:
        """Give up mailbox and doorbell, after the last incarnation ended."""
        for pending in self._pending.values():
            _fail(pending.future, ServiceUnavailable("the kernel halted"))
        self._pending.clear()
        for pid in list(self._clients):
            self.detach(pid)
        self.bell.unlink()
        self.bell.close()
        self.segment.close()

    # --- clients ------------------------------------------------------------------------------------------------------

    def take_slot(self) -> int:
        """Reserve a ready byte in the service's mailbox for an agent's request ring."""
        return self._free_slots.pop() if self._free_slots else next(self._slots)

    def attach(self, frame: p.AttachClient, fds: list[int]) -> None:
        """Introduce an agent (or its new incarnation), with its request ring, reply ring and mailbox; the descriptors
        stay the caller's.
        """
        known = self._clients.get(frame.pid)
        if known is None:
            self._clients[frame.pid] = _Client(frame, [os.dup(fd) for fd in fds])
        else:
            known.frame = frame
        if self.ready:
            self._send(frame, self._clients[frame.pid].fds)

    def detach(self, pid: int) -> None:
        """Tell the service that an agent ended for good."""
        client = self._clients.pop(pid, None)
        if client is None:
            return
        for fd in client.fds:
            os.close(fd)
        self._free_slots.append(client.frame.slot)
        if self.ready:
            self._send(p.DetachClient(pid))

    # --- requests -----------------------------------------------------------------------------------------------------

    def submit(self, request: p.Request, source: str = "kernel") -> asyncio.Future[p.Reply]:
        """Send a request; appends survive a restart of the service, everything else fails with it."""
        future: asyncio.Future[p.Reply] = asyncio.get_running_loop().create_future()
        survives = isinstance(request, p.Append | p.AppendBatch)
        if not self.ready and not survives:
            future.set_exception(ServiceUnavailable("the service process is down; it is being restarted"))
            return future
        frame = p.KernelRequest(self._serial + 1, source, request)
        size = len(_encode(frame))
        if size > limits.CONTROL_FRAME_BYTES:
            kind = type(request).__name__
            text = f"a request ({kind}) of {size} bytes exceeds the {limits.CONTROL_FRAME_BYTES} that the service takes"
            future.set_exception(MessageTooLarge(text, size=size, limit=limits.CONTROL_FRAME_BYTES))
            return future
        self._serial += 1
        self._pending[self._serial] = _Pending(frame, future, survives)
        self._unsent.append(self._serial)
        self._send_requests()
        return future

    def _send_requests(self) -> None:
        """Send requests in order, as many as the service may have at once; the others wait for answers.

        Without this a burst (an agent with a full inbox dies) would overflow the socket and cost us the service.
        """
        while self.ready and self._unsent and len(self._in_flight) < _IN_FLIGHT_MAX:
            serial = self._unsent.popleft()
            pending = self._pending.get(serial)
            if pending is not None:
                self._in_flight.add(serial)
                self._send(pending.frame, pending.fds)

    async def ask(self, request: p.Request, timeout_s: float = limits.CONTROL_TIMEOUT_S) -> p.Reply:
        """Send a request and wait for its answer.

        Raises:
            ServiceUnavailable: no answer in time, or the service is down.
            WeftError: what the service answered.
        """
        try:
            reply = await asyncio.wait_for(asyncio.shield(self.submit(request)), timeout_s)
        except TimeoutError:
            raise ServiceUnavailable(f"the service process did not answer within {timeout_s:g} s") from None
        if isinstance(reply, p.Failed):
            raise error_for_code(reply.code, reply.message)
        return reply

    async def done(self, request: p.Request) -> dict[str, Any]:
        """Have something done that is answered with plain values; errors as for ``ask``."""
        reply = await self.ask(request)
        assert isinstance(reply, p.Done)
        return reply.values

    async def hand(
        self,
        by: str,
        request: ap.ArtifactRequest,
        fds: Sequence[int] = (),
        timeout_s: float = limits.ARTIFACT_TIMEOUT_S,
    ) -> tuple[dict[str, Any], list[int]]:
        """Send a request about artifacts and wait for its answer.

        Args:
            by: for whom it is: ``agent:PID`` or ``operator``.
            request: the request.
            fds: descriptors to send along; they stay the caller's.
            timeout_s: in seconds.

        Returns:
            The values of the answer, and its descriptors, which the caller closes.

        Raises:
            ServiceUnavailable: no answer in time, or the service is down. What was asked may still be done.
            WeftError: what the service answered.
        """
        if not self.ready:
            raise ServiceUnavailable("the service process is down; it is being restarted")
        future: asyncio.Future[tuple[p.Reply, list[int]]] = asyncio.get_running_loop().create_future()
        self._serial += 1
        frame = p.ArtifactFrame(self._serial, by, request)
        # Copies, for the request may wait here longer than its caller does.
        copies: list[int] = []
        try:
            copies.extend(os.dup(fd) for fd in fds)
        except OSError as error:
            close_all(copies)
            raise ServiceUnavailable(f"the kernel can open no more files: {error.strerror}; try again later") from error
        future.add_done_callback(lambda _done: close_all(copies))
        self._pending[self._serial] = _Pending(frame, future, survives=False, fds=copies, with_fds=True)
        self._unsent.append(self._serial)
        self._send_requests()
        try:
            reply, received = await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except (TimeoutError, asyncio.CancelledError) as error:
            future.add_done_callback(_drop_descriptors)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ServiceUnavailable(f"the service process did not answer within {timeout_s:g} s") from None
        if isinstance(reply, p.Done):
            return reply.values, received
        close_all(received)
        assert isinstance(reply, p.Failed)
        raise error_for_code(reply.code, reply.message)

    @property
    def backlog(self) -> int:
        """Requests that are not answered yet."""
        return len(self._pending)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _send(self, frame: p.ServiceFrame, fds: Sequence[int] | None = None) -> None:
        if self._link is not None:
            self._link.send(frame, fds or ())
            self._notify()

    def _on_frame(self, frame: p.FromService, fds: list[int]) -> None:
        if fds and isinstance(frame, p.KernelReply):
            pending = self._pending.get(frame.serial)
            if pending is None or not pending.with_fds or pending.future.done():
                close_all(fds)
        else:
            close_all(fds)
        match frame:
            case p.KernelReply(serial, reply):
                pending = self._pending.pop(serial, None)
                self._in_flight.discard(serial)
                self._send_requests()
                if pending is not None and not pending.future.done():
                    pending.future.set_result((reply, fds) if pending.with_fds else reply)
            case p.ServiceReady(values):
                if self._ready_future is not None and not self._ready_future.done():
                    self._ready_future.set_result(values)
            case p.ServiceBootFailed(code, message):
                if self._ready_future is not None and not self._ready_future.done():
                    self._ready_future.set_exception(error_for_code(code, message))
            case p.ClientReport():
                self._on_report(frame)

    def _on_closed(self, reason: str) -> None:
        # Its end shows as SIGCHLD as well; until then nothing more can be asked.
        log.debug("the control socket of the service process ended: %s", reason)
        self.ready = False


def _drop_descriptors(done: asyncio.Future[tuple[p.Reply, list[int]]]) -> None:
    """Close what came with an answer that nobody waits for any more."""
    if not done.cancelled() and done.exception() is None:
        close_all(done.result()[1])


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

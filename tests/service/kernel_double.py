"""Plays the kernel for one service process: rings, mailboxes, doorbells, control socket, restarts; all of them real."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from weftos.governance.capability import AgentCapabilities
from weftos.ipc.frames import FrameChannel, socket_pair
from weftos.service import artifact_protocol as ap
from weftos.service import protocol as p
from weftos.service.client import ServiceClient
from weftos.service.process import ServiceBoot, run_service
from weftos.shm import (
    Doorbell,
    Mailbox,
    MailboxPeer,
    RingConsumer,
    RingProducer,
    Segment,
    create_mailbox,
    create_ring,
)

PATIENCE_S = 20.0
REPLY_SLOT = 1


class Child:
    """A forked process that can be waited for with a deadline."""

    def __init__(self, run: Callable[[], int | None]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            code = 70
            try:
                code = run() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        self._pidfd = os.pidfd_open(self.pid)
        self._code: int | None = None

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit code, negative for a signal."""
        if self._code is None:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            assert poller.poll(timeout_s * 1000), f"process {self.pid} did not end within {timeout_s} s"
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pidfd)
        return self._code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def bury(self) -> None:
        self.kill()
        self.wait()


class Agent:
    """What the kernel holds for one agent, and what the agent makes of it after the fork."""

    def __init__(self, kernel: KernelDouble, pid: int, ring_bytes: int, reply_bytes: int) -> None:
        self.pid = pid
        self.slot = pid
        self.scope = ""
        self.ring_id = kernel.fresh_ring_id()
        self.request = create_ring(ring_bytes, ring_id=self.ring_id)
        self.reply = create_ring(reply_bytes, ring_id=kernel.fresh_ring_id())
        self.mailbox = create_mailbox(owner_pid=pid)
        self.bell = Doorbell.create(f"{kernel.prefix}a{pid}")
        self._service = (kernel.mailbox, kernel.bell)

    def frame(self, capabilities: AgentCapabilities) -> p.AttachClient:
        return p.AttachClient(
            self.pid,
            f"id-{self.pid}",
            1,
            capabilities,
            None,
            self.slot,
            REPLY_SLOT,
            self.ring_id,
            self.bell.name,
            self.scope,
        )

    def fds(self) -> list[int]:
        return [self.request.fd, self.reply.fd, self.mailbox.fd]

    def producer(self) -> RingProducer:
        """The raw writing end."""
        return RingProducer(self.request, wake=MailboxPeer(*self._service).notifier(self.slot), space=self.bell)

    def client(self, **settings: Any) -> ServiceClient:
        """As the agent's runtime makes it."""
        mailbox = Mailbox(self.mailbox, self.bell, spin=False)

        def pump(timeout_s: float) -> bool:
            if not mailbox.wait(timeout_s, client.has_reply):
                return False
            while mailbox.next_ready() is not None:
                continue
            client.on_ready()
            return True

        client = ServiceClient(self.producer(), RingConsumer(self.reply), pump, **settings)
        return client

    def close(self) -> None:
        self.bell.unlink()
        self.bell.close()
        for segment in (self.request, self.reply, self.mailbox):
            segment.close()


class KernelDouble:
    """The other side of the service process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.chain_dir = home / "chain"
        self.prefix = f"/weftos-{secrets.token_hex(6)}-"
        self.boot_id = os.urandom(16)
        self.mailbox: Segment = create_mailbox(owner_pid=0)
        self.bell = Doorbell.create(f"{self.prefix}service")
        self._notify = MailboxPeer(self.mailbox, self.bell).notifier(0)
        self.agents: dict[int, tuple[Agent, AgentCapabilities]] = {}
        self.children: list[Child] = []
        self.channel: FrameChannel[p.FromService] | None = None
        self.service: Child | None = None
        self.reports: list[p.ClientReport] = []
        self.replies: dict[int, p.Reply] = {}
        self.descriptors: dict[int, list[int]] = {}
        self.ready: p.ServiceReady | p.ServiceBootFailed | None = None
        self.serial = 0
        self._ring_ids = 100
        self.settings: dict[str, Any] = {}

    # --- the process ---

    def start(self, before: Callable[[], None] | None = None) -> p.ServiceReady | p.ServiceBootFailed:
        """Fork the service; ``before`` runs in it first."""
        ours, theirs = socket_pair()
        boot = ServiceBoot(
            control=theirs,
            chain_dir=str(self.chain_dir),
            keys_dir=str(self.home / "keys"),
            known_logs=str(self.home / "known_logs"),
            boot_id=self.boot_id,
            mailbox_fd=self.mailbox.fd,
            bell_name=self.bell.name,
            semaphore_prefix=self.prefix,
            **self.settings,
        )

        def run() -> int:
            ours.close()
            if before is not None:
                before()
            return run_service(boot)

        self.service = self.fork(run)
        theirs.close()
        self.channel = FrameChannel(ours, p.FromService)
        self.ready = None
        self.pump_until(lambda: self.ready is not None)
        assert self.ready is not None
        if isinstance(self.ready, p.ServiceReady):
            for agent, capabilities in self.agents.values():
                self.send(agent.frame(capabilities), agent.fds())
        return self.ready

    def kill_service(self) -> None:
        assert self.service is not None
        assert self.channel is not None
        self.service.bury()
        self.drain()
        self.channel.close()

    def stop_service(self) -> int:
        assert self.service is not None
        self.send(p.StopService())
        return self.service.wait()

    def fork(self, run: Callable[[], int | None]) -> Child:
        child = Child(run)
        self.children.append(child)
        return child

    # --- agents ---

    def fresh_ring_id(self) -> int:
        """As the real one: no number twice within one boot."""
        self._ring_ids += 1
        return self._ring_ids

    def agent(
        self,
        pid: int,
        capabilities: AgentCapabilities | None = None,
        *,
        ring_bytes: int = 64 * 1024,
        reply_bytes: int = 64 * 1024,
        scope: str = "",
    ) -> Agent:
        agent = Agent(self, pid, ring_bytes, reply_bytes)
        agent.scope = scope
        capabilities = capabilities or AgentCapabilities()
        self.agents[pid] = (agent, capabilities)
        if self.channel is not None and not self.channel.closed:
            self.send(agent.frame(capabilities), agent.fds())
        return agent

    # --- frames ---

    def send(self, frame: msgspec.Struct, fds: list[int] | None = None) -> None:
        assert self.channel is not None
        self.channel.send_wait(frame, fds or ())
        self._notify()

    def post(self, request: p.Request, source: str = "kernel") -> int:
        self.serial += 1
        self.send(p.KernelRequest(self.serial, source, request))
        return self.serial

    def ask(self, request: p.Request, source: str = "kernel") -> p.Reply:
        return self.result(self.post(request, source))

    def post_artifact(self, request: ap.ArtifactRequest, fds: Sequence[int] = (), by: str = "agent:1") -> int:
        self.serial += 1
        self.send(p.ArtifactFrame(self.serial, by, request), list(fds))
        return self.serial

    def ask_artifact(self, request: ap.ArtifactRequest, fds: Sequence[int] = (), by: str = "agent:1") -> p.Reply:
        return self.result(self.post_artifact(request, fds, by))

    def result(self, serial: int) -> p.Reply:
        self.pump_until(lambda: serial in self.replies)
        return self.replies[serial]

    def head(self) -> dict[str, Any]:
        reply = self.ask(p.ChainHead())
        assert isinstance(reply, p.Head)
        return reply.values

    def pump_until(self, done: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        assert self.channel is not None
        deadline = time.monotonic() + timeout_s
        while not done():
            self._take(self.channel.recv_wait(deadline - time.monotonic()))

    def drain(self) -> None:
        assert self.channel is not None
        with contextlib.suppress(Exception):
            while (received := self.channel.recv()) is not None:
                self._take(received)

    def _take(self, received: tuple[p.FromService, list[int]]) -> None:
        frame, fds = received
        assert not fds or isinstance(frame, p.KernelReply)
        match frame:
            case p.KernelReply(serial, reply):
                assert serial not in self.replies, "one answer per request"
                self.replies[serial] = reply
                if fds:
                    self.descriptors[serial] = fds
            case p.ClientReport():
                self.reports.append(frame)
            case _:
                self.ready = frame

    def close(self) -> None:
        for child in self.children:
            child.bury()
        if self.channel is not None:
            self.channel.close()
        for agent, _ in self.agents.values():
            agent.close()
        self.bell.unlink()
        self.bell.close()
        self.mailbox.close()


def leftovers(prefix: str) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith("sem." + prefix[1:])]


def socket_of(channel: FrameChannel[Any]) -> socket.socket:
    return socket.socket(fileno=os.dup(channel.fileno()))

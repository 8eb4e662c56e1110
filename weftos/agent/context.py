"""What a program sees: ``main(ctx)`` gets one of these.

A useful agent::

    def main(ctx):
        for message in ctx:
            ctx.reply(message, message.payload.upper())

A message is committed when the program asks for the next one, or returns. A program that dies before is run again and
gets the message again (``message.redelivered`` counts), so handlers should bear repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.artifacts import Artifacts
from weftos.agent.budget import Budget
from weftos.agent.runtime import AgentRuntime
from weftos.errors import RingFull
from weftos.governance.capability import AgentCapabilities, SandboxPolicy
from weftos.governance.permits import HeldPermit
from weftos.ipc.frames import close_all
from weftos.ipc.message import UNENCODABLE, Message, MessageBatch, encode_wire, unsendable
from weftos.ipc.payloads import Failure
from weftos.ipc.targets import Target, Topic, parse_target
from weftos.service.client import ServiceClient
from weftos.service.credentials import Credentials
from weftos.service.memory import Causal, Memory
from weftos.service.resources import Resources

__all__ = ["Context"]

#: Types whose messages need no tag beside the body.
_PLAIN: Final = frozenset((str, bytes, dict, list, int, float, bool, type(None)))


class Context:
    """The kernel's services for one agent, blocking.

    Attributes:
        pid: kernel pid.
        name: the name it was spawned under.
        args: its arguments.
        incarnation: 1 in its first life, one more after each restart.
        parent: pid of the agent that spawned it, 0 for the kernel.
        scratch: path of the one folder in which it may write, whatever its profile; it is gone when the agent is.
        service: the chain and the gate: ``append``, ``append_batch``, ``derive``, ``gate``, ``require``, ``effect``,
            ``head``, ``tail``, ``tail_from``.
        artifacts: content too large for a message or a record: ``put``, ``get``, ``open``, ``release``.
        budget: turns, tokens, cost and time: ``reserve``, ``show``.
        capabilities: what this agent may do: ``now``, ``epoch``, ``allows``, ``require``, ``request``.
        credentials: secrets that the operator keeps for it, by name: ``get``.
        memory: texts and vectors by what they are near to: ``remember``, ``recall``, ``forget``, ``search``, ``put``.
        causal: what follows from what: ``link``, ``why``, ``effects``, ``path``.
        resources: the part of the resource tree that the agent may see: ``tree``, ``inspect``, ``rank``.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        spec = runtime.boot.spec
        self.pid = runtime.pid
        self.name = spec.name
        self.args = list(spec.args)
        self.incarnation = runtime.boot.incarnation
        self.parent = spec.parent
        self.scratch = runtime.boot.plan.places.scratch
        self.service: ServiceClient = runtime.service
        self.resources = Resources(runtime.service)
        self.credentials = Credentials(runtime.service)
        self.artifacts = Artifacts(runtime)
        self.capabilities = runtime.rights
        self.budget = Budget(runtime.service)
        self.memory = Memory(runtime.service, runtime.boot.embedding)
        self.causal = Causal(runtime.service)
        self._channels = runtime.outbox.direct
        # The same function, without a call in between.
        self.recv = runtime.receive  # type: ignore[method-assign]

    # --- messages in --------------------------------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Message | None:
        """Return the next message; what was returned before is committed.

        Args:
            timeout: seconds to wait; ``None`` waits for ever.

        Returns:
            ``None`` at the deadline, or when the agent is to stop (see ``stopping``).
        """
        return self._runtime.receive(timeout)

    def recv_many(self, timeout: float | None = None) -> MessageBatch | None:
        """As ``recv``, but what ``send_many`` sent comes as one unit: iterate over it, or use its ``payloads``."""
        return self._runtime.receive_many(timeout)

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until the agent is to stop."""
        return iter(self._runtime.receive, None)

    @property
    def stopping(self) -> bool:
        """Whether the kernel asked this agent to end."""
        return self._runtime.stopping

    # --- messages out -------------------------------------------------------------------------------------------------

    def send(self, target: int | str | Target, payload: Any, timeout: float = limits.SEND_TIMEOUT_S) -> str | int:
        """Send one message.

        Args:
            target: a pid, ``"topic:NAME"``, ``"service:NAME"``, ``"service:NAME/METHOD"``, ``"kernel"``, or a target
                object.
            payload: ``str``, ``bytes``, ndarray, anything that MessagePack holds, or a structured payload.
            timeout: seconds to wait for room when the ring is full.

        Returns:
            Position of the message in its ring (a reply carries it as correlation), or for a topic how many subscribers
            took it.

        Raises:
            RingFull: no room before the deadline; nothing was sent.
            WeftError: what the kernel answered when it was asked for a channel.
        """
        # The common case, a message to an open channel with room, is decided here and not three calls further down.
        channel = self._channels.get(target)  # type: ignore[arg-type]
        if channel is not None and type(payload) in _PLAIN:
            try:
                data = encode_wire((0, payload))
            except UNENCODABLE as error:
                raise unsendable(payload, error) from error
            if len(data) <= channel.easy_payload:
                try:
                    return channel.put(data)
                except RingFull:
                    if timeout <= 0:
                        raise
        where = parse_target(target)
        if isinstance(where, Topic):
            return self._runtime.outbox.publish(where.name, payload, timeout)
        return self._runtime.outbox.send(where, payload, timeout)[1]

    def send_many(self, pid: int, payloads: Sequence[Any], timeout: float = limits.SEND_TIMEOUT_S) -> int:
        """Send several plain messages to one agent as a batch: one unit of delivery and of redelivery.

        Returns:
            How many found room before the deadline; a batch larger than a ring's record goes in several.

        Raises:
            RingFull: not even the first part found room.
        """
        return self._runtime.outbox.send_many(pid, payloads, timeout)

    def call(self, target: int | str | Target, payload: Any, timeout: float = limits.CALL_TIMEOUT_S) -> Any:
        """Send, wait for the reply to this very message, and return its payload.

        Raises:
            WeftTimeout: no reply in time.
            WeftError: what the other end answered as failure, rebuilt.
        """
        return self._runtime.call(parse_target(target), payload, timeout).payload

    def reply(self, message: Message, payload: Any, timeout: float = limits.SEND_TIMEOUT_S) -> None:
        """Answer a message."""
        self._runtime.outbox.reply(message, payload, timeout)

    def fail(self, message: Message, code: str, text: str, timeout: float = limits.SEND_TIMEOUT_S) -> None:
        """Answer a message with an error; the caller's ``call`` raises it."""
        self._runtime.outbox.reply(message, Failure(code, text), timeout)

    def publish(self, topic: str, payload: Any, timeout: float = 0.0) -> int:
        """Send to every subscriber of a topic; returns how many took it. A full one is skipped and recorded in the dead
        letters.
        """
        return self._runtime.outbox.publish(topic, payload, timeout)

    def broadcast(self, payload: Any, timeout: float = 0.0) -> int:
        """Send to every live agent; returns how many took it."""
        return self._runtime.outbox.broadcast(payload, timeout)

    def subscribe(self, topic: str) -> None:
        """Receive what is published to a topic from now on."""
        self._ask(f.Subscribe(topic))

    def unsubscribe(self, topic: str) -> None:
        """Receive it no more."""
        self._ask(f.Subscribe(topic, on=False))

    # --- processes ----------------------------------------------------------------------------------------------------

    def spawn(  # noqa: PLR0913 -- what a process has, each by its name
        self,
        program: str,
        args: Sequence[str] = (),
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        capabilities: AgentCapabilities | None = None,
        restart: str = "on-failure",
        role: str = "",
        sandbox: SandboxPolicy | None = None,
        timeout: float = limits.START_TIMEOUT_S,
    ) -> int:
        """Start a child agent and wait until it is ready; returns its pid.

        Args:
            program: as for ``weaver agent spawn``, and so are ``name``, ``env``, ``restart`` and ``role``.
            args: its arguments.
            name: by default that of the program.
            env: added to the environment.
            limits: this agent's own, where nothing is given.
            capabilities: this agent's own if ``None``.
            restart: when a new incarnation follows the last.
            role: what it is for.
            sandbox: how the child is confined; as this agent is, or stricter.
            timeout: in seconds.

        Raises:
            CapabilityDenied: this agent may not spawn, or the child would hold more than it.
            SandboxFailed: the child cannot be confined as its profile demands.
            SpawnFailed: the program could not be loaded.
        """
        words, amounts = [str(arg) for arg in args], dict(limits or {})
        body = f.SpawnChild(program, words, name, dict(env or {}), amounts, capabilities, restart, role, sandbox)
        return int(self._ask(body, timeout)["pid"])

    def request_capability(self, rights: Sequence[str] | str, reason: str) -> dict[str, Any]:
        """Ask for rights; as ``capabilities.request``."""
        return self.capabilities.request(rights, reason)

    def stop(self, pid: int, *, force: bool = False) -> None:
        """Stop an agent: this one or a descendant."""
        self._ask(f.StopProcess(pid, force))

    def monitor(self, pid: int) -> None:
        """Get a message with the signal MonitorDown when that agent ends for good."""
        self._ask(f.Monitor(pid))

    def link(self, pid: int) -> None:
        """As ``monitor``, with the signal LinkExit to both sides, whichever ends."""
        self._ask(f.Monitor(pid, link=True))

    def register_service(self, name: str, methods: Sequence[str] = ()) -> None:
        """Offer this agent as a named service."""
        self._ask(f.RegisterService(name, list(methods)))

    @contextmanager
    def under(self, permit: HeldPermit) -> Iterator[None]:
        """Show a permit with what is asked of the kernel in the body of a ``with``: it is used up by the first act that
        it fits::

            held = ctx.service.require("agent.stop", {"target": pid}, wait_s=600)
            with ctx.under(held):
                ctx.stop(pid)
        """
        before, self._runtime.permit = self._runtime.permit, permit.token
        outer, self.service.held = self.service.held, permit
        try:
            yield
        finally:
            self._runtime.permit = before
            self.service.held = outer

    def describe(self, pid: int) -> dict[str, Any]:
        """A few facts about an agent: name, state, incarnation, parent."""
        return self._ask(f.Describe(pid))

    def log(self, text: str, level: str = "info") -> None:
        """Write a line to the kernel's log."""
        self._runtime.control.send_wait(f.LogLine(level, str(text)[:2000]))

    def _ask(self, body: f.AgentRequestBody, timeout: float = limits.CONTROL_TIMEOUT_S) -> dict[str, Any]:
        answer, fds = self._runtime.request(body, timeout)
        close_all(fds)
        return answer.values

"""The context for ``async def main(ctx)``: the same calls, awaitable.

The doorbell is a semaphore, which no event loop can wait for. So one helper thread sleeps on it, and only that;
everything else, the rings included, stays in the event loop's thread, as single-producer single-consumer rings require.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.artifacts import AsyncArtifacts
from weftos.agent.budget import AsyncBudget
from weftos.agent.runtime import AgentRuntime, checked_answer
from weftos.artifacts import ArtifactRef
from weftos.chain.statements.lineage import Derivation
from weftos.errors import GateDeferred, GateUnavailable, RingFull, ServiceUnavailable, WeftError, WeftTimeout
from weftos.governance.capability import AgentCapabilities, SandboxPolicy
from weftos.governance.gate import Defer, require
from weftos.governance.permits import HeldPermit
from weftos.ipc.frames import close_all
from weftos.ipc.message import Message
from weftos.ipc.payloads import Failure
from weftos.ipc.targets import Kernel, Process, Target, Topic, parse_target
from weftos.service.client import with_artifact
from weftos.service.gate_calls import held_from
from weftos.service.governance_protocol import AskApproval
from weftos.service.memory_aio import AsyncCausal, AsyncMemory
from weftos.service.protocol import Append, Decided, Derive, Done, GateCheck, Reply, Request
from weftos.service.tree_protocol import AskTree
from weftos.shm import AsyncMailbox

__all__ = ["AsyncContext", "AsyncService"]

#: A full ring is tried again after this many seconds at first, then twice as many, up to the second figure.
_RETRY_S: Final = (0.001, 0.05)
#: Longest sleep without looking again, in seconds; the bell ends it earlier.
_PATIENCE_S: Final = 1.0
_START_S: Final = limits.START_TIMEOUT_S


class AsyncContext:
    """The kernel's services for one agent, awaitable. Attributes as in ``Context``.

    Args:
        runtime: the engine, driven by this object while it lives.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._bridge = AsyncMailbox(runtime.mailbox, runtime.bell, has_work=runtime.has_news)
        self._changed = asyncio.Event()
        self._watched = False
        spec = runtime.boot.spec
        self.pid = runtime.pid
        self.name = spec.name
        self.args = list(spec.args)
        self.incarnation = runtime.boot.incarnation
        self.parent = spec.parent
        self.scratch = runtime.boot.plan.places.scratch
        self.service = AsyncService(self)
        self.artifacts = AsyncArtifacts(self._request)
        self.capabilities = runtime.rights
        self.budget = AsyncBudget(self.service.request)
        client = runtime.service
        self.memory = AsyncMemory(self.service.request, client.largest, client.largest_reply, runtime.boot.embedding)
        self.causal = AsyncCausal(self.service.request, runtime.service.largest)

    @classmethod
    async def run(cls, runtime: AgentRuntime, program: Callable[[AsyncContext], Awaitable[Any]]) -> None:
        """Run an async program with a context of its own."""
        context = cls(runtime)
        try:
            await program(context)
        finally:
            await context._bridge.close()

    async def next_change(self, deadline: float | None) -> bool:
        """Wait until something was served; False at the deadline (of the loop's clock).

        Any number of tasks may wait: one of them watches the mailbox, the others are told by it.
        """
        left = _PATIENCE_S if deadline is None else min(deadline - self._loop.time(), _PATIENCE_S)
        if left <= 0:
            return False
        if self._watched:
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return deadline is None or self._loop.time() < deadline
            return True
        self._watched = True
        try:
            await self._bridge.wait(left)
            self._runtime.dispatch()
            # What has arrived is taken now, so that a task which waits for something else does not see it as news for
            # ever.
            self._runtime.inbox.pick(self._runtime.calls.match)
        finally:
            self._watched = False
            self._changed.set()
            self._changed = asyncio.Event()
        return True

    # --- messages -----------------------------------------------------------------------------------------------------

    async def recv(self, timeout: float | None = None) -> Message | None:
        """As ``Context.recv``."""
        deadline = None if timeout is None else self._loop.time() + timeout
        while True:
            message = self._runtime.receive(0.0)
            if message is not None or self._runtime.stopping:
                return message
            if not await self.next_change(deadline):
                return None

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the agent is to stop."""
        while (message := await self.recv()) is not None:
            yield message

    @property
    def stopping(self) -> bool:
        """Whether the kernel asked this agent to end."""
        return self._runtime.stopping

    async def _patiently(self, attempt: Callable[[], Any], timeout: float) -> Any:
        """Try, and try again while the ring is full."""
        deadline = self._loop.time() + timeout
        pause = _RETRY_S[0]
        while True:
            try:
                return attempt()
            except RingFull:
                if self._loop.time() >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_S[1])

    async def _channel(self, target: Target, payload: Any) -> None:
        """Open the channel to a target without blocking the loop."""
        body = self._runtime.outbox.missing_channel(target, payload)
        if body is not None:
            self._runtime.outbox.take_channel(body, *await self._request(body))

    async def send(self, target: int | str | Target, payload: Any, timeout: float = limits.SEND_TIMEOUT_S) -> int:
        """As ``Context.send``."""
        where = parse_target(target)
        if isinstance(where, Topic):
            return await self.publish(where.name, payload, timeout)
        await self._channel(where, payload)
        sent = await self._patiently(lambda: self._runtime.outbox.send(where, payload, 0.0), timeout)
        return int(sent[1])

    async def call(self, target: int | str | Target, payload: Any, timeout: float = limits.CALL_TIMEOUT_S) -> Any:
        """As ``Context.call``; any number may be under way at once."""
        where = parse_target(target)
        deadline = self._loop.time() + timeout
        await self._channel(where, payload)
        pid, position = await self._patiently(lambda: self._runtime.outbox.send(where, payload, 0.0), timeout)
        call = self._runtime.calls.begin(pid, position)
        try:
            while (reply := self._runtime.call_result(call)) is None:
                if not await self.next_change(deadline):
                    self._runtime.calls.abandon(call)
                    raise WeftTimeout(f"agent {pid} did not reply within {timeout:g} s")
        finally:
            self._runtime.calls.end(call)
        return reply.payload

    async def reply(self, message: Message, payload: Any, timeout: float = limits.SEND_TIMEOUT_S) -> None:
        """As ``Context.reply``."""
        await self._channel(Process(message.sender) if message.sender else Kernel(), payload)
        await self._patiently(lambda: self._runtime.outbox.reply(message, payload, 0.0), timeout)

    async def fail(self, message: Message, code: str, text: str, timeout: float = limits.SEND_TIMEOUT_S) -> None:
        """As ``Context.fail``."""
        await self.reply(message, Failure(code, text), timeout)

    async def publish(self, topic: str, payload: Any, timeout: float = 0.0) -> int:
        """As ``Context.publish``."""
        if topic not in self._runtime.outbox.topics:
            self._runtime.outbox.topics[topic] = set()
            try:
                answer, fds = await self._request(f.OpenTopic(topic))
            except WeftError:
                del self._runtime.outbox.topics[topic]
                raise
            close_all(fds)
            self._runtime.outbox.topics[topic].update(answer.values.get("members", ()))
        return self._runtime.outbox.publish(topic, payload, timeout)

    async def subscribe(self, topic: str) -> None:
        """As ``Context.subscribe``."""
        await self._ask(f.Subscribe(topic))

    async def unsubscribe(self, topic: str) -> None:
        """As ``Context.unsubscribe``."""
        await self._ask(f.Subscribe(topic, on=False))

    # --- processes ----------------------------------------------------------------------------------------------------

    async def spawn(
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
    ) -> int:
        """As ``Context.spawn``."""
        words = [str(arg) for arg in args]
        amounts = dict(limits or {})
        body = f.SpawnChild(program, words, name, dict(env or {}), amounts, capabilities, restart, role, sandbox)
        return int((await self._ask(body, _START_S))["pid"])

    async def request_capability(self, rights: Sequence[str] | str, reason: str) -> dict[str, Any]:
        """As ``Context.request_capability``."""
        wanted = [rights] if isinstance(rights, str) else list(rights)
        return await self._ask(f.RequestCapability(wanted, reason))

    async def stop(self, pid: int, *, force: bool = False) -> None:
        """As ``Context.stop``."""
        await self._ask(f.StopProcess(pid, force))

    async def monitor(self, pid: int) -> None:
        """As ``Context.monitor``."""
        await self._ask(f.Monitor(pid))

    async def register_service(self, name: str, methods: Sequence[str] = ()) -> None:
        """As ``Context.register_service``."""
        await self._ask(f.RegisterService(name, list(methods)))

    def log(self, text: str, level: str = "info") -> None:
        """As ``Context.log``; a line that finds no room is dropped rather than waited for."""
        self._runtime.control.send(f.LogLine(level, str(text)[:2000]))

    async def _ask(self, body: f.AgentRequestBody, timeout: float = limits.CONTROL_TIMEOUT_S) -> dict[str, Any]:
        answer, fds = await self._request(body, timeout)
        close_all(fds)
        return answer.values

    async def _request(
        self, body: f.AgentRequestBody, timeout: float = limits.CONTROL_TIMEOUT_S, fds: Sequence[int] = ()
    ) -> tuple[f.Answer, list[int]]:
        serial = self._runtime.begin_request(body, fds)
        deadline = self._loop.time() + timeout
        try:
            while (answered := self._runtime.answer(serial)) is None:
                if not await self.next_change(deadline):
                    raise WeftTimeout(f"the kernel did not answer {type(body).__name__} within {timeout:g} s")
        finally:
            self._runtime.end_request(serial)
        return checked_answer(answered)


class AsyncService:
    """The chain and the gate, awaitable."""

    def __init__(self, context: AsyncContext) -> None:
        self._context = context

    async def request(self, request: Request, timeout: float = limits.CONTROL_TIMEOUT_S) -> Reply:
        """Send any request and wait for its reply.

        Raises:
            ServiceUnavailable: no reply in time.
        """
        context = self._context
        pending = context._runtime.service.submit(request)
        deadline = context._loop.time() + timeout
        while not pending.done:
            if not await context.next_change(deadline):
                raise ServiceUnavailable(f"the service did not answer within {timeout:g} s")
        return pending.result(0.0)

    async def append(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        subject: str | None = None,
        durable: bool | None = None,
        key: str | None = None,
        artifact: ArtifactRef | None = None,
    ) -> Reply:
        """As ``ServiceClient.append``; ``durable`` is what the configuration says, unless given."""
        payload = with_artifact(payload, artifact)
        if durable is None:
            durable = self._context._runtime.service.durable
        return await self.request(Append(kind, payload, subject, None, durable, key))

    async def resources(
        self, question: str, path: str = "/", *, certificates: Sequence[bytes] = (), **params: Any
    ) -> Reply:
        """Ask about the resource tree: ``tree``, ``inspect`` or ``rank``; see ``Resources``."""
        return await self.request(AskTree(question, path, params, list(certificates)))

    async def derive(self, step: Derivation, timeout: float = limits.CONTROL_TIMEOUT_S) -> Reply:
        """Put on the log from what something was made; see ``ServiceClient.derive`` for the names in it."""
        fields = (step.child, step.child_hash, step.parent, step.parent_hash)
        return await self.request(Derive(*fields, step.type, step.mutations, step.description), timeout)

    async def gate(self, action: str, context: dict[str, Any] | None = None) -> Reply:
        """Ask the gate; it fails closed."""
        return await self.request(GateCheck(action, context or {}))

    async def require(
        self, action: str, context: dict[str, Any] | None = None, *, wait_s: float = 0.0, executor: int | None = None
    ) -> HeldPermit:
        """As ``ServiceClient.require``; other tasks go on while a person decides."""
        question = GateCheck(action, context or {}, executor=executor)
        reply = await self._asked(question, action, limits.GATE_TIMEOUT_S)
        assert isinstance(reply, Decided)
        decision = reply.decision
        if not isinstance(decision, Defer) or decision.request is None or wait_s <= 0:
            require(decision, action)
            return HeldPermit(action=action)
        request, loop, noticed = decision.request, self._context._loop, self._context._runtime.service.noticed
        deadline = loop.time() + wait_s
        while True:
            noticed.pop(request, None)
            reply = await self._asked(AskApproval(request), action, limits.SERVICE_TIMEOUT_S)
            assert isinstance(reply, Done)
            held = held_from(reply.values, request, action)
            if held is not None:
                return held
            if loop.time() >= deadline:
                raise GateDeferred(f"{action}: request {request} was not decided within {wait_s:g} s; it still waits")
            again = min(loop.time() + limits.APPROVAL_LOOK_S, deadline)
            while request not in noticed and loop.time() < again:
                await self._context.next_change(again)

    async def _asked(self, question: Request, action: str, timeout: float) -> Reply:
        try:
            return await self.request(question, timeout)
        except WeftError as error:
            raise GateUnavailable(f"{action} must not be done, because the gate cannot be asked: {error}") from error

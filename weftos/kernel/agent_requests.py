"""What agents ask of the kernel, as one table from frame to handler. Identity is the socket; nothing here believes a
pid in a frame.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from weftos import limits
from weftos.agent import frames as f
from weftos.agent.rights import check_action
from weftos.errors import CapabilityDenied, InvalidRequest, WeftError
from weftos.ipc.frames import close_all
from weftos.ipc.payloads import KernelSignal
from weftos.kernel import confinement
from weftos.kernel.agent_artifacts import AgentArtifacts
from weftos.kernel.capabilities import Capabilities
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason
from weftos.kernel.gatekeeper import PRESENTED
from weftos.kernel.grants import Grant, Grants
from weftos.kernel.inherit import capabilities_for, limits_from
from weftos.kernel.message_proofs import MessageProofs
from weftos.kernel.operator import Operator
from weftos.kernel.process import ProcessEntry
from weftos.kernel.registry import ServiceRegistry
from weftos.kernel.state import LogLevel
from weftos.kernel.supervisor import Supervisor

__all__ = ["AgentRequests"]

log = logging.getLogger(__name__)

#: What a refused action was about, in a context.
_ABOUT: Final = {int: "target_pid", str: "topic"}
_LEVELS: Final = {
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "warn": LogLevel.WARN,
    "warning": LogLevel.WARN,
    "error": LogLevel.ERROR,
}


class AgentRequests:
    """Serves the control sockets of all agents.

    Args:
        core: shared state.
        capabilities: changes what agents hold.
        grants: decides channels and topics.
        operator: takes messages to pid 0.
        registry: services.
        proofs: takes answers about messages.
    """

    def __init__(
        self,
        core: Core,
        capabilities: Capabilities,
        grants: Grants,
        operator: Operator,
        registry: ServiceRegistry,
        proofs: MessageProofs,
    ) -> None:
        self._core = core
        self._capabilities = capabilities
        self._grants = grants
        self._operator = operator
        self._registry = registry
        self._artifacts = AgentArtifacts(core)
        self.supervisor: Supervisor
        self._tasks: set[asyncio.Task[None]] = set()
        self._frames: dict[type, Callable[[Agent, Any], None]] = {
            f.Ready: self._ready,
            f.Note: self._note,
            f.AgentRequest: self._request,
            f.Kick: lambda agent, _frame: self._operator.kicked(agent),
            f.LogLine: self._log,
            f.DeadLetterReport: self._dead_letter,
            f.RingReport: self._ring_report,
            f.LeafFrame: proofs.answered,
            f.Refused: self._refused,
            f.PongFrame: lambda _agent, _frame: None,
        }
        self._bodies: dict[type, Callable[[Agent, Any], Awaitable[Grant]]] = {
            f.OpenChannel: grants.open_channel,
            f.GrowChannel: grants.grow_channel,
            f.OpenTopic: grants.open_topic,
            f.Subscribe: lambda agent, body: grants.subscribe(agent, body.topic, on=body.on),
            f.BroadcastPeers: lambda agent, _body: grants.broadcast_peers(agent),
            f.SpawnChild: self._spawn,
            f.StopProcess: self._stop,
            f.RegisterService: self._register,
            f.Monitor: self._monitor,
            f.Describe: self._describe,
            f.GetArtifact: self._artifacts.get,
            f.ReleaseArtifact: self._artifacts.release,
            f.RequestCapability: self._request_capability,
        }

    def take(self, agent: Agent, frame: Any, fds: list[int]) -> None:
        """Serve one frame. Descriptors come with an artifact only; what comes otherwise is closed."""
        if type(frame) is f.AgentRequest and type(frame.body) is f.PutArtifact:
            # Nothing is asked of the descriptor but whether it is sealed memory: all else could keep us waiting.
            body: f.PutArtifact = frame.body
            self._begin(agent, frame, lambda: self._artifacts.put(agent, body, fds), fds)
            return
        if type(frame) is f.Confined:
            confinement.take(self._core, agent, frame, fds)
            return
        if type(frame) is f.Listening:
            self._core.refusals.listen(agent, fds)
            return
        close_all(fds)
        self._frames[type(frame)](agent, frame)

    # --- notes --------------------------------------------------------------------------------------------------------

    def _ready(self, agent: Agent, frame: f.Ready) -> None:
        self.supervisor.became_ready(agent, frame)

    def _note(self, agent: Agent, frame: f.Note) -> None:
        agent.entry.note = (frame.kind, frame.message, frame.traceback)

    def _log(self, agent: Agent, frame: f.LogLine) -> None:
        text = frame.text.replace("\n", "\\n")[:2000]
        self._core.emit(log, _LEVELS.get(frame.level, LogLevel.INFO), f"[{agent.entry.agent_id}] {text}")

    def _dead_letter(self, agent: Agent, frame: f.DeadLetterReport) -> None:
        self._core.bury(
            DeadLetter(
                message_id="",
                sender=agent.pid,
                target=frame.target,
                reason=DeadLetterReason.INBOX_FULL,
                detail=f"{frame.reason} ({frame.preview[:200]})",
                payload_type=frame.payload_type[:40],
                data=b"",
                timestamp=time.time(),
            )
        )

    def _ring_report(self, agent: Agent, frame: f.RingReport) -> None:
        agent.broken_rings += 1
        record = self._core.channels.by_id(frame.ring_id)
        sender = record.src if record is not None and record.dst == agent.pid else None
        self._core.emit(
            log,
            LogLevel.WARN,
            f"agent {agent.pid} reports ring {frame.ring_id} from agent {sender}: {frame.message[:300]}",
        )
        if frame.code == "shm.ring_corrupted" and record is not None and sender is not None:
            self._grants.revoke(record, f"its reader found it broken: {frame.message[:200]}", DeadLetterReason.TIMEOUT)

    def _refused(self, agent: Agent, frame: f.Refused) -> None:
        """Write down what an agent's own client refused it, if it was right to do so."""
        spec, target = agent.entry.spec, frame.target
        if isinstance(target, str):
            target = target[: limits.RIGHTS_NAME_CHARS]
        try:
            check_action(spec.capabilities, agent.pid, spec.parent, frame.action, target)
        except CapabilityDenied as error:
            payload: dict[str, Any] = {"pid": agent.pid, "action": frame.action, "reason": str(error)}
            kind = "ipc.deny" if frame.action.startswith("ipc.") else "capability.deny"
            if kind == "ipc.deny":
                payload["context"] = {} if target is None else {_ABOUT[type(target)]: target}
            self._core.record(kind, payload, subject=agent.entry.agent_id)
        except (WeftError, TypeError, AttributeError) as error:
            log.debug("agent %d says that it was refused %s: %s", agent.pid, frame.action[:60], error)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _request(self, agent: Agent, frame: f.AgentRequest) -> None:
        self._begin(agent, frame, lambda: self._bodies[type(frame.body)](agent, frame.body), [])

    def _begin(
        self, agent: Agent, frame: f.AgentRequest, serve: Callable[[], Awaitable[Grant]], fds: list[int]
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(agent, frame, agent.entry.incarnation, serve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: close_all(fds))

    async def _serve(
        self, agent: Agent, frame: f.AgentRequest, incarnation: int, serve: Callable[[], Awaitable[Grant]]
    ) -> None:
        # Each request is served by a task of its own, and the permit that came with it is seen by nothing else.
        PRESENTED.set(frame.permit)
        try:
            values, grant, fds = await serve()
            answer = f.Answer(frame.serial, "", "", values, grant)
        except WeftError as error:
            log.debug("%s of agent %d failed: %s: %s", type(frame.body).__name__, agent.pid, error.code, error)
            answer, fds = f.Answer(frame.serial, error.code, str(error)), []
        if agent.entry.incarnation == incarnation:
            agent.signal_frame(answer, fds)
        if type(frame.body) is f.GetArtifact:
            close_all(fds)  # made for this answer; those of a grant belong to its ring

    async def _spawn(self, agent: Agent, body: f.SpawnChild) -> Grant:
        parent = agent.entry.spec
        if not parent.capabilities.can_spawn:
            log.warning("agent %d was refused to spawn %s: can_spawn is false", agent.pid, body.program)
            self._core.record("capability.deny", {"pid": agent.pid, "action": "agent.spawn", "program": body.program})
            raise CapabilityDenied(f"agent {agent.pid} may not spawn (can_spawn is false)")
        spec = f.SpawnSpec(
            program=body.program,
            args=tuple(body.args),
            name=body.name or default_name(body.program),
            env=body.env,
            limits=limits_from(body.limits, parent.limits),
            capabilities=capabilities_for(body.role, body.capabilities, agent.entry, body.sandbox),
            role=body.role,
            restart=body.restart,
            parent=agent.pid,
        )
        child = await self.supervisor.spawn(spec, agent.pid)
        return {"pid": child.pid}, None, []

    async def _request_capability(self, agent: Agent, body: f.RequestCapability) -> Grant:
        changed = await self._capabilities.request(agent, body.rights, body.reason)
        return {"decision": "permit", "epoch": changed.entry.epoch}, None, []

    async def _stop(self, agent: Agent, body: f.StopProcess) -> Grant:
        if body.pid != agent.pid and body.pid not in self._core.table.descendants(agent.pid):
            self._core.table.get(body.pid)
            log.warning("agent %d was refused to stop agent %d, which is none of its descendants", agent.pid, body.pid)
            self._core.record("capability.deny", {"pid": agent.pid, "action": "agent.stop", "target": body.pid})
            raise CapabilityDenied(f"agent {agent.pid} may stop itself and its descendants, not agent {body.pid}")
        async with self._core.gatekeeper.effect(agent.pid, "agent.stop", {"target": body.pid}):
            target = self._core.agents.get(body.pid)
            if target is not None:
                self.supervisor.stops.request_stop(target, graceful=not body.force, reason=f"agent {agent.pid} asked")
            return {"pid": body.pid}, None, []

    async def _register(self, agent: Agent, body: f.RegisterService) -> Grant:
        if not body.on:
            self._registry.withdraw(body.name, agent.pid)
            log.info("agent %d withdrew service %r", agent.pid, body.name)
            self._core.record("service.unregister", {"name": body.name, "pid": agent.pid})
            return {}, None, []
        if not body.name or len(body.name) > 255 or not body.name.isprintable() or "/" in body.name:
            raise InvalidRequest(f"service name {body.name[:40]!r} is not 1 to 255 printable characters without '/'")
        async with self._core.gatekeeper.effect(agent.pid, "service.register", {"name": body.name}):
            if not agent.entry.spec.capabilities.can_ipc:
                # It was taken while the gate was asked.
                raise CapabilityDenied(f"agent {agent.pid} may not offer services (can_ipc is false)")
            if self._registry.offer(body.name, agent.pid, tuple(body.methods)):
                log.info("agent %d offers service %r", agent.pid, body.name)
                told = {"name": body.name, "pid": agent.pid, "methods": list(body.methods)}
                self._core.record("service.register", told)
            return {}, None, []

    async def _monitor(self, agent: Agent, body: f.Monitor) -> Grant:
        target = self._core.agents.get(body.pid)
        if target is None:
            entry = self._core.table.get(body.pid)
            # As in Erlang: watching the dead tells at once.
            agent.signal_frame(f.SignalFrame(KernelSignal.MONITOR_DOWN, _down(entry)))
            return {}, None, []
        known = target.links if body.link else target.watchers
        if agent.pid not in known:
            known.add(agent.pid)
            if body.link:
                agent.links.add(target.pid)
            payload = {"pid": agent.pid, "target": target.pid, "link": body.link}
            self._core.record("agent.monitor", payload, subject=agent.entry.agent_id)
        return {}, None, []

    async def _describe(self, _agent: Agent, body: f.Describe) -> Grant:
        entry = self._core.table.get(body.pid)
        values = {
            "pid": entry.pid,
            "name": entry.spec.name,
            "state": entry.state.value,
            "incarnation": entry.incarnation,
            "restarts": entry.restarts,
            "parent": entry.spec.parent,
        }
        return values, None, []

    def gone(self, agent: Agent) -> None:
        """An agent ended for good: tell those who watch it or are linked to it, and withdraw its services."""
        data = _down(agent.entry)
        for pid in agent.watchers:
            self._tell(pid, KernelSignal.MONITOR_DOWN, data)
        for pid in agent.links:
            self._tell(pid, KernelSignal.LINK_EXIT, data)
            linked = self._core.agents.get(pid)
            if linked is not None:
                linked.links.discard(agent.pid)
        for name in self._registry.forget(agent.pid):
            log.info("service %r went with agent %d", name, agent.pid)
            self._core.record("service.unregister", {"name": name, "pid": agent.pid})

    def _tell(self, pid: int, signal: KernelSignal, data: dict[str, Any]) -> None:
        agent = self._core.agents.get(pid)
        if agent is not None:
            agent.signal_frame(f.SignalFrame(signal, data))


def _down(entry: ProcessEntry) -> dict[str, Any]:
    """What a watcher is told about an agent that ended."""
    record = entry.last_exit
    return {
        "pid": entry.pid,
        "reason": record.message if record else "it has ended",
        "class": record.reason.value if record else "unknown",
    }


def default_name(program: str) -> str:
    """Name an agent after its program: the built-in's name, the function's module, or the file's stem."""
    stem = program.split(":", maxsplit=1)[0].rsplit("/", 1)[-1].removesuffix(".py").rsplit(".", 1)[-1]
    clean = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem).strip("._-")
    return clean[:64] or "agent"

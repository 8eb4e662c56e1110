"""The control socket's methods, one small function each. The table of names and types is ``weftos.rpc.methods``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

import weftos
from weftos.agent.frames import SpawnSpec
from weftos.errors import AgentExited, BackendNotAvailable, InvalidRequest, WrongState
from weftos.governance.capability import ResourceLimits
from weftos.ids import KERNEL_PID
from weftos.kernel.agent_requests import default_name
from weftos.kernel.artifact_handlers import ArtifactHandlers
from weftos.kernel.budget_handlers import BudgetHandlers
from weftos.kernel.chain_pages import raw_page
from weftos.kernel.core import Agent, Core
from weftos.kernel.ecc_handlers import EccHandlers
from weftos.kernel.governance_handlers import GovernanceHandlers
from weftos.kernel.grants import Grants
from weftos.kernel.inherit import capabilities_for, limits_from
from weftos.kernel.operator import Operator
from weftos.kernel.registry import ServiceRegistry, overall
from weftos.kernel.resource_handlers import ResourceHandlers
from weftos.kernel.sampler import resident_bytes
from weftos.kernel.state import LogLevel
from weftos.kernel.supervisor import Supervisor
from weftos.kernel.views import Views, exit_view, reply_view
from weftos.rpc import agent_types as a
from weftos.rpc import chain_types as ct
from weftos.rpc import kernel_types as kt
from weftos.rpc import message_types as mt
from weftos.rpc import retention_types as n
from weftos.rpc import types as t
from weftos.rpc.chain_view import chain_row, chain_status, plain
from weftos.rpc.state_types import BudgetHeld, KernelHeld
from weftos.service import protocol as p

__all__ = ["Handlers"]

_LEVELS: Final = {
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "warn": LogLevel.WARN,
    "error": LogLevel.ERROR,
}
#: Bytes of an agent's log read for one answer.
_LOG_CHUNK: Final = 256 * 1024


class Handlers:
    """All methods.

    Args:
        core: shared state.
        supervisor: lives and deaths.
        grants: topics.
        operator: messages of pid 0.
        registry: services.
        views: results.
        shut_down: begins the shutdown.
        restart_service: replaces the service process.
        enforced: limits that this machine enforces, and sentences about what it does not.
    """

    def __init__(
        self,
        core: Core,
        supervisor: Supervisor,
        grants: Grants,
        operator: Operator,
        registry: ServiceRegistry,
        views: Views,
        shut_down: Callable[[str], None],
        restart_service: Callable[[], Awaitable[tuple[int | None, int | None]]],
        enforced: tuple[list[str], list[str]],
    ) -> None:
        self._core = core
        self._supervisor = supervisor
        self._grants = grants
        self._operator = operator
        self._registry = registry
        self._views = views
        self._shut_down = shut_down
        self._restart_service = restart_service
        self._enforced = enforced

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "ping": self.ping,
            "kernel.status": self.kernel_status,
            "kernel.ps": self.agent_list,
            "kernel.state": self.kernel_state,
            "kernel.services": self.kernel_services,
            "kernel.logs": self.kernel_logs,
            "kernel.health": self.kernel_health,
            "kernel.shutdown": self.kernel_shutdown,
            "kernel.kill-process": self.kill_process,
            "kernel.restart-service": self.restart_service,
            "agent.spawn": self.agent_spawn,
            "agent.stop": self.agent_stop,
            "agent.restart": self.agent_restart,
            "agent.suspend": self.agent_suspend,
            "agent.resume": self.agent_resume,
            "agent.list": self.agent_list,
            "agent.inspect": self.agent_inspect,
            "agent.send": self.agent_send,
            "agent.logs": self.agent_logs,
            "chain.status": self.chain_status,
            "chain.local": self.chain_local,
            "chain.checkpoint": self.chain_checkpoint,
            "chain.rotate-key": self.chain_rotate_key,
            "chain.redact": self.chain_redact,
            "chain.bridge-add": self.chain_bridge_add,
            "chain.bridge-list": self.chain_bridge_list,
            "chain.tail-from": self.chain_tail_from,
            "chain.archive": self.chain_archive,
            "chain.prune": self.chain_prune,
            "chain.retention": self.chain_retention,
            "custody.attest": self.custody_attest,
            **ResourceHandlers(self._core.service, self._core.acting.by).table(),
            **GovernanceHandlers(self._core.service, self._core.acting).table(),
            **EccHandlers(self._core.service).table(),
            "ipc.topics": self.ipc_topics,
            "ipc.publish": self.ipc_publish,
            "ipc.subscribe": self.ipc_subscribe,
            "ipc.dead-letters": self.dead_letters,
            **ArtifactHandlers(self._core).table(),
            **BudgetHandlers(self._core).table(),
        }

    def _asked(self) -> str:
        return f"{self._core.acting.by()} asked"

    # --- kernel -------------------------------------------------------------------------------------------------------

    async def ping(self, _params: t.NoParams) -> str:
        return "pong"

    async def kernel_status(self, _params: t.NoParams) -> kt.KernelStatus:
        core = self._core
        return kt.KernelStatus(
            os_pid=os.getpid(),
            state=core.life.state.value,
            version=weftos.__version__,
            boot_id=core.boot_id.hex(),
            home=str(core.home.root),
            uptime_secs=round(time.monotonic() - core.started_monotonic, 3),
            process_count=len(core.table),
            service_count=len(self._registry.records()),
            max_processes=core.table.max_processes,
            health_check_interval_secs=core.config.kernel.health_check_interval_secs,
            rss_bytes=resident_bytes(os.getpid()),
            clean_start=not core.unclean_shutdown,
            unclean_shutdown=core.unclean_shutdown,
            socket=str(core.home.socket),
            log=str(core.home.log),
            config=core.config_path,
        )

    async def kernel_state(self, _params: t.NoParams) -> KernelHeld:
        # ``ask`` submits before it first waits, so this is one turn of the loop: whatever was decided before was
        # submitted before, and nothing else was.
        # Tokens and settings alone change in several turns; none of those is under way here.
        async with self._core.changing:
            held = self._views.held(-1)
            found = await self._core.service.done(p.BudgetState())
        budgets = msgspec.convert(found["budgets"], list[BudgetHeld])
        return msgspec.structs.replace(held, seq=found["head_seq"], budgets=budgets)

    async def kernel_services(self, _params: t.NoParams) -> list[kt.ServiceInfo]:
        await self._registry.check()
        return self._views.services()

    async def kernel_logs(self, params: kt.LogsParams) -> list[kt.LogEntry]:
        events = self._core.events.tail(params.count, _LEVELS[params.level], params.since)
        return [
            kt.LogEntry(
                timestamp=e.timestamp,
                phase=e.phase.value,
                level=e.level.name.lower(),
                message=e.message,
                serial=e.serial,
            )
            for e in events
        ]

    async def kernel_health(self, _params: t.NoParams) -> kt.HealthReport:
        records = await self._registry.check()
        system = [record for record in records if record.system is not None]
        enforced, lacking = self._enforced
        return kt.HealthReport(
            overall=overall([record.last for record in system]).value,
            services=[
                kt.ServiceHealth(name=record.name, health=record.last.health.value, detail=record.last.detail)
                for record in system
            ],
            limits_enforced=enforced,
            degraded=[
                *lacking,
                *(
                    f"agent {entry.pid} ({entry.spec.name}) is quarantined"
                    for entry in self._core.table.ended()
                    if entry.quarantined
                ),
            ],
        )

    async def kernel_shutdown(self, _params: t.NoParams) -> kt.ShutdownResult:
        self._core.life.require_running()
        # After this answer has been written.
        asyncio.get_running_loop().call_later(0.01, self._shut_down, self._asked())
        return kt.ShutdownResult(state="shutting_down")

    async def kill_process(self, params: kt.KillParams) -> kt.KillResult:
        agent = self._core.agent(params.pid)
        self._supervisor.stops.request_stop(agent, graceful=params.graceful, reason=self._asked())
        return kt.KillResult(pid=params.pid, graceful=params.graceful, state=agent.entry.state.value)

    async def restart_service(self, params: kt.NameParams) -> kt.RestartServiceResult:
        record = self._registry.get(params.name)
        if record.owner_pid is not None:
            old = self._core.agent(record.owner_pid).entry.os_pid
            agent = await self._supervisor.restart(record.owner_pid, self._asked())
            return kt.RestartServiceResult(name=params.name, old_pid=old, new_pid=agent.entry.os_pid)
        if params.name != "service":
            raise WrongState(f"{params.name!r} is a part of the kernel's own process and restarts with it")
        old_pid, new_pid = await self._restart_service()
        return kt.RestartServiceResult(name=params.name, old_pid=old_pid, new_pid=new_pid)

    # --- agents -------------------------------------------------------------------------------------------------------

    async def agent_spawn(self, params: a.SpawnParams) -> a.SpawnResult:
        if params.backend != "native":
            raise BackendNotAvailable(f"backend {params.backend!r} does not exist in this version; there is: native")
        parent = self._core.agent(params.parent_pid).entry if params.parent_pid else None
        defaults = ResourceLimits(**msgspec.structs.asdict(self._core.config.limits))
        spec = SpawnSpec(
            program=params.program,
            args=tuple(params.args),
            name=params.name or default_name(params.program),
            env=params.env,
            limits=limits_from(params.limits, parent.spec.limits if parent else defaults),
            capabilities=capabilities_for(params.role, params.capabilities, parent, params.sandbox),
            role=params.role,
            restart=params.restart,
            parent=params.parent_pid or KERNEL_PID,
        )
        return spawned(await self._supervisor.spawn(spec, KERNEL_PID))

    async def agent_stop(self, params: a.StopParams) -> a.StopResult:
        entry = await self._supervisor.stops.stop(
            params.pid, graceful=params.graceful, reason=self._asked(), timeout_s=params.timeout_secs
        )
        record = exit_view(entry.last_exit)
        if record is None:
            raise AgentExited(f"agent {params.pid} ended before it had run")
        return a.StopResult(pid=params.pid, state=entry.state.value, exit=record)

    async def agent_restart(self, params: a.PidParams) -> a.SpawnResult:
        return spawned(await self._supervisor.restart(params.pid, self._asked()))

    async def agent_suspend(self, params: a.PidParams) -> a.StateResult:
        entry = await self._supervisor.stops.suspend(params.pid)
        return a.StateResult(pid=params.pid, state=entry.state.value)

    async def agent_resume(self, params: a.PidParams) -> a.StateResult:
        entry = await self._supervisor.stops.resume(params.pid)
        return a.StateResult(pid=params.pid, state=entry.state.value)

    async def agent_list(self, params: a.ListParams) -> list[a.ProcessInfo]:
        return self._views.rows(ended=params.all)

    async def agent_inspect(self, params: a.PidParams) -> a.AgentDetail:
        return self._views.detail(params.pid)

    async def agent_send(self, params: a.SendParams) -> a.SendResult:
        agent = self._core.agent(params.pid)
        started = time.monotonic()
        if not params.wait:
            self._operator.post(agent, params.message)
            return a.SendResult(delivered=True)
        reply, kind = reply_view(await self._operator.ask(agent, params.message, params.timeout_secs))
        return a.SendResult(
            delivered=True, reply=reply, reply_type=kind, elapsed_secs=round(time.monotonic() - started, 6)
        )

    async def agent_logs(self, params: a.LogParams) -> a.AgentLog:
        entry = self._core.table.get(params.pid)
        lines, offset = read_log(str(self._core.home.agent_log(params.pid)), params.count, params.offset)
        return a.AgentLog(pid=params.pid, lines=lines, offset=offset, state=entry.state.value, ended=not entry.present)

    # --- chain --------------------------------------------------------------------------------------------------------

    async def chain_status(self, _params: t.NoParams) -> ct.ChainStatus:
        reply = await self._core.service.ask(p.ChainHead())
        assert isinstance(reply, p.Head)
        return chain_status(reply.values)

    async def chain_local(self, params: t.CountParams) -> list[ct.ChainRow]:
        reply = await self._core.service.ask(p.ChainTail(params.count))
        assert isinstance(reply, p.Tail)
        return [chain_row(record) for record in reply.records]

    async def chain_checkpoint(self, _params: t.NoParams) -> ct.CheckpointResult:
        values = await self._core.service.done(p.MakeCheckpoint())
        return ct.CheckpointResult(**values | {"root": values["root"].hex(), "note": values["note"].decode()})

    async def chain_rotate_key(self, _params: t.NoParams) -> ct.RotateResult:
        return ct.RotateResult(**await self._core.service.done(p.RotateKeys()))

    async def chain_redact(self, params: ct.RedactParams) -> ct.RedactResult:
        return ct.RedactResult(
            **await self._core.service.done(p.Redact(params.seq, params.reason, self._core.acting.by()))
        )

    async def chain_bridge_add(self, params: ct.BridgeParams) -> ct.BridgeHead:
        proof = None if params.proof is None else [bytes.fromhex(one) for one in params.proof]
        return ct.BridgeHead(**plain(await self._core.service.done(p.AddBridge(params.note.encode(), proof))))

    async def chain_archive(self, params: n.ArchiveParams) -> n.SegmentPlan:
        return msgspec.convert(await self._core.service.done(p.Retain("archive", params.dry_run)), n.SegmentPlan)

    async def chain_prune(self, params: n.PruneParams) -> n.SegmentPlan:
        rules = {key: value for key, value in msgspec.structs.asdict(params).items() if value and key != "dry_run"}
        return msgspec.convert(await self._core.service.done(p.Retain("prune", params.dry_run, rules)), n.SegmentPlan)

    async def chain_retention(self, _params: t.NoParams) -> n.RetentionStatus:
        return msgspec.convert(await self._core.service.done(p.Retain("status")), n.RetentionStatus)

    async def chain_bridge_list(self, _params: t.NoParams) -> list[ct.BridgeHead]:
        return [ct.BridgeHead(**plain(head)) for head in (await self._core.service.done(p.ListBridges()))["heads"]]

    async def chain_tail_from(self, params: ct.PageParams) -> ct.PageResult:
        return await raw_page(self._core.service, params)

    async def custody_attest(self, _params: t.NoParams) -> ct.AttestResult:
        values = await self._core.service.done(p.Attest())
        return ct.AttestResult(**values | {"attestation": plain(values["attestation"])})

    # --- messages -----------------------------------------------------------------------------------------------------

    async def ipc_topics(self, _params: t.NoParams) -> list[mt.TopicInfo]:
        return self._views.topics()

    async def ipc_publish(self, params: mt.PublishParams) -> mt.PublishResult:
        subscribers, delivered = self._operator.publish(params.topic, params.message)
        return mt.PublishResult(topic=params.topic, subscribers=subscribers, delivered=delivered)

    async def ipc_subscribe(self, params: mt.SubscribeParams) -> mt.SubscribeResult:
        await self._grants.subscribe(self._core.agent(params.pid), params.topic, on=True)
        return mt.SubscribeResult(pid=params.pid, topic=params.topic)

    async def dead_letters(self, params: t.CountParams) -> list[mt.DeadLetterInfo]:
        return self._views.dead_letters(params.count)


def spawned(agent: Agent) -> a.SpawnResult:
    """The answer to a spawn or restart that succeeded.

    Raises:
        AgentExited: the agent was ready, and has ended since.
    """
    entry = agent.entry
    if entry.os_pid is None:
        why = entry.last_exit.message if entry.last_exit else "it has ended"
        raise AgentExited(f"agent {entry.pid} was ready and ended at once: {why}")
    return a.SpawnResult(
        pid=entry.pid,
        os_pid=entry.os_pid,
        agent_id=entry.agent_id,
        name=entry.spec.name,
        incarnation=entry.incarnation,
    )


def read_log(path: str, count: int, offset: int | None) -> tuple[list[str], int]:
    """Read the end of a log, or what came after an offset.

    Returns:
        Whole lines, and the offset behind the last of them.

    Raises:
        InvalidRequest: the offset lies behind the end.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if offset is not None and offset > size:
                raise InvalidRequest(f"the log has {size} bytes; there is no offset {offset}")
            start = max(0, size - _LOG_CHUNK) if offset is None else offset
            file.seek(start)
            data = file.read(_LOG_CHUNK)
    except FileNotFoundError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].decode("utf-8", "replace").splitlines()
    if offset is None:
        lines = lines[-count:] if count else lines
    return lines, start + whole

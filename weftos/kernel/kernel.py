"""The kernel as a whole: its parts put together, boot, and shutdown.

Boot is a list of steps; each leaves what is needed to undo it, and a failed step undoes all before it in reverse.
Shutdown is the same
list backwards: refuse new work, end the agents, close the log with a final event, end the service process, remove what
    has a name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from resource import RLIMIT_NOFILE, getrlimit, setrlimit, struct_rusage
from typing import Any

import weftos
from weftos import limits, logs
from weftos.agent.frames import SignalFrame
from weftos.agent.main import prepare_agents
from weftos.config import Config
from weftos.errors import ChainCorrupted, WeftError
from weftos.home import Home, InstanceLock
from weftos.ids import KERNEL_PID
from weftos.ipc.payloads import KernelSignal
from weftos.kernel import confinement, leftovers, reaper
from weftos.kernel.access_boot import open_access, reload_settings, shared_socket
from weftos.kernel.agent_requests import AgentRequests
from weftos.kernel.capabilities import Capabilities
from weftos.kernel.capability_handlers import CapabilityHandlers
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetterReason
from weftos.kernel.grants import Grants
from weftos.kernel.handlers import Handlers
from weftos.kernel.ledgers import ledger_settings
from weftos.kernel.letters import bury_unread, settle_dead_reader
from weftos.kernel.memory_services import CognitiveTickService, HnswService, memory_status
from weftos.kernel.message_proofs import MessageProofs
from weftos.kernel.operator import Operator
from weftos.kernel.refusals import RefusalDesk
from weftos.kernel.registry import Health, HealthStatus, ServiceRegistry
from weftos.kernel.restart import RestartTracker
from weftos.kernel.retention import retention_policy
from weftos.kernel.rpc_server import RpcServer
from weftos.kernel.sampler import Sampler
from weftos.kernel.service_host import ServiceHost
from weftos.kernel.state import BootPhase, KernelState, LogLevel
from weftos.kernel.supervisor import Supervisor
from weftos.kernel.vault import vault_settings
from weftos.kernel.views import Views
from weftos.kernel.witnesses import WitnessHost
from weftos.service import protocol as p
from weftos.service import tree_protocol as tp
from weftos.service.ecc_quota import Room
from weftos.shm import RingInspector, sweep

__all__ = ["Kernel"]

log = logging.getLogger(__name__)

#: Records of the kernel before this one that are looked at.
_RECENT = 32


class Kernel:
    """One kernel. ``boot`` and ``shut_down`` are called once each, in that order, on one event loop.

    Args:
        home: where the instance lives.
        config: its settings.
        log_fd: where the log goes, and what the service process writes.
    """

    def __init__(self, home: Home, config: Config, log_fd: int = 2) -> None:
        self.core = core = Core(home, config)
        core.refusals = RefusalDesk(core)
        self._log_fd = log_fd
        self._lock = InstanceLock(home.lock)
        self.registry = ServiceRegistry()
        self.grants = Grants(core, self.registry)
        self.operator = Operator(core)
        self.proofs = MessageProofs(core)
        self.capabilities = Capabilities(core, self.grants.enforce)
        self.requests = AgentRequests(core, self.capabilities, self.grants, self.operator, self.registry, self.proofs)
        self.supervisor = Supervisor(core, self.requests.take, self._gone, self._life)
        self.requests.supervisor = self.supervisor
        self.supervisor.fit = self.capabilities.fit
        self.sampler = Sampler(core, self.supervisor)
        self.halted = asyncio.Event()
        self._rpc: RpcServer | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._service_tracker = RestartTracker(
            limits.SERVICE_RESTART_MAX, backoff_max_s=limits.SERVICE_RESTART_BACKOFF_MAX_S
        )
        self._service_gone: asyncio.Future[None] | None = None
        self._service_expected = False
        self._undo: list[tuple[str, Any]] = []
        self._witnesses = WitnessHost(core.home, core.config.chain, log_fd)

    # --- boot ---------------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Bring everything up.

        Raises:
            WeftError: a step failed; what had been done is undone and the kernel is halted.
        """
        try:
            for phase, step in (
                (BootPhase.INIT, self._boot_init),
                (BootPhase.CONFIG, self._boot_config),
                (BootPhase.SERVICES, self._boot_services),
                (BootPhase.TREE, self._boot_tree),
                (BootPhase.AGENTS, self._boot_agents),
                (BootPhase.NETWORK, self._boot_network),
                (BootPhase.ECC, self._boot_ecc),
                (BootPhase.READY, self._boot_ready),
            ):
                self.core.phase = phase
                begun = time.monotonic()
                await step()
                log.debug("boot phase %s done in %.1f ms", phase.value, (time.monotonic() - begun) * 1000)
        except BaseException as error:
            self.core.emit(log, LogLevel.ERROR, f"boot failed: {error}")
            self._record_failure(error)
            await self._roll_back()
            raise

    def _record_failure(self, error: BaseException) -> None:
        service = getattr(self.core, "service", None)
        if service is not None and service.ready:
            self.core.record("boot.failed", {"step": self.core.phase.value, "reason": str(error) or repr(error)})

    def _say(self, message: str) -> None:
        self.core.emit(log, LogLevel.INFO, message)

    async def _boot_init(self) -> None:
        core = self.core
        self._say(f"WeftOS {weftos.__version__}, boot {core.boot_id.hex()[:12]}")
        core.home.ensure()
        self._lock.acquire()
        self._undo.append(("the instance lock", self._lock.release))
        self._say(f"PID 0 (kernel) is OS process {os.getpid()}, instance {core.home.root}")
        for line in leftovers.clean(core.home, core.prefix, core.users.ids):
            core.emit(log, LogLevel.WARN, line)
        soft, hard = getrlimit(RLIMIT_NOFILE)
        if soft < hard:
            # One descriptor for each ring and six for each agent; the agents get limits of their own.
            setrlimit(RLIMIT_NOFILE, (hard, hard))

    async def _boot_config(self) -> None:
        config = self.core.config.kernel
        self._undo.append(("the control groups", self.core.groups.end))
        for line in self.core.groups.begin(self.core.config.sandbox):
            self.core.emit(log, LogLevel.WARN, line)
        self._say(f"Max processes: {config.max_processes or 'unlimited'}")
        self._say(f"Health check interval: {config.health_check_interval_secs:g}s")

    async def _boot_services(self) -> None:
        core = self.core
        reaper.become_subreaper()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._undo.append(("the child watcher", self._stop_watching))
        self._undo.append(("the witnesses", self._witnesses.stop))
        for name in await self._witnesses.start():
            core.emit(log, LogLevel.WARN, f"{name} did not come up; checkpoints lack its signature")
        settings = {
            "segment_bytes": core.config.chain.segment_bytes,
            "witness_sockets": self._witnesses.sockets,
            "known_witnesses": str(core.home.known_witnesses),
            "ledgers": ledger_settings(core),
            "artifacts_dir": str(core.home.artifacts),
            "artifacts_bytes": core.config.artifacts.store_bytes,
            "retention": retention_policy(core.home, core.config.chain),
            "cedar_policies": str(core.home.cedar_policies),
            "vault": vault_settings(core),
            "ecc_dir": str(core.home.ecc),
            "ecc_room": Room(core.config.memory.agent_bytes, core.config.memory.store_bytes),
        }
        core.service = ServiceHost(
            core.home, core.boot_id, core.prefix, settings, self._client_report, core.users.group
        )
        self._undo.append(("the service process", self._end_service))
        head = await core.service.start(self._log_fd, time.time())
        self.registry.add_system(_ChainService(core))
        self._say(f"Service process ready: chain with {head.get('records', 0)} records in {head.get('dir')}")
        await self._recognise_the_past()
        await core.record_first("boot.init", {"version": weftos.__version__, "boot_id": core.boot_id})
        config = core.config.kernel
        core.record(
            "boot.config",
            {
                "max_processes": config.max_processes,
                "health_interval_ms": int(config.health_check_interval_secs * 1000),
                "unclean_before": core.unclean_shutdown,
                "windows": core.config.ipc.windows,
                "window_ms": int(core.config.ipc.window_secs * 1000),
                "proof_topics": list(core.config.ipc.proof_topics),
            },
        )
        core.record("boot.services", {"count": len(self.registry.records())})
        self._witnesses.attach_log(core.record)
        self._say("Service registry ready")

    async def _recognise_the_past(self) -> None:
        """Tell from the log whether the kernel before this one shut down."""
        reply = await self.core.service.ask(p.ChainTail(_RECENT))
        assert isinstance(reply, p.Tail)
        # What the service writes by itself when it opens or closes the log says nothing about the kernel.
        own = ("tree.", "chain.", "key.rotate", "log.seal", "lineage.", "artifact.", "governance.", "gate.", "permit.")
        others = [record for record in reply.records if not record["kind"].startswith(own)]
        from_the_beginning = not reply.records or reply.records[0]["seq"] == 0
        if from_the_beginning and all(record["kind"] in ("genesis", "key.genesis") for record in others):
            return
        # Nor do last words of agents, which the service still takes from their rings after the kernel's goodbye.
        by_kernel = [record for record in others if record["source"] in ("kernel", "supervisor")]
        last = (by_kernel or others or reply.records)[-1]
        if last["kind"] not in ("shutdown", "boot.failed"):
            self.core.unclean_shutdown = True
            self.core.emit(log, LogLevel.WARN, "the kernel before this one ended without a shutdown")
            await self.core.record_first(
                "kernel.unclean_shutdown", {"last_kind": last["kind"], "last_seq": last["seq"]}
            )

    async def _boot_tree(self) -> None:
        tree = await self.core.service.done(tp.AskTree("stats"))
        self._say(f"Resource tree: {tree['nodes']} nodes, root {tree['root_hash'][:12]}")

    async def _boot_agents(self) -> None:
        prepare_agents()
        self.core.refusals.open()
        self._undo.append(("the reader of refusals", self.core.refusals.close))
        left = confinement.begin(self.core)
        self._undo.append(("the scratch folders", self.core.scratch.end))
        self._say("Supervisor ready" + (f"; {left} scratch folders of an earlier boot are removed" if left else ""))

    async def _boot_network(self) -> None:
        core = self.core
        door, access = await open_access(core, self._configure)
        views = Views(core, self.registry, self.sampler, lambda: self._witnesses.running)
        handlers = Handlers(
            core,
            self.supervisor,
            self.grants,
            self.operator,
            self.registry,
            views,
            self.request_shutdown,
            self._replace_service,
            leftovers.enforcement(core.users.why, core.groups),
        )
        own = CapabilityHandlers(core, self.capabilities).table() | {"ipc.prove": self.proofs.find}
        table = handlers.table() | own | access
        self._rpc = RpcServer(core.home.socket, table, core.emit, door, core.acting, shared_socket(core))
        await self._rpc.start()
        self._undo.append(("the control socket", self._rpc.stop))
        self._say(f"Control socket {core.home.socket}; no mesh in this version")

    async def _boot_ecc(self) -> None:
        for service in (HnswService(self.core), CognitiveTickService(self.core)):
            self.registry.add_system(service)
        found = await memory_status(self.core)
        if found["state"] == "failed":
            self.core.emit(log, LogLevel.ERROR, f"memory cannot be used: {found['reason']}")
        elif found["state"] == "open":
            self._say(
                f"Memory: {found['entries']} entries in {found['collections']} collections, {found['nodes']} nodes"
            )

    async def _boot_ready(self) -> None:
        core = self.core
        elapsed = time.monotonic() - core.started_monotonic
        payload = {
            "elapsed_ms": int(elapsed * 1000),
            "services": len(self.registry.records()),
            "os_pid": os.getpid(),
        }
        await core.record_first("boot.ready", payload)
        core.life.move(KernelState.RUNNING)
        self._task(self._sample_for_ever())
        self._task(self._check_health_for_ever())
        self._say(
            f"Boot complete in {elapsed:.1f}s ({len(core.table)} agents, {len(self.registry.records())} services)"
        )

    async def _roll_back(self) -> None:
        for what, undo in reversed(self._undo):
            log.debug("undoing %s", what)
            try:
                result = undo()
                if asyncio.iscoroutine(result):
                    await result
            except (WeftError, OSError) as error:
                self.core.emit(log, LogLevel.ERROR, f"while rolling back: {error}")
        self._undo.clear()
        if self.core.life.state is KernelState.BOOTING:
            self.core.life.move(KernelState.HALTED)
        self.halted.set()

    # --- running ------------------------------------------------------------------------------------------------------

    def _task(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.core.emit(log, LogLevel.ERROR, f"a task of the kernel failed: {task.exception()!r}")

    async def _sample_for_ever(self) -> None:
        while True:
            await asyncio.sleep(limits.SAMPLE_INTERVAL_S)
            self.sampler.tick()
            self.core.groups.tick()
            self.grants.sweep()
            self._end_strays()

    async def _check_health_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.core.config.kernel.health_check_interval_secs)
            for record in await self.registry.check():
                if record.system is not None and record.last.health is not Health.HEALTHY:
                    self.core.emit(log, LogLevel.WARN, f"{record.name} is {record.last.health}: {record.last.detail}")

    def reload(self) -> None:
        """Read the configuration again, as SIGHUP asks; a bad file changes nothing."""
        if self.core.life.state is KernelState.RUNNING:
            self._task(reload_settings(self.core))

    def _configure(self, config: Config) -> None:
        """Put a configuration in force, as far as that can be while the kernel runs."""
        logs.setup(config.log.level, fd=self._log_fd)
        self.core.config = config
        self.core.table.max_processes = config.kernel.max_processes
        for agent in self.core.agents.values():
            agent.signal_frame(SignalFrame(KernelSignal.RELOAD_CONFIG))

    def _reap(self) -> None:
        reaper.reap(
            self._is_ours, self._reaped, lambda pid, stopped: self.supervisor.stops.paused(pid, stopped=stopped)
        )

    def _is_ours(self, os_pid: int) -> bool:
        child = self.core.service.child
        own = child is not None and child.os_pid == os_pid
        return own or os_pid in self.core.by_os_pid or self._witnesses.owns(os_pid)

    def _reaped(self, os_pid: int, status: int, usage: struct_rusage) -> None:
        if self.supervisor.ended(os_pid, status, usage):
            return
        child = self.core.service.child
        if child is not None and child.os_pid == os_pid:
            self._service_ended(status)
        elif self._witnesses.ended(os_pid, _how(status)):
            log.debug("a witness ended")

    def _end_strays(self) -> None:
        for os_pid in reaper.strays(self._is_ours):
            try:
                os.kill(os_pid, signal.SIGKILL)
                self.core.emit(log, LogLevel.WARN, f"OS process {os_pid}, left behind by an agent, was killed")
            except ProcessLookupError:
                # It ended by itself; the reaper takes it.
                continue

    def _stop_watching(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    # --- agents -------------------------------------------------------------------------------------------------------

    def _life(self, agent: Agent, begins: bool) -> None:
        if begins:
            self.grants.reborn(agent)
            return
        core = self.core
        settle_dead_reader(core, agent)
        self.operator.kicked(agent)
        for record in core.channels.outgoing(agent.pid):
            with record.inspect() as inspector:
                inspector.retire_producer()

    def _gone(self, agent: Agent) -> None:
        core, entry = self.core, agent.entry
        why = entry.last_exit.message if entry.last_exit else "it has ended"
        self.requests.gone(agent)
        self.operator.gone(agent)
        self.grants.gone(agent, why)
        inspector = RingInspector(agent.lines.to_agent)
        bury_unread(core, inspector, KERNEL_PID, agent.pid, DeadLetterReason.AGENT_EXITED, why)

    def _client_report(self, report: p.ClientReport) -> None:
        did = "detached" if report.detached else "dropped answers to"
        self.core.emit(log, LogLevel.WARN, f"the service {did} agent {report.pid}: {report.message}")
        agent = self.core.agents.get(report.pid)
        if agent is not None and report.detached:
            agent.broken_rings += 1

    # --- the service process ------------------------------------------------------------------------------------------

    def _service_ended(self, status: int) -> None:
        core = self.core
        ran = time.time() - core.service.started_at
        how = _how(status)
        was_ready = core.service.ready
        core.service.exited()
        if self._service_gone is not None and not self._service_gone.done():
            self._service_gone.set_result(None)
        if self._service_expected or not (was_ready or core.life.state is KernelState.RUNNING):
            log.info("the service process ended with %s after %.1f s", how, ran)
            return
        core.emit(log, LogLevel.ERROR, f"the service process ended with {how}; the gate is shut until it is back")
        core.record("service.exit", {"how": how, "ran_ms": int(ran * 1000), "incarnation": core.service.incarnation})
        delay = self._service_tracker.next_delay(time.monotonic(), ran)
        if delay is None:
            core.emit(log, LogLevel.ERROR, "the service process ends again and again; it is not restarted any more")
            return
        log.info("the service process is started again in %g s", delay)
        asyncio.get_running_loop().call_later(delay, lambda: self._task(self._start_service_again()))

    async def _start_service_again(self) -> None:
        core = self.core
        if core.life.state is not KernelState.RUNNING or core.service.child is not None:
            return
        try:
            head = await core.service.start(self._log_fd, time.time())
        except ChainCorrupted as error:
            core.emit(log, LogLevel.ERROR, f"the chain is damaged, so the service process stays down: {error}")
            return
        except WeftError as error:
            core.emit(log, LogLevel.ERROR, f"the service process did not start again: {error}")
            return
        core.emit(log, LogLevel.WARN, f"the service process is back, incarnation {core.service.incarnation}")
        core.service_on_log = core.service.incarnation
        core.record("service.start", {"incarnation": core.service.incarnation, "records": int(head.get("records", 0))})

    async def _replace_service(self) -> tuple[int | None, int | None]:
        host = self.core.service
        old = host.child.os_pid if host.child else None
        await self._stop_service()
        await self._start_service_again()
        return old, host.child.os_pid if host.child else None

    async def _stop_service(self) -> None:
        host = self.core.service
        if host.child is None:
            return
        log.info("the service process, OS process %d, is asked to end", host.child.os_pid)
        self._service_expected = True
        self._service_gone = asyncio.get_running_loop().create_future()
        host.stop()
        try:
            await asyncio.wait_for(asyncio.shield(self._service_gone), limits.STOP_TIMEOUT_S)
        except TimeoutError:
            self.core.emit(log, LogLevel.ERROR, "the service process did not end in time and is killed")
            if host.child is not None:
                host.child.signal_group(signal.SIGKILL)
                await asyncio.wait_for(asyncio.shield(self._service_gone), limits.STOP_TIMEOUT_S)
        finally:
            self._service_expected = False

    async def _end_service(self) -> None:
        await self._stop_service()
        self.core.service.close()

    # --- shutdown -----------------------------------------------------------------------------------------------------

    def request_shutdown(self, reason: str) -> None:
        """Begin to shut down, once; further requests change nothing."""
        if self.core.life.state is KernelState.RUNNING:
            self.core.life.move(KernelState.SHUTTING_DOWN)
            self._task(self._shut_down(reason))

    async def _shut_down(self, reason: str) -> None:
        core = self.core
        core.emit(log, LogLevel.INFO, f"shutting down: {reason}")
        await self.supervisor.stops.stop_all(core.config.kernel.shutdown_timeout_secs, "the kernel is shutting down")
        self._end_strays()
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        uptime = int((time.monotonic() - core.started_monotonic) * 1000)
        payload = {"reason": reason, "uptime_ms": uptime, "dead_letters": len(core.dead_letters)}
        try:
            await core.record_first("shutdown", payload)
        except (WeftError, TimeoutError) as error:
            core.emit(log, LogLevel.ERROR, f"the shutdown event is not on the chain: {error}")
        await self._roll_back()
        sweep(core.prefix)
        core.life.move(KernelState.HALTED)
        core.emit(log, LogLevel.INFO, "halted")


def _how(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"


class _ChainService:
    """The service process as an entry of the registry."""

    name = "service"

    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self) -> None:
        """Started by the boot step, before anything can be registered."""

    async def stop(self) -> None:
        """Stopped by the shutdown, after everything that may still write to the chain."""

    async def health_check(self) -> HealthStatus:
        """Ask for the head: alive, and able to write."""
        try:
            reply = await self._core.service.ask(p.ChainHead(), 4.0)
        except WeftError as error:
            return HealthStatus(Health.UNHEALTHY, str(error))
        assert isinstance(reply, p.Head)
        if reply.values.get("state") == "failed":
            return HealthStatus(Health.UNHEALTHY, f"the chain cannot be written: {reply.values.get('failure')}")
        if self._core.service.backlog > 1000:
            return HealthStatus(Health.DEGRADED, f"{self._core.service.backlog} requests wait")
        return HealthStatus(Health.HEALTHY, f"{reply.values.get('records')} records")

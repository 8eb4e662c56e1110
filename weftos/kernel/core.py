"""What all parts of the kernel share: the table, the log, the chain, the clock; and the handles of each agent.

``Core`` holds and records; it decides nothing. The parts that decide (supervisor, grants, messaging) are given it and
each other by ``weftos.kernel.kernel``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from weftos.config import Config
from weftos.errors import AgentExited, WeftError, error_for_code
from weftos.home import Home
from weftos.ids import instance_tag, new_boot_id
from weftos.kernel.acting import Acting
from weftos.kernel.artifact_share import ArtifactShare
from weftos.kernel.channels import ChannelTable
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason, DeadLetters
from weftos.kernel.fork import ChildHandle
from weftos.kernel.gatekeeper import Gatekeeper
from weftos.kernel.groups import AgentGroup, AgentGroups
from weftos.kernel.lines import AgentLines
from weftos.kernel.link import FrameLink
from weftos.kernel.listener import Listener
from weftos.kernel.own_users import OwnUsers
from weftos.kernel.process import ProcessEntry, ProcessTable
from weftos.kernel.restart import RestartTracker
from weftos.kernel.scratch import ScratchFolders
from weftos.kernel.service_host import ServiceHost
from weftos.kernel.settings_keeper import SettingsKeeper
from weftos.kernel.state import BootPhase, EventLog, KernelLife, LogLevel
from weftos.kernel.token_table import TokenTable
from weftos.kernel.topics import TopicTable
from weftos.service import protocol as p

if TYPE_CHECKING:
    from weftos.kernel.refusals import RefusalDesk

__all__ = ["Agent", "Core"]

log = logging.getLogger(__name__)

#: Reasons of dead letters that are logged as details only.
_QUIET: Final = (DeadLetterReason.INBOX_FULL, DeadLetterReason.POISONED)


@dataclass(slots=True)
class Agent:
    """The kernel's handles of one agent; the facts about it are in ``entry``."""

    entry: ProcessEntry
    lines: AgentLines
    tracker: RestartTracker
    log_path: str
    service_slot: int
    child: ChildHandle | None = None
    link: FrameLink[Any] | None = None
    #: Resolved when the present incarnation is ready, or with what kept it from becoming so.
    ready: asyncio.Future[None] | None = None
    #: The service knows it, and its page says what it may do.
    introduced: bool = False
    #: Resolved when the present incarnation has been reaped.
    gone: asyncio.Future[None] | None = None
    #: Waiting for a stop or a continue to be observed.
    paused: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None
    restart_now: bool = False
    started_monotonic: float = 0.0
    watchers: set[int] = field(default_factory=set)
    links: set[int] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)
    broken_rings: int = 0
    #: Tells how much memory the process uses, where the kernel may not ask by itself; -1 for none.
    rollup: int = -1
    #: Control group of the present incarnation, if it has one.
    group: AgentGroup | None = None
    #: Answers the calls that its filter refuses, where the kernel is shown them.
    listener: Listener | None = None
    artifacts: ArtifactShare = field(default_factory=ArtifactShare)

    @property
    def pid(self) -> int:
        """Kernel pid."""
        return self.entry.pid

    def signal_frame(self, frame: Any, fds: list[int] | None = None) -> None:
        """Send a frame on the control socket and wake the agent."""
        if self.link is not None:
            self.link.send(frame, fds or ())
            self.lines.ring(0)

    def arm(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something in ``delay_s`` seconds, instead of what was to be done before."""
        self.disarm()
        self.timer = asyncio.get_running_loop().call_later(delay_s, action)

    def disarm(self) -> None:
        """Do nothing later."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Core:
    """Shared state of one kernel.

    Args:
        home: where the instance lives.
        config: its settings.
    """

    def __init__(self, home: Home, config: Config) -> None:
        self.home = home
        self.config = config
        self.boot_id = new_boot_id()
        self.prefix = f"/weftos-{instance_tag(str(home.root))}-"
        self.life = KernelLife()
        self.events = EventLog()
        self.phase = BootPhase.INIT
        self.started_at = time.time()
        self.started_monotonic = time.monotonic()
        self.table = ProcessTable(config.kernel.max_processes)
        self.agents: dict[int, Agent] = {}
        self.by_os_pid: dict[int, Agent] = {}
        ring_ids = itertools.count(1)
        self.next_ring_id: Callable[[], int] = lambda: next(ring_ids)
        self.channels = ChannelTable(self.next_ring_id)
        self.topics = TopicTable()
        self.dead_letters = DeadLetters()
        #: Incarnation of the service process, as far as the log has been told of it.
        self.service_on_log = 1
        self.service: ServiceHost
        #: Held while what an agent may do changes, from the decision to the effect: nobody is started meanwhile.
        self.authority = asyncio.Lock()
        self.gatekeeper = Gatekeeper(lambda: self.service, self.append)
        #: Who asked for what is being done; see ``acting``.
        self.acting = Acting()
        #: Held while tokens or settings of the kernel differ from the log.
        self.changing = asyncio.Lock()
        self.tokens: TokenTable
        self.settings: SettingsKeeper
        self.refusals: RefusalDesk
        self.unclean_shutdown = False
        self.users = OwnUsers(home, config.sandbox)
        self.groups = AgentGroups(str(home.root))
        self.scratch = ScratchFolders(self.users.scratch, apart=self.users.scratch != home.scratch)
        #: The configuration file that was named at the start, if one was.
        self.config_path: str | None = None

    def emit(self, origin: logging.Logger, level: LogLevel, message: str) -> None:
        """Tell the operator: keep a line for ``kernel.logs``, and log it under the name of the part that tells.

        What is kept does not depend on ``WEFTOS_LOG``; what is written does.
        """
        self.events.add(time.time(), self.phase, level, message)
        origin.log(level, "%s", message)

    def record(self, kind: str, payload: dict[str, Any], *, source: str = "kernel", subject: str | None = None) -> None:
        """Put an event on the chain without waiting; a refusal is logged, because by then the fact has happened."""
        self.append(p.Append(kind, payload, subject, None, True), source)

    def append(self, event: p.Append, source: str = "kernel") -> None:
        """Put an event on the chain as ``record`` does."""
        event = msgspec.structs.replace(event, payload=self.acting.signed(event.kind, event.payload))
        future = self.service.submit(event, source)
        future.add_done_callback(lambda done: self._recorded(event.kind, done))

    def _recorded(self, kind: str, done: asyncio.Future[p.Reply]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, WeftError):
            self.emit(log, LogLevel.ERROR, f"{kind} is not on the chain: {error}")
        elif error is None and isinstance(reply := done.result(), p.Failed):
            self.emit(log, LogLevel.ERROR, f"{kind} is not on the chain: {reply.message}")

    async def record_first(
        self, kind: str, payload: dict[str, Any], *, source: str = "kernel", subject: str | None = None
    ) -> None:
        """Put an event on the chain before the act that it announces.

        Raises:
            WeftError: it is not on disk; the act must not happen.
        """
        payload = self.acting.signed(kind, payload)
        await self.on_disk(self.service.submit(p.Append(kind, payload, subject, None, True), source))

    async def on_disk(self, submitted: asyncio.Future[p.Reply], timeout_s: float | None = 30.0) -> p.Appended:
        """Wait for an append that is under way.

        Args:
            submitted: what ``ServiceHost.submit`` returned.
            timeout_s: in seconds; without one the log and what the caller does cannot part, however long it takes.

        Raises:
            WeftError: it is not on disk; the act must not happen.
        """
        reply = await asyncio.wait_for(submitted, timeout_s)
        if isinstance(reply, p.Failed):
            raise error_for_code(reply.code, reply.message)
        assert isinstance(reply, p.Appended)
        return reply

    def bury(self, letter: DeadLetter, *, count: int = 1, last_id: str = "") -> None:
        """Keep a message that nobody will handle, and say so on the chain.

        Args:
            letter: the message; the first, when several of one ring share a fate.
            count: how many they are; the others are kept by ``dead_letters.add``.
            last_id: id of the last of them.
        """
        self.dead_letters.add(letter)
        log.log(
            # An inbox that stays full would fill the log; of a poisoned message the one who found it tells more.
            logging.DEBUG if letter.reason in _QUIET else logging.WARNING,
            "dead letters: %d from %d to %d, first %s: %s, %s",
            count,
            letter.sender,
            letter.target,
            letter.message_id or "unnamed",
            letter.reason.value,
            letter.detail,
        )
        payload = {
            "message_id": letter.message_id,
            "from": letter.sender,
            "target": letter.target,
            "reason": letter.reason.value,
            "detail": letter.detail,
            "payload_type": letter.payload_type,
            "deliveries": letter.deliveries,
            "count": count,
        }
        self.record("ipc.dead_letter", payload | ({"last_message_id": last_id} if last_id else {}))

    def agent(self, pid: int) -> Agent:
        """The handles of a present agent.

        Raises:
            ProcessNotFound: no agent has or had this pid.
            AgentExited: it has ended.
        """
        found = self.agents.get(pid)
        if found is None:
            entry = self.table.get(pid)
            last = f": {entry.last_exit.message}" if entry.last_exit else ""
            raise AgentExited(
                f"agent {pid} ({entry.spec.name}) has ended{last}; `weaver agent restart {pid}` runs it again"
            )
        return found

    def fresh_bell_name(self) -> str:
        """A name for a new doorbell that nobody can guess."""
        return f"{self.prefix}{secrets.token_hex(8)}"

"""What the kernel must hold, added up from the log alone.

Why it is as it is: the log is worth something only if it tells everything. So everything that the kernel decides can be
computed from its records, and compared with what the kernel really holds: a change without a record shows as a
difference. The rules here are those of the kernel, written a second time and without it.

Guaranteed: the result depends on nothing but the records. Not guaranteed: anything about messages; they are not on the
log, only the windows of the streams that carried them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from weftos.chain import Record, read
from weftos.errors import RecordPruned
from weftos.kernel.access_folding import AccessFold
from weftos.kernel.folding_budgets import BudgetFold
from weftos.rpc.state_types import AgentHeld, KernelHeld, RingHeld, ServiceHeld, TopicHeld

__all__ = ["SETTLED", "Fold", "boot_records", "differences"]

_Payload: TypeAlias = dict[str, Any]
#: States in which an agent's process is known to be its program.
SETTLED: Final = frozenset(("running", "suspended"))
#: Who may speak for the kernel, and who for the budgets.
_SOURCES: Final = frozenset(("kernel", "supervisor", "budget"))


def boot_records(directory: str, boot_id: bytes, stop: int) -> Iterator[Record]:
    """Yield the records that the state of a boot is the sum of, and maybe earlier ones.

    Args:
        directory: of the log.
        boot_id: of the boot, 16 bytes.
        stop: number of the first record not wanted.

    Raises:
        RecordPruned: the first records of the boot were pruned, before this or while it was reading.
        ChainCorrupted, ChainError: as for ``chain.read``.
    """
    seen = False
    for record in read(directory, stop=stop):
        if not seen and record.seq and record.header.boot_id == boot_id:
            raise RecordPruned(
                f"this kernel was running before record {record.seq}, with which its log begins since it was pruned; "
                "restart the kernel, or keep more of the log ([chain] keep_segments, keep_days)"
            )
        seen = True
        yield record


class Fold:
    """The sum over the records of one boot, so far.

    Args:
        boot_id: of the boot, 16 bytes; records of others are passed over.
    """

    def __init__(self, boot_id: bytes) -> None:
        self._boot_id = boot_id
        self._seq = -1
        self._service_incarnation = 1
        self._dead_letters = 0
        self._agents: dict[int, AgentHeld] = {}
        self._ended: dict[int, AgentHeld] = {}
        self._rings: dict[int, RingHeld] = {}
        self._services: dict[str, ServiceHeld] = {}
        self._subscribers: dict[str, set[int]] = {}
        self._publishers: dict[str, set[int]] = {}
        self._witnesses: set[str] = set()
        self._budgets = BudgetFold()
        self._access = AccessFold()

    def take(self, record: Record) -> None:
        """Add a record; they come in their order."""
        self._seq = record.seq
        self._access.take(record)
        if record.header.boot_id != self._boot_id or record.source not in _SOURCES:
            return
        self._budgets.take(record)
        rule = _RULES.get(record.kind)
        if rule is not None:
            rule(self, record.payload)

    def take_all(self, records: Iterable[Record]) -> KernelHeld:
        """Add records and return the sum."""
        for record in records:
            self.take(record)
        return self.held()

    def held(self) -> KernelHeld:
        """Return the sum."""
        topics = sorted(self._subscribers.keys() | self._publishers.keys())
        return KernelHeld(
            boot_id=self._boot_id.hex(),
            seq=self._seq,
            service_incarnation=self._service_incarnation,
            agents=[self._shown(self._agents[pid]) for pid in sorted(self._agents)],
            rings=[self._rings[ring] for ring in sorted(self._rings)],
            topics=[
                TopicHeld(
                    topic=topic,
                    subscribers=sorted(self._subscribers.get(topic, ())),
                    publishers=sorted(self._publishers.get(topic, ())),
                )
                for topic in topics
            ],
            services=[self._services[name] for name in sorted(self._services)],
            witnesses=sorted(self._witnesses),
            budgets=self._budgets.held(),
            dead_letters=self._dead_letters,
            tokens=self._access.tokens(),
            settings=self._access.settings(),
        )

    def _shown(self, agent: AgentHeld) -> AgentHeld:
        there = self._agents
        watchers, links = ([pid for pid in sorted(set(pids)) if pid in there] for pids in (agent.watchers, agent.links))
        return msgspec.structs.replace(agent, watchers=watchers, links=links)

    # --- agents -------------------------------------------------------------------------------------------------------

    def _spawn(self, payload: _Payload) -> None:
        fields = {name: payload[name] for name in ("pid", "agent_id", "name", "program", "parent_pid", "restart")}
        held = {name: payload[name] for name in ("capabilities", "limits")}
        self._agents[payload["pid"]] = AgentHeld(
            **fields, **held, ceiling=held, role=payload.get("role", ""), state="starting", incarnation=1
        )

    def _state(self, payload: _Payload, state: str) -> None:
        agent = self._agents.get(payload["pid"])
        if agent is not None:
            agent.state = state
            agent.incarnation = payload["incarnation"]
            agent.os_pid = payload.get("os_pid") if state in SETTLED else None

    def _restart(self, payload: _Payload) -> None:
        pid = payload["pid"]
        agent = self._agents.get(pid)
        if agent is None:
            agent = self._agents[pid] = self._ended.pop(pid)
            agent.watchers, agent.links = [], []
        agent.parent_pid = payload.get("parent_pid", agent.parent_pid)
        self._state(payload, "starting")
        _discard(self._publishers, pid)

    def _gone(self, payload: _Payload) -> None:
        pid = payload["pid"]
        agent = self._agents.pop(pid, None)
        if agent is not None:
            self._ended[pid] = agent
        _discard(self._publishers, pid)
        _discard(self._subscribers, pid)

    def _monitor(self, payload: _Payload) -> None:
        watched, watcher = self._agents.get(payload["target"]), self._agents.get(payload["pid"])
        if watched is None:
            return
        if not payload["link"]:
            watched.watchers = [*watched.watchers, payload["pid"]]
        elif watcher is not None:
            watched.links = [*watched.links, watcher.pid]
            watcher.links = [*watcher.links, watched.pid]

    def _capabilities(self, payload: _Payload) -> None:
        pid = payload["pid"]
        agent = self._agents.get(pid) or self._ended.get(pid)
        if agent is not None:
            agent.capabilities, agent.limits = payload["capabilities"], payload["limits"]
            agent.epoch = payload["epoch"]
            agent.ceiling = payload.get("ceiling", agent.ceiling)

    # --- channels -----------------------------------------------------------------------------------------------------

    def _grant(self, payload: _Payload) -> None:
        self._rings[payload["ring"]] = RingHeld(
            ring=payload["ring"],
            src=payload["from"],
            dst=payload["to"],
            direct=payload["direct"],
            broadcast=payload["broadcast"],
            topics=sorted(payload["topics"]),
            capacity_bytes=payload["capacity_bytes"],
        )

    def _revoke(self, payload: _Payload) -> None:
        self._rings.pop(payload["ring"], None)

    def _subscribe(self, payload: _Payload) -> None:
        self._subscribers.setdefault(payload["topic"], set()).add(payload["pid"])

    def _unsubscribe(self, payload: _Payload) -> None:
        topic, pid = payload["topic"], payload["pid"]
        _discard(self._subscribers, pid, topic)
        for publisher in self._publishers.get(topic, ()):
            # A ring that was replaced carries nothing new, so nothing is taken from it.
            ring = max(
                (one for one in self._rings.values() if (one.src, one.dst) == (publisher, pid)),
                key=_number,
                default=None,
            )
            if ring is not None:
                ring.topics = [name for name in ring.topics if name != topic]

    def _publish(self, payload: _Payload) -> None:
        self._publishers.setdefault(payload["topic"], set()).add(payload["pid"])

    def _unpublish(self, payload: _Payload) -> None:
        topic, pid = payload["topic"], payload["pid"]
        _discard(self._publishers, pid, topic)
        newest = {ring.dst: ring for ring in sorted(self._rings.values(), key=_number) if ring.src == pid}
        for ring in newest.values():
            ring.topics = [name for name in ring.topics if name != topic]

    def _dead_letter(self, payload: _Payload) -> None:
        self._dead_letters += payload["count"]

    # --- services and processes of the kernel -------------------------------------------------------------------------

    def _register(self, payload: _Payload) -> None:
        self._services[payload["name"]] = ServiceHeld(
            name=payload["name"], pid=payload["pid"], methods=list(payload["methods"])
        )

    def _unregister(self, payload: _Payload) -> None:
        self._services.pop(payload["name"], None)

    def _service_start(self, payload: _Payload) -> None:
        self._service_incarnation = payload["incarnation"]

    def _witness_start(self, payload: _Payload) -> None:
        self._witnesses.add(payload["name"])

    def _witness_exit(self, payload: _Payload) -> None:
        self._witnesses.discard(payload["name"])


def _number(ring: RingHeld) -> int:
    return ring.ring


def _discard(table: dict[str, set[int]], pid: int, topic: str | None = None) -> None:
    for name in [topic] if topic is not None else list(table):
        table.get(name, set()).discard(pid)
        if not table.get(name):
            table.pop(name, None)


def _to(state: str) -> Callable[[Fold, _Payload], None]:
    return lambda fold, payload: fold._state(payload, state)


_RULES: Final[dict[str, Callable[[Fold, _Payload], None]]] = {
    "agent.spawn": Fold._spawn,
    "agent.ready": _to("running"),
    "agent.suspend": _to("suspended"),
    "agent.resume": _to("running"),
    "agent.stop": _to("stopping"),
    "agent.exit": _to("exited"),
    "agent.restart": Fold._restart,
    "agent.gone": Fold._gone,
    "agent.monitor": Fold._monitor,
    "capability.grant": Fold._capabilities,
    "capability.revoke": Fold._capabilities,
    "capability.elevate": Fold._capabilities,
    "ipc.grant": Fold._grant,
    "ipc.revoke": Fold._revoke,
    "ipc.subscribe": Fold._subscribe,
    "ipc.unsubscribe": Fold._unsubscribe,
    "ipc.publish": Fold._publish,
    "ipc.unpublish": Fold._unpublish,
    "ipc.dead_letter": Fold._dead_letter,
    "service.register": Fold._register,
    "service.unregister": Fold._unregister,
    "service.start": Fold._service_start,
    "witness.start": Fold._witness_start,
    "witness.exit": Fold._witness_exit,
}


def differences(held: KernelHeld, folded: KernelHeld) -> list[str]:
    """Return what the kernel holds otherwise than the log says, one sentence each.

    Args:
        held: by the kernel.
        folded: from the log, up to the same record.
    """
    found = []
    for name in KernelHeld.__struct_fields__:
        ours, theirs = getattr(held, name), getattr(folded, name)
        if ours == theirs or theirs is None:
            continue
        if not isinstance(ours, list):
            found.append(f"{name}: the kernel has {ours}, the log {theirs}")
            continue
        found += [f"{name}: the kernel alone has {one}" for one in ours if one not in theirs]
        found += [f"{name}: the log alone has {one}" for one in theirs if one not in ours]
    return found

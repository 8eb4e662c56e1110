"""Grants: who may write to whom, and the rings that say so.

The first message of a pair comes here; after that the kernel is off the path. Each grant is checked twice, by
capability and by the gate, is on the chain, and is told to the receiver *before* the sender, so that a message never
arrives through a ring its reader does not know.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from weftos import limits
from weftos.agent import frames as f
from weftos.errors import AgentExited, CapabilityDenied, GovernanceDenied, ServiceNotFound, WeftError
from weftos.governance.capability import check_broadcast, check_message, check_service, check_topic
from weftos.kernel.channels import RingRecord, ring_capacity
from weftos.kernel.core import Agent, Core
from weftos.kernel.deadletters import DeadLetterReason
from weftos.kernel.letters import bury_unread
from weftos.kernel.registry import ServiceRegistry
from weftos.kernel.state import LogLevel

__all__ = ["Grants"]

log = logging.getLogger(__name__)

Grant = tuple[dict[str, Any], f.ChannelGrant | None, list[int]]


class Grants:
    """Decides and keeps the channels between agents.

    Args:
        core: shared state.
        registry: to resolve service names.
    """

    def __init__(self, core: Core, registry: ServiceRegistry) -> None:
        self._core = core
        self._registry = registry

    # --- requests -----------------------------------------------------------------------------------------------------

    async def open_channel(self, agent: Agent, body: f.OpenChannel) -> Grant:
        """Grant direct messages to one process, or to the owner of a service."""
        pid = body.pid
        if body.service is not None:
            pid = self._registry.owner(body.service)
            if pid is None:
                raise ServiceNotFound(f"no agent offers a service named {body.service!r}")
        assert pid is not None, "a channel goes to a process or a service"
        target = self._core.agent(pid)
        context = {"target_pid": pid, "service": body.service}
        async with self._permit(agent, "ipc.send", context, lambda: _check_channel(agent, pid, body.service)):
            self._still_here(agent, target)
            record = self._ring(agent, target, body.size)
            if not record.direct:
                record.direct = True
                self._granted(record)
            self._tell_receiver(record)
            return {"pid": pid}, *self._for_sender(record)

    async def grow_channel(self, agent: Agent, body: f.GrowChannel) -> Grant:
        """Replace a ring by one whose records hold ``size`` bytes; what it may carry stays as it was decided."""
        old = self._core.channels.between(agent.pid, body.pid)
        if old is None:
            raise CapabilityDenied(f"agent {agent.pid} has no channel to agent {body.pid} that could grow")
        capacity = ring_capacity(min(body.size, limits.MAX_MESSAGE_BYTES))
        if capacity <= old.capacity:
            return {"pid": body.pid}, *self._for_sender(old)
        with old.inspect() as inspector:
            # From here on nothing can be written to the old ring, so its reader knows when it has read it out.
            inspector.close_ring()
        record = self._core.channels.create(agent.pid, body.pid, capacity)
        self._granted(record)
        self._tell_receiver(record)
        return {"pid": body.pid}, *self._for_sender(record)

    async def open_topic(self, agent: Agent, body: f.OpenTopic) -> Grant:
        """Grant publication to a topic; the channels to its subscribers go ahead of the answer."""
        async with self._permit(
            agent,
            "ipc.publish",
            {"topic": body.topic},
            lambda: check_topic(agent.entry.spec.capabilities, agent.pid, body.topic),
        ):
            self._still_here(agent)
            if self._core.topics.publish(agent.pid, body.topic):
                self._core.record("ipc.publish", {"pid": agent.pid, "topic": body.topic}, subject=agent.entry.agent_id)
            members = []
            for pid in self._core.topics.subscribers(body.topic):
                subscriber = self._core.agents.get(pid)
                if subscriber is not None and pid != agent.pid:
                    self._introduce(agent, subscriber, body.topic)
                    members.append(pid)
            return {"members": members}, None, []

    async def subscribe(self, agent: Agent, topic: str, *, on: bool) -> Grant:
        """Begin or end a subscription."""
        core = self._core
        if not on:
            self.unsubscribe(agent, topic)
            return {}, None, []
        async with self._permit(
            agent,
            "ipc.subscribe",
            {"topic": topic},
            lambda: check_topic(agent.entry.spec.capabilities, agent.pid, topic),
        ):
            if agent.pid not in core.agents:
                raise AgentExited(f"agent {agent.pid} ended while its subscription was decided")
            if core.topics.subscribe(agent.pid, topic):
                log.debug("agent %d subscribed to %r", agent.pid, topic)
                core.record("ipc.subscribe", {"pid": agent.pid, "topic": topic}, subject=agent.entry.agent_id)
            for pid in core.topics.publishers(topic):
                publisher = core.agents.get(pid)
                if publisher is not None and pid != agent.pid:
                    self._introduce(publisher, agent, topic)
                    publisher.signal_frame(f.Member(topic, agent.pid, on=True))
            return {}, None, []

    def unsubscribe(self, agent: Agent, topic: str) -> None:
        """End a subscription; rings that carried nothing else are closed."""
        core = self._core
        if not core.topics.unsubscribe(agent.pid, topic):
            return
        log.debug("agent %d unsubscribed from %r", agent.pid, topic)
        core.record("ipc.unsubscribe", {"pid": agent.pid, "topic": topic}, subject=agent.entry.agent_id)
        for pid in core.topics.publishers(topic):
            publisher = core.agents.get(pid)
            record = core.channels.between(pid, agent.pid)
            if publisher is None or record is None:
                continue
            publisher.signal_frame(f.Member(topic, agent.pid, on=False))
            record.topics.discard(topic)
            if record.used:
                self._tell_receiver(record)
            else:
                self.close(record, "the last topic of this ring was unsubscribed", DeadLetterReason.TARGET_NOT_FOUND)

    async def broadcast_peers(self, agent: Agent) -> Grant:
        """Grant a message to every live agent; the channels go ahead of the answer."""
        core = self._core
        async with self._permit(
            agent, "ipc.broadcast", {}, lambda: check_broadcast(agent.entry.spec.capabilities, agent.pid)
        ):
            self._still_here(agent)
            members = []
            for target in list(core.agents.values()):
                if target.pid == agent.pid:
                    continue
                record = self._ring(agent, target, 0)
                if not record.broadcast:
                    record.broadcast = True
                    self._granted(record)
                self._tell_receiver(record)
                self._send_grant(agent, record)
                members.append(target.pid)
            return {"members": sorted(members)}, None, []

    @asynccontextmanager
    async def _permit(
        self, agent: Agent, action: str, context: dict[str, Any], check: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Capability first, then the gate; a refusal is on the chain before it is answered."""
        async with AsyncExitStack() as stack:
            try:
                check()
                await stack.enter_async_context(self._core.gatekeeper.effect(agent.pid, action, context))
                # A right may have been taken while the gate was asked. From here to the ring nothing is waited for.
                check()
            except (CapabilityDenied, GovernanceDenied) as error:
                log.warning("agent %d was refused %s %s: %s", agent.pid, action, context, error)
                payload = {"pid": agent.pid, "action": action, "context": context, "reason": str(error)}
                try:
                    await self._core.record_first("ipc.deny", payload, subject=agent.entry.agent_id)
                except (WeftError, TimeoutError) as unrecorded:
                    self._core.emit(log, LogLevel.ERROR, f"a refusal is not on the chain: {unrecorded}")
                raise
            yield

    def _still_here(self, *agents: Agent) -> None:
        for agent in agents:
            if self._core.agents.get(agent.pid) is not agent:
                raise AgentExited(f"agent {agent.pid} ended while the channel was decided")

    # --- rings --------------------------------------------------------------------------------------------------------

    def _ring(self, src: Agent, dst: Agent, size: int) -> RingRecord:
        record = self._core.channels.between(src.pid, dst.pid)
        if record is None:
            record = self._core.channels.create(src.pid, dst.pid, ring_capacity(min(size, limits.MAX_MESSAGE_BYTES)))
        return record

    def _introduce(self, publisher: Agent, subscriber: Agent, topic: str) -> None:
        record = self._ring(publisher, subscriber, 0)
        if topic not in record.topics:
            record.topics.add(topic)
            self._granted(record)
        self._tell_receiver(record)
        self._send_grant(publisher, record)

    def _granted(self, record: RingRecord) -> None:
        payload = {
            "ring": record.ring_id,
            "from": record.src,
            "to": record.dst,
            "direct": record.direct,
            "broadcast": record.broadcast,
            "topics": sorted(record.topics),
            "capacity_bytes": record.capacity,
        }
        self._core.record("ipc.grant", payload)
        log.debug(
            "ring %d from agent %d to agent %d granted: direct %s, broadcast %s, topics %s, %d bytes",
            *payload.values(),
        )

    def _tell_receiver(self, record: RingRecord) -> None:
        """Offer the ring to its reader, or tell it what the ring may carry now."""
        src, dst = self._core.agents.get(record.src), self._core.agents.get(record.dst)
        if dst is None or dst.link is None:
            # Between two lives: the next incarnation is offered every ring.
            return
        fresh = record.dst_has != dst.entry.incarnation
        record.dst_has = dst.entry.incarnation
        offer = f.Offer(
            record.slot,
            record.ring_id,
            record.src,
            src.entry.incarnation if src is not None else 0,
            src.lines.bell_name if src is not None else "",
            record.direct,
            record.broadcast,
            sorted(record.topics),
            record.after if self._core.channels.by_id(record.after) is not None else 0,
        )
        dst.signal_frame(offer, [record.fd] if fresh else [])

    def _for_sender(self, record: RingRecord) -> tuple[f.ChannelGrant | None, list[int]]:
        """The ring for its writer, unless this incarnation has it already."""
        src, dst = self._core.agents[record.src], self._core.agents[record.dst]
        if record.src_has == src.entry.incarnation:
            return None, []
        record.src_has = src.entry.incarnation
        grant = f.ChannelGrant(record.dst, record.ring_id, record.slot, dst.lines.bell_name)
        return grant, [record.fd, dst.lines.mailbox.fd]

    def _send_grant(self, src: Agent, record: RingRecord) -> None:
        grant, fds = self._for_sender(record)
        if grant is not None:
            src.signal_frame(grant, fds)

    def revoke(self, record: RingRecord, reason: str, letter: DeadLetterReason) -> None:
        """Close a ring: both ends detach, what is unread goes to the dead letters."""
        core = self._core
        frame = f.Revoke(record.ring_id, "ipc.channel_closed", reason)
        with record.inspect() as inspector:
            inspector.close_ring()
        for pid in (record.src, record.dst):
            agent = core.agents.get(pid)
            if agent is not None:
                agent.signal_frame(frame)
        log.debug("ring %d from agent %d to agent %d revoked: %s", record.ring_id, record.src, record.dst, reason)
        core.record("ipc.revoke", {"ring": record.ring_id, "from": record.src, "to": record.dst, "reason": reason})
        with record.inspect() as inspector:
            bury_unread(core, inspector, record.src, record.dst, letter, reason)
        core.channels.remove(record)

    def close(self, record: RingRecord, reason: str, letter: DeadLetterReason) -> None:
        """Close a ring as ``revoke`` does, also one that is broken: nothing of that is read then."""
        core = self._core
        try:
            self.revoke(record, reason, letter)
        except WeftError as error:
            ends = {"ring": record.ring_id, "from": record.src, "to": record.dst}
            core.record("ipc.revoke", ends | {"reason": f"{reason}; {error}"[:500]})
            core.channels.remove(record)
            core.emit(log, LogLevel.ERROR, f"ring {record.ring_id} from agent {record.src}: {error}")

    # --- revocation ---------------------------------------------------------------------------------------------------

    def enforce(self, agent: Agent) -> None:
        """Take from an agent what it has and may not have any more: rings, topics, and the names it offers."""
        core, caps, pid = self._core, agent.entry.spec.capabilities, agent.pid
        for topic in core.topics.topics_of(pid):
            if not _passes(check_topic, caps, pid, topic):
                self.unsubscribe(agent, topic)
        for topic in core.topics.published_by(pid):
            if not _passes(check_topic, caps, pid, topic):
                self._unpublish(agent, topic)
        if not caps.can_ipc:
            for name in self._registry.forget(pid):
                core.record("service.unregister", {"name": name, "pid": pid})
        again = [pair for record in core.channels.outgoing(pid) for pair in self._enforce_on(agent, record)]
        for target, topic in again:
            self._introduce(agent, target, topic)
            agent.signal_frame(f.Member(topic, target.pid, on=True))

    def _unpublish(self, agent: Agent, topic: str) -> None:
        core = self._core
        core.topics.unpublish(agent.pid, topic)
        core.record("ipc.unpublish", {"pid": agent.pid, "topic": topic}, subject=agent.entry.agent_id)
        agent.signal_frame(f.Member(topic, 0, on=False))
        for record in core.channels.outgoing(agent.pid):
            if topic in record.topics and not record.replaced:
                record.topics.discard(topic)
                self._tell_receiver(record)

    def _enforce_on(self, agent: Agent, record: RingRecord) -> list[tuple[Agent, str]]:
        """Close what may not be, and return for which topics the agent needs a new ring to whom."""
        caps, pid = agent.entry.spec.capabilities, agent.pid
        reason = f"agent {pid} may not send this any more"
        lost = record.broadcast and not _passes(check_broadcast, caps, pid)
        if record.direct and not _passes(check_message, caps, pid, record.dst, agent.entry.spec.parent):
            # Its writer would go on writing into a ring that it has for a topic: it gets a new one for that.
            topics = sorted(record.topics)
            target = self._core.agents.get(record.dst)
            replaced = record.replaced
            self.close(record, reason, DeadLetterReason.GOVERNANCE_DENIED)
            return [] if target is None or replaced else [(target, topic) for topic in topics]
        record.broadcast = record.broadcast and not lost
        if not record.used:
            self.close(record, reason, DeadLetterReason.GOVERNANCE_DENIED)
        elif lost:
            self._granted(record)
            self._tell_receiver(record)
        return []

    # --- lives --------------------------------------------------------------------------------------------------------

    def reborn(self, agent: Agent) -> None:
        """A new incarnation: it gets every ring it reads; rings it writes it asks for again."""
        self._core.topics.forget_publisher(agent.pid)
        for record in self._core.channels.incoming(agent.pid):
            self._tell_receiver(record)

    def gone(self, agent: Agent, reason: str) -> None:
        """An agent ended for good: rings to it close, rings from it stay until they are read out."""
        core = self._core
        topics = core.topics.topics_of(agent.pid)
        for record in core.channels.incoming(agent.pid):
            self.revoke(record, f"agent {agent.pid} has ended: {reason}", DeadLetterReason.AGENT_EXITED)
        for topic in topics:
            for pid in core.topics.publishers(topic):
                publisher = core.agents.get(pid)
                if publisher is not None:
                    publisher.signal_frame(f.Member(topic, agent.pid, on=False))
        core.topics.forget(agent.pid)
        self.sweep(agent.pid)

    def sweep(self, pid: int | None = None) -> None:
        """Close rings of ended senders, and replaced rings, that their readers have emptied."""
        core = self._core
        records = core.channels.outgoing(pid) if pid is not None else list(core.channels)
        for record in records:
            if record.src in core.agents and not record.replaced:
                continue
            with record.inspect() as inspector:
                empty = inspector.statistics().depth_bytes == 0
            if empty or record.dst not in core.agents:
                why = "was given a larger ring" if record.replaced else "has ended"
                reason = f"agent {record.src} {why}, and its messages are read"
                self.close(record, reason, DeadLetterReason.AGENT_EXITED)


def _check_channel(agent: Agent, target: int, service: str | None) -> None:
    caps = agent.entry.spec.capabilities
    check_message(caps, agent.pid, target, agent.entry.spec.parent)
    if service is not None:
        check_service(caps, agent.pid, service)


def _passes(check: Callable[..., None], *question: Any) -> bool:
    try:
        check(*question)
    except CapabilityDenied:
        return False
    return True

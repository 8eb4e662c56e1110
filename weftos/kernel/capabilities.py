"""Capabilities that change while an agent lives: granted, revoked, elevated, and never more than its parent's.

::

    decide ─▶ record on the log ─▶ disk ─▶ page of the agent, service, rings, topics     one change at a time

Why it is as it is: between the decision and its effect the log is written, and meanwhile other things happen. So one
lock covers all of it, and a spawn takes the same lock between its check and its record: no child is started with what
its parent is losing. A parent that loses a right takes it from everybody below it; their records come first, the
deepest ahead, so that however much of them is on the disk when the power fails, no child holds more than its parent.

Guaranteed: what an agent holds is what the last record about it says; children hold no more than parents; what is
taken is taken from open rings and topics before the answer. Not guaranteed: that a sandbox that was narrowed binds a
process that runs already; the answer names what counts from the next incarnation on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, GateDeferred, GovernanceDenied, InvalidRequest, WeftError
from weftos.governance.rights import Rights, add, check_size, lacking, narrow, take
from weftos.kernel.core import Agent, Core
from weftos.kernel.introduce import introduce
from weftos.kernel.process import ProcessEntry
from weftos.kernel.state import LogLevel
from weftos.service import protocol as p

__all__ = ["Approval", "Capabilities", "Changed"]

log = logging.getLogger(__name__)

_OPERATOR: Final = "operator"


class Approval(msgspec.Struct, frozen=True):
    """On whose word an agent gets more than it was started with.

    Attributes:
        approved_by: who permitted it, as it goes on the log.
        permit: id of the permit that was used up for it, in hex digits; ``None`` if the operator acts himself.
    """

    approved_by: str
    permit: str | None = None


class Changed(msgspec.Struct, frozen=True):
    """What a change came to.

    Attributes:
        entry: of the agent.
        changed: whether anything is different; without that there is no record.
        narrowed: descendants that lost something with it.
        at_restart: rights that bind the process from its next incarnation on.
        record: number of the record, or -1.
    """

    entry: ProcessEntry
    changed: bool
    narrowed: tuple[int, ...] = ()
    at_restart: tuple[str, ...] = ()
    record: int = -1


class Capabilities:
    """Changes what agents hold.

    Args:
        core: shared state.
        enforce: takes rings and topics that an agent may not have any more.
    """

    def __init__(self, core: Core, enforce: Callable[[Agent], None]) -> None:
        self._core = core
        self._enforce = enforce

    # --- changes ------------------------------------------------------------------------------------------------------

    async def grant(self, pid: int, rights: Sequence[str], reason: str, by: str = _OPERATOR) -> Changed:
        """Give an agent rights back that it was started with, or was elevated to.

        Raises:
            CapabilityDenied: it never had them, or its parent has not.
            InvalidRequest, AgentExited, ProcessNotFound: there is no such right or agent.
        """
        async with self._core.authority:
            entry = self._entry(pid, rights, reason)
            wanted = add(entry.rights, rights)
            beyond = lacking(wanted, entry.ceiling, entry.spec.parent)
            if beyond:
                await self._refuse(
                    entry,
                    "capability.grant",
                    f"agent {pid} was not started with {', '.join(beyond)}: `weaver capability elevate {pid} …` goes "
                    "beyond that, with an approval on the log",
                )
            await self._within_parent(entry, wanted, "capability.grant")
            return await self._raise("capability.grant", entry, wanted, self._about(rights, reason, by))

    async def revoke(self, pid: int, rights: Sequence[str], reason: str, by: str = _OPERATOR) -> Changed:
        """Take rights from an agent and from everybody below it. What it has not is not missed.

        Raises:
            InvalidRequest, AgentExited, ProcessNotFound: there is no such right or agent.
        """
        async with self._core.authority:
            entry = self._entry(pid, rights, reason)
            return await self._lower(entry, take(entry.rights, rights), self._about(rights, reason, by))

    async def elevate(
        self,
        pid: int,
        rights: Sequence[str],
        reason: str,
        by: str = _OPERATOR,
        approval: Approval | None = None,
        requested_by: int | None = None,
    ) -> Changed:
        """Give an agent rights that it was not started with. What the operator does himself, he approves himself.

        Raises:
            CapabilityDenied: its parent lacks them.
            InvalidRequest, AgentExited, ProcessNotFound: there is no such right or agent.
        """
        approval = approval or Approval(by)
        async with self._core.authority:
            entry = self._entry(pid, rights, reason)
            wanted = add(entry.rights, rights)
            check_size(wanted)
            await self._within_parent(entry, wanted, "capability.elevate")
            ceiling = add(entry.ceiling, rights)
            check_size(ceiling)
            about = self._about(rights, reason, by) | {
                "approved_by": approval.approved_by,
                "requested_by": requested_by,
                "request": approval.permit,
                "ceiling": msgspec.to_builtins(ceiling),
            }
            changed = await self._raise("capability.elevate", entry, wanted, about)
            if changed.changed:
                entry.ceiling = ceiling
            return changed

    async def request(self, agent: Agent, rights: Sequence[str], reason: str) -> Changed:
        """Take an agent's own request: past the gate, which leaves it to a person, and needs a permit then.

        Raises:
            CapabilityDenied: its parent lacks them.
            GateDeferred: it waits for a person; the message names the request.
            GovernanceDenied: it was refused, or the permit that was shown gives nothing.
            InvalidRequest: there is no such right.
        """
        entry = self._entry(agent.pid, rights, reason)
        wanted = add(entry.rights, rights)
        if wanted == entry.rights:
            return Changed(entry, changed=False)
        await self._within_parent(entry, wanted, "capability.elevate")
        facts = {"rights": list(rights), "reason": reason}
        try:
            async with self._core.gatekeeper.effect(agent.pid, "capability.elevate", facts) as decision:
                await self._note_request(entry, facts, "permit", decision.reason)
                approval = Approval(decision.reason, decision.permit or None)
                return await self.elevate(agent.pid, rights, reason, f"agent:{agent.pid}", approval, agent.pid)
        except (GateDeferred, GovernanceDenied) as error:
            outcome = "defer" if isinstance(error, GateDeferred) else "deny"
            await self._note_request(entry, facts, outcome, str(error))
            raise

    async def _note_request(self, entry: ProcessEntry, facts: dict[str, Any], decision: str, detail: str) -> None:
        payload = {"pid": entry.pid, "agent_id": entry.agent_id, "decision": decision, "detail": detail[:1000], **facts}
        await self._core.record_first("capability.request", payload, subject=entry.agent_id)

    async def fit(self, entry: ProcessEntry) -> None:
        """Cut an ended agent down to its parent, which may have lost rights meanwhile; before it lives again."""
        parent = self._core.table.live(entry.spec.parent)
        if parent is None or not lacking(entry.rights, parent.rights, parent.pid):
            return
        async with self._core.authority:
            about = self._about((), "its parent holds less than before", "kernel") | {"because_of": parent.pid}
            rights = narrow(entry.rights, parent.rights, parent.pid)
            await self._write([(entry, "capability.revoke", rights, about)])

    # --- checks -------------------------------------------------------------------------------------------------------

    def _entry(self, pid: int, rights: Sequence[str], reason: str) -> ProcessEntry:
        if not rights or len(rights) > limits.RIGHTS_PER_CHANGE:
            raise InvalidRequest(f"a change names 1 to {limits.RIGHTS_PER_CHANGE} rights, not {len(rights)}")
        if len(reason) > limits.RIGHTS_REASON_CHARS:
            raise InvalidRequest(f"a reason has at most {limits.RIGHTS_REASON_CHARS} characters")
        return self._core.agent(pid).entry

    async def _within_parent(self, entry: ProcessEntry, wanted: Rights, action: str) -> None:
        parent = self._core.table.live(entry.spec.parent)
        missing = lacking(wanted, parent.rights, parent.pid) if parent is not None else []
        if missing:
            assert parent is not None
            await self._refuse(
                entry,
                action,
                f"agent {entry.pid} may not have {', '.join(missing)}: its parent, agent {parent.pid}, has not; "
                f"`weaver capability elevate {parent.pid} …` comes first",
            )

    async def _refuse(self, entry: ProcessEntry, action: str, why: str) -> None:
        payload = {"action": action, "pid": entry.pid, "reason": why[:1000]}
        try:
            await self._core.record_first("capability.deny", payload, subject=entry.agent_id)
        except (WeftError, TimeoutError) as error:
            self._core.emit(log, LogLevel.ERROR, f"a refusal is not on the chain: {error}")
        raise CapabilityDenied(why)

    @staticmethod
    def _about(rights: Sequence[str], reason: str, by: str) -> dict[str, Any]:
        return {"rights": list(rights), "reason": reason, "by": by}

    # --- effect -------------------------------------------------------------------------------------------------------

    async def _raise(self, kind: str, entry: ProcessEntry, wanted: Rights, about: dict[str, Any]) -> Changed:
        check_size(wanted)
        if wanted == entry.rights:
            return Changed(entry, changed=False)
        later = _at_restart(entry.rights, wanted)
        record = await self._write([(entry, kind, wanted, about)])
        return Changed(entry, changed=True, at_restart=later, record=record)

    async def _lower(self, entry: ProcessEntry, wanted: Rights, about: dict[str, Any]) -> Changed:
        if wanted == entry.rights:
            return Changed(entry, changed=False)
        table = self._core.table
        after = {entry.pid: wanted}
        steps = [(entry, "capability.revoke", wanted, about)]
        # Parents before children, so what a child may keep is known from what its parent keeps.
        for pid in table.descendants(entry.pid):
            below = table.live(pid)
            above = after.get(below.spec.parent) if below is not None else None
            if below is None or above is None:
                continue
            kept = below.rights
            if lacking(kept, above, below.spec.parent):
                kept = narrow(kept, above, below.spec.parent)
                steps.append((below, "capability.revoke", kept, about | {"because_of": entry.pid}))
            after[pid] = kept
        later = _at_restart(entry.rights, wanted)
        record = await self._write(steps[::-1])
        narrowed = tuple(one.pid for one, *_ in steps[1:])
        return Changed(entry, changed=True, narrowed=narrowed, at_restart=later, record=record)

    async def _write(self, steps: list[tuple[ProcessEntry, str, Rights, dict[str, Any]]]) -> int:
        """Put changes on the log, in this order, and let each take effect when it is on the disk; returns the last."""
        last, done = -1, 0
        while done < len(steps):
            events: list[p.Event] = []
            size = 0
            for entry, kind, rights, about in steps[done : done + limits.SERVICE_BATCH_EVENTS]:
                event = p.Event(kind, about | _payload(entry, rights), entry.agent_id)
                size += len(msgspec.msgpack.encode(event))
                # One frame holds any single one, and a large family takes several frames.
                if events and size > limits.CONTROL_FRAME_BYTES // 2:
                    break
                events.append(event)
            last = (await self._core.on_disk(self._core.service.submit(p.AppendBatch(events, True)), None)).seq
            part = steps[done : done + len(events)]
            for entry, kind, rights, about in part:
                self._take_effect(entry, kind, rights, about)
            # What each of them holds is settled before anything is closed, for that has further effects.
            for entry, *_ in part:
                self._enforce_on(entry)
            done += len(events)
        return last

    def _take_effect(self, entry: ProcessEntry, kind: str, rights: Rights, about: dict[str, Any]) -> None:
        entry.spec = msgspec.structs.replace(entry.spec, capabilities=rights.capabilities, limits=rights.limits)
        entry.epoch += 1
        entry.changed_by, entry.changed_why = about["by"], about["reason"]
        log.info("%s of agent %d by %s: %s", kind, entry.pid, about["by"], ", ".join(about["rights"]))
        agent = self._core.agents.get(entry.pid)
        if agent is not None and agent.introduced:
            introduce(self._core, agent)

    def _enforce_on(self, entry: ProcessEntry) -> None:
        agent = self._core.agents.get(entry.pid)
        if agent is None:
            return
        try:
            self._enforce(agent)
        except WeftError as error:
            # A topic that it may keep could not be given a new ring; what it may not have is closed before that.
            self._core.emit(log, LogLevel.ERROR, f"after a change of the capabilities of agent {entry.pid}: {error}")


def _payload(entry: ProcessEntry, rights: Rights) -> dict[str, Any]:
    return {
        "pid": entry.pid,
        "agent_id": entry.agent_id,
        "epoch": entry.epoch + 1,
        "capabilities": msgspec.to_builtins(rights.capabilities),
        "limits": msgspec.to_builtins(rights.limits),
    }


def _at_restart(before: Rights, after: Rights) -> tuple[str, ...]:
    """Name what changes and binds the process only from its next start on."""
    old, new = before.capabilities, after.capabilities
    found = [name for name in ("can_network", "sandbox") if getattr(old, name) != getattr(new, name)]
    bound = ("memory_bytes", "cpu_seconds", "descriptors", "file_bytes")
    found += [f"limits.{name}" for name in bound if getattr(before.limits, name) != getattr(after.limits, name)]
    return tuple(found)

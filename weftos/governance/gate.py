"""The gate: one question, three answers, and the backend that decides from capabilities.

``check(agent_id, action, context)`` is the only way to a privileged action. Permit lets it happen; Defer and Deny do
not, and neither does an error or silence. What an action needs stands in one table here, on the gate's side; an action
that is not in it is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from weftos.errors import CapabilityDenied, GateDeferred, GovernanceDenied
from weftos.governance.capability import AgentCapabilities, check_broadcast, check_message, check_tool, check_topic

__all__ = [
    "ACTIONS",
    "KERNEL_ID",
    "Action",
    "CapabilityGate",
    "Defer",
    "Deny",
    "GateBackend",
    "GateDecision",
    "Permit",
    "Subject",
    "Why",
    "require",
]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision by rules rests on.

    Attributes:
        verdict: as ``engine.Verdict``.
        rule: id of the rule that decided; empty if none did.
        matched: ids of the rules that applied, in the order of evaluation.
        magnitude: of the effect.
        threshold: above which an effect is large.
        environment: name of it.
        constitution: hash of the rules in force, 32 bytes.
        effect: the figures that were judged, by dimension.
        effect_source: why these figures count.
        detailed: whether the environment wants the figures on the log.
    """

    verdict: str
    rule: str
    matched: tuple[str, ...]
    magnitude: float
    threshold: float
    environment: str
    constitution: bytes
    effect: dict[str, float] = {}
    effect_source: str = ""
    detailed: bool = False


class Permit(msgspec.Struct, frozen=True, tag="Permit", omit_defaults=True):
    """The action may happen now. ``permit`` is the id of the permit that was used up for it, in hex digits."""

    reason: str = ""
    why: Why | None = None
    permit: str = ""


class Defer(msgspec.Struct, frozen=True, tag="Defer", omit_defaults=True):
    """The action waits for a decision by someone else, under this number if it is given. It does not happen."""

    reason: str
    why: Why | None = None
    request: int | None = None


class Deny(msgspec.Struct, frozen=True, tag="Deny", omit_defaults=True):
    """The action does not happen."""

    reason: str
    why: Why | None = None


GateDecision: TypeAlias = Permit | Defer | Deny


class GateBackend(Protocol):
    """Anything that decides. Implementations neither raise nor block."""

    def check(self, agent_id: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        """Decide one action.

        Args:
            agent_id: the subject as the service knows it from its ring or socket, for example ``"3"``; never from the
                context.
            action: name from ``ACTIONS``.
            context: facts about the action; claims, not identity.
        """
        ...


def require(decision: GateDecision, action: str) -> Permit:
    """Return only if the decision is a permit; nothing else ever is one.

    Raises:
        GovernanceDenied: it is Deny.
        GateDeferred: it is Defer.
    """
    if isinstance(decision, Permit):
        return decision
    if isinstance(decision, Defer):
        raise GateDeferred(f"{action} waits for a decision: {decision.reason}")
    raise GovernanceDenied(f"{action} was denied: {decision.reason}")


class Subject(msgspec.Struct, frozen=True):
    """An agent as the kernel introduced it to the service. ``scope`` is where its keys and its memory belong."""

    pid: int
    agent_id: str
    incarnation: int
    capabilities: AgentCapabilities
    parent: int | None = None
    scope: str = ""


class Action(msgspec.Struct, frozen=True):
    """One privileged action: what it is, the check that permits it, and who asks about it.

    ``needs`` raises ``CapabilityDenied`` or returns; ``None`` in its place means that only the kernel may do it.
    ``facts`` are the names in the context of the question when the kernel asks it for an agent; with ``inside`` the
    service itself asks, for it carries the action out. Without both it is the agent, or an executor of its choice, who
    asks before it acts. ``person``: what no rule denies waits for a person all
    the same, whatever the environment.
    """

    about: str
    needs: Callable[[Subject, Mapping[str, Any]], None] | None
    facts: tuple[str, ...] | None = None
    inside: bool = False
    person: bool = False


def _flag(name: str) -> Callable[[Subject, Mapping[str, Any]], None]:
    def needs(subject: Subject, _context: Mapping[str, Any]) -> None:
        if not getattr(subject.capabilities, name):
            raise CapabilityDenied(f"agent {subject.pid} lacks {name}")

    return needs


def _nothing(_subject: Subject, _context: Mapping[str, Any]) -> None:
    """What every agent may ask for."""


def _message(subject: Subject, context: Mapping[str, Any]) -> None:
    target = context.get("target_pid")
    if type(target) is not int:  # True is an int, and would be agent 1
        raise CapabilityDenied("ipc.send needs an integer target_pid")
    check_message(subject.capabilities, subject.pid, target, subject.parent)


def _topic(subject: Subject, context: Mapping[str, Any]) -> None:
    topic = context.get("topic")
    if not isinstance(topic, str):
        raise CapabilityDenied("a topic action needs the name of the topic")
    check_topic(subject.capabilities, subject.pid, topic)


def _tool(subject: Subject, context: Mapping[str, Any]) -> None:
    tool = context.get("tool", "")
    if not isinstance(tool, str):
        raise CapabilityDenied("tool.exec needs the name of the tool")
    check_tool(subject.capabilities, subject.pid, tool)


def _credential(subject: Subject, context: Mapping[str, Any]) -> None:
    """A credential opens something outside of the kernel: who may reach nothing there needs none."""
    if not isinstance(context.get("name"), str):
        raise CapabilityDenied("auth.credential.use needs the name of the credential")
    if not (subject.capabilities.can_exec_tools or subject.capabilities.can_network):
        raise CapabilityDenied(f"agent {subject.pid} has neither can_exec_tools nor can_network")


def _memory(subject: Subject, context: Mapping[str, Any]) -> None:
    space = context.get("space")
    if not isinstance(space, str):
        raise CapabilityDenied("what is done in memory needs the name of the space")
    if not subject.capabilities.tools.lets_memory(space, subject.scope):
        raise CapabilityDenied(
            f"agent {subject.pid} may not use the memory space {space!r}; `weaver capability show {subject.pid}` lists "
            f"those it may, `weaver capability grant {subject.pid} memory={space}` gives one back"
        )


#: Every privileged action of the kernel. Missing here means denied.
ACTIONS: Final[dict[str, Action]] = {
    "ipc.send": Action("open a channel to another agent", _message, ("target_pid", "service")),
    "ipc.publish": Action("publish to a topic", _topic, ("topic",)),
    "ipc.subscribe": Action("subscribe to a topic", _topic, ("topic",)),
    "ipc.broadcast": Action("message every agent", lambda s, _c: check_broadcast(s.capabilities, s.pid), ()),
    "agent.spawn": Action("start another agent", _flag("can_spawn"), ("program", "name", "parent")),
    "agent.stop": Action("stop an agent", _flag("can_spawn"), ("target",)),
    "service.register": Action("offer a named service", _flag("can_ipc"), ("name",)),
    "capability.elevate": Action("get more than it was started with", _nothing, ("rights", "reason"), person=True),
    "artifact.put": Action("store an artifact", _flag("can_store"), ("size", "content_type")),
    "artifact.get": Action("read an artifact", _flag("can_store"), ("hash",)),
    "artifact.release": Action("give up an artifact that it put", _flag("can_store"), ("hash",)),
    "tool.exec": Action("run a tool", _tool),
    "tool.fs.read_file": Action("read a file", _tool),
    "tool.fs.write_file": Action("write a file", _tool),
    "tool.fs.create_dir": Action("make a folder", _tool),
    "tool.fs.move": Action("move a file or folder", _tool),
    "tool.fs.remove": Action("delete a file or folder", _tool),
    "net.connect": Action("open a network connection", _flag("can_network")),
    "ecc.search": Action("search a memory space", _memory, inside=True),
    "ecc.embed": Action("write into a memory space", _memory, inside=True),
    "ecc.forget": Action("take something out of a memory space", _memory, inside=True),
    "ecc.collection.create": Action("make a collection of vectors", _memory, inside=True),
    "ecc.collection.drop": Action("remove a collection with all its vectors", _memory, inside=True),
    "ecc.causal.query": Action("ask the causal graph of a memory space", _memory, inside=True),
    "ecc.causal.link": Action("add to the causal graph of a memory space", _memory, inside=True),
    "ecc.causal.unlink": Action("take something out of the causal graph of a memory space", _memory, inside=True),
    "ecc.crossref.query": Action("ask for cross-references of a memory space", _memory, inside=True),
    "ecc.crossref.create": Action("add a cross-reference to a memory space", _memory, inside=True),
    "ecc.impulse.emit": Action("give the cognitive tick something to take up", _memory, inside=True),
    "env.switch": Action("choose the environment", None),
    "auth.credential.use": Action("get the secret of a credential that names it", _credential),
    "kernel.shutdown": Action("stop the kernel", None),
}

#: Subject of the kernel, and of its operator.
KERNEL_ID: Final = "0"


class CapabilityGate:
    """Decides from capabilities alone. Unknown agents and unknown actions are denied.

    Args:
        lookup: gives the subject for an agent id, or ``None``. Owned by the service, filled only by the kernel.
    """

    def __init__(self, lookup: Callable[[str], Subject | None]) -> None:
        self._lookup = lookup

    def check(self, agent_id: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        """Decide one action; see ``GateBackend.check``."""
        rule = ACTIONS.get(action)
        if rule is None:
            return Deny(f"action {action!r} is not in the gate's table")
        if agent_id == KERNEL_ID:
            return Permit("kernel")
        subject = self._lookup(agent_id)
        if subject is None:
            return Deny(f"agent {agent_id} is unknown to the gate")
        if rule.needs is None:
            return Deny(f"{action} is reserved for the kernel")
        try:
            rule.needs(subject, context)
        except CapabilityDenied as error:
            return Deny(str(error))
        return Defer(f"{action} takes a person") if rule.person else Permit("capability")

"""The gate: one question, three answers, and the first backend that gives them.

``check(agent_id, action, context)`` is the only way to a privileged action. Permit lets it happen; Defer and Deny do
not, and neither does an error or silence. What an action needs stands in one table here, on the gate's side; an action
that is not in it is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from weftos.errors import CapabilityDenied
from weftos.governance.capability import AgentCapabilities, check_broadcast, check_message, check_topic

__all__ = ["ACTIONS", "Action", "CapabilityGate", "Defer", "Deny", "GateBackend", "GateDecision", "Permit", "Subject"]


class Permit(msgspec.Struct, frozen=True, tag="Permit"):
    """The action may happen now."""

    reason: str = ""


class Defer(msgspec.Struct, frozen=True, tag="Defer"):
    """The action waits for a decision by someone else. It does not happen."""

    reason: str


class Deny(msgspec.Struct, frozen=True, tag="Deny"):
    """The action does not happen."""

    reason: str


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


class Subject(msgspec.Struct, frozen=True):
    """An agent as the kernel introduced it to the service."""

    pid: int
    agent_id: str
    incarnation: int
    capabilities: AgentCapabilities
    parent: int | None = None


class Action(msgspec.Struct, frozen=True):
    """One privileged action: what it is, and the check that permits it.

    ``needs`` raises ``CapabilityDenied`` or returns; ``None`` in its place means that only the kernel may do it.
    """

    about: str
    needs: Callable[[Subject, Mapping[str, Any]], None] | None


def _flag(name: str) -> Callable[[Subject, Mapping[str, Any]], None]:
    def needs(subject: Subject, _context: Mapping[str, Any]) -> None:
        if not getattr(subject.capabilities, name):
            raise CapabilityDenied(f"agent {subject.pid} lacks {name}")

    return needs


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


def _credential(subject: Subject, context: Mapping[str, Any]) -> None:
    """A credential opens something outside of the kernel: who may reach nothing there needs none."""
    if not isinstance(context.get("name"), str):
        raise CapabilityDenied("auth.credential.use needs the name of the credential")
    if not (subject.capabilities.can_exec_tools or subject.capabilities.can_network):
        raise CapabilityDenied(f"agent {subject.pid} has neither can_exec_tools nor can_network")


#: Every privileged action of the kernel. Missing here means denied.
ACTIONS: Final[dict[str, Action]] = {
    "ipc.send": Action("open a channel to another agent", _message),
    "ipc.publish": Action("publish to a topic", _topic),
    "ipc.subscribe": Action("subscribe to a topic", _topic),
    "ipc.broadcast": Action("message every agent", lambda s, _c: check_broadcast(s.capabilities, s.pid)),
    "agent.spawn": Action("start another agent", _flag("can_spawn")),
    "agent.stop": Action("stop an agent", _flag("can_spawn")),
    "service.register": Action("offer a named service", _flag("can_ipc")),
    "artifact.put": Action("store an artifact", _flag("can_store")),
    "artifact.get": Action("read an artifact", _flag("can_store")),
    "artifact.release": Action("give up an artifact that it put", _flag("can_store")),
    "tool.exec": Action("run a tool", _flag("can_exec_tools")),
    "net.connect": Action("open a network connection", _flag("can_network")),
    "auth.credential.use": Action("get the secret of a credential that names it", _credential),
    "kernel.shutdown": Action("stop the kernel", None),
}

_KERNEL_ID: Final = "0"


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
        if agent_id == _KERNEL_ID:
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
        return Permit("capability")

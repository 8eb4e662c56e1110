"""What the agent may do, looked up on its own page: answers in a microsecond, without asking anybody.

Why it is as it is: most questions about capabilities need no policy, so the kernel writes the answer where its agent
can read it, and nobody but the kernel can write it. A program that may not do a thing any more learns that at its next
step, not after a question to the kernel.

Guaranteed: an answer is that of the newest epoch on the page. Not guaranteed: anything to anybody else. Whoever runs in
this process can answer himself whatever he likes; what counts is decided in the kernel and in the service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from weftos import limits
from weftos.agent import frames as f
from weftos.errors import CapabilityDenied, InvalidRequest
from weftos.governance.capability import (
    AgentCapabilities,
    ResourceLimits,
    check_broadcast,
    check_file,
    check_message,
    check_service,
    check_tool,
    check_topic,
)
from weftos.shm import BulletinReader

__all__ = ["CHECKS", "LocalRights", "RightsPage", "check_action"]

Target: TypeAlias = int | str | None


class RightsPage(msgspec.Struct, array_like=True, frozen=True):
    """What stands on the page."""

    pid: int
    parent: int
    capabilities: AgentCapabilities
    limits: ResourceLimits


class Requester(Protocol):
    """Asks the kernel."""

    def __call__(self, body: f.AgentRequestBody) -> tuple[f.Answer, list[int]]:
        """Send a request and wait for its answer."""
        ...


_Check: TypeAlias = Callable[[AgentCapabilities, int, int, Any], None]


def _flag(name: str, what: str) -> _Check:
    def check(caps: AgentCapabilities, pid: int, _parent: int, _target: Any) -> None:
        if not getattr(caps, name):
            raise CapabilityDenied(f"agent {pid} may not {what} ({name} is false)")

    return check


#: By action: refuses what capabilities alone do not allow, with the pid, topic, name or path that it is about.
CHECKS: Final[dict[str, _Check]] = {
    "ipc.send": lambda caps, pid, parent, target: check_message(caps, pid, target, parent),
    "ipc.publish": lambda caps, pid, _parent, topic: check_topic(caps, pid, topic),
    "ipc.subscribe": lambda caps, pid, _parent, topic: check_topic(caps, pid, topic),
    "ipc.broadcast": lambda caps, pid, _parent, _target: check_broadcast(caps, pid),
    "agent.spawn": _flag("can_spawn", "spawn"),
    "artifact.put": _flag("can_store", "put artifacts"),
    "artifact.get": _flag("can_store", "read artifacts"),
    "tool.exec": lambda caps, pid, _parent, tool: check_tool(caps, pid, tool),
    "service.call": lambda caps, pid, _parent, name: check_service(caps, pid, name),
    "file.use": lambda caps, pid, _parent, path: check_file(caps, pid, path),
    "net.connect": _flag("can_network", "use the network"),
}

#: Which action a request to the kernel is, and what it is about; the others take no capability that is on the page.
_BODIES: Final[dict[type, Callable[[Any], tuple[str, Target] | None]]] = {
    f.OpenChannel: lambda body: ("ipc.send", body.pid) if body.pid is not None else ("service.call", body.service),
    f.OpenTopic: lambda body: ("ipc.publish", body.topic),
    f.Subscribe: lambda body: ("ipc.subscribe", body.topic) if body.on else None,
    f.BroadcastPeers: lambda _body: ("ipc.broadcast", None),
    f.SpawnChild: lambda _body: ("agent.spawn", None),
}


def check_action(caps: AgentCapabilities, pid: int, parent: int, action: str, target: Target) -> None:
    """Refuse what capabilities alone do not allow.

    Raises:
        CapabilityDenied: naming what is missing.
        InvalidRequest: no such action is decided by capabilities alone.
    """
    check = CHECKS.get(action)
    if check is None:
        raise InvalidRequest(f"{action!r} is none of the actions that capabilities decide: {', '.join(CHECKS)}")
    check(caps, pid, parent, target)


class LocalRights:
    """What an agent's program uses as ``ctx.capabilities``.

    Args:
        fd: of the page; owned from here on; -1 if there is none, then what counted at the start is all that is known.
        start: what counted at the start.
        report: tells the kernel what was refused here, for the log.
        ask: asks the kernel.
    """

    def __init__(
        self, fd: int, start: RightsPage, report: Callable[[f.Refused], object], ask: Requester | None = None
    ) -> None:
        self._reader = BulletinReader.open(fd)
        self._words: Sequence[int] = self._reader.words if self._reader is not None else (0, 0)
        self._page = start
        self._report = report
        self._ask = ask
        self._epoch = 0
        self._known: dict[tuple[str, Target], str] = {}
        self._reported: set[tuple[str, Target]] = set()

    @property
    def epoch(self) -> int:
        """Which version of its capabilities counts now, from 1; 0 where there is no page."""
        return int(self._words[1])

    @property
    def now(self) -> AgentCapabilities:
        """The capabilities that count now."""
        if self._words[1] != self._epoch:
            self._refresh()
        return self._page.capabilities

    def allows(self, action: str, target: Target = None) -> bool:
        """Tell whether capabilities allow an action; the gate may still refuse it.

        Args:
            action: such as ``ipc.send``, ``ipc.publish``, ``agent.spawn``, ``tool.exec``, ``service.call``.
            target: the pid, topic, tool, service or path that it is about.

        Raises:
            InvalidRequest: no such action is decided by capabilities alone.
        """
        if self._words[1] != self._epoch:
            self._refresh()
        refusal = self._known.get((action, target))
        return not (self._look(action, target) if refusal is None else refusal)

    def require(self, action: str, target: Target = None) -> None:
        """Return only if capabilities allow an action; arguments as for ``allows``.

        Raises:
            CapabilityDenied: naming what is missing.
            InvalidRequest: no such action is decided by capabilities alone.
        """
        if self.allows(action, target):
            return
        question = (action, target)
        if question not in self._reported:
            # Once for each epoch: a loop around a refusal must not fill the log.
            self._reported.add(question)
            self._report(f.Refused(action, target))
        raise CapabilityDenied(self._known[question])

    def require_for(self, body: f.AgentRequestBody) -> None:
        """Refuse a request to the kernel that it would refuse; errors as for ``require``."""
        question = _BODIES.get(type(body))
        about = question(body) if question is not None else None
        if about is not None:
            self.require(*about)

    def request(self, rights: Sequence[str] | str, reason: str) -> dict[str, Any]:
        """Ask for rights; somebody else decides, and the log keeps it.

        Args:
            rights: such as ``"can_network"`` or ``["tools=fs.*"]``.
            reason: for whoever decides.

        Returns:
            ``decision`` (``permit``) and the new ``epoch``.

        Raises:
            GateDeferred: it waits for somebody.
            GovernanceDenied: it was refused.
            CapabilityDenied: the parent has not got it.
        """
        assert self._ask is not None, "an agent's runtime can ask"
        wanted = [rights] if isinstance(rights, str) else list(rights)
        return self._ask(f.RequestCapability(wanted, reason))[0].values

    def _look(self, action: str, target: Target) -> str:
        """Work an answer out and keep it: ``""`` for yes, else why not."""
        if len(self._known) >= limits.RIGHTS_REMEMBERED:
            self._known.clear()
        page = self._page
        try:
            check_action(page.capabilities, page.pid, page.parent, action, target)
        except CapabilityDenied as error:
            refusal = str(error)
        else:
            refusal = ""
        self._known[action, target] = refusal
        return refusal

    def _refresh(self) -> None:
        assert self._reader is not None, "without a page the epoch does not change"
        self._epoch, data = self._reader.read()
        self._page = msgspec.msgpack.decode(data, type=RightsPage)
        self._known.clear()
        self._reported.clear()

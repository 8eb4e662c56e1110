"""The gate: a decision inside the service, and full checks of agents over their rings.

``decision`` is a call of the backends as the service makes it, over the actions of the table; ``with a claim`` is one
whose answer cannot be remembered, because the caller says something about the effect. ``check`` is a question of an
agent to the running service, with its record on the log; ``window W`` means that each agent has up to W under way. The
yardstick is Cedar in the same run, with 100 policies parsed once: asked each time, and as the backend asks it. What
agents may do by themselves, how soon it is taken from them, and budgets: see ``rights``; what the sandbox costs at
their start: see ``confinement``; what calls cost that it refuses: see ``refusals``.

Why it is as it is: a decision is only worth what it costs with everything around it, so both are shown.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from weftos.bench.confinement import measure_confinement
from weftos.bench.gate_programs import Asks
from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.bench.refusals import measure_refusals
from weftos.bench.rights import measure_rights
from weftos.bench.samples import percentiles, time_calls
from weftos.errors import ConfigError, WeftError
from weftos.governance.capability import AgentCapabilities
from weftos.governance.composite import CompositeGate
from weftos.governance.constitution import GENESIS_KIND, Genesis
from weftos.governance.gate import ACTIONS, CapabilityGate, GateBackend, Subject
from weftos.governance.rules import Branch
from weftos.governance.standing import GovernanceGate, Standing

__all__ = ["run"]

_AGENTS: Final = 4
_WINDOW: Final = 64
_WARM_S: Final = 0.1
_TIMEOUT_S: Final = 20.0
_POLICIES: Final = 100
_FACTS: Final = {"target_pid": 2, "topic": "news", "program": "echo", "path": "/srv/old"}


def run(settings: Settings) -> Collector:
    """Measure decisions in this process, then checks in a kernel of its own.

    Raises:
        WeftError: the kernel does not start.
    """
    collector = Collector("gate")
    known = {"1": Subject(1, "bench.1", 1, AgentCapabilities())}.get
    gate = CompositeGate(CapabilityGate(known), GovernanceGate(_standing(), known))
    for _ in range(settings.rounds):
        _decisions(collector, "decision", "weftos", gate, _FACTS, settings)
        _decisions(collector, "decision, with a claim", "weftos", gate, _FACTS | {"effect": {"risk": 0.3}}, settings)
    _cedar(collector, known, settings)
    with KernelRun() as kernel:
        for _ in range(settings.rounds):
            _checks(collector, kernel, settings)
    measure_rights(collector, settings)
    measure_confinement(collector, settings)
    measure_refusals(collector, settings)
    return collector


def _standing() -> Standing:
    found = Standing()
    # No signature is made or checked here, so any keys will do.
    found.take(GENESIS_KIND, Genesis(keys={branch: bytes(32) for branch in Branch}).to_payload())
    return found


def _decisions(
    collector: Collector, case: str, who: str, gate: GateBackend, facts: dict[str, Any], settings: Settings
) -> None:
    actions = itertools.cycle(sorted(ACTIONS))
    samples = time_calls(lambda _: gate.check("1", next(actions), facts), None, settings.seconds)
    found = percentiles(samples)
    for metric in ("p50", "p99"):
        collector.add(case, who, metric, found[metric], "s")


def _cedar(collector: Collector, known: Callable[[str], Subject | None], settings: Settings) -> None:
    from weftos.governance.cedar import CedarGate

    policies = "\n".join(
        f'permit(principal, action == Action::"{action}", resource) when {{ context.path like "/srv/{number}*" }};'
        for number, action in zip(range(_POLICIES - 1), itertools.cycle(sorted(ACTIONS)), strict=False)
    )
    try:
        gate = CedarGate(policies + "\npermit(principal, action, resource);", known)
    except ConfigError as error:
        if settings.peers:
            collector.skip("cedar", str(error))
        return
    for _ in range(settings.rounds):
        _decisions(collector, "decision", "cedar, remembered", gate, _FACTS, settings)
        numbers = itertools.count()
        samples = time_calls(
            lambda _, numbers=numbers: gate.check("1", "agent.spawn", _FACTS | {"n": next(numbers)}),  # type: ignore[misc]
            None,
            settings.seconds,
        )
        found = percentiles(samples)
        for metric in ("p50", "p99"):
            collector.add(f"decision, {_POLICIES} policies, asked each time", "cedar", metric, found[metric], "s")


def _checks(collector: Collector, kernel: KernelRun, settings: Settings) -> None:
    try:
        rate = sum(_ordered(kernel, _AGENTS, _WINDOW, settings.seconds))
        collector.add(f"check, {_AGENTS} agents, window {_WINDOW}", "weftos", "rate", rate, "1/s")
        for agents in (1, _AGENTS):
            found = _ordered(kernel, agents, 0, settings.seconds)
            case = f"check, {agents} agent{'s' if agents > 1 else ''}, one at a time"
            for metric in ("p50", "p99"):
                collector.add(case, "weftos", metric, statistics.median(one[metric] for one in found), "s")
    except WeftError as error:
        collector.skip("weftos", f"check: {error}")


def _ordered(kernel: KernelRun, count: int, window: int, seconds: float) -> list[Any]:
    """Have agents ask at the same time; return their answers."""
    agents: list[tuple[int, int]] = []
    try:
        agents.extend(kernel.spawn("weftos.bench.gate_programs:asker") for _ in range(count))
        begin = time.monotonic() + _WARM_S
        paths = [kernel.answer_path() for _ in agents]
        for (pid, _), path in zip(agents, paths, strict=True):
            kernel.order(pid, Asks(window, begin, seconds, path))
        return [
            kernel.answer(os_pid, path, seconds + _TIMEOUT_S) for (_, os_pid), path in zip(agents, paths, strict=True)
        ]
    finally:
        for pid, _ in agents:
            kernel.stop(pid)

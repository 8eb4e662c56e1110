"""What a refused system call costs: the agent that makes it, and the kernel that puts it on the log.

``a refused call, shown`` waits for the kernel's answer; ``answered by the filter`` is one that nobody is shown, as all
were without a listener; ``an allowed call`` passes the same filter. ``flood`` is an agent that does nothing else: how
many calls it gets through, and how much of a processor the kernel spends on it.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
import psutil

from weftos import limits
from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.bench.refusal_programs import Tries
from weftos.errors import WeftError

__all__ = ["measure_refusals"]

_CASES: Final = (
    ("a refused call, shown", "keyctl"),
    ("a refused call, answered by the filter", "clone3"),
    ("an allowed call", "fcntl"),
)
_FLOOD_S: Final = 2.0
_FLOOD_QUICK_S: Final = 0.5
_FLOODERS: Final = 4


def measure_refusals(collector: Collector, settings: Settings) -> None:
    """Measure in a kernel of its own.

    Raises:
        WeftError: the kernel does not start.
    """
    with KernelRun() as kernel:
        try:
            agents = [
                kernel.spawn("weftos.bench.refusal_programs:refused", sandbox={"profile": "standard"})[0]
                for _ in range(_FLOODERS)
            ]
        except WeftError as error:
            collector.skip("weftos", f"refused calls: {error}")
            return
        for _ in range(settings.rounds):
            for case, call in _CASES:
                # Fewer than are answered without a pause, when there was time since the last ones.
                time.sleep(limits.REFUSALS_BURST / limits.REFUSALS_PER_S)
                found = _tries(kernel, agents[0], Tries(call, limits.REFUSALS_BURST - 1, settings.seconds))
                collector.add(case, "weftos", "p50", found[2], "s")
            _flood(collector, kernel, agents[:1], settings)
            _flood(collector, kernel, agents, settings)


def _tries(kernel: KernelRun, pid: int, order: Tries) -> list[float]:
    answer = kernel.call("agent.send", pid=pid, message=msgspec.to_builtins(order), timeout_secs=60.0)
    return msgspec.convert(answer.reply, list[float])


def _flood(collector: Collector, kernel: KernelRun, agents: list[int], settings: Settings) -> None:
    seconds = _FLOOD_QUICK_S if settings.quick else _FLOOD_S
    flooded = psutil.Process(kernel.os_pid)
    before, began = flooded.cpu_times(), time.monotonic()
    for pid in agents[1:]:
        kernel.order(pid, Tries("keyctl", 1 << 30, seconds))
    made = _tries(kernel, agents[0], Tries("keyctl", 1 << 30, seconds))
    after, took = flooded.cpu_times(), time.monotonic() - began
    spent = after.user + after.system - before.user - before.system
    case = f"flood by {len(agents)}" if len(agents) > 1 else "flood"
    collector.add(case, "weftos", "calls of one", made[0] / made[1], "1/s")
    collector.add(case, "weftos", "processors of the kernel", spent / took, "")

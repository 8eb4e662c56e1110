"""What it costs to ask whether something may be done, and how soon a "no" arrives.

``capability check, local`` is a question of an agent to its own page of rights. ``revocation seen`` is from just before
the operator's request to the moment at which each of four agents below the one that lost a right finds it gone; the
log is written, and on the disk, in between. ``budget`` is a reservation over the ring of one agent, and a reservation
with its settlement; both are records.

To add a case, add a function to ``CASES``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.bench.rights_programs import Budgeting, Checking, Watching
from weftos.bench.samples import percentiles

__all__ = ["CASES", "measure_rights"]

#: They write their figures into files of the benchmark.
_TRUSTED: Final = {"profile": "trusted"}
_WATCHERS: Final = 4
_RIGHT: Final = "can_exec_tools"


def measure_rights(collector: Collector, settings: Settings) -> None:
    """Measure every case, each round with a fresh kernel.

    Raises:
        WeftError: the kernel does not start, or an agent does not.
    """
    for _ in range(settings.rounds):
        with KernelRun() as kernel:
            for case in CASES:
                case(kernel, settings, collector)


def _add(collector: Collector, case: str, found: dict[str, float]) -> None:
    for metric, value in found.items():
        collector.add(case, "weftos", metric, value, "s")


def _local_check(kernel: KernelRun, settings: Settings, collector: Collector) -> None:
    pid, os_pid = _spawn(kernel, "checker")
    path = kernel.answer_path()
    kernel.order(pid, Checking(20_000 if settings.quick else 200_000, path))
    _add(collector, "capability check, local", kernel.answer(os_pid, path, 30.0))


def _revocation(kernel: KernelRun, settings: Settings, collector: Collector) -> None:
    times = 5 if settings.quick else 30
    parent, _ = kernel.spawn("echo", sandbox=_TRUSTED)
    watchers = [_spawn(kernel, "watcher", parent_pid=parent) for _ in range(_WATCHERS)]
    paths = [kernel.answer_path() for _ in watchers]
    for (pid, _), path in zip(watchers, paths, strict=True):
        kernel.order(pid, Watching(times, path))
    asked = []
    for _ in range(times):
        asked.append(time.monotonic())
        kernel.call("capability.revoke", pid=parent, rights=[_RIGHT], reason="bench")
        # Each watcher must have looked before it changes back.
        time.sleep(0.02)
        for pid in (parent, *(pid for pid, _ in watchers)):
            kernel.call("capability.grant", pid=pid, rights=[_RIGHT], reason="bench")
    seen = [kernel.answer(os_pid, path, 30.0) for (_, os_pid), path in zip(watchers, paths, strict=True)]
    delays = [max(one[number] for one in seen) - began for number, began in enumerate(asked)]
    _add(collector, f"revocation seen by the last of {_WATCHERS}", percentiles(delays))


def _budget(kernel: KernelRun, settings: Settings, collector: Collector) -> None:
    pid, os_pid = _spawn(kernel, "budgeter")
    kernel.call("budget.set", pid=0, given={"tokens": 1 << 50, "turns": 1 << 50})
    path = kernel.answer_path()
    kernel.order(pid, Budgeting(settings.seconds * 2, path))
    both, first = kernel.answer(os_pid, path, 30.0)
    _add(collector, "budget, reserve", first)
    _add(collector, "budget, reserve and settle", both)


def _spawn(kernel: KernelRun, program: str, **params: Any) -> tuple[int, int]:
    name = f"weftos.bench.rights_programs:{program}"
    answer = kernel.call("agent.spawn", program=name, restart="never", sandbox=_TRUSTED, **params)
    return answer.pid, answer.os_pid


#: Everything that is measured, in this order.
CASES: Final[tuple[Callable[[KernelRun, Settings, Collector], None], ...]] = (_local_check, _revocation, _budget)

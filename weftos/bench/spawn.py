"""Processes: agents started a second, memory of each, and how soon the kernel knows that one has been killed.

``rate`` counts agents that reported ready, started one after the other through the control socket. ``pss`` is the share
of memory that belongs to one idle agent while all are alive: private pages in full, shared pages divided by the number
of processes that share them (proc(5), smaps_rollup). ``exit detection`` is from just before SIGKILL to the time in the
kernel's exit record.

Why it is as it is: PSS is the only figure that adds up. RSS would count the interpreter once for each agent.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Final

from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.bench.samples import percentiles
from weftos.errors import BenchFailed

__all__ = ["run"]

_AGENTS: Final = 200
_AGENTS_QUICK: Final = 30
_KILLS: Final = 100
_KILLS_QUICK: Final = 20
_TIMEOUT_S: Final = 10.0


def run(settings: Settings) -> Collector:
    """Measure, each round with a fresh kernel.

    Raises:
        WeftError: the kernel does not start, or an agent does not.
    """
    collector = Collector("spawn")
    for _ in range(settings.rounds):
        with KernelRun() as kernel:
            _measure(kernel, settings, collector)
    return collector


def _measure(kernel: KernelRun, settings: Settings, collector: Collector) -> None:
    count = _AGENTS_QUICK if settings.quick else _AGENTS
    case = f"{count} agents alive at once"
    started = time.monotonic()
    agents = [kernel.spawn("echo") for _ in range(count)]
    collector.add(case, "weftos", "rate", count / (time.monotonic() - started), "1/s")
    alive = sum(info.state == "running" for info in kernel.call("agent.list"))
    if alive != count:
        collector.skip("weftos", f"{case}: only {alive} of {count} were running")
        return
    shares = [_pss(os_pid) for _, os_pid in agents]
    if None in shares:
        collector.skip("weftos", "pss: this system does not tell it")
    else:
        collector.add(case, "weftos", "pss", sum(share for share in shares if share) / count, "B")
    victims = agents[: _KILLS_QUICK if settings.quick else _KILLS]
    for metric, value in percentiles([_kill(kernel, pid, os_pid) for pid, os_pid in victims]).items():
        if metric != "p99.9":
            collector.add(f"exit detection, {len(victims)} agents killed", "weftos", metric, value, "s")


def _pss(os_pid: int) -> int | None:
    """Bytes; ``None`` where there is no such file."""
    try:
        lines = Path(f"/proc/{os_pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _kill(kernel: KernelRun, pid: int, os_pid: int) -> float:
    """Kill one agent; returns seconds until the kernel had its exit record.

    Raises:
        BenchFailed: it has none after a while.
    """
    handle = os.pidfd_open(os_pid)
    try:
        killed = time.time()
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], _TIMEOUT_S)
    finally:
        os.close(handle)
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        found = kernel.call("agent.inspect", pid=pid)
        if found.last_exit is not None and found.state == "exited":
            return max(float(found.last_exit.ended_at) - killed, 0.0)
    raise BenchFailed(f"agent {pid} was killed, and the kernel does not know it after {_TIMEOUT_S:g} s")

"""What confining an agent costs at its start: agents of each profile in turn, and how much longer than trusted ones.

``spawn`` is from the question to the kernel until the agent is ready. ``more than trusted`` is the median of the
differences within one turn, so what else the machine does hits both sides alike.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.errors import WeftError

__all__ = ["measure_confinement"]

_PROFILES: Final = ("trusted", "standard", "strict")
_TURNS: Final = 60
_TURNS_QUICK: Final = 5


def measure_confinement(collector: Collector, settings: Settings) -> None:
    """Spawn and stop, in a kernel of its own.

    Raises:
        WeftError: the kernel does not start.
    """
    turns = _TURNS_QUICK if settings.quick else _TURNS
    with KernelRun() as kernel:
        for _ in range(settings.rounds):
            taken: dict[str, list[float]] = {profile: [] for profile in _PROFILES}
            for turn in range(turns):
                for place in range(len(_PROFILES)):
                    # Who goes first changes, since whoever does finds the machine as the others left it.
                    profile = _PROFILES[(turn + place) % len(_PROFILES)]
                    began = time.perf_counter()
                    try:
                        pid, _os_pid = kernel.spawn("echo", sandbox={"profile": profile})
                    except WeftError as error:
                        collector.skip("weftos", f"an agent of the profile {profile}: {error}")
                        return
                    taken[profile].append(time.perf_counter() - began)
                    kernel.stop(pid)
            for profile in _PROFILES:
                collector.add(f"spawn, {profile}", "weftos", "p50", statistics.median(taken[profile]), "s")
            for profile in _PROFILES[1:]:
                more = [ours - base for ours, base in zip(taken[profile], taken["trusted"], strict=True)]
                collector.add(f"spawn, {profile}, more than trusted", "weftos", "p50", statistics.median(more), "s")

"""Timing single calls, and what is told of many samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["PERCENTILES", "percentiles", "time_calls"]

#: Name of each percentile and its share.
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
#: Share of the samples at the beginning that warm up and are not counted.
_WARM: Final = 0.1
#: Samples kept at most: a million would take seconds to sort.
_MOST: Final = 200_000


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of samples by name, in their unit. There must be at least one sample."""
    ordered = sorted(samples)
    return {name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in PERCENTILES.items()}


def time_calls(call: Callable[[Any], Any], value: Any, seconds: float, pause: float = 0.0) -> list[float]:
    """Call again and again for a while.

    Args:
        call: what is timed.
        value: its argument.
        seconds: how long to go on.
        pause: seconds of sleep before each call, not counted; the other end then sleeps when the call comes.

    Returns:
        Duration of each call in seconds, without the first tenth.
    """
    now = time.perf_counter
    samples: list[float] = []
    take = samples.append
    call(value)
    before = now()
    end = before + seconds
    while before < end and len(samples) < _MOST:
        if pause:
            time.sleep(pause)
            before = now()
        call(value)
        after = now()
        take(after - before)
        before = after
    return samples[int(len(samples) * _WARM) :]

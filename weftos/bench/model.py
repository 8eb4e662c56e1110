"""What a benchmark is asked and what it answers: settings, rows, and the medians over rounds.

Why it is as it is: every measurement of a case is repeated in rounds, and within a round all competitors of a case run
one after the other. Load from elsewhere on the machine then hits all alike, and the median drops the outliers.

Guaranteed: a row holds the median of the rounds that gave a figure; whoever gave none is in ``skipped`` with a reason.
Not guaranteed: that two runs agree. On a shared machine they differ by tens of percent; ratios within a run less.
"""

from __future__ import annotations

import statistics
from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["Collector", "Report", "Row", "Settings", "Skipped", "Unit"]

#: Messages per second, bytes per second, seconds, bytes, and a share between 0 and 1.
Unit: TypeAlias = Literal["1/s", "B/s", "s", "B", ""]


class Settings(msgspec.Struct, frozen=True):
    """What the command line asked for.

    Attributes:
        quick: smaller counts, one round: shows that everything works, and the order of magnitude.
        peers: measure other packages beside ours.
        rounds: repetitions, of which the median is reported.
        seconds: length of one measurement, in seconds.
        vectors: entries of semantic memory; 0 for the benchmark's own choice.
        dimension: numbers in each of their vectors.
        large: measure memory with a million vectors as well, which takes minutes.
        plot: file for the picture of the curves; none if empty.
    """

    quick: bool = False
    peers: bool = False
    rounds: int = 3
    seconds: float = 0.5
    vectors: int = 0
    dimension: int = 128
    large: bool = False
    plot: str = ""


class Row(msgspec.Struct, frozen=True):
    """One figure.

    Attributes:
        bench: ``throughput``, ``latency``, ``chain``, ``log``, ``spawn``, ``gate``, ``recall`` or ``memory``.
        case: what was done, for example ``message 64B 1→1 single``.
        who: ``weftos`` (the full path), ``weftos-ring`` (the raw ring), or the name of a package.
        metric: what the value says, for example ``rate`` or ``p99``.
        value: median over the rounds, in ``unit``.
        unit: of the value.
    """

    bench: str
    case: str
    who: str
    metric: str
    value: float
    unit: Unit


class Skipped(msgspec.Struct, frozen=True, order=True):
    """What was not measured, and why."""

    who: str
    why: str


class Report(msgspec.Struct):
    """The whole answer; ``--json`` prints it as one object.

    Attributes:
        machine: processor, cores, system, load.
        versions: of the interpreter and of each package that took part.
        rows: the figures.
        skipped: what was left out.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    rows: list[Row] = []
    skipped: list[Skipped] = []


class Collector:
    """Gathers samples over the rounds of one benchmark.

    Args:
        bench: its name.
    """

    def __init__(self, bench: str) -> None:
        self._bench = bench
        self._samples: dict[tuple[str, str, str, Unit], list[float]] = {}
        self._skipped: dict[Skipped, None] = {}

    def add(self, case: str, who: str, metric: str, value: float, unit: Unit) -> None:
        """Take one sample."""
        self._samples.setdefault((case, who, metric, unit), []).append(value)

    def skip(self, who: str, why: str) -> None:
        """Note that something was not measured."""
        self._skipped[Skipped(who, why)] = None

    def rows(self) -> list[Row]:
        """Return one row per case, competitor and metric, in the order of the first samples of each case."""
        order = list(dict.fromkeys(case for case, *_ in self._samples))
        keys = sorted(self._samples, key=lambda key: order.index(key[0]))
        return [Row(self._bench, case, who, metric, statistics.median(self._samples[case, who, metric, unit]), unit)
                for case, who, metric, unit in keys]  # fmt: skip

    def skipped(self) -> list[Skipped]:
        """Return what was left out, without repetitions."""
        return list(self._skipped)

"""The chain: durable appends a second by 1, 4 and 16 agents, and how fast the log is verified.

An append counts when its acknowledgement is here, which is after the data is on disk. ``window W`` means that an agent
has up to W requests under way; ``one at a time`` waits for each before the next; ``batches of B`` are requests of B
events each. ``acknowledgement`` is the time from a request to its answer while 16 agents together append at half of the
rate that was measured just before: once with agents that every answer wakes, once with agents that look every few
milliseconds, for which the time until they look counts. The yardstick is SQLite on the same
disk in the same run: WAL, ``synchronous=FULL``, one transaction for each event, one writer.

Why it is as it is: what an append costs is the wait for the disk, so the figures say how many appends share one wait.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from weftos.bench.crew import Crew
from weftos.bench.kernel_run import KernelRun
from weftos.bench.model import Collector, Settings
from weftos.bench.programs import Appends
from weftos.errors import WeftError

__all__ = ["run"]

_APPENDERS: Final = (1, 4, 16)
_WINDOW: Final = 64
_BATCHES: Final = (64, 256)
_BATCH_WINDOW: Final = 4
#: Between two looks of an agent that no answer wakes, in seconds.
_LOOKS_S: Final = 0.004
_WARM_S: Final = 0.1
_TIMEOUT_S: Final = 20.0


def run(settings: Settings) -> Collector:
    """Measure appends, round by round, and verification at the end of each round.

    Raises:
        WeftError: the kernel does not start.
    """
    from weftos.chain import verify

    collector = Collector("chain")

    def attempt(case: str, who: str, measure: Callable[[], float]) -> None:
        try:
            collector.add(case, who, "rate", measure(), "1/s")
        except WeftError as error:
            collector.skip(who, f"{case}: {error}")

    with KernelRun() as kernel:
        for _ in range(settings.rounds):
            attempt(
                "durable appends, 1 appender, one at a time", "weftos", lambda: _appends(kernel, 1, 1, settings.seconds)
            )
            for count in _APPENDERS:
                case = f"durable appends, {count} appender{'s' if count > 1 else ''}, window {_WINDOW}"
                attempt(case, "weftos", lambda count=count: _appends(kernel, count, _WINDOW, settings.seconds))  # type: ignore[misc]
                attempt(case, "sqlite3", lambda: _sqlite(kernel.folder / "yardstick.db", settings.seconds))
            most = _APPENDERS[-1]
            for size in _BATCHES:
                case = f"durable appends, {most} appenders, batches of {size}"
                attempt(
                    case,
                    "weftos",
                    lambda size=size: _appends(kernel, most, _BATCH_WINDOW, settings.seconds, batch=size),  # type: ignore[misc]  # noqa: B023
                )
            _acknowledgements(collector, kernel, most, settings)
            report = verify(str(kernel.home.chain))
            if report.valid:
                collector.add("verify", "weftos", "rate", report.records / report.elapsed_seconds, "1/s")
            else:
                collector.skip("weftos", f"verify: the log is reported damaged: {report.errors[0].detail}")
    return collector


def _acknowledgements(collector: Collector, kernel: KernelRun, count: int, settings: Settings) -> None:
    case = f"acknowledgement, {count} appenders at half of their rate"
    for name, every in ((case, 0.0), (f"{case}, looking every {_LOOKS_S * 1e3:g} ms", _LOOKS_S)):
        try:
            full = _appends(kernel, count, _WINDOW, settings.seconds)
            order = Appends(_WINDOW, 0.0, settings.seconds, "", rate=full / 2 / count, every=every)
            found = _ordered(kernel, count, order)
        except WeftError as error:
            collector.skip("weftos", f"{name}: {error}")
            continue
        for metric in ("p50", "p99"):
            # Of the percentiles of the agents the middle one: they all wait for the same disk.
            collector.add(name, "weftos", metric, statistics.median(one[metric] for one in found), "s")


def _appends(kernel: KernelRun, count: int, window: int, seconds: float, *, batch: int = 0) -> float:
    return float(sum(_ordered(kernel, count, Appends(window, 0.0, seconds, "", batch=batch))))


def _ordered(kernel: KernelRun, count: int, order: Appends) -> list[Any]:
    """Have agents carry out an order at the same time; return their answers."""
    agents = [kernel.spawn("appender") for _ in range(count)]
    try:
        begin = time.monotonic() + _WARM_S
        paths = [kernel.answer_path() for _ in agents]
        for (pid, _), path in zip(agents, paths, strict=True):
            kernel.order(pid, msgspec.structs.replace(order, begin=begin, path=path))
        return [
            kernel.answer(os_pid, path, order.seconds + _TIMEOUT_S)
            for (_, os_pid), path in zip(agents, paths, strict=True)
        ]
    finally:
        for pid, _ in agents:
            kernel.stop(pid)


def _sqlite(path: Path, seconds: float) -> float:
    """Insert with one durable transaction each, in a process of its own; returns transactions per second."""

    def write() -> float:
        for old in path.parent.glob(path.name + "*"):
            old.unlink()
        base = sqlite3.connect(path, isolation_level=None)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, at REAL, source TEXT, kind TEXT, payload BLOB)")
        count, started = 0, time.monotonic()
        end = started + seconds
        while (now := time.monotonic()) < end:
            row = (time.time(), "agent:1", "app.bench", b'{"n":%d,"data":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}' % count)
            base.execute("INSERT INTO log (at, source, kind, payload) VALUES (?, ?, ?, ?)", row)
            count += 1
        base.close()
        return count / (now - started)

    with Crew() as crew:
        crew.start(write, answers=True)
        return float(crew.results(seconds + _TIMEOUT_S)[0])

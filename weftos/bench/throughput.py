"""Throughput: how many messages a second get from sender to receiver.

Two kinds of rows. ``message`` rows carry a structured value in and a structured value out: for us through agents of a
real kernel (``weftos``), for the peers with the same value encoded by msgspec. ``raw`` rows carry bytes: for us through
the bare ring (``weftos-ring``). ``array`` rows carry a float32 array of 1 MiB; ``memcpy`` is what copying that array
within one process gives, the yardstick for them.

Why it is as it is: senders send without pause and receivers count in a common span of time, so that neither start-up
nor what still lies in a queue at the end is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import numpy as np

from weftos.bench.channels import Channel
from weftos.bench.crew import Crew
from weftos.bench.kernel_run import KernelRun
from weftos.bench.loops import BATCH, RECORDS, Load, count_until
from weftos.bench.model import Collector, Settings
from weftos.bench.ring_channel import RingChannel, ViewedRing
from weftos.errors import WeftError

__all__ = ["Case", "cases", "run"]

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
#: From the start of the workers to the beginning of the count, in seconds: connecting takes most of it.
_WARM_S: Final = 0.15
_WARM_QUICK_S: Final = 0.08
_TIMEOUT_S: Final = 15.0


class Case(msgspec.Struct, frozen=True):
    """One line of the table.

    Attributes:
        name: as in the rows.
        load: what travels.
        senders: how many send.
        receivers: how many receive.
    """

    name: str
    load: Load
    senders: int = 1
    receivers: int = 1

    @property
    def in_bytes(self) -> bool:
        """Whether the rate is told in bytes: for arrays, where the copying counts."""
        return self.load.kind == "array"


def cases() -> list[Case]:
    """Return all cases, in the order of the table."""
    found = []
    for kind, word in (("message", "message"), ("raw", "raw")):
        for size, text in ((64, "64B"), (_KIB, "1KiB"), (64 * _KIB, "64KiB")):
            found.append(Case(f"{word} {text} 1→1 single", Load(kind, size)))  # type: ignore[arg-type]
        found.append(Case(f"{word} 64B 1→1 batch {BATCH}", Load(kind, 64, BATCH)))  # type: ignore[arg-type]
        found.append(Case(f"{word} 64B 4→1 single", Load(kind, 64), 4, 1))  # type: ignore[arg-type]
        found.append(Case(f"{word} 64B 1→4 single", Load(kind, 64), 1, 4))  # type: ignore[arg-type]
    found.append(Case(f"raw 64B 1→1 numpy batch {RECORDS}", Load("records", 64, RECORDS)))
    found.append(Case("array 1MiB 1→1", Load("array", _MIB)))
    return found


def run(settings: Settings) -> Collector:
    """Measure all cases, round by round.

    Raises:
        WeftError: the kernel does not start.
    """
    collector = Collector("throughput")
    channels: list[type[Channel]] = []
    if settings.peers:
        from weftos.bench.peers import available

        channels = available(collector)
    with KernelRun() as kernel:
        for _ in range(settings.rounds):
            for case in cases():
                _measure(case, settings, collector, kernel, channels)
    return collector


def _measure(
    case: Case, settings: Settings, collector: Collector, kernel: KernelRun, peers: list[type[Channel]]
) -> None:
    warm = _WARM_QUICK_S if settings.quick else _WARM_S
    seconds = settings.seconds

    def attempt(who: str, measure: Callable[[], float], names: tuple[str, ...] = (case.name,)) -> None:
        try:
            rate = measure()
        except WeftError as error:
            collector.skip(who, f"{case.name}: {error}")
            return
        for name in names:
            if case.in_bytes:
                collector.add(name, who, "rate", rate * case.load.size, "B/s")
            else:
                collector.add(name, who, "rate", rate, "1/s")

    if case.load.kind in ("message", "array"):
        attempt("weftos", lambda: kernel.one_way(case.senders, case.receivers, case.load, warm, seconds))
    if case.load.kind != "message":
        attempt(RingChannel.who, lambda: through(RingChannel, case, warm, seconds))
    in_place = f"{case.name} in place"
    # What the others reach is the same, whichever way our receiver reads: measured once, told in both cases.
    names = (case.name, in_place) if case.in_bytes else (case.name,)
    if case.in_bytes:
        attempt(ViewedRing.who, lambda: through(ViewedRing, case, warm, seconds), (in_place,))
    for channel in peers:
        attempt(channel.who, lambda channel=channel: through(channel, case, warm, seconds), names)  # type: ignore[misc]
    if case.in_bytes:
        attempt("memcpy", lambda: memcpy(case.load, seconds), names)


def through(kind: type[Channel], case: Case, warm: float, seconds: float) -> float:
    """Measure one channel; returns messages per second, all receivers together.

    Raises:
        BenchFailed: no figure.
    """
    channel = kind(case.senders, case.receivers, case.load)
    try:
        with Crew(graceful=kind.graceful) as crew:
            begin = time.monotonic() + warm
            stop = crew.stop
            channel.over = lambda: stop[0] != 0
            for number in range(case.receivers):
                # After its count a receiver goes on: others of the same sender may still be counting.
                taker = _Receiver(channel, number, begin, seconds)
                crew.start(taker.count, answers=True, afterwards=taker.go_on)

            def send(number: int) -> None:
                burst = channel.sender(number)
                while not stop[0]:
                    burst()

            for number in range(case.senders):
                crew.start(partial(send, number))
            return float(sum(crew.results(warm + seconds + _TIMEOUT_S)))
    finally:
        channel.close()


class _Receiver:
    """A receiving process; opens its end there."""

    def __init__(self, channel: Channel, number: int, begin: float, seconds: float) -> None:
        self._channel, self._number, self._begin, self._seconds = channel, number, begin, seconds

        self._receive: Callable[[], int] | None = None

    def count(self) -> float:
        self._receive = self._channel.receiver(self._number)
        return count_until(self._receive, self._begin, self._seconds)

    def go_on(self) -> None:
        assert self._receive is not None, "opened by the count"
        self._receive()


def memcpy(load: Load, seconds: float) -> float:
    """Copy the array between two places of one process; returns copies per second."""
    source = load.array()
    target = np.empty_like(source)

    def chunk() -> int:
        for _ in range(16):
            target[...] = source
        return 16

    return count_until(chunk, 0.0, seconds)

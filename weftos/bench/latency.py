"""Latency: how long a round trip of a 64-byte message takes, from the call to the answer in hand.

``weftos`` is ``ctx.call`` between two agents of a real kernel, with a structured value each way; the others carry
bytes. Blocking ends sleep while there is nothing; spinning ends look again and again. Both ends are pinned: to a core
each, or both to one, because where the system puts them decides more than what carries the message.

Why it is as it is: where round trips follow one another without pause, an answer often comes before its receiver has
gone to sleep, above all with rings, so waking up is measured separately: ``after 1 ms`` both ends sleep before each
round trip. Percentiles are taken over all round trips of one measurement, medians of them over the rounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from weftos.bench.channels import Channel
from weftos.bench.crew import Crew
from weftos.bench.kernel_run import KernelRun
from weftos.bench.loops import Load
from weftos.bench.model import Collector, Settings
from weftos.bench.programs import RoundTrips
from weftos.bench.ring_channel import RingChannel, SpinningRing
from weftos.bench.samples import PERCENTILES, percentiles, time_calls
from weftos.errors import WeftError

__all__ = ["run"]

_LOAD: Final = Load("raw", 64)
_TIMEOUT_S: Final = 15.0
_PAUSE_S: Final = 1e-3


def run(settings: Settings) -> Collector:
    """Measure round trips, round by round.

    Raises:
        WeftError: the kernel does not start.
    """
    collector = Collector("latency")
    channels: list[type[Channel]] = [SpinningRing, RingChannel]
    if settings.peers:
        from weftos.bench.peers import available

        channels += available(collector)
        if channels[-1].who == "iceoryx2":
            from weftos.bench.iceoryx_channel import SpinningIceoryx

            channels.append(SpinningIceoryx)

    def attempt(case: str, who: str, measure: Callable[[], dict[str, float]]) -> None:
        try:
            found = measure()
        except WeftError as error:
            collector.skip(who, f"{case}: {error}")
            return
        for metric in PERCENTILES:
            collector.add(case, who, metric, found[metric], "s")

    with KernelRun() as kernel:
        for _ in range(settings.rounds):
            for place in _places():
                if not place.spins:
                    attempt(place.case, "weftos", partial(_calls, kernel, settings.seconds, place))
                for channel in channels:
                    if channel.spins == place.spins:
                        attempt(place.case, channel.who, partial(_round_trips, channel, settings.seconds, place))
    return collector


class _Place(msgspec.Struct, frozen=True):
    """One case: on which cores the two ends are, how long they sleep before each round trip, and whether they spin."""

    case: str
    cores: tuple[int, int]
    pause: float = 0.0
    spins: bool = False


def _places() -> list[_Place]:
    usable = sorted(os.sched_getaffinity(0))
    one = _Place("round trip 64B blocking, one core", (usable[0], usable[0]))
    if len(usable) == 1:
        # Two that spin on one core take each other's time.
        return [one]
    two = (usable[0], usable[1])
    return [
        _Place("round trip 64B blocking, two cores", two),
        _Place("round trip 64B blocking, two cores, after 1 ms", two, _PAUSE_S),
        _Place("round trip 64B spinning, two cores", two, spins=True),
        one,
    ]


def _round_trips(kind: type[Channel], seconds: float, place: _Place) -> dict[str, float]:
    channel = kind(1, 1, _LOAD)
    try:
        with Crew(graceful=kind.graceful) as crew:
            stop = crew.stop
            channel.over = lambda: stop[0] != 0

            def answer() -> None:
                os.sched_setaffinity(0, {place.cores[1]})
                body = channel.answerer()
                while not stop[0]:
                    body()

            def ask() -> dict[str, float]:
                os.sched_setaffinity(0, {place.cores[0]})
                body = channel.asker()
                return percentiles(time_calls(body, b"m" * _LOAD.size, seconds, place.pause))

            crew.start(answer)
            crew.start(ask, answers=True)
            found: dict[str, float] = crew.results(seconds + _TIMEOUT_S)[0]
            return found
    finally:
        channel.close()


def _calls(kernel: KernelRun, seconds: float, place: _Place) -> dict[str, float]:
    there, other = kernel.spawn("echo")
    here, os_pid = kernel.spawn("caller")
    try:
        os.sched_setaffinity(other, {place.cores[1]})
        os.sched_setaffinity(os_pid, {place.cores[0]})
        path = kernel.answer_path()
        kernel.order(here, RoundTrips(there, seconds, path, place.pause))
        answer: Any = kernel.answer(os_pid, path, seconds + _TIMEOUT_S)
        return msgspec.convert(answer, dict[str, float])
    finally:
        kernel.stop(here)
        kernel.stop(there)

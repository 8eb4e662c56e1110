"""The agent that asks the gate again and again; the benchmark spawns it as ``weftos.bench.gate_programs:asker``."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from weftos.agent.context import Context
from weftos.bench.loops import count_until
from weftos.bench.programs import write_answer
from weftos.bench.samples import percentiles, time_calls
from weftos.errors import BenchFailed
from weftos.service.client import Pending
from weftos.service.protocol import GateCheck

__all__ = ["Asks", "asker"]

_PATIENCE_S: Final = 10.0
_ACTION: Final = "agent.spawn"
_FACTS: Final = {"program": "echo"}


class Asks(msgspec.Struct, frozen=True):
    """What an asker is to do; its first message, from the operator.

    Attributes:
        window: questions under way at once; 0 asks one after the other and tells how long each took.
        begin: ``time.monotonic()`` at which counting begins.
        seconds: how long to count.
        path: named pipe for the answer: questions per second, or percentiles in seconds.
    """

    window: int
    begin: float
    seconds: float
    path: str


def asker(ctx: Context) -> None:
    """Ask whether it may spawn."""
    message = ctx.recv(_PATIENCE_S)
    if message is None:
        raise BenchFailed("no order came")
    order = msgspec.convert(message.payload, Asks)
    service = ctx.service
    if not order.window:
        write_answer(order.path, percentiles(time_calls(lambda _: service.gate(_ACTION, _FACTS), None, order.seconds)))
        return
    waiting: deque[Pending] = deque()

    def chunk() -> int:
        while len(waiting) < order.window:
            waiting.append(service.submit(GateCheck(_ACTION, _FACTS)))
        done = 1
        waiting.popleft().result()
        while waiting and waiting[0].done:
            waiting.popleft().result()
            done += 1
        return done

    rate = count_until(chunk, order.begin, order.seconds)
    while waiting:
        waiting.popleft().result()
    write_answer(order.path, rate)

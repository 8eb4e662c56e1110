"""Agents that measure the full message path; the benchmark spawns them as ``weftos.bench.programs:NAME``.

Why it is as it is: they use what any agent uses, ``ctx.send`` and ``ctx.recv``, with the kernel's defaults: sender
identity by ring, commit after handling, audit windows on. An answer goes into the named pipe of the order. A receiver
then goes on receiving until the operator says that the senders have ended, and empties its rings: what lies unread in
the ring of an agent that ends becomes dead letters, and thousands of those would disturb the next measurement.
"""

from __future__ import annotations

import os
import time
from collections import deque
from itertools import count, islice, repeat
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from weftos.agent.context import Context
from weftos.bench.loops import Load, count_until
from weftos.bench.samples import percentiles, time_calls
from weftos.errors import BenchFailed
from weftos.service.client import Pending
from weftos.service.protocol import Append, AppendBatch, Event

__all__ = [
    "Appends",
    "OneWay",
    "RoundTrips",
    "appender",
    "caller",
    "drain",
    "receiver",
    "sender",
    "take_order",
    "write_answer",
]


T = TypeVar("T")
_PATIENCE_S: Final = 10.0
#: Between two looks whether something is due, in seconds.
_PACE_S: Final = 0.004
_TEXT: Final = "x" * 30
#: A sender that nobody has ended by then ends itself, seconds after the measurement.
_OVERTIME_S: Final = 30.0


class OneWay(msgspec.Struct, frozen=True):
    """What a sender or receiver is to do; its first message, from the operator.

    Attributes:
        load: what travels.
        begin: ``time.monotonic()`` at which counting begins.
        seconds: how long to count.
        path: named pipe for the answer.
        to: pids of the receivers.
    """

    load: Load
    begin: float
    seconds: float
    path: str = ""
    to: list[int] = []


class RoundTrips(msgspec.Struct, frozen=True):
    """What a caller is to do.

    Attributes:
        to: pid of the agent that answers.
        seconds: how long to go on.
        path: named pipe for the answer.
        pause: seconds of sleep before each call.
    """

    to: int
    seconds: float
    path: str
    pause: float = 0.0


class Appends(msgspec.Struct, frozen=True):
    """What an appender is to do.

    Attributes:
        window: requests under way at most.
        begin: ``time.monotonic()`` at which counting begins.
        seconds: how long to count.
        path: named pipe for the answer.
        batch: events in each request; 0 for requests of one event.
        rate: events to submit each second; 0 for as many as possible. The answer is then how long each one took.
        every: with a rate, seconds that the appender sleeps between two looks at what was answered and what is due; 0:
            every answer wakes it.
    """

    window: int
    begin: float
    seconds: float
    path: str
    batch: int = 0
    rate: float = 0.0
    every: float = 0.0


def write_answer(path: str, answer: Any) -> None:
    """Hand an answer to the benchmark, which reads the other end of the named pipe."""
    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(pipe, msgspec.json.encode(answer))
    finally:
        os.close(pipe)


def take_order(ctx: Context, kind: type[T]) -> T:
    """Wait for the order, the first message.

    Raises:
        BenchFailed: none came.
    """
    first = ctx.recv(_PATIENCE_S)
    if first is None:
        raise BenchFailed("no order came")
    return msgspec.convert(first.payload, kind)


def receiver(ctx: Context) -> None:
    """Count messages for a while."""
    order = take_order(ctx, OneWay)
    recv, recv_many = ctx.recv, ctx.recv_many

    turns, is_array = order.load.stride, order.load.kind == "array"

    def chunk() -> int:
        for _ in repeat(None, turns):
            if recv(_PATIENCE_S) is None:
                raise BenchFailed("nothing came")
        return turns

    def chunk_of_batches() -> int:
        batch = recv_many(_PATIENCE_S)
        if batch is None:
            raise BenchFailed("nothing came")
        return len(batch.payloads)

    def chunk_of_arrays() -> int:
        message = recv(_PATIENCE_S)
        if message is None:
            raise BenchFailed("nothing came")
        array: np.ndarray[Any, Any] = message.payload
        array[0], array[-1]
        return 1

    body = chunk_of_arrays if is_array else chunk_of_batches if order.load.batch > 1 else chunk
    write_answer(order.path, count_until(body, order.begin, order.seconds))
    drain(ctx)


def drain(ctx: Context) -> None:
    """Receive until the operator has sent a message and nothing else is left."""
    told = False
    while (message := ctx.recv(0 if told else _PATIENCE_S)) is not None:
        told = told or message.sender == 0


def sender(ctx: Context) -> None:
    """Send until killed, or until long after the measurement."""
    order = take_order(ctx, OneWay)
    send, send_many, text, to, array = ctx.send, ctx.send_many, order.load.text, order.to, order.load.array()
    turns, numbers = range(order.load.stride), range(order.load.batch)
    last = order.begin + order.seconds + _OVERTIME_S
    while time.monotonic() < last:
        for pid in to:
            if order.load.kind == "array":
                for _ in turns:
                    send(pid, array)
            elif order.load.batch > 1:
                for _ in turns:
                    send_many(pid, [{"seq": n, "op": "append", "data": text} for n in numbers])
            else:
                for n in turns:
                    send(pid, {"seq": n, "op": "append", "data": text})


def caller(ctx: Context) -> None:
    """Call another agent again and again."""
    order = take_order(ctx, RoundTrips)
    call, to = ctx.call, order.to
    value = {"seq": 1, "op": "append", "data": "x" * 30}
    samples = time_calls(lambda payload: call(to, payload), value, order.seconds, order.pause)
    write_answer(order.path, percentiles(samples))


def appender(ctx: Context) -> None:
    """Append to the chain, durable, with some requests under way; count acknowledgements."""
    order = take_order(ctx, Appends)
    if order.rate:
        write_answer(order.path, percentiles(_paced(ctx, order)))
        return
    submit = ctx.service.submit
    waiting: deque[Pending] = deque()
    numbers = count()
    each = order.batch or 1

    def request() -> Append | AppendBatch:
        if not order.batch:
            return Append("app.bench", {"n": next(numbers), "data": _TEXT}, None, None, True)
        return AppendBatch([Event("app.bench", {"n": n, "data": _TEXT}) for n in islice(numbers, order.batch)], True)

    def chunk() -> int:
        while len(waiting) < order.window:
            waiting.append(submit(request()))
        done = 1
        waiting.popleft().result()
        while waiting and waiting[0].done:
            waiting.popleft().result()
            done += 1
        return done * each

    rate = count_until(chunk, order.begin, order.seconds)
    while waiting:
        waiting.popleft().result()
    write_answer(order.path, rate)


def _paced(ctx: Context, order: Appends) -> list[float]:
    """Append at a given rate, a few at once; return the seconds from each request to its acknowledgement."""
    service, now = ctx.service, time.monotonic
    samples: list[float] = []
    end = order.begin + order.seconds
    sent = 0
    while (at := now()) < end or service.in_flight:
        due = int((min(at, end) - order.begin) * order.rate) if at > order.begin else 0
        while sent < due:
            begun = now()
            event = Append("app.bench", {"n": sent, "data": _TEXT}, None, None, True)
            service.submit(event).on_done(lambda _, begun=begun: samples.append(now() - begun))  # type: ignore[misc]
            sent += 1
        if order.every:
            time.sleep(order.every)
            service.on_ready()
        elif not service.on_ready():
            service.pump(_PACE_S)
    if not samples:
        raise BenchFailed("no append was acknowledged")
    return samples

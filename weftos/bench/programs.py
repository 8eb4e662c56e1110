"""Agents that measure the full message path; the benchmark spawns them as ``weftos.bench.programs:NAME``.

Why it is as it is: they use what any agent uses, ``ctx.send`` and ``ctx.recv``, with the kernel's defaults: sender
identity by ring, commit after handling, audit windows on. A receiver writes its figure to the file named in its
order and ends; its senders then find their channel closed and end too.
"""

from __future__ import annotations

import time
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from weftos.agent.context import Context
from weftos.bench.loops import Load, count_until
from weftos.errors import BenchFailed, ChannelClosed, ProcessNotFound, RingFull

__all__ = ["OneWay", "receiver", "sender", "write_answer"]


_PATIENCE_S: Final = 10.0


class OneWay(msgspec.Struct, frozen=True):
    """What a sender or receiver is to do; its first message, from the operator.

    Attributes:
        load: what travels.
        begin: ``time.monotonic()`` at which counting begins.
        seconds: how long to count.
        path: file for the answer.
        to: pids of the receivers.
    """

    load: Load
    begin: float
    seconds: float
    path: str = ""
    to: list[int] = []


def write_answer(path: str, answer: Any) -> None:
    """Leave an answer for the benchmark: whole or not at all."""
    part = Path(path + ".part")
    part.write_bytes(msgspec.json.encode(answer))
    part.rename(path)


def _order(ctx: Context) -> OneWay:
    first = ctx.recv(_PATIENCE_S)
    if first is None:
        raise BenchFailed("no order came")
    return msgspec.convert(first.payload, OneWay)


def receiver(ctx: Context) -> None:
    """Count messages for a while."""
    order = _order(ctx)
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


def sender(ctx: Context) -> None:
    """Send until the receivers are gone."""
    order = _order(ctx)
    try:
        _send_on(ctx, order)
    except (ChannelClosed, ProcessNotFound, RingFull):
        # The receiver has its figure and has ended. If it has none, the benchmark says so.
        return


def _send_on(ctx: Context, order: OneWay) -> None:
    send, send_many, text, to = ctx.send, ctx.send_many, order.load.text, order.to
    if order.load.kind == "array":
        array = order.load.array()
        while True:
            for pid in to:
                send(pid, array)
    if order.load.batch > 1:
        numbers = range(order.load.batch)
        while True:
            for pid in to:
                send_many(pid, [{"seq": n, "op": "append", "data": text} for n in numbers])
    turns = range(order.load.stride)
    while True:
        for pid in to:
            for n in turns:
                send(pid, {"seq": n, "op": "append", "data": text})
        if time.monotonic() > order.begin + order.seconds + 30:
            return

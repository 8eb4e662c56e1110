"""Agents that measure what they may do and what it costs to ask; spawned as ``weftos.bench.rights_programs:NAME``."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from weftos.agent.context import Context
from weftos.bench.programs import take_order, write_answer
from weftos.bench.samples import percentiles, time_calls
from weftos.errors import BenchFailed

__all__ = ["Budgeting", "Checking", "Watching", "budgeter", "checker", "watcher"]

#: Between two looks of a watcher at its page, in seconds: the processors are needed by those who write it.
_LOOK_S: Final = 0.0002
_PATIENCE_S: Final = 20.0


class Checking(msgspec.Struct, frozen=True):
    """What a checker is to do: ``calls`` local checks; its answer goes to ``path``."""

    calls: int
    path: str


class Watching(msgspec.Struct, frozen=True):
    """What a watcher is to do: see ``times`` revocations; its answer, when it saw each, goes to ``path``."""

    times: int
    path: str


class Budgeting(msgspec.Struct, frozen=True):
    """What a budgeter is to do: reserve and settle for ``seconds``; its answer goes to ``path``."""

    seconds: float
    path: str


def checker(ctx: Context) -> None:
    """Time local checks, in lumps of 100, because one is shorter than the clock is precise."""
    order = take_order(ctx, Checking)
    allows = ctx.capabilities.allows
    clock = time.perf_counter
    spent = []
    for number in range(order.calls // 100):
        began = clock()
        for _ in range(25):
            allows("ipc.send", number)
            allows("tool.exec", "fs.read")
            allows("agent.spawn")
            allows("ipc.publish", "news")
        spent.append((clock() - began) / 100)
    write_answer(order.path, percentiles(spent))


def watcher(ctx: Context) -> None:
    """Note when a right is seen to be gone, again and again."""
    order = take_order(ctx, Watching)
    seen = []
    deadline = time.monotonic() + _PATIENCE_S
    for _ in range(order.times):
        for wanted in (False, True):
            while ctx.capabilities.allows("tool.exec", "fs.read") is not wanted:
                if time.monotonic() > deadline:
                    raise BenchFailed("no change of rights was seen")
                time.sleep(_LOOK_S)
            if not wanted:
                seen.append(time.monotonic())
    write_answer(order.path, seen)


def budgeter(ctx: Context) -> None:
    """Time a reservation with its settlement, and each of them."""
    order = take_order(ctx, Budgeting)
    reserve = ctx.budget.reserve
    whole = time_calls(lambda _: reserve("bench", turns=1, tokens=100).settle(), None, order.seconds)
    first = []
    clock = time.perf_counter
    deadline = clock() + order.seconds
    while (began := clock()) < deadline:
        made = reserve("bench", turns=1, tokens=100)
        first.append(clock() - began)
        made.settle()
    write_answer(order.path, [percentiles(whole), percentiles(first)])

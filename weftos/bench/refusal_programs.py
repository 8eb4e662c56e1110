"""The agent that makes calls which its sandbox refuses; spawned as ``weftos.bench.refusal_programs:refused``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from weftos.agent.context import Context
from weftos.sandbox.libc import syscall
from weftos.sandbox.syscalls import number_of

__all__ = ["CALLS", "Tries", "refused"]

#: A call that is shown to the kernel; one that the filter refuses by itself, as it did all before; an allowed one.
CALLS: Final = {"keyctl": (0, 0, 0), "clone3": (0, 0), "fcntl": (0, 1)}


class Tries(msgspec.Struct, frozen=True):
    """What it is to do.

    Attributes:
        call: one of ``CALLS``.
        times: how often at most.
        seconds: how long at most.
    """

    call: str
    times: int
    seconds: float


def refused(ctx: Context) -> None:
    """Do as ordered; the answers are how long each call took, in seconds, all together and the median."""
    for message in ctx:
        order = msgspec.convert(message.payload, Tries)
        number, arguments = number_of(order.call), CALLS[order.call]
        ctx.reply(message, _timed(lambda number=number, arguments=arguments: syscall(number, *arguments), order))  # type: ignore[misc]


def _timed(call: Callable[[], int], order: Tries) -> list[float]:
    """Return how many were made, how long all took, and the median of one."""
    taken: list[float] = []
    began = now = time.perf_counter()
    while len(taken) < order.times and now - began < order.seconds:
        with suppress(OSError):  # that is what is measured
            call()
        after = time.perf_counter()
        taken.append(after - now)
        now = after
    return [float(len(taken)), now - began, sorted(taken)[len(taken) // 2]]

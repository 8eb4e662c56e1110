"""Ends badly in a way of your choice, to show exit records, restarts and quarantine.

Arguments: the way (``exception``, ``exit``, ``segv``, ``kill``, ``memory``, ``hang``; default ``exception``) and
    ``--after N``: handle N messages
first (default 1; 0 crashes at once).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

from weftos.agent.context import Context

__all__ = ["main"]


def _exception() -> None:
    raise RuntimeError("crashed on purpose")


def _exit() -> None:
    os._exit(3)


def _segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> None:
    blocks = []
    while True:
        blocks.append(bytearray(16 * 1024 * 1024))


def _hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


_WAYS: Final[dict[str, Callable[[], None]]] = {
    "exception": _exception,
    "exit": _exit,
    "segv": _segv,
    "kill": _kill,
    "memory": _memory,
    "hang": _hang,
}


def main(ctx: Context) -> None:
    """See the module."""
    words = list(ctx.args)
    after = 1
    if "--after" in words:
        at = words.index("--after")
        after = int(words[at + 1])
        del words[at : at + 2]
    way = words[0] if words else "exception"
    if way not in _WAYS:
        raise SystemExit(f"unknown way to crash {way!r}: {', '.join(_WAYS)}")
    if after == 0:
        _WAYS[way]()
    for handled, message in enumerate(ctx, start=1):
        ctx.reply(message, {"left": after - handled})
        if handled >= after:
            _WAYS[way]()

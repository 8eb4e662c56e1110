"""Burns CPU, to show limits and usage: for the number of seconds given as argument, or until it is stopped."""

from __future__ import annotations

import time

from weftos.agent.context import Context

__all__ = ["main"]

#: Between two looks at whether it is to stop, in seconds of work.
_SLICE_S = 0.05


def main(ctx: Context) -> None:
    """Argument: seconds (default: for ever)."""
    end = time.monotonic() + float(ctx.args[0]) if ctx.args else float("inf")
    while not ctx.stopping and time.monotonic() < end:
        pause = time.monotonic() + _SLICE_S
        while time.monotonic() < pause:
            pass
        message = ctx.recv(timeout=0)
        if message is not None:
            ctx.reply(message, {"cpu_seconds": time.process_time()})

"""Sends six thousand messages to the agent that it is told of, and then waits for nothing any more."""

import signal


def main(ctx):
    message = ctx.recv()
    for n in range(6000):
        ctx.send(message.payload, f"{n:01000d}")
    signal.pause()

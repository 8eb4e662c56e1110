"""Dies on the message `poison`, answers all others; remembers in a file what it saw."""

import os
import signal
import sys


def main(ctx):
    with open(ctx.args[0], "a") as file:
        for message in ctx:
            print(message.payload, message.redelivered, ctx.incarnation, file=file, flush=True)
            if message.payload == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            if message.payload == "ask":
                ctx.reply(message, ctx.incarnation)
    sys.stdout.flush()

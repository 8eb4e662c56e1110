"""Appends numbered events and writes the acknowledged ones to a file, until told to stop."""

import sys


def main(ctx):
    with open(ctx.args[0], "w") as file:
        n = 0
        while not ctx.stopping:
            ack = ctx.service.append("app.test", {"n": n, "by": ctx.pid}, timeout_s=30)
            print(n, ack.seq, file=file, flush=True)
            n += 1
            ctx.recv(timeout=0)
    sys.stdout.flush()

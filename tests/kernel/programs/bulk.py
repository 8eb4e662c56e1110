"""Appends as many records as its argument says, in groups, and ends."""

from __future__ import annotations


def main(ctx):
    count = int(ctx.args[0])
    for first in range(0, count, 50):
        for n in range(first, min(first + 50, count)):
            ctx.service.append("app.n", {"n": n, "text": "x" * 60}, durable=n % 50 == 49)

"""Ignores SIGTERM and never receives."""

import signal


def main(ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()

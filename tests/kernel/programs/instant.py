"""Ends at once."""


def main(ctx):
    return

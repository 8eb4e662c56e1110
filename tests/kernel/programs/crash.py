"""Ends with status 9 as soon as it runs."""

import os


def main(ctx):
    os._exit(9)

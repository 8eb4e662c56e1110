"""Secrets on their way into ``weaver``: from standard input or a prompt, and never from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from weftos import limits
from weftos.errors import InvalidRequest

__all__ = ["read_secret_text", "refuse_arguments"]

F = TypeVar("F", bound=Callable[..., Any])


def read_secret_text(prompt: str, *, twice: bool = False) -> bytes:
    """Read a secret: from a terminal without showing it, else all of standard input without its last line end.

    Args:
        prompt: what is asked for.
        twice: on a terminal, to be typed a second time.

    Raises:
        InvalidRequest: there is none, or it is too long.
    """
    if sys.stdin.isatty():
        secret = str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)).encode()
    else:
        secret = sys.stdin.buffer.read(limits.AUTH_SECRET_BYTES + 3)
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(secret) <= limits.AUTH_SECRET_BYTES:
        raise InvalidRequest(
            f"a secret of 1 to {limits.AUTH_SECRET_BYTES} bytes is read from standard input; "
            f"{'there is none' if not secret else 'this one is longer'}"
        )
    return secret


def refuse_arguments(command: F) -> F:
    """Let a command refuse what looks like a secret on its command line, and say why."""
    refuse = click.argument("in_the_open", nargs=-1, type=click.UNPROCESSED, callback=_refuse, expose_value=False)
    option = click.option(
        "--secret", "--value", "--token", "given", callback=_refuse, expose_value=False, hidden=True, help="Refused."
    )
    return option(refuse(command))


def _refuse(_context: click.Context, _param: click.Parameter, value: Any) -> None:
    if value:
        raise click.UsageError(
            "a secret is not taken from the command line: other users see it in the list of processes, and the shell "
            "keeps it in its history. Consider this one known, and give another on standard input, as in: "
            "weaver … < FILE"
        )

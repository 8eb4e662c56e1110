"""From an argument to a payload and from a reply to text.

An operator types text far more often than JSON, and a kernel that turned ``1`` into a number or ``null`` into nothing
would surprise him; so only what is plainly JSON (an object or an array) is taken as such, and ``--text`` turns even
that off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from weftos import limits

__all__ = ["message_options", "parse_message", "reply_text"]

F = TypeVar("F", bound=Callable[..., Any])


def message_options(command: F) -> F:
    """Add ``--text``."""
    return click.option("--text", is_flag=True, help="Send MESSAGE as text even if it is JSON.")(command)


def parse_message(text: str, *, as_text: bool = False) -> Any:
    """Decide what a message argument means.

    Args:
        text: the argument; ``-`` is standard input.
        as_text: never take it as JSON.

    Returns:
        A mapping or a list when the text is a JSON object or array, else the text.

    Raises:
        click.BadParameter: standard input is not UTF-8, or longer than a request may be.
    """
    if text == "-":
        data = sys.stdin.buffer.read(limits.RPC_LINE_BYTES + 1)
        if len(data) > limits.RPC_LINE_BYTES:
            raise click.BadParameter(
                f"standard input holds more than {limits.RPC_LINE_BYTES} bytes", param_hint="MESSAGE"
            )
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise click.BadParameter(f"standard input is not UTF-8: {error}", param_hint="MESSAGE") from error
    if as_text or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def reply_text(reply: Any) -> str:
    """A reply for a person: text as it is, everything else as indented JSON."""
    if isinstance(reply, str):
        return reply
    return msgspec.json.format(msgspec.json.encode(reply), indent=2).decode("utf-8")

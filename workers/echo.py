"""The smallest useful agent: it answers every message with the message's own payload."""

from __future__ import annotations

from weftos.agent.context import Context

__all__ = ["main"]


def main(ctx: Context) -> None:
    """Answer until asked to stop."""
    for message in ctx:
        ctx.reply(message, message.payload)

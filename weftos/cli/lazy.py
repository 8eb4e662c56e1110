"""A click group whose commands are imported when they are used.

``weaver --help`` and tab completion must answer at once, so the names and one-line summaries of the commands stand in a
table and their modules (with msgspec, rich, the chain and its cryptography behind them) stay on disk until one command
is run. A test compares the table with the commands.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group that knows its commands by name, place and summary.

    Args:
        lazy: name of the command to ``("module:attribute", "one-line summary")``, in the order of the help text.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the table, then those added in the ordinary way."""
        return [*self.lazy, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. ``None`` if there is none of this name."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}:{attribute} is not a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands from the table, importing nothing."""
        rows = [(name, summary) for name, (_, summary) in self.lazy.items()]
        rows += [(name, command.get_short_help_str(80)) for name, command in sorted(self.commands.items())]
        if not rows:
            return
        with formatter.section("Commands"):
            formatter.write_dl(rows)

"""``weaver run``: jobs that start agents of their own and end with a result."""

from __future__ import annotations

import click

from weftos.cli.lazy import LazyGroup

__all__ = ["run"]


@click.group(
    cls=LazyGroup,
    lazy={
        "inventory": (
            "weftos.cli.run_inventory:inventory",
            "List and hash a folder, record it in the chain, or check it.",
        ),
    },
)
def run() -> None:
    """Run a job on agents."""

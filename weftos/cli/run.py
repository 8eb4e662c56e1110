"""``weaver run``: jobs that start agents of their own and end with a result."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import click

from weftos.cli.lazy import LazyGroup

__all__ = ["run"]

_JOBS: Final = {
    "approvals-demo": (
        "weftos.cli.run_approvals:approvals_demo",
        "Let an agent ask for the deletion of a folder, which a person approves; it happens once.",
    ),
    "inventory": ("weftos.cli.run_inventory:inventory", "List and hash a folder, record it in the chain, or check it."),
    "memory": ("weftos.cli.run_memory:memory", "Read a folder of texts and code into memory, and keep it in step."),
}


def _installed() -> dict[str, tuple[str, str]]:
    """The jobs whose module is there: an installation may leave one out, and what is not there is not offered."""
    return {name: row for name, row in _JOBS.items() if find_spec(row[0].partition(":")[0]) is not None}


@click.group(cls=LazyGroup, lazy=_installed())
def run() -> None:
    """Run a job on agents."""

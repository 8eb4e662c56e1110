"""What jobs that read a folder have in common for whoever starts them: options, progress bar, the table of agents."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from weftos.cli.output import Cell

__all__ = ["exclude_option", "no_progress_option", "progress", "sandbox_option", "show_agents"]

sandbox_option: Final = click.option(
    "--sandbox",
    "profile",
    type=click.Choice(("trusted", "standard", "strict")),
    default="standard",
    show_default=True,
    help="How the agents are confined. What only root may read, they read as `trusted` alone.",
)
exclude_option: Final = click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave out names or paths that match. May be repeated."
)
no_progress_option: Final = click.option("--no-progress", is_flag=True, help="No progress bar.")


def show_agents(agents: list[dict[str, Any]]) -> None:
    """Show who did the job, and how much work it was."""
    from weftos.cli.output import Table, show

    rows: list[Sequence[Cell]] = [
        [str(a["pid"]), a["name"], f"{a['cpu_seconds']:.2f} s", str(a["restarts"])] for a in agents
    ]
    show(Table(["PID", "AGENT", "CPU", "RESTARTS"], rows))


@contextmanager
def progress(wanted: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that takes the coordinator's progress (``files``, ``bytes``, ``total_bytes`` once known)."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _found: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from weftos.cli.output import console

    columns = (TextColumn("{task.fields[files]:,} files"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, files=0)

        def update(found: dict[str, Any]) -> None:
            if found:
                # Known once the whole folder was listed; until then the bar only shows that work goes on.
                bar.update(task, completed=found["bytes"], files=found["files"], total=found["total_bytes"])

        yield update

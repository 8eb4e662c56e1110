"""The progress bar of a job that reads a folder, on standard error and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress"]


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

"""The progress bar of an inventory, on standard error and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress"]


@contextmanager
def progress(wanted: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that takes the coordinator's progress (``files``, ``bytes``, ``total`` once it is known)."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _found: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from weftos.cli.output import console

    columns = (TextColumn("{task.fields[files]:,} files"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("hashing", total=None, files=0)

        def update(found: dict[str, Any]) -> None:
            if found:
                done, files = found["bytes"], found["files"]
                # The scanner knows the number of files before their bytes are read; until then the end is unknown.
                share = files / found["total"] if found["total"] else 0
                bar.update(task, completed=done, files=files, total=done / share if share else None)

        yield update

"""The chain read from its files alone, for when no kernel runs. Nothing is locked and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from weftos.errors import ChainError
from weftos.rpc.chain_view import chain_row
from weftos.rpc.types import ChainRow, ChainStatus

if TYPE_CHECKING:
    from weftos.chain import VerifyReport

__all__ = ["rows_from_files", "status_from_files", "verify_files"]


def _require(directory: Path) -> None:
    """Tell a missing chain from an unreadable one before anything is read.

    Raises:
        ChainError: there is no chain, or it cannot be read.
    """
    if not directory.is_dir():
        raise ChainError(f"there is no chain in {directory}: no kernel has run there yet")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise ChainError(f"{directory} cannot be read by this user")
    if not any(directory.glob("*.log")):
        raise ChainError(f"there is no chain in {directory}: the directory has no segment file")


def status_from_files(directory: Path) -> ChainStatus:
    """State of the chain as its files tell it. The records are not verified.

    Raises:
        ChainError: there is no chain there, or it cannot be read.
    """
    from weftos import chain

    _require(directory)
    segments = sorted(directory.glob("*.log"))
    newest = chain.tail(str(directory), 1)
    head = newest[-1] if newest else None
    return ChainStatus(
        dir=str(directory),
        state="offline",
        records=head.seq + 1 if head else 0,
        head_seq=head.seq if head else -1,
        head_hash=head.hash.hex() if head else "",
        segments=len(segments),
        bytes=sum(segment.stat().st_size for segment in segments),
    )


def rows_from_files(directory: Path, count: int) -> list[ChainRow]:
    """The newest records, oldest first; 0 is all.

    Raises:
        ChainError: there is no chain there, or it cannot be read.
    """
    from weftos import chain

    _require(directory)
    records = chain.tail(str(directory), count) if count else chain.read(str(directory))
    return [chain_row(record.view()) for record in records]


def verify_files(directory: Path, *, show_progress: bool) -> VerifyReport:
    """Verify all records, with a progress bar on standard error if asked for.

    Raises:
        ChainError: there is no chain there, or it cannot be read.
    """
    from weftos import chain

    _require(directory)
    if not show_progress:
        return chain.verify(str(directory))
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from weftos.cli.output import console

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=None)
        return chain.verify(
            str(directory), progress=lambda done, total: progress.update(task, completed=done, total=total)
        )

"""The chain read from its files alone, for when no kernel runs. Nothing is locked and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from weftos.errors import ChainError
from weftos.rpc.chain_types import ChainRow, ChainStatus
from weftos.rpc.chain_view import chain_row

if TYPE_CHECKING:
    from weftos.chain import PublicKeys, VerifyReport
    from weftos.chain.signing.checkpoint import Checkpoint
    from weftos.chain.verification.verify_seals import SealCheck

__all__ = ["rows_from_files", "status_from_files", "verify_files"]


def status_from_files(directory: Path) -> ChainStatus:
    """State of the chain as its files tell it. The records are not verified.

    Raises:
        ChainCorrupted: its end is damaged.
        ChainError: there is no chain, or it cannot be read.
    """
    from weftos import chain

    newest = chain.tail(directory, 1)
    sizes = [segment.stat().st_size for segment in directory.glob("[0-9]*.log")]
    head = newest[-1] if newest else None
    return ChainStatus(
        dir=str(directory.absolute()),
        state="offline",
        records=head.seq + 1 if head else 0,
        head_seq=head.seq if head else -1,
        head_hash=head.hash.hex() if head else "",
        segments=len(sizes),
        bytes=sum(sizes),
    )


def rows_from_files(directory: Path, count: int) -> list[ChainRow]:
    """The newest records, oldest first; 0 is all.

    Raises:
        ChainCorrupted: it is damaged where these records are.
        ChainError: there is no chain, or it cannot be read.
    """
    from weftos import chain

    records = chain.tail(directory, count) if count else chain.read(directory)
    return [chain_row(record.view()) for record in records]


def verify_files(
    directory: Path,
    keys: PublicKeys | None = None,
    *,
    since: Checkpoint | None = None,
    seals: SealCheck | None = None,
    archive: Path | None = None,
    show_progress: bool = False,
) -> VerifyReport:
    """Verify records.

    Args:
        directory: of the chain.
        keys: of its signer, from a place that its writer cannot change; ``None`` takes those that the chain names.
        since: a checkpoint that was verified before; ``None`` verifies all.
        seals: with what its seals are checked; ``None`` leaves them out.
        archive: folder with the pruned segments; ``None`` not to look at them.
        show_progress: draw a bar on standard error, which is a terminal.

    Raises:
        ChainCorrupted: there are traces of a chain and no chain.
        ChainError: there is no chain, or it cannot be read.
    """
    from weftos import chain

    workers, folder = os.cpu_count() or 1, str(archive or "")
    if not show_progress:
        return chain.verify(directory, keys=keys, since=since, workers=workers, seals=seals, archive=folder)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from weftos.cli.output import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=_expected(directory))

        def advance(records: int) -> None:
            progress.update(task, completed=records + (since.size if since is not None else 0))

        return chain.verify(directory, advance, keys=keys, since=since, workers=workers, seals=seals, archive=folder)


def _expected(directory: Path) -> int | None:
    """How many records there should be, for the bar.

    ``None`` when the end is damaged, which the verification will say.
    """
    from weftos import chain

    try:
        newest = chain.tail(directory, 1)
    except ChainError:
        return None
    return newest[-1].seq + 1 if newest else None

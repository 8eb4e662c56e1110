"""``weaver chain tail`` and ``chain export``: records as they come, and a copy of the log for others."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats as f
from weftos.cli.chain_options import directory_option
from weftos.cli.output import note, write_line
from weftos.cli.session import instance
from weftos.errors import ChainError, InvalidRequest, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["export", "tail"]

#: Between two looks at the end of the log, in seconds. The files give no sign when they grow.
_LOOK_S: Final = 0.25
_FILES: Final = ("json", "tiles")


@click.command()
@click.option("-n", "--count", type=click.IntRange(0, 100_000), default=10, show_default=True, help="Newest records.")
@click.option("--from", "start", type=click.IntRange(min=0), metavar="SEQ", help="All records from this number on.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new records until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@directory_option
def tail(count: int, start: int | None, follow: bool, as_json: bool, directory: Path | None) -> None:
    """Show the newest records, oldest first, one per line; works with and without a kernel.

    With --from it begins at a number and leaves none out, as a program does that goes on where it stopped. Example:
    `weaver chain tail --from 1200 --follow --json`.
    """
    from weftos.rpc.chain_view import chain_row

    for record in _records(directory or instance().chain, count, start, follow=follow):
        view = record.view()
        if as_json:
            write_line(json.dumps(view, ensure_ascii=False))
        else:
            row = chain_row(view)
            write_line(f"{row.sequence:>8}  {f.stamp(row.timestamp)}  {row.source:<12} {row.kind:<22} {row.detail}")
        sys.stdout.flush()


def _records(directory: Path, count: int, start: int | None, *, follow: bool) -> Iterator[Any]:
    from weftos import chain

    if start is not None:
        last = start - 1
        for record in chain.read(directory, start=start):
            yield record
            last = record.seq
    else:
        newest = chain.tail(directory, max(count, 1))
        yield from newest[len(newest) - count :] if count else ()
        last = newest[-1].seq if newest else -1
    while follow:
        time.sleep(_LOOK_S)
        end = chain.tail(directory, 1)
        if end and end[-1].seq > last:
            # More may have come since; they are the next turn's.
            yield from (one for one in chain.tail(directory, end[-1].seq - last) if one.seq > last)
            last = end[-1].seq


@click.command()
@click.option("--format", "form", type=click.Choice(_FILES), default="json", show_default=True, help="See below.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File, or for tiles a folder; standard output for json."
)
@directory_option
def export(form: str, output: Path | None, directory: Path | None) -> None:
    """Copy the log for others.

    json: every record with its payload and links, one JSON object per line, checked on the way.
    tiles: checkpoint and Merkle tree in the layout of C2SP's tlog-tiles, which any such client can verify and mirror.
    It holds the header parts of all records that were not pruned, and no payloads.
    """
    home = directory or instance().chain
    if form == "tiles":
        if output is None:
            raise InvalidRequest("tiles are a folder: say where with --output")
        _export_tiles(home, output)
        return
    from weftos import chain
    from weftos.chain.folder.reader import list_segments

    target = sys.stdout if output is None else _opened(output)
    first = list_segments(str(home)).first_seq
    if first:
        note(f"records 0 to {first - 1} were pruned and are left out; `weaver chain restore` makes a whole copy")
    try:
        for record in chain.read(home):
            target.write(json.dumps(record.view(), ensure_ascii=False) + "\n")
    except OSError as error:
        if output is None:
            raise  # a closed pipe, which the program as a whole answers
        raise StorageFailed(f"{output} cannot be written: {error.strerror}") from error
    finally:
        if output is not None:
            target.close()


def _opened(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error


def _export_tiles(home: Path, target: Path) -> None:
    if not (home / "checkpoint").exists():
        raise ChainError(f"the log in {home} has no checkpoint, so there is nothing that could be verified")
    if target.exists() and any(target.iterdir()):
        raise InvalidRequest(f"{target} is not empty")
    try:
        target.mkdir(parents=True, exist_ok=True)
        # First what is claimed, then what shows it: tiles that come in between do no harm.
        shutil.copy(home / "checkpoint", target / "checkpoint")
        shutil.copytree(home / "tile", target / "tile", ignore=shutil.ignore_patterns("*.tmp"))
    except OSError as error:
        raise StorageFailed(f"the tiles cannot be copied to {target}: {error}") from error
    note(f"checkpoint and tiles are in {target}")

"""``weaver run inventory``: the main job, from the command line to its answer.

All the work is done by agents, see ``workers/inventory.py``; the way to them is in ``inventory_job.py``. Here is what
the user gives and gets: a table, one JSON object, or a file of digests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats
from weftos.cli.job_view import exclude_option, no_progress_option, sandbox_option, show_agents
from weftos.cli.session import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weftos.cli.inventory_job import InventoryJob
    from weftos.cli.output import Cell

__all__ = ["inventory"]

#: Names shown of each kind; ``--json`` has thousands.
_SHOWN: Final = 20


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--check", is_flag=True, help="Compare the folder with its last recorded inventory; exit 1 if it differs."
)
@click.option("--hashers", type=click.IntRange(1, 64), default=None, help="Hashing agents. Default: one for each CPU.")
@click.option("--digests", type=click.Path(path_type=Path), help="Write the digests in b3sum's format.")
@sandbox_option
@exclude_option
@no_progress_option
@json_option
def inventory(
    path: Path,
    check: bool,
    hashers: int | None,
    digests: Path | None,
    profile: str,
    exclude: tuple[str, ...],
    no_progress: bool,
    as_json: bool,
) -> None:
    """List and hash a folder, record it in the chain, or check it.

    One agent walks PATH, several hash its files (BLAKE3), one puts the result on the tamper-evident log. With --check
    the log is verified first; then the folder is compared with what was recorded, leaving out what was left out then:
    exit 0 if nothing differs, 1 if something does, 2 if nothing was recorded, 5 if the log was changed.
    """
    from weftos.cli.agent_job import readable_folder
    from weftos.cli.inventory_digests import check_target
    from weftos.cli.inventory_job import InventoryJob
    from weftos.errors import InvalidRequest

    if check and digests:
        raise click.UsageError("--digests writes what is recorded now; it does not go with --check")
    root = readable_folder(path)
    if digests is not None:
        check_target(digests)
    job = InventoryJob(root, hashers=hashers or os.cpu_count() or 1, exclude=list(exclude) or None, profile=profile)
    if check and not job.compare_with_record():
        raise InvalidRequest(f"no inventory of {root} is recorded; `weaver run inventory {path}` records one")
    summary = job.run(show_progress=not no_progress and not as_json)
    if digests is not None:
        summary["digests_left_out"] = _write_digests(job, digests, path)
    if as_json:
        from weftos.cli.output import emit_json

        emit_json(summary)
    else:
        _show(summary, check=check)
    if check and any(summary["counts"].values()):
        raise SystemExit(1)


def _write_digests(job: InventoryJob, target: Path, given: Path) -> int:
    """Write the file from what is recorded, say what is not in it, and return how many."""
    from weftos_workers.inventory_names import shown  # type: ignore[import-not-found]
    from weftos_workers.inventory_record import last_recorded, recorded_entries  # type: ignore[import-not-found]

    from weftos.cli.inventory_digests import write_digests
    from weftos.errors import ChainError

    chain = str(job.home.chain)
    recorded = last_recorded(chain, os.fsencode(job.root))
    if recorded is None or recorded.run != job.name:
        raise ChainError(f"run {job.name} is not the last inventory of {job.root} on the log; another one ended later")
    left_out = write_digests(target, given, recorded_entries(chain, recorded))
    for path in left_out[:_SHOWN]:
        click.echo(f"not in {target}, its name is not UTF-8: {shown(path)}", err=True)
    if len(left_out) > _SHOWN:
        click.echo(f"not in {target}: {len(left_out) - _SHOWN:,} more names that are not UTF-8", err=True)
    return len(left_out)


def _show(summary: dict[str, Any], *, check: bool) -> None:
    from weftos.cli.output import Table, show, write_line

    rows: list[Sequence[Cell]] = [
        ["Files", f"{summary['files']:,}"],
        ["Bytes", formats.size(summary["bytes"])],
        ["Links", f"{summary['links']:,} symbolic, {summary['hard_links']:,} hard"],
        ["Duplicates", f"{summary['duplicates']:,} ({formats.size(summary['duplicate_bytes'])})"],
        ["Not opened", f"{summary['skipped']:,} (devices, sockets, pipes, folders mounted into themselves)"],
        ["Problems", f"{summary['problems']:,}"],
        ["Time", formats.seconds(summary["elapsed_secs"])],
        ["Rate", f"{summary['bytes_per_sec'] / 1e6:.1f} MB/s"],
        ["Root digest", summary["record"]["root_digest"]],
    ]
    if not check:
        rows.append(["Records", f"{summary['record']['first_seq']} to {summary['record']['last_seq']}"])
    write_line(f"Inventory of {summary['root']}{' checked' if check else ''}:")
    show(Table(["", ""], rows))
    show_agents(summary["agents"])
    for path, status in summary["errors"][:_SHOWN]:
        write_line(f"  {status}: {path}")
    if summary["problems"] > _SHOWN:
        write_line(f"  … and {summary['problems'] - _SHOWN:,} more problems")
    if not check:
        return
    for kind in ("changed", "added", "removed", "unreadable"):
        for path in summary[kind][:_SHOWN]:
            write_line(f"  {kind}: {path}")
        if summary["counts"][kind] > _SHOWN:
            write_line(f"  … and {summary['counts'][kind] - _SHOWN:,} more {kind}")
    total = sum(summary["counts"].values())
    write_line("Nothing differs from the record." if not total else f"{total:,} names differ from the record.")

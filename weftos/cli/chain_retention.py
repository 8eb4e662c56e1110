"""``weaver chain segments|archive|prune|restore``: what lies where, and moving it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from weftos.cli import formats as f
from weftos.cli.chain_options import directory_option
from weftos.cli.output import Cell, Table, emit_json, note, show
from weftos.cli.session import call, instance, json_option
from weftos.errors import ArchiveFailed, ConfigError
from weftos.rpc import retention_types as n
from weftos.rpc import types as t

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["archive", "archive_folder", "archive_option", "prune", "restore", "segments"]

#: Between two questions how far the service is, in seconds.
_LOOK_S: Final = 0.2
_COLOURS: Final = {"live": "good", "archived": "good", "pruned": "warn"}
archive_option: Final = click.option(
    "--archive",
    "archive_dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the archived segments of the log.",
)
_dry_run: Final = click.option("--dry-run", is_flag=True, help="Only show what would be done.")


def archive_folder(directory: Path | None, given: Path | None) -> Path | None:
    """Return the archive of a log: the one given, else that of this instance for its own log.

    Args:
        directory: of another log; ``None`` for the instance's own.
        given: by ``--archive``.

    Raises:
        ConfigError: the instance's configuration is refused.
    """
    if given is not None or directory is not None:
        return given
    from weftos.config import load

    home = instance()
    return home.archive_of(load(home.config).chain.archive_dir)


@click.command()
@directory_option
@archive_option
@json_option
def segments(directory: Path | None, archive_dir: Path | None, as_json: bool) -> None:
    """List the segments of the log, oldest first; works without a kernel.

    live: in the log's folder. archived: there and in the archive. pruned: not in the log's folder any more; the tree's
    hashes of its records stay.

    \b
    weaver chain segments
    weaver chain segments --json
    """  # noqa: D301 -- click\'s mark is the backspace itself
    from weftos.chain.retention.policy import segment_rows

    folder = archive_folder(directory, archive_dir)
    rows = segment_rows(str(directory or instance().chain), str(folder or ""))
    if as_json:
        emit_json(rows)
        return
    table = Table(
        ("SEGMENT", "STATE", "FIRST", "RECORDS", "SIZE", "IN THE ARCHIVE"), right=("FIRST", "RECORDS", "SIZE")
    )
    for row in rows:
        state: Cell = ("live, open", "good") if row.open else (row.state, _COLOURS[row.state])
        packed = f"{f.size(row.archive_bytes)} {row.archive}" if row.archive else "-"
        table.rows.append((row.name, state, str(row.first_seq), f.number(row.records), f.size(row.bytes), packed))
    show(table)


@click.command()
@_dry_run
@json_option
def archive(dry_run: bool, as_json: bool) -> None:
    """Copy the closed segments to the archive, packed and read back; waits until it is done.

    A segment is archived when a checkpoint covers all of it (one that enough witnesses have cosigned, if there are
    any). A record on the log says which hashes the copy has. The segment itself stays; `weaver chain prune` removes it.
    Where the archive is, [chain] archive_dir says; with `archive = true` all this happens by itself.

    \b
    weaver chain archive --dry-run
    weaver chain archive
    """  # noqa: D301 -- click\'s mark is the backspace itself
    plan: n.SegmentPlan = call("chain.archive", n.ArchiveParams(dry_run=dry_run))
    _carry_out(plan, "archive", lambda status: status.archived, as_json=as_json, dry_run=dry_run)


@click.command()
@_dry_run
@click.option("--keep-segments", type=click.IntRange(min=1), metavar="N", help="Keep the newest N closed segments.")
@click.option("--keep-days", type=click.FloatRange(min=0, min_open=True), metavar="D", help="Keep the last D days.")
@click.option("--keep-bytes", metavar="SIZE", help="Keep the newest segments with together SIZE, such as 2GiB.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def prune(
    dry_run: bool,
    keep_segments: int | None,
    keep_days: float | None,
    keep_bytes: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Take the oldest segments out of the log's folder; waits until it is done.

    Without options the rules in [chain] hold; with any of them, those that are given. What any rule keeps stays, and
    so does the newest closed segment. Only archived segments go, unless [chain] says `archive = false`. A record on
    the log, signed by its keys, says what went. The hashes in the Merkle tree stay: whoever has a pruned record, for
    example from the archive, can still prove it (`weaver chain prove SEQ --archive DIR`).

    \b
    weaver chain prune --dry-run --keep-days 90
    weaver chain prune --keep-segments 10
    """  # noqa: D301 -- click\'s mark is the backspace itself
    from weftos.config import parse_size

    params = n.PruneParams(
        dry_run=True,
        keep_segments=keep_segments or 0,
        keep_days=keep_days or 0,
        keep_bytes=parse_size(keep_bytes) if keep_bytes else 0,
    )
    plan: n.SegmentPlan = call("chain.prune", params)
    if not dry_run and plan.segments:
        if not yes:
            last = plan.segments[-1]
            text = (
                f"Take {f.count(len(plan.segments), 'segment')}, up to record {last.first_seq + last.records - 1}, out"
            )
            click.confirm(f"{text} of the log's folder?", abort=True, err=True)
        import msgspec

        plan = call("chain.prune", msgspec.structs.replace(params, dry_run=False))
    _carry_out(plan, "prune", lambda status: status.pruned, as_json=as_json, dry_run=dry_run)


def _carry_out(
    plan: n.SegmentPlan,
    action: str,
    count: Callable[[n.RetentionStatus], int],
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Wait for what was begun, and show it."""
    status: n.RetentionStatus | None = None
    while plan.begun:
        status = call("chain.retention", t.NoParams())
        if status.job != action:
            break
        time.sleep(_LOOK_S)
    if status is not None and status.failure:
        raise ArchiveFailed(status.failure)
    if as_json:
        emit_json(plan)
        return
    table = Table(("SEGMENT", "FIRST", "RECORDS", "SIZE"), right=("FIRST", "RECORDS", "SIZE"), empty="no segment")
    for one in plan.segments:
        table.rows.append((f"{one.number:08d}.log", str(one.first_seq), f.number(one.records), f.size(one.bytes)))
    show(table)
    done = "would be " if dry_run else ""
    said = {"archive": "archived", "prune": "pruned"}[action]
    total = f"; {count(status)} since the service started" if status is not None else ""
    note(f"{f.count(len(plan.segments), 'segment')} {done}{said}{total}")
    if plan.why_not:
        note(f"not more: {plan.why_not}")


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@directory_option
@archive_option
@json_option
def restore(target: Path, directory: Path | None, archive_dir: Path | None, as_json: bool) -> None:
    """Make a whole copy of the log in the folder TARGET, from the log and its archive.

    The copy begins with record 0 and is held against the signed checkpoint; it is there whole or not at all. Every
    command with --dir reads it. The log itself is not touched, and its kernel may run. If the log is lost or damaged,
    stop the kernel and put the copy in the place of its folder.

    \b
    weaver chain restore /tmp/whole
    weaver chain export --dir /tmp/whole -o all.json
    """  # noqa: D301 -- click\'s mark is the backspace itself
    from weftos.chain.copies.restore import restore as make_copy

    folder = archive_folder(directory, archive_dir)
    if folder is None:
        raise ConfigError("with --dir, say where its archive is: --archive DIR")
    done = make_copy(directory or instance().chain, folder, str(target.absolute()))
    if as_json:
        emit_json(done)
        return
    from_archive = f"{f.number(done.archived)} of {f.count(done.segments, 'segment')} from the archive"
    click.echo(f"{f.count(done.records, 'record')} in {done.directory} ({f.size(done.bytes)}; {from_archive})")

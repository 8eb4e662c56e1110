"""``weaver chain``: the tamper-evident log.

Status and records come from the running kernel, or from the files when none runs. Verification always reads the files:
it must not have to trust the process that wrote them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from weftos.cli import formats as f
from weftos.cli.chain_files import rows_from_files, status_from_files, verify_files
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, tone
from weftos.cli.session import call, instance, json_option
from weftos.errors import ChainCorrupted, KernelNotRunning, ServiceUnavailable
from weftos.rpc import types as t

if TYPE_CHECKING:
    from weftos.chain import VerifyReport

__all__ = ["chain"]

_directory: Final = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of another chain, for example a copy; only its files are read.",
)
#: Defects listed for a person; a chain cut in the middle can have one for each record.
_LISTED: Final = 20


@click.group()
def chain() -> None:
    """Read and verify the tamper-evident log."""


@chain.command()
@_directory
@json_option
def status(directory: Path | None, as_json: bool) -> None:
    """Show the state of the log; works without a kernel."""
    result = status_from_files(directory) if directory else _status()
    if as_json:
        emit_json(result)
        return
    pairs: list[tuple[str, Cell]] = [
        ("State", tone(result.state)),
        ("Records", f.number(result.records)),
        ("Head", f"{result.head_seq}  {result.head_hash}"),
        ("Segments", f"{f.number(result.segments)} ({f.size(result.bytes)})"),
        ("Directory", result.dir),
    ]
    if result.failure:
        pairs.append(("Failure", (result.failure, "bad")))
    if result.last_sync_seconds is not None:
        pairs.append(("Last sync", f.seconds(result.last_sync_seconds)))
    if result.appends_total is not None and result.durable_groups is not None:
        mean = f", {result.mean_group:.1f} records each" if result.mean_group else ""
        syncs = f.count(result.durable_groups, "sync")
        pairs.append(("Since start", f"{f.count(result.appends_total, 'append')}, {syncs}{mean}"))
    if result.os_pid is not None:
        pairs.append(("Service", f"process {result.os_pid}, up {f.age(result.uptime_secs or 0)}"))
    show(Panel("Chain", pairs))


def _status() -> t.ChainStatus:
    try:
        result: t.ChainStatus = call("chain.status", t.NoParams())
    except KernelNotRunning:
        return status_from_files(instance().chain)
    except ServiceUnavailable as error:
        note(f"{error}; shown from the files")
        return status_from_files(instance().chain)
    return result


@chain.command()
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Newest records to show; 0 is all.",
)
@_directory
@json_option
def local(count: int, directory: Path | None, as_json: bool) -> None:
    """Show the newest records, oldest first; works without a kernel."""
    rows = rows_from_files(directory, count) if directory else _rows(count)
    if as_json:
        emit_json(rows)
        return
    table = Table(("SEQ", "TIME", "SOURCE", "KIND", "SUBJECT", "DETAIL", "HASH"), right=("SEQ",), empty="no records")
    for row in rows:
        time = f.stamp(row.timestamp)
        table.rows.append(
            (str(row.sequence), time, row.source, row.kind, row.subject or "-", row.detail, row.hash[:12])
        )
    show(table)


def _rows(count: int) -> list[t.ChainRow]:
    try:
        rows: list[t.ChainRow] = call("chain.local", t.CountParams(count=count))
    except KernelNotRunning:
        return rows_from_files(instance().chain, count)
    except ServiceUnavailable as error:
        note(f"{error}; shown from the files")
        return rows_from_files(instance().chain, count)
    return rows


@chain.command()
@_directory
@json_option
@click.pass_context
def verify(ctx: click.Context, directory: Path | None, as_json: bool) -> None:
    """Verify every record, every link and the signed head, from the files alone; exit status 5 when not intact."""
    report = verify_files(directory or instance().chain, show_progress=sys.stderr.isatty() and not as_json)
    if as_json:
        emit_json(report)
    else:
        _show_report(report)
    ctx.exit(0 if report.valid else ChainCorrupted.exit_code)


def _show_report(report: VerifyReport) -> None:
    """Show the outcome, the checks that were made, and the first defects in order."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    errors, warnings = values["errors"], values["warnings"]
    outcome: Cell = ("VALID", "good") if report.valid else ("INVALID", "bad")
    pairs: list[tuple[str, Cell]] = [("Result", outcome)]
    for name, value in values.items():
        if name in ("valid", "errors", "warnings") or value is None:
            continue
        pairs.append((name.replace("_", " ").capitalize(), _value_text(value)))
    parts: list[Panel | Table] = [Panel("Chain verification", pairs)]
    for title, defects in (("Errors", errors), ("Warnings", warnings)):
        if defects:
            parts.append(_defects(title, defects))
    show(*parts)
    for title, defects in (("errors", errors), ("warnings", warnings)):
        if len(defects) > _LISTED:
            note(f"{f.number(len(defects) - _LISTED)} more {title}; --json lists all")


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return f.yes(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value_text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f.number(value) if isinstance(value, int) else str(value)


def _defects(title: str, defects: list[Any]) -> Table:
    table = Table(("SEQ", "FILE", "OFFSET", "CODE", "DETAIL"), right=("SEQ", "OFFSET"), title=title)
    for defect in defects[:_LISTED]:
        if not isinstance(defect, dict):
            table.rows.append(("-", "-", "-", "-", str(defect)))
            continue
        cells = [defect.get(name) for name in ("seq", "file", "offset", "code", "detail")]
        table.rows.append(["-" if cell is None else str(cell) for cell in cells])
    return table

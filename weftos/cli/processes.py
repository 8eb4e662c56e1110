"""The process table as a table, shared by ``kernel ps`` and ``agent list``."""

from __future__ import annotations

from collections.abc import Iterable

from weftos.cli import formats as f
from weftos.cli.output import Cell, Table, tone
from weftos.rpc.agent_types import ExitRecord, ProcessInfo

__all__ = ["exit_text", "process_table"]


def process_table(rows: Iterable[ProcessInfo]) -> Table:
    """Rows in order of pid."""
    table = Table(
        ("PID", "NAME", "PROGRAM", "STATE", "PROCESS", "PARENT", "RESTARTS", "MEMORY", "CPU", "UPTIME", "LAST EXIT"),
        right=("PID", "PROCESS", "PARENT", "RESTARTS", "MEMORY", "CPU", "UPTIME"),
        empty="no agents; `weaver agent spawn echo` starts one",
    )
    for row in rows:
        table.rows.append(_row(row))
    return table


def _row(row: ProcessInfo) -> list[Cell]:
    lives = row.os_pid is not None
    return [
        str(row.pid),
        row.name,
        row.program,
        tone(row.state),
        str(row.os_pid) if lives else "-",
        "-" if row.parent_pid is None else str(row.parent_pid),
        f.number(row.restarts),
        f.size(row.rss_bytes) if lives else "-",
        f.seconds(row.cpu_seconds),
        f.age(row.uptime_secs) if lives else "-",
        exit_text(row.last_exit) if row.last_exit else "-",
    ]


def exit_text(record: ExitRecord) -> Cell:
    """An exit in a few words: ``crash SIGSEGV``, ``normal 0``."""
    detail = record.signal or ("" if record.code is None else str(record.code))
    style = "" if record.reason in ("normal", "stopped") else "bad"
    return f"{record.reason} {detail}".strip(), style

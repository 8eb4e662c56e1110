"""Following logs: of the kernel (``kernel logs -f``, ``kernel attach``) and of an agent (``agent attach``).

The follower asks again with the serial number or offset of the answer before, so nothing is shown twice, and what fell
out of the kernel's bounded log in between is reported as a gap, not passed over. Following ends with the thing
followed, or with an interrupt.
"""

from __future__ import annotations

import time
from typing import Final

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.output import emit_json, note, tone, write_line
from weftos.cli.session import connect, json_option
from weftos.errors import KernelNotRunning
from weftos.rpc import agent_types as a
from weftos.rpc import kernel_types as t

__all__ = ["attach", "follow_agent", "logs"]

_LEVELS: Final = ("debug", "info", "warn", "error")

count_option: Final = click.option(
    "-n",
    "--count",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="Newest lines to show; 0 is all.",
)
level_option: Final = click.option(
    "-l", "--level", type=click.Choice(_LEVELS), default="debug", show_default=True, help="Least level to show."
)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until interrupted or the kernel ends.")
@count_option
@level_option
@json_option
def logs(follow: bool, count: int, level: t.LogLevelName, as_json: bool) -> None:
    """Show the kernel's log; with --json and --follow, one object per line."""
    if follow:
        follow_kernel(count, level, as_json=as_json)
        return
    with connect() as client:
        entries: list[t.LogEntry] = client.call("kernel.logs", t.LogsParams(count=count, level=level))
    if as_json:
        emit_json(entries)
        return
    for entry in entries:
        _print_entry(entry)


@click.command()
@click.option(
    "-n",
    "--tail",
    "count",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="Lines before the first new one.",
)
@level_option
def attach(count: int, level: t.LogLevelName) -> None:
    """Watch the kernel's log as it grows, until interrupted or the kernel ends."""
    follow_kernel(count, level, as_json=False, nothing_before=count == 0)


def follow_kernel(count: int, level: t.LogLevelName, *, as_json: bool, nothing_before: bool = False) -> None:
    """Print the newest lines and then new ones.

    Args:
        count: lines of the past; 0 is all that are kept.
        level: least level.
        as_json: one object per line.
        nothing_before: show no lines of the past.

    Raises:
        KernelNotRunning: no kernel ran to begin with.
    """
    with connect() as client:
        # The newest line of any level tells where we are even if nothing of our level was ever said.
        newest: list[t.LogEntry] = client.call("kernel.logs", t.LogsParams(count=1))
        since = newest[-1].serial if newest else 0
        if not nothing_before:
            past: list[t.LogEntry] = client.call("kernel.logs", t.LogsParams(count=count, level=level))
            _print_entries(past, as_json=as_json)
            since = max(since, past[-1].serial if past else 0)
        try:
            while True:
                time.sleep(limits.FOLLOW_INTERVAL_S)
                fresh: list[t.LogEntry] = client.call("kernel.logs", t.LogsParams(count=0, since=since))
                if fresh and fresh[0].serial > since + 1:
                    lost = f.count(fresh[0].serial - since - 1, "line")
                    note(f"({lost} fell out of the log before they could be shown)")
                wanted = [entry for entry in fresh if _rank(entry.level) >= _rank(level)]
                _print_entries(wanted, as_json=as_json)
                since = fresh[-1].serial if fresh else since
        except KernelNotRunning:
            note("the kernel has ended")


def _rank(level: str) -> int:
    """Rank of a level; one that this version does not know is shown always."""
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)


def _print_entries(entries: list[t.LogEntry], *, as_json: bool) -> None:
    for entry in entries:
        emit_json(entry) if as_json else _print_entry(entry)


def _print_entry(entry: t.LogEntry) -> None:
    write_line(f"{f.clock(entry.timestamp)} [{entry.level.upper():<5}] {entry.message}", tone(entry.level))


def follow_agent(pid: int, count: int) -> None:
    """Print an agent's newest lines and then new ones, until it has ended for good.

    Args:
        pid: of the agent.
        count: lines of the past.

    Raises:
        ProcessNotFound: there is no such agent.
    """
    with connect() as client:
        answer: a.AgentLog = client.call("agent.logs", a.LogParams(pid=pid, count=count))
        try:
            while True:
                for line in answer.lines:
                    write_line(line)
                ended = answer.state == "exited" if answer.ended is None else answer.ended
                if ended and not answer.lines:
                    note(f"agent {pid} has ended; `weaver agent inspect {pid}` shows how")
                    return
                time.sleep(limits.FOLLOW_INTERVAL_S)
                answer = client.call("agent.logs", a.LogParams(pid=pid, count=count, offset=answer.offset))
        except KernelNotRunning:
            note("the kernel has ended")

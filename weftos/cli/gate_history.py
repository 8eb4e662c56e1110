"""``weaver gate history``: what the gate decided, and what came of it, from the log's files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats as f
from weftos.cli.chain_options import directory_option
from weftos.cli.gate_commands import tone_of
from weftos.cli.output import Cell, Table, emit_json, show
from weftos.cli.session import instance, json_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from weftos.chain import Record

__all__ = ["history", "orphans"]

#: What each kind says, in the words of the table.
_SAYS: Final = {
    "gate.permit": "permit",
    "gate.defer": "defer",
    "gate.deny": "deny",
    "gate.request": "request",
    "gate.approve": "approved",
    "gate.refuse": "refused",
    "gate.expire": "expired",
    "permit.mint": "permit made",
    "permit.use": "permit used",
    "permit.refuse": "permit refused",
    "gate.intent": "intent",
    "gate.outcome": "outcome",
}
#: Records that are looked at first; then ten times as many, until enough is found.
_LOOK: Final = 1000


@click.command()
@click.option("-n", "--count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The newest.")
@click.option("--agent", type=click.IntRange(min=0), metavar="PID", help="Only about this agent.")
@click.option("--orphans", "only_orphans", is_flag=True, help="Only intents without an outcome.")
@directory_option
@json_option
def history(count: int, agent: int | None, only_orphans: bool, directory: Path | None, as_json: bool) -> None:
    """Show what was decided, and what came of it.

    Decisions, approvals, permits, intents and outcomes, oldest first. It reads the log's files, so it works with and
    without a kernel. With --orphans it shows what was about to be done and has no outcome: it is under way, or the
    kernel was killed. The whole log is read for it.

    \b
    weaver gate history --agent 3
    weaver gate history --orphans --json
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos import chain

    folder = str(directory or instance().chain)
    if only_orphans:
        found = [one for one in orphans(chain.read(folder)) if agent is None or _about(one, agent)][-count:]
    else:
        found = _newest(folder, count, agent)
    if as_json:
        emit_json([record.view() for record in found])
        return
    table = Table(("RECORD", "TIME", "WHO", "WHAT", "ACTION", "WHY"), right=("RECORD",), empty="nothing yet")
    table.rows += [_row(record) for record in found]
    show(table)


def orphans(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the intents among records that have no outcome among them, in their order."""
    waiting: dict[int, Record] = {}
    for record in records:
        if record.kind == "gate.intent":
            waiting[record.seq] = record
        elif record.kind == "gate.outcome" and record.header.cause is not None:
            waiting.pop(record.header.cause, None)
    yield from waiting.values()


def _newest(folder: str, count: int, agent: int | None) -> list[Record]:
    from weftos import chain

    look = _LOOK
    while True:
        records = chain.tail(folder, look)
        found = [one for one in records if one.kind in _SAYS and (agent is None or _about(one, agent))]
        if len(found) >= count or len(records) < look:
            return found[-count:]
        look *= 10


def _about(record: Record, agent: int) -> bool:
    return record.header.subject == f"agent:{agent}"


def _row(record: Record) -> tuple[Cell, ...]:
    said: dict[str, Any] = {} if record.withheld else record.payload
    word = _SAYS[record.kind]
    if word == "outcome":
        word = str(said.get("result", word))
    who = said.get("by") or said.get("agent_id") or record.header.subject or record.source
    what = said.get("action") or (f"request {said['request']}" if "request" in said else "-")
    why = said.get("reason") or said.get("why") or said.get("rule") or ""
    return str(record.seq), f.stamp(record.t_ns / 1e9), str(who), tone_of(word), str(what), str(why)

"""``weaver gate history``: what the gate decided, and what came of it, from the log's files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from weftos.cli import formats as f
from weftos.cli.chain_options import directory_option
from weftos.cli.gate_commands import tone_of
from weftos.cli.output import Cell, Table, emit_json, show
from weftos.cli.session import instance, json_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from weftos.chain import Record

__all__ = ["Conduct", "conduct", "history", "orphans"]

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


#: Which count of ``Conduct`` a record adds to; an outcome adds to the one that its result names.
_COUNTED: Final = {
    "gate.deny": "denied",
    "permit.refuse": "denied",
    "gate.defer": "deferred",
    "gate.request": "deferred",
}


_ENDS: Final = ("done", "failed", "denied", "deferred")


class Conduct(msgspec.Struct, kw_only=True):
    """How often the tries of one agent at one kind of action ended how.

    Attributes:
        agent: whom it is about, by its id; ``agent:PID`` if the log does not have its start.
        action: of the gate.
        done: carried out.
        failed: allowed, and then it did not work.
        denied: by capabilities or rules.
        deferred: left to a person.
    """

    agent: str
    action: str
    done: int = 0
    failed: int = 0
    denied: int = 0
    deferred: int = 0

    @property
    def tries(self) -> int:
        """All of them."""
        return self.done + self.failed + self.denied + self.deferred


@click.command()
@click.option("-n", "--count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The newest.")
@click.option("--agent", type=click.IntRange(min=0), metavar="PID", help="Only about this agent.")
@click.option("--orphans", "only_orphans", is_flag=True, help="Only intents without an outcome.")
@click.option("--summary", is_flag=True, help="How often each agent tried what, and how that ended.")
@directory_option
@json_option
def history(
    count: int, agent: int | None, only_orphans: bool, summary: bool, directory: Path | None, as_json: bool
) -> None:
    """Show what was decided, and what came of it.

    Decisions, approvals, permits, intents and outcomes, oldest first. It reads the log's files, so it works with and
    without a kernel. With --orphans it shows what was about to be done and has no outcome: it is under way, or the
    kernel was killed. With --summary it counts, for each agent and action, what was done, failed, denied and deferred,
    the most frequent first. The whole log is read for either.

    \b
    weaver gate history --agent 3
    weaver gate history --orphans --json
    weaver gate history --summary
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos import chain

    folder = str(directory or instance().chain)
    if summary and only_orphans:
        raise click.UsageError("--summary counts what ended; it does not go with --orphans")
    if summary:
        _show_conduct(conduct(chain.read(folder), agent)[:count], as_json=as_json)
        return
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


def conduct(records: Iterable[Record], agent: int | None = None) -> list[Conduct]:
    """Count how the tries of agents ended, the most frequent first; of one agent alone if one is named."""
    found: dict[tuple[str, str], Conduct] = {}
    #: Pids begin anew with each start of a kernel, names tell agents apart.
    names = {"agent:0": "kernel"}
    for record in records:
        if record.withheld:
            continue
        said = record.payload
        if record.kind == "agent.spawn":
            names[f"agent:{said.get('pid')}"] = str(said.get("agent_id"))
        name = said.get("result") if record.kind == "gate.outcome" else _COUNTED.get(record.kind)
        # A log may hold records that other programs made.
        if name not in _ENDS or record.header.subject is None or (agent is not None and not _about(record, agent)):
            continue
        key = names.get(record.header.subject, record.header.subject), str(said.get("action"))
        one = found.setdefault(key, Conduct(agent=key[0], action=key[1]))
        setattr(one, name, getattr(one, name) + 1)
    return sorted(found.values(), key=lambda one: (-one.tries, one.agent, one.action))


def _show_conduct(rows: list[Conduct], *, as_json: bool) -> None:
    if as_json:
        emit_json(rows)
        return
    counts = ("DONE", "FAILED", "DENIED", "DEFERRED")
    table = Table(("AGENT", "ACTION", *counts), right=counts, empty="nothing yet")
    for one in rows:
        denied: Cell = (f.number(one.denied), "bad") if one.denied else "0"
        numbers = (f.number(one.done), f.number(one.failed), denied, f.number(one.deferred))
        table.rows.append((one.agent, one.action, *numbers))
    show(table)


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

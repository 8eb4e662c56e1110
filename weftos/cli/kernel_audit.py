"""``weaver kernel audit``: does the kernel hold what its log says, and nothing else?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Table, emit_json, show
from weftos.cli.session import call, instance, json_option
from weftos.rpc import types as t
from weftos.rpc.state_types import KernelHeld

if TYPE_CHECKING:
    from collections.abc import Iterator

    from weftos.chain import Record

__all__ = ["AuditResult", "audit"]

#: Exit status when kernel and log differ: it is the log's word that does not hold.
_DIFFERENT = 5


class AuditResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison came to; ``held`` is what the kernel has."""

    agrees: bool
    records: int
    differences: list[str]
    held: KernelHeld


@click.command()
@json_option
def audit(as_json: bool) -> None:
    """Compare what the kernel holds with what its log adds up to.

    Everything that the kernel decides is on the log, so agents with their capabilities, channels, topics, services,
    budgets, tokens and settings can be computed from the log's files alone. This does so, without the kernel, and lists
    each difference; there must be none. Ends with status 5 if there is one.
    """
    from weftos.kernel.folding import Fold, differences

    held: KernelHeld = call("kernel.state", t.NoParams())
    boot_id = bytes.fromhex(held.boot_id)
    folded = Fold(boot_id).take_all(_records(boot_id, held.seq + 1))
    found = differences(held, folded)
    result = AuditResult(agrees=not found, records=held.seq + 1, differences=found, held=held)
    if as_json:
        emit_json(result)
    else:
        _show(result)
    if found:
        sys.exit(_DIFFERENT)


def _records(boot_id: bytes, stop: int) -> Iterator[Record]:
    from weftos.kernel.folding import boot_records

    records = boot_records(str(instance().chain), boot_id, stop)
    with click.progressbar(
        records, length=stop, label="Reading the log", file=sys.stderr, update_min_steps=5000
    ) as bar:
        yield from bar


def _show(result: AuditResult) -> None:
    held = result.held
    pairs: list[tuple[str, Cell]] = [
        ("Result", ("kernel and log agree", "good") if result.agrees else ("kernel and log differ", "bad")),
        ("Records", f.number(result.records)),
        ("Agents", f.number(len(held.agents))),
        ("Channels", f.number(len(held.rings))),
        ("Topics", f.number(len(held.topics))),
        ("Services", f.number(len(held.services))),
        ("Budgets", f.number(len(held.budgets))),
        ("Witnesses", f.number(len(held.witnesses))),
        ("Dead letters", f.number(held.dead_letters)),
        ("Tokens", f.number(len(held.tokens or ()))),
        ("Settings", f.number(len(held.settings or ()))),
    ]
    parts: list[Panel | Table] = [Panel("Audit", pairs)]
    if result.differences:
        parts.append(Table(("DIFFERENCE",), [(line,) for line in result.differences]))
    show(*parts)

"""``weaver doctor``: what this machine and this instance can and cannot do."""

from __future__ import annotations

import click

from weftos.cli.output import Cell, Table, emit_json, show
from weftos.cli.session import instance, json_option

__all__ = ["doctor"]

_MARKS = {"ok": "good", "limited": "warn", "absent": "dim", "failed": "bad"}
_STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim"}


@click.command()
@click.option(
    "--area",
    "areas",
    multiple=True,
    type=click.Choice(("machine", "sandbox", "instance", "extras")),
    help="Only this; may be given several times.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, areas: tuple[str, ...], as_json: bool) -> None:
    """Examine this machine and this instance.

    Everything that can be tried is tried: memory is shared and sealed, a process is watched, a file is synced. Nothing
    is changed, and no kernel is needed. A line is `ok`; `limited`: it works, with less than elsewhere; `absent`: not
    there, and nothing fails for it; or `failed`. Below each that is not ok stands what follows from it, and what can
    be done.

    The exit status is 1 when something failed.

    \b
    Example:
      weaver doctor
      weaver doctor --area machine --json | jq '.findings[] | select(.state != "ok")'
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.doctor import AREAS, examine

    report = examine(instance(), areas or AREAS)
    if as_json:
        emit_json(report)
    else:
        table = Table(("AREA", "CHECK", "STATE", "DETAIL"))
        for one in report.findings:
            state: Cell = (one.state, _STYLES[_MARKS[one.state]])
            table.rows.append((one.area, one.name, state, one.detail))
            if one.means:
                table.rows.append(("", "", "", f"so: {one.means}"))
            if one.next_step:
                table.rows.append(("", "", "", f"next: {one.next_step}"))
        show(table)
        count = len(report.failed)
        show(f"{count} failed" if count else "nothing failed")
    ctx.exit(1 if report.failed else 0)

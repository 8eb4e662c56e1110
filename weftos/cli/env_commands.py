"""``weaver env``: how strict the rules are here."""

from __future__ import annotations

from typing import Any

import click

from weftos.cli.output import Table, emit_json, show, write_line
from weftos.cli.session import call, json_option
from weftos.rpc import governance_types as g
from weftos.rpc import types as t

__all__ = ["env", "own_environment"]


@click.group()
def env() -> None:
    """Choose how strict the rules are.

    There are development, staging and production, and those of your own. The choice is on the log and outlives every
    restart.
    """


@env.command("list")
@json_option
def env_list(as_json: bool) -> None:
    """List the environments, and which is in force."""
    found: g.EnvironmentList = call("env.list", t.NoParams())
    if as_json:
        emit_json(found)
        return
    columns = ("", "NAME", "CLASS", "THRESHOLD", "NOTHING ABOVE", "PERSON MAY APPROVE", "BRANCHES")
    table = Table(columns, right=("THRESHOLD", "NOTHING ABOVE"))
    for one in found.environments:
        person = "yes" if one.human_approval_required else "no"
        most = f"{one.max_effect_magnitude:g}"
        row = (one.name, one.environment_class, f"{one.risk_threshold:g}", most, person, ", ".join(one.active_branches))
        table.rows.append(("*" if one.active else "", *row))
    show(table)


def own_environment(threshold: float | None, most: float | None, approval: bool) -> dict[str, Any]:
    """Return the fields of an environment of one's own; none without a threshold.

    Raises:
        click.UsageError: there is no threshold, and something else.
    """
    if threshold is None:
        if most is not None or approval:
            raise click.UsageError("an environment of your own has a --threshold")
        return {}
    fields: dict[str, Any] = {"risk_threshold": threshold, "human_approval_required": approval}
    return fields | ({} if most is None else {"max_effect_magnitude": most})


@env.command()
@click.argument("name")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Of one of your own: magnitude above which it is large.")
@click.option("--max-magnitude", type=click.FloatRange(0, 10), help="Of one of your own: nothing above. Default: 1.")
@click.option("--human-approval", is_flag=True, help="Of one of your own: a person may approve what is blocked.")
@click.option("--reason", required=True, help="Why; it goes on the log.")
@json_option
def switch(
    name: str, threshold: float | None, max_magnitude: float | None, human_approval: bool, reason: str, as_json: bool
) -> None:
    """Let the environment NAME be in force, from the next decision on.

    \b
    weaver env switch production --reason "we go live"
    weaver env switch lab --threshold 0.8 --human-approval --reason "trials with a person at hand"
    """  # noqa: D301 -- click's mark is the backspace itself
    fields = own_environment(threshold, max_magnitude, human_approval)
    found: g.SwitchResult = call("env.switch", g.SwitchParams(name=name, fields=fields, reason=reason))
    if as_json:
        emit_json(found)
    else:
        write_line(f"{found.name} is in force (record {found.record})")

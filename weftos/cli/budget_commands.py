"""``weaver budget``: how much agents may use, and who says so."""

from __future__ import annotations

import click

from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Table, emit_json, show, write_line
from weftos.cli.session import call, json_option
from weftos.rpc import budget_types as t

__all__ = ["budget"]

_PID = click.IntRange(min=0)
_AMOUNT = click.IntRange(min=0)


@click.group()
def budget() -> None:
    """How much agents may use, and by whose rule.

    There are budgets for turns, tool calls, tokens, cost and wall time. A budget is shared by the agent it was
    given to and all agents below it. An act has to fit into every budget above it: what it may use is reserved
    before it, and settled after it. PID 0 is the kernel's, above all.
    """


@budget.command("show")
@click.argument("pid", type=_PID, default=0)
@json_option
def show_budget(pid: int, as_json: bool) -> None:
    """Show what the agent PID may still use, and whose rule says so. Without PID: the kernel's.

    \b
    weaver budget show 3
    weaver budget show 3 --json | jq '.dimensions[] | {dimension, remaining, rule_pid}'
    """  # noqa: D301 -- click's mark is the backspace itself
    found: t.BudgetView = call("budget.show", t.BudgetShowParams(pid=pid))
    if as_json:
        emit_json(found)
        return
    table = Table(
        ("DIMENSION", "GIVEN", "RESERVED", "USED", "REMAINING", "OF", "BY THE RULE OF"),
        right=("GIVEN", "RESERVED", "USED", "REMAINING", "OF"),
        title=f"Budget of {_who(pid)}",
    )
    for row in found.dimensions:
        left = row.remaining
        shown: Cell = "unlimited" if left is None else (f.number(left), "bad" if left <= 0 else "good")
        owner = "-" if row.rule_pid is None else _who(row.rule_pid)
        given = f.number(row.given) if row.given else "-"
        of = "-" if row.rule_given is None else f.number(row.rule_given)
        table.rows.append((row.dimension, given, f.number(row.reserved), f.number(row.settled), shown, of, owner))
    show(table)
    loop = "off" if not found.loop_repeats else f"the {found.loop_repeats + 1}th time within {found.loop_window_s} s"
    pairs: list[tuple[str, Cell]] = [
        ("Counts in", ", ".join(map(_who, found.path))),
        ("Open", f.count(found.open, "reservation")),
        ("The same act", f"{loop}, by the rule of {_who(found.loop_rule_pid)}"),
        ("Its own word", "gives back tokens and cost" if found.claims else "gives nothing back"),
    ]
    show(Panel("Rules", pairs))


@budget.command("set")
@click.argument("pid", type=_PID)
@click.option("--turns", type=_AMOUNT, help="Turns of a model; 0 takes the limit away, as for all of these.")
@click.option("--tool-calls", type=_AMOUNT, help="Runs of tools.")
@click.option("--tokens", type=_AMOUNT, help="Tokens.")
@click.option("--cost", type=_AMOUNT, help="Cost in millionths: 2500000 is 2.50.")
@click.option("--wall-ms", type=_AMOUNT, help="Wall time of acts, in milliseconds.")
@click.option(
    "--claims/--no-claims",
    default=None,
    help="Whether an agent that says it used fewer tokens than it reserved gets the rest back. Off unless set.",
)
@click.option(
    "--loop", metavar="N/SECONDS", help="The same act more than N times within SECONDS is a loop; 0 is never."
)
@click.option("--reason", default="the operator asked", show_default=True, help="Why; it goes on the log.")
@json_option
def set_budget(
    pid: int,
    claims: bool | None,
    loop: str | None,
    reason: str,
    as_json: bool,
    **amounts: int | None,
) -> None:
    """Give the agent PID, and all agents below it, a budget. What is not named stays as it is.

    \b
    weaver budget set 3 --tokens 100000 --cost 2500000 --reason "for the report"
    weaver budget set 0 --cost 50000000 --loop 8/60
    weaver budget set 3 --tokens 0
    """  # noqa: D301 -- click's mark is the backspace itself
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    repeats, window = _loop(loop)
    if not given and claims is None and repeats is None:
        raise click.UsageError(
            "name at least one of --turns, --tool-calls, --tokens, --cost, --wall-ms, --claims, --loop"
        )
    params = t.BudgetSetParams(
        pid=pid, given=given, claims=claims, loop_repeats=repeats, loop_window_secs=window, reason=reason
    )
    result: t.BudgetSetResult = call("budget.set", params)
    if as_json:
        emit_json(result)
    else:
        write_line(f"the budget of {_who(pid)} counts (record {result.record}); `weaver budget show {pid}` shows it")


def _who(pid: int) -> str:
    return f"agent {pid}" if pid else "the kernel"


def _loop(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    number, slash, window = text.partition("/")
    if not number.isdecimal() or (slash and not window.isdecimal()) or len(text) > 12:
        raise click.BadParameter(f"{text!r} is not of the form N/SECONDS, such as 8/60", param_hint="--loop")
    return int(number), int(window) if slash else None

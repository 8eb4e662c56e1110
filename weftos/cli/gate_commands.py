"""``weaver gate``: what the gate says, what waits for a person, and what was decided."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.lazy import LazyGroup
from weftos.cli.output import Cell, Panel, Table, emit_json, show, write_line
from weftos.cli.session import PID, call, json_option
from weftos.errors import InvalidRequest
from weftos.rpc import governance_types as g

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EXIT_OF", "facts", "gate", "tone_of", "verdict_panel"]

#: Exit status of an answer of the gate.
EXIT_OF: Final = {"permit": 0, "defer": 3, "deny": 4}
_TONES: Final = {"permit": "good", "defer": "warn", "deny": "bad", "approved": "good", "refused": "bad"}
_NUMBER: Final = click.IntRange(min=0)


_FILES: Final = {"history": ("weftos.cli.gate_history:history", "Show what was decided, and what came of it.")}


@click.group(cls=LazyGroup, lazy=_FILES)
def gate() -> None:
    """Ask the gate, and decide about what it leaves to a person.

    An agent that may not do something by itself waits; its request is listed by `pending`. An approval makes a permit
    for this one act of this one agent.

    \b
    weaver gate check 3 tool.fs.remove --context '{"path": "/srv/old"}' --explain
    weaver gate pending
    weaver gate approve 214 --reason "it is a copy"
    """  # noqa: D301 -- click's mark is the backspace itself


def facts(text: str | None) -> dict[str, Any]:
    """Read facts from JSON.

    Raises:
        InvalidRequest: the text is no JSON object.
    """
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the context is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequest('the context is one JSON object, such as {"path": "/srv/old"}')
    return found


def tone_of(word: str) -> Cell:
    """A decision or a state with its style."""
    return (word, _TONES[word]) if word in _TONES else word


def verdict_panel(found: g.GateVerdict) -> Panel:
    """Return what the gate said, with what it rests on."""
    pairs: list[tuple[str, Cell]] = [("Decision", tone_of(found.decision)), ("Reason", found.reason)]
    if found.verdict:
        effect = ", ".join(f"{name} {value:g}" for name, value in found.effect.items()) or "none"
        large = "above" if (found.magnitude or 0.0) > (found.threshold or 0.0) else "not above"
        pairs += [
            ("Verdict", found.verdict),
            ("Rule", found.rule or "-"),
            ("Matched", ", ".join(found.matched) or "-"),
            ("Effect", f"{effect} ({found.effect_source})"),
            ("Magnitude", f"{found.magnitude:.3g}, {large} the threshold {found.threshold:g}"),
            ("Environment", found.environment),
            ("Constitution", found.constitution),
        ]
    return Panel(f"{found.action} by agent {found.agent}", pairs)


@gate.command()
@click.argument("agent", type=PID)
@click.argument("action")
@click.option("--context", metavar="JSON", help="Facts about the action, as a JSON object.")
@click.option("--explain", is_flag=True, help="Say what the decision rests on.")
@json_option
@click.pass_context
def check(ctx: click.Context, agent: int, action: str, context: str | None, explain: bool, as_json: bool) -> None:
    """Tell what the gate says if AGENT (its pid) wants to do ACTION now; nothing is recorded.

    Ends with status 0 for permit, 3 for defer (a person would be asked), 4 for deny.

    \b
    weaver gate check 3 agent.spawn --explain
    """  # noqa: D301 -- click's mark is the backspace itself
    found: g.GateVerdict = call("gate.check", g.GateCheckParams(pid=agent, action=action, context=facts(context)))
    if as_json:
        emit_json(found)
    elif explain:
        show(verdict_panel(found))
    else:
        write_line(f"{found.decision}: {found.reason}")
    ctx.exit(EXIT_OF[found.decision])


@gate.command()
@click.option("--all", "every", is_flag=True, help="Also those that were decided within the last day.")
@json_option
def pending(every: bool, as_json: bool) -> None:
    """List what waits for a person's approval. Approve with `weaver gate approve NUMBER`."""
    rows = list(_requests(every=every))
    if as_json:
        emit_json(g.GateRequestList(requests=rows, more=False))
        return
    table = Table(
        ("REQUEST", "AGENT", "ACTION", "CONTEXT", "RULE", "STATE", "LEFT"), right=("REQUEST",), empty="nothing waits"
    )
    for row in rows:
        state: Cell = tone_of(row.state) if row.state != "pending" or row.alive else ("agent gone", "bad")
        left = f.age(max(row.expires_ns / 1e9 - time.time(), 0.0)) if row.state == "pending" else "-"
        context = json.dumps(row.context, ensure_ascii=False)
        table.rows.append((str(row.request), row.agent_id, row.action, context, row.rule, state, left))
    show(table)


def _requests(*, every: bool) -> Iterator[g.GateRequestView]:
    after = -1
    while True:
        page: g.GateRequestList = call("gate.pending", g.GatePendingParams(all=every, after=after))
        yield from page.requests
        if not page.more:
            return
        after = page.requests[-1].request


@gate.command()
@click.argument("request", type=_NUMBER)
@click.option("--reason", default="approved", show_default=True, help="Why; it goes on the log.")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(0.001, limits.PERMIT_MAX_S),
    default=limits.PERMIT_S,
    show_default=True,
    help="How long the permit is good, in seconds.",
)
@json_option
def approve(request: int, reason: str, seconds: float, as_json: bool) -> None:
    """Approve the REQUEST with this number; the agent that waits gets a permit that is good once.

    \b
    weaver gate approve 214 --reason "it is a copy" --for 60
    """  # noqa: D301 -- click's mark is the backspace itself
    found: g.GateRequestView = call("gate.approve", g.ApproveParams(request=request, reason=reason, valid_secs=seconds))
    if as_json:
        emit_json(found)
        return
    until = f.stamp(found.permit_expires_ns / 1e9)
    write_line(f"approved by {found.by}: {found.action} by {found.agent_id}, once, until {until}")
    write_line(f"the permit is record {found.permit_record}; `weaver chain prove {found.permit_record}` proves it")


@gate.command()
@click.argument("request", type=_NUMBER)
@click.option("--reason", default="refused", show_default=True, help="Why; for the log, and for the agent.")
@json_option
def deny(request: int, reason: str, as_json: bool) -> None:
    """Refuse the REQUEST with this number.

    \b
    weaver gate deny 214 --reason "somebody still needs it"
    """  # noqa: D301 -- click's mark is the backspace itself
    found: g.GateRequestView = call("gate.deny", g.RefuseParams(request=request, reason=reason))
    if as_json:
        emit_json(found)
    else:
        write_line(f"refused by {found.by}: {found.action} by {found.agent_id} (record {found.record})")

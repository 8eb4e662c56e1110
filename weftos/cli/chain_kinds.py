"""``weaver chain kinds``: what can be on the log."""

from __future__ import annotations

import click
import msgspec

from weftos.cli.output import Panel, Table, emit_json, show
from weftos.cli.session import json_option
from weftos.errors import InvalidRequest

__all__ = ["KindRow", "kinds"]


class FieldRow(msgspec.Struct, frozen=True):
    """One field of a payload: its name, its type, and whether it must be there."""

    name: str
    type: str
    required: bool


class KindRow(msgspec.Struct, frozen=True):
    """One kind of event: its name, what it says, and the fields of its payload."""

    kind: str
    about: str
    fields: list[FieldRow]


@click.command()
@click.argument("kind", required=False)
@json_option
def kinds(kind: str | None, as_json: bool) -> None:
    """List the kinds of events, or show the fields of one.

    Whatever the kernel writes on the log is of one of these kinds and has the form shown here; anything else is
    refused. Kinds that begin with "app." belong to agents, who put into them what they like.

    \b
    weaver chain kinds
    weaver chain kinds agent.exit
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.events import KINDS, fields_of

    if kind is not None and kind not in KINDS:
        raise InvalidRequest(f"there is no kind {kind!r}; `weaver chain kinds` lists them")
    chosen = [kind] if kind is not None else list(KINDS)
    rows = [KindRow(name, KINDS[name], [FieldRow(*field) for field in fields_of(name)]) for name in chosen]
    if as_json:
        emit_json(rows)
    elif kind is None:
        table = Table(("KIND", "SAYS"))
        table.rows += [(row.kind, row.about) for row in rows]
        show(table)
    else:
        table = Table(("FIELD", "TYPE", "REQUIRED"), title="Payload")
        table.rows += [(field.name, field.type, "yes" if field.required else "no") for field in rows[0].fields]
        show(Panel(kind, [("Says", rows[0].about)]), table)

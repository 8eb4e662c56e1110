"""``weaver config``: settings, their changes, and the history of these on the log."""

from __future__ import annotations

import json
from typing import Any

import click

from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, write_line
from weftos.cli.session import call, instance, json_option
from weftos.errors import InvalidRequest
from weftos.rpc import config_types as c
from weftos.rpc import types as t

__all__ = ["config"]

_WHEN = {
    "now": "it holds now",
    "new-agents": "it holds for agents that start from now on",
    "next-start": "it takes effect at the next start of the kernel",
}


@click.group()
def config() -> None:
    """Settings: see them, change them, and see who changed them.

    They stand in weftos.toml. A change is checked with the whole file, recorded on the log, written in one piece, and
    in force at once where that can be. What was edited by hand is recorded when the kernel reads it.
    """


@config.command("list")
@click.option("--changed", is_flag=True, help="Only those that the file sets.")
@json_option
def config_list(changed: bool, as_json: bool) -> None:
    """List all settings with their values."""
    found: list[c.SettingInfo] = call("config.list", t.NoParams())
    rows = [one for one in found if one.explicit or not changed]
    if as_json:
        emit_json(rows)
        return
    table = Table(("SETTING", "VALUE", "FROM", "HOLDS"), empty="the file sets nothing")
    for one in rows:
        value = _text(one.value) + (f" (next start: {_text(one.waiting)})" if one.waiting is not None else "")
        table.rows.append((one.key, value, "file" if one.explicit else "default", one.effect))
    show(table)


@config.command()
@click.argument("key")
@json_option
def get(key: str, as_json: bool) -> None:
    """Show one setting: its value, its default, and what it accepts.

    \b
    weaver config get limits.memory_bytes
    """  # noqa: D301 -- click's mark is the backspace itself
    found: c.SettingInfo = call("config.get", c.ConfigKeyParams(key=key))
    if as_json:
        emit_json(found)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Value", _text(found.value)),
        *([("At the next start", _text(found.waiting))] if found.waiting is not None else []),
        ("Default", _text(found.default)),
        ("From", "file" if found.explicit else "default"),
        ("A change", _WHEN[found.effect]),
        ("Accepts", found.accepts),
    ]
    show(Panel(found.key, pairs))


@config.command("set")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--default", "reset", is_flag=True, help="Take KEY out of the file, so that its default holds.")
@json_option
def config_set(key: str, value: str | None, reset: bool, as_json: bool) -> None:
    """Set KEY to VALUE, written as in the file; text needs no quotes.

    \b
    weaver config set limits.memory_bytes 512MiB
    weaver config set ipc.proof_topics '["orders", "bills"]'
    weaver config set kernel.max_processes --default
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.settings.catalog import typed

    if (value is None) != reset:
        raise InvalidRequest("config set takes either a value or --default")
    wanted = None if value is None else typed(key, value)
    done: c.ConfigChanged = call("config.set", c.ConfigSetParams(key=key, value=wanted))
    if as_json:
        emit_json(done)
    elif done.record < 0:
        write_line(f"{key} is {_shown(done.new)} already; nothing was changed")
    else:
        write_line(f"{key}: {_shown(done.old)} -> {_shown(done.new)}; {_WHEN[done.effect]} (record {done.record})")


@config.command()
@click.argument("key", required=False)
@click.option("-n", "--count", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@json_option
def history(key: str | None, count: int, as_json: bool) -> None:
    """Show who changed settings, when, from what to what: KEY's, or all. Works without a kernel.

    It is added up from the log's files. A change that is "pending" was cut short; the next start settles it.
    """
    from weftos.chain.folder.reader import read_whole
    from weftos.settings.history import History

    found = History().take_all(read_whole(str(instance().chain))).changes
    rows = [one for one in found if key in (None, one.key)][-count:]
    if as_json:
        emit_json(rows)
        return
    table = Table(
        ("RECORD", "TIME", "SETTING", "OLD", "NEW", "BY", "STATE"), right=("RECORD",), empty="nothing was ever changed"
    )
    for one in rows:
        state: Cell = one.state if one.state != "pending" else ("pending", "warn")
        stamp = f.stamp(one.timestamp)
        table.rows.append((str(one.seq), stamp, one.key, _shown(one.old), _shown(one.new), one.by, state))
    show(table)
    if any(one.reason for one in rows):
        for one in rows:
            if one.reason:
                note(f"record {one.seq}: {one.reason}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    return "(default)" if value is None else _text(value)

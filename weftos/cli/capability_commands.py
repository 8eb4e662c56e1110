"""``weaver capability``: what an agent may do, and changes of it while it lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from weftos.cli import formats as f
from weftos.cli.agent_view import changed_text, right_text
from weftos.cli.output import Cell, Panel, emit_json, note, show, write_line
from weftos.cli.session import PID, call, json_option
from weftos.rpc import agent_types as a
from weftos.rpc import capability_types as t

__all__ = ["capability"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def capability() -> None:
    """What agents may do: show it, give it, take it.

    A RIGHT is a capability (can_spawn, can_ipc, can_exec_tools, can_network, can_store) or a name with a value:

    \b
    ipc_scope=all|parent-only|none|restricted:PID,…|topic:NAME,…
    tools=NAME or tools=fs.*      tools; also services=NAME, files=/PATH
    sandbox=trusted|standard|strict, sandbox.network, sandbox.shell, sandbox.readable=/PATH, sandbox.writable=/PATH
    limits.messages=500           a limit; 0 is unlimited

    A child never holds more than its parent. What is taken from an agent is taken from all agents below it.
    """  # noqa: D301 -- click's mark is the backspace itself


def _change(command: F) -> F:
    for decorate in (
        json_option,
        click.option("--reason", default="the operator asked", show_default=True, help="Why; it goes on the log."),
        click.argument("rights", nargs=-1, required=True, metavar="RIGHT..."),
        click.argument("pid", type=PID),
    ):
        command = decorate(command)
    return command


@capability.command("show")
@click.argument("pid", type=PID)
@json_option
def show_capabilities(pid: int, as_json: bool) -> None:
    """Show what the agent PID may do now, which version of it that is, and who made it.

    \b
    weaver capability show 3
    weaver capability show 3 --json | jq .capabilities.can_network
    """  # noqa: D301 -- click's mark is the backspace itself
    found: t.CapabilityView = call("capability.show", a.PidParams(pid=pid))
    if as_json:
        emit_json(found)
        return
    above = "the operator" if found.parent_pid is None else f"agent {found.parent_pid}"
    pairs: list[tuple[str, Cell]] = [
        ("Agent", found.agent_id),
        ("Role", found.role or "-"),
        ("Bound by", above),
        ("Epoch", f"{found.epoch}, {changed_text(found.changed_by, found.changed_why)}"),
    ]
    ceiling = found.ceiling["capabilities"]
    for name, value in found.capabilities.items():
        text = right_text(value)
        started = right_text(ceiling[name])
        pairs.append((name, text if text == started else f"{text} (it may get back: {started})"))
    show(Panel(f"Capabilities of agent {pid}", pairs))
    amounts: list[tuple[str, Cell]] = [
        (name, "unlimited" if not amount else f.size(amount) if name.endswith("_bytes") else f.number(amount))
        for name, amount in found.limits.items()
    ]
    show(Panel("Limits", amounts))


@capability.command()
@_change
def grant(pid: int, rights: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Give the agent PID rights back that it was started with, or was elevated to.

    \b
    weaver capability grant 3 can_spawn ipc_scope=all --reason "the review is done"
    """  # noqa: D301 -- click's mark is the backspace itself
    _told(_call("grant", pid, rights, reason), "has what was granted", as_json=as_json)


@capability.command()
@_change
def revoke(pid: int, rights: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Take rights from the agent PID and from all agents below it; open rings and topics close at once.

    What the agent does not have is not missed: doing it again changes nothing.

    \b
    weaver capability revoke 3 can_ipc --reason "it talks too much"
    weaver capability revoke 3 ipc_scope=restricted:1,2 tools=net.* limits.messages=100
    """  # noqa: D301 -- click's mark is the backspace itself
    _told(_call("revoke", pid, rights, reason), "lost what was revoked", as_json=as_json)


@capability.command()
@_change
def elevate(pid: int, rights: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Give the agent PID rights that it was not started with. The log names you as who approved it.

    \b
    weaver capability elevate 3 can_network sandbox.network --reason "it fetches the price list"
    """  # noqa: D301 -- click's mark is the backspace itself
    _told(_call("elevate", pid, rights, reason), "is elevated, approved by the operator", as_json=as_json)


def _call(what: str, pid: int, rights: tuple[str, ...], reason: str) -> t.CapabilityChanged:
    params = t.CapabilityChangeParams(pid=pid, rights=list(rights), reason=reason)
    changed: t.CapabilityChanged = call(f"capability.{what}", params)
    return changed


def _told(changed: t.CapabilityChanged, done: str, *, as_json: bool) -> None:
    if as_json:
        emit_json(changed)
        return
    if not changed.changed:
        write_line(f"agent {changed.pid}: nothing changed; epoch {changed.epoch}")
        return
    write_line(f"agent {changed.pid} {done}: epoch {changed.epoch} (record {changed.record})")
    if changed.narrowed:
        write_line(f"below it, narrowed as well: {', '.join(map(str, changed.narrowed))}")
    if changed.at_restart:
        names = ", ".join(changed.at_restart)
        note(f"{names}: the running process is bound from its next start on; `weaver agent restart {changed.pid}`")

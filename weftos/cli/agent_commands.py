"""``weaver agent``: start, inspect, message and stop agents."""

from __future__ import annotations

from typing import Any

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.agent_options import (
    absolute_program,
    build_capabilities,
    build_sandbox,
    capability_options,
    parse_limits,
    parse_pairs,
    sandbox_options,
)
from weftos.cli.messages import message_options, parse_message, reply_text
from weftos.cli.output import Panel, emit_json, note, show, tone
from weftos.cli.processes import exit_text, process_table
from weftos.cli.session import PID, call, json_option
from weftos.governance.permissions import Profile
from weftos.rpc import agent_types as a

__all__ = ["agent"]


@click.group()
def agent() -> None:
    """Start, inspect, message and stop agents."""


@agent.command("list")
@click.option("-a", "--all", "everything", is_flag=True, help="Also show the agents that have ended.")
@json_option
def list_agents(everything: bool, as_json: bool) -> None:
    """List the agents."""
    rows: list[a.ProcessInfo] = call("agent.list", a.ListParams(all=everything))
    emit_json(rows) if as_json else show(process_table(rows))


@agent.command()
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("-n", "--name", help="Name of the agent; by default that of the program.")
@click.option(
    "-l",
    "--limit",
    "limit_texts",
    multiple=True,
    metavar="KEY=VALUE",
    help="A limit, 0 for none: memory=64MiB, cpu_seconds=10, descriptors=64, processes=4, messages=1000, "
    "file_bytes=1GiB. May be given several times.",
)
@click.option(
    "-e", "--env", "env_texts", multiple=True, metavar="NAME=VALUE", help="An environment variable; repeatable."
)
@click.option(
    "--restart",
    type=click.Choice(("never", "on-failure", "always")),
    default="on-failure",
    show_default=True,
    help="When it is started again after it ended.",
)
@click.option(
    "--role",
    default="",
    metavar="ROLE",
    help="What it is for: root, supervisor, service, worker, user or custom:NAME. Gives its capabilities, if none are "
    "named, and says whom it may start.",
)
@click.option("-p", "--parent", "parent_pid", type=PID, metavar="PID", help="Agent that it belongs to.")
@capability_options
@sandbox_options
@json_option
def spawn(  # noqa: PLR0913, PLR0917 -- click hands each option over by its name
    program: str,
    args: tuple[str, ...],
    name: str | None,
    limit_texts: tuple[str, ...],
    env_texts: tuple[str, ...],
    restart: a.RestartPolicy,
    role: str,
    parent_pid: int | None,
    profile: Profile | None,
    readable: tuple[str, ...],
    writable: tuple[str, ...],
    as_json: bool,
    **rights: Any,
) -> None:
    """Start an agent that runs PROGRAM; returns when it is ready.

    PROGRAM is a built-in name (echo, worker, …), module:function, or the path of a .py file with a function main. What
    follows -- is handed to it. It may write to its scratch folder alone, and reads its program, the modules beside it,
    Python and the system's libraries; everything else has to be given.

    \b
    weaver agent spawn echo --restart always
    weaver agent spawn ./mine.py --limit memory=64MiB -- --fast 3
    weaver agent spawn package.module:main --scope restricted:1,2 --no-spawn
    weaver agent spawn ./index.py --sandbox strict --readable ~/documents
    """  # noqa: D301 -- click's mark is the backspace itself
    params = a.SpawnParams(
        program=absolute_program(program),
        name=name,
        args=list(args),
        env=parse_pairs(env_texts, "--env"),
        limits=parse_limits(limit_texts),
        capabilities=build_capabilities(**rights),
        restart=restart,
        role=role,
        parent_pid=parent_pid,
        sandbox=build_sandbox(profile, readable, writable, network=rights["network"]),
    )
    result: a.SpawnResult = call("agent.spawn", params, waits=limits.START_TIMEOUT_S)
    emit_json(result) if as_json else show(_spawned("Agent started", result))


def _spawned(title: str, result: a.SpawnResult) -> Panel:
    return Panel(
        title,
        [
            ("PID", str(result.pid)),
            ("Name", result.name),
            ("Agent ID", result.agent_id),
            ("Process", str(result.os_pid)),
            ("Incarnation", str(result.incarnation)),
        ],
    )


@agent.command()
@click.argument("pid", type=PID)
@json_option
def inspect(pid: int, as_json: bool) -> None:
    """Show everything about an agent: use beside limits, rings with depth and rate, rights, last exit."""
    result: a.AgentDetail = call("agent.inspect", a.PidParams(pid=pid))
    if as_json:
        emit_json(result)
        return
    from weftos.cli.agent_view import inspect_view

    show(*inspect_view(result))


@agent.command()
@click.argument("pid", type=PID)
@click.option("-f", "--force", is_flag=True, help="Kill at once instead of asking first.")
@click.option("--timeout", type=click.FloatRange(0, 86_400), help="Seconds between asking and killing.")
@json_option
def stop(pid: int, force: bool, timeout: float | None, as_json: bool) -> None:
    """Stop an agent for good; returns when it has ended."""
    params = a.StopParams(pid=pid, graceful=not force, timeout_secs=timeout)
    result: a.StopResult = call("agent.stop", params, waits=timeout or limits.STOP_TIMEOUT_S)
    if as_json:
        emit_json(result)
        return
    text = exit_text(result.exit)
    show(f"agent {pid} has ended: {text if isinstance(text, str) else text[0]} ({result.exit.message})")


@agent.command()
@click.argument("pid", type=PID)
@json_option
def restart(pid: int, as_json: bool) -> None:
    """Give an agent a new process under the same pid; a quarantined one gets a new budget."""
    waits = limits.STOP_TIMEOUT_S + limits.START_TIMEOUT_S
    result: a.SpawnResult = call("agent.restart", a.PidParams(pid=pid), waits=waits)
    emit_json(result) if as_json else show(_spawned("Agent restarted", result))


@agent.command()
@click.argument("pid", type=PID)
@json_option
def suspend(pid: int, as_json: bool) -> None:
    """Hold all processes of an agent; messages wait in its rings."""
    _change("agent.suspend", pid, as_json=as_json)


@agent.command()
@click.argument("pid", type=PID)
@json_option
def resume(pid: int, as_json: bool) -> None:
    """Let a suspended agent go on."""
    _change("agent.resume", pid, as_json=as_json)


def _change(method: str, pid: int, *, as_json: bool) -> None:
    result: a.StateResult = call(method, a.PidParams(pid=pid))
    if as_json:
        emit_json(result)
    else:
        word = tone(result.state)
        show(f"agent {result.pid} is {word if isinstance(word, str) else word[0]}")


@agent.command()
@click.argument("pid", type=PID)
@click.argument("message")
@message_options
@click.option(
    "--timeout",
    type=click.FloatRange(0.001, 86_400),
    default=limits.AGENT_SEND_TIMEOUT_S,
    show_default=True,
    help="Seconds to wait for room in its ring and for the reply.",
)
@click.option("--no-wait", is_flag=True, help="Return once the message lies in the agent's ring, without a reply.")
@json_option
def send(pid: int, message: str, text: bool, timeout: float, no_wait: bool, as_json: bool) -> None:
    """Send an agent a message and print its reply.

    MESSAGE is sent as JSON when it is a JSON object or array, else as text; - reads it from standard input.

    \b
    weaver agent send 1 hello
    weaver agent send 1 '{"cmd": "status"}'
    """  # noqa: D301 -- click's mark is the backspace itself
    params = a.SendParams(pid=pid, message=parse_message(message, as_text=text), timeout_secs=timeout, wait=not no_wait)
    result: a.SendResult = call("agent.send", params, waits=timeout)
    if as_json:
        emit_json(result)
    elif no_wait:
        note(f"sent to agent {pid}; no reply was asked for")
    else:
        show(reply_text(result.reply))
        note(f"({result.reply_type or 'reply'} in {f.seconds(result.elapsed_secs)})")


@agent.command()
@click.argument("pid", type=PID)
@click.option(
    "-n", "--tail", "count", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Lines of the past."
)
def attach(pid: int, count: int) -> None:
    """Watch what an agent writes, until interrupted or the agent has ended."""
    from weftos.cli.follow import follow_agent

    follow_agent(pid, count)

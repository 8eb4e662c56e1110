"""``weaver kernel``: what the kernel says about itself, and the commands that replace a service or end a process.

Starting and stopping the kernel itself is in ``kernel_life``; following its log is in ``follow``.
"""

from __future__ import annotations

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.follow import attach, logs
from weftos.cli.kernel_audit import audit
from weftos.cli.kernel_life import restart, start, stop
from weftos.cli.output import Panel, Table, emit_json, redrawn, show, tone
from weftos.cli.processes import process_table
from weftos.cli.session import PID, call, json_option
from weftos.rpc import agent_types as a
from weftos.rpc import kernel_types as kt
from weftos.rpc import types as t

__all__ = ["kernel"]


@click.group()
def kernel() -> None:
    """Start, stop and watch the kernel."""


for command in (start, stop, restart, logs, attach, audit):
    kernel.add_command(command)


@kernel.command()
@json_option
def status(as_json: bool) -> None:
    """Show the kernel's state, age and places."""
    result: kt.KernelStatus = call("kernel.status", t.NoParams())
    if as_json:
        emit_json(result)
        return
    limit = f" of {f.number(result.max_processes)}" if result.max_processes else ""
    pairs = [
        ("State", tone(result.state)),
        ("Process", str(result.os_pid)),
        ("Version", result.version),
        ("Uptime", f.age(result.uptime_secs)),
        ("Agents", f"{f.number(result.process_count)}{limit}"),
        ("Services", f.number(result.service_count)),
        ("Memory", f.size(result.rss_bytes)),
        ("Health check", f"every {f.age(result.health_check_interval_secs)}"),
        (
            "Last shutdown",
            ("unclean: the kernel before this one was killed", "warn") if result.unclean_shutdown else "clean",
        ),
        ("Start", "clean" if result.clean_start else ("something was repaired, see the log", "warn")),
        ("Boot", result.boot_id),
        ("Home", result.home),
        ("Socket", result.socket),
        ("Log", result.log),
        ("Config", result.config or "defaults"),
    ]
    show(Panel("Kernel", pairs))


@kernel.command()
@json_option
def services(as_json: bool) -> None:
    """List the services and the processes behind them."""
    result: list[kt.ServiceInfo] = call("kernel.services", t.NoParams())
    if as_json:
        emit_json(result)
        return
    table = Table(
        ("NAME", "TYPE", "STATE", "HEALTH", "PROCESS", "AGENT", "RESTARTS", "UPTIME", "METHODS"),
        right=("PROCESS", "AGENT", "RESTARTS", "UPTIME"),
        empty="no services",
    )
    for row in result:
        table.rows.append(
            (
                row.name,
                row.service_type,
                tone(row.state),
                tone(row.health),
                str(row.os_pid or "-"),
                "-" if row.owner_pid is None else str(row.owner_pid),
                f.number(row.restarts),
                f.age(row.uptime_secs),
                ", ".join(row.methods) or "-",
            )
        )
    show(table)


@kernel.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also show the agents that have ended.")
@click.option("-w", "--watch", is_flag=True, help="Show it again every second until interrupted.")
@json_option
def ps(everything: bool, watch: bool, as_json: bool) -> None:
    """Show the process table."""
    import time

    params = a.ListParams(all=everything)
    if not watch:
        rows: list[a.ProcessInfo] = call("kernel.ps", params)
        emit_json(rows) if as_json else show(process_table(rows))
        return
    with redrawn() as draw:
        while True:
            rows = call("kernel.ps", params)
            emit_json(rows) if as_json else draw(process_table(rows))
            time.sleep(limits.WATCH_INTERVAL_S)


@kernel.command("kill-process")
@click.argument("pid", type=PID)
@click.option("-f", "--force", is_flag=True, help="Kill at once instead of asking first.")
@json_option
def kill_process(pid: int, force: bool, as_json: bool) -> None:
    """Signal an agent to end, without waiting for its end."""
    result: kt.KillResult = call("kernel.kill-process", kt.KillParams(pid=pid, graceful=not force))
    if as_json:
        emit_json(result)
    else:
        show(f"agent {result.pid} was {'asked to stop' if result.graceful else 'killed'}; it is {result.state}")


@kernel.command("restart-service")
@click.argument("name")
@json_option
def restart_service(name: str, as_json: bool) -> None:
    """Replace the process behind a service."""
    result: kt.RestartServiceResult = call(
        "kernel.restart-service", kt.NameParams(name=name), waits=limits.START_TIMEOUT_S + limits.STOP_TIMEOUT_S
    )
    if as_json:
        emit_json(result)
    else:
        show(f"service {result.name} restarted: process {result.old_pid or '-'} → {result.new_pid or '-'}")

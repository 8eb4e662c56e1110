"""``weaver kernel start``, ``stop`` and ``restart``.

Start returns when the kernel answers, and stop when its process is gone: the command that follows can rely on it. Stop
asks over the control socket and watches the process through a pidfd, so that it can neither signal nor wait for a
stranger that got the same number. A kernel that does not answer is reached by the number in its lock file.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from weftos import limits
from weftos.cli.output import Panel, emit_json, note, show, tone
from weftos.cli.session import connect, instance, json_option
from weftos.errors import KernelNotRunning, WeftError, WeftTimeout, WrongState

if TYPE_CHECKING:
    from weftos.home import Home

__all__ = ["restart", "start", "stop"]

config_option: Final = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True, path_type=Path),
    help="Configuration file instead of weftos.toml in the instance's directory.",
)
_start_timeout: Final = click.option(
    "--timeout",
    type=click.FloatRange(0.1, 86_400),
    default=limits.KERNEL_START_TIMEOUT_S,
    show_default=True,
    help="Seconds until it must answer.",
)
_stop_timeout: Final = click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    default=limits.KERNEL_STOP_TIMEOUT_S,
    show_default=True,
    help="Seconds until its process must have ended.",
)


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in this terminal; the log goes to standard output.")
@config_option
@_start_timeout
@json_option
@click.pass_context
def start(ctx: click.Context, foreground: bool, config_path: Path | None, timeout: float, as_json: bool) -> None:
    """Start the kernel in the background; returns when it is ready."""
    if foreground:
        from weftos.kernel.daemon import run_foreground

        ctx.exit(run_foreground(instance().ensure(), config_path))
    _start(config_path, timeout, as_json=as_json)


def _start(config_path: Path | None, timeout: float, *, as_json: bool) -> None:
    from weftos.kernel.daemon import start_daemon

    home = instance()
    os_pid = start_daemon(home, config_path, timeout)
    with connect(timeout) as client:
        status = client.call("kernel.status")
    if as_json:
        emit_json(
            {"os_pid": os_pid, "state": status.state, "socket": status.socket, "log": status.log, "home": status.home}
        )
        return
    pairs = [
        ("Process", str(os_pid)),
        ("State", tone(status.state)),
        ("Home", status.home),
        ("Socket", status.socket),
        ("Log", status.log),
    ]
    show(Panel("Kernel started", pairs))
    if status.unclean_shutdown:
        note("the kernel before this one ended without a shutdown; the chain was checked and continued")


@click.command()
@click.option("--force", is_flag=True, help="Kill the kernel if it does not end in time.")
@_stop_timeout
@json_option
def stop(force: bool, timeout: float, as_json: bool) -> None:
    """Stop the kernel and all its agents; returns when its process is gone."""
    os_pid, killed = stop_kernel(timeout, force=force)
    if as_json:
        emit_json({"os_pid": os_pid, "state": "halted", "killed": killed})
    else:
        show(f"kernel {os_pid} {'was killed' if killed else 'stopped'}")


@click.command()
@config_option
@click.option("--force", is_flag=True, help="Kill the running kernel if it does not end in time.")
@_start_timeout
@json_option
def restart(config_path: Path | None, force: bool, timeout: float, as_json: bool) -> None:
    """Stop the kernel and start a new one, with the configuration file of the old unless --config is given."""
    try:
        with connect() as client:
            running = client.call("kernel.status").config
        config_path = config_path or (Path(running) if running else None)
        os_pid, killed = stop_kernel(limits.KERNEL_STOP_TIMEOUT_S, force=force)
        note(f"kernel {os_pid} {'was killed' if killed else 'stopped'}")
    except KernelNotRunning:
        note("no kernel was running")
    _start(config_path, timeout, as_json=as_json)


# --- the end of a kernel -------------------------------------------------------------------------


def stop_kernel(timeout: float, *, force: bool) -> tuple[int, bool]:
    """End this instance's kernel and wait until its process is gone.

    Args:
        timeout: seconds that the kernel has for an orderly end.
        force: kill it after that.

    Returns:
        Its process id, and whether it had to be killed.

    Raises:
        KernelNotRunning: there is none.
        WeftTimeout: it is still there and ``force`` was not given.
    """
    home = instance()
    deadline = time.monotonic() + timeout
    os_pid, pidfd = _ask_to_end(home, timeout)
    try:
        if _ended(pidfd, deadline):
            return os_pid, False
        if not force:
            late = f"the kernel (process {os_pid}) has not ended within {timeout:g} s"
            raise WeftTimeout(f"{late}; `weaver kernel stop --force` kills it")
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not _ended(pidfd, time.monotonic() + limits.STOP_TIMEOUT_S):
            raise WeftTimeout(f"the kernel (process {os_pid}) was killed and is still there: it hangs in the system")
        return os_pid, True
    finally:
        os.close(pidfd)


def _ask_to_end(home: Home, timeout: float) -> tuple[int, int]:
    """Ask the kernel to shut down.

    Returns:
        Its process id and a pidfd of it.

    Raises:
        KernelNotRunning: there is none.
    """
    try:
        with connect(min(limits.RPC_TIMEOUT_S, max(timeout, limits.POLL_LONGEST_S))) as client:
            os_pid = client.connect()
            pidfd = _open_pidfd(os_pid, home)
            try:
                client.call("kernel.shutdown")
            except (KernelNotRunning, WrongState):
                # It ended before the answer was out, or was on its way already: its process decides.
                return os_pid, pidfd
            except WeftTimeout:
                note(f"the kernel (process {os_pid}) does not answer")
            except BaseException:
                os.close(pidfd)
                raise
            return os_pid, pidfd
    except (KernelNotRunning, WeftTimeout) as error:
        return _signal_lock_holder(home, error)


def _signal_lock_holder(home: Home, error: WeftError) -> tuple[int, int]:
    """Reach a kernel that cannot be connected to (booting, wedged, its socket removed) by its lock.

    Raises:
        WeftError: ``error``, when nobody holds the lock.
    """
    from weftos.home import InstanceLock

    os_pid = InstanceLock(home.lock).holder()
    if not os_pid:
        raise error
    pidfd = _open_pidfd(os_pid, home)
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    note(f"the kernel (process {os_pid}) cannot be connected to; it was sent SIGTERM")
    return os_pid, pidfd


def _open_pidfd(os_pid: int, home: Home) -> int:
    try:
        return os.pidfd_open(os_pid)
    except ProcessLookupError as error:
        raise KernelNotRunning(f"no kernel is running for {home.root}; it has just ended") from error


def _ended(pidfd: int, deadline: float) -> bool:
    """Wait for the end of a process; tell whether it came before the deadline (monotonic seconds)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))

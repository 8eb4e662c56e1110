"""The kernel as a program: in the foreground, or in the background with its readiness confirmed.

``start_daemon`` runs ``python -m weftos.kernel`` in a session of its own and waits until the kernel has said, through a
pipe, that it is ready, or why it is not. So a start that returns has succeeded, and a start that failed has said why.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from weftos import limits, logs
from weftos.config import Config, load
from weftos.errors import BootFailed, WeftError, error_for_code
from weftos.home import Home, InstanceLock
from weftos.kernel.leftovers import INSTANCE_VARIABLE

__all__ = ["run_foreground", "start_daemon"]

log = logging.getLogger(__name__)

#: Kernels that this process started and whose ends it has not collected.
_started: Final[list[subprocess.Popen[bytes]]] = []
_READY_VARIABLE: Final = "WEFTOS_READY_FD"
_LIFELINE_VARIABLE: Final = "WEFTOS_LIFELINE_FD"
#: Standard output: the terminal of a kernel in the foreground, the log file of one in the background.
_LOG_FD: Final = 1


class _Outcome(msgspec.Struct):
    """What the background process tells its starter: ``code`` is empty when the kernel is ready."""

    os_pid: int
    code: str = ""
    message: str = ""


def start_daemon(
    home: Home,
    config_path: Path | None = None,
    timeout: float = limits.START_TIMEOUT_S,
    *,
    lifeline: int | None = None,
) -> int:
    """Start a kernel in the background and wait until it is ready.

    Args:
        home: the instance.
        config_path: configuration file; the instance's own by default.
        timeout: seconds to wait.
        lifeline: reading end of a pipe; the kernel shuts down, in order, when nobody holds the other end any more. It
            stays the caller's. Without one the kernel lives on by itself.

    Returns:
        OS pid of the kernel.

    Raises:
        KernelAlreadyRunning: one runs on this instance.
        WeftError: why it did not boot, as it said itself.
        BootFailed: it ended, or was not ready in time, without saying why.
    """
    home.ensure()
    logs.check(load(config_path or home.config).log.level)
    # Asked here as well, so that the error comes at once and the log of the running kernel stays untouched.
    InstanceLock(home.lock).check_free()
    reader, writer = os.pipe()
    environ = os.environ | {
        "WEFTOS_HOME": str(home.root),
        INSTANCE_VARIABLE: str(home.root),
        _READY_VARIABLE: str(writer),
    }
    if lifeline is not None:
        environ[_LIFELINE_VARIABLE] = str(lifeline)
    command = [sys.executable, "-m", "weftos.kernel"]
    if config_path is not None:
        command += ["--config", str(config_path.absolute())]
    log_fd = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            start_new_session=True,
            pass_fds=[writer] if lifeline is None else [writer, lifeline],
            cwd="/",
        )
    finally:
        os.close(writer)
        os.close(log_fd)
    try:
        outcome = _await_outcome(reader, timeout)
    finally:
        os.close(reader)
    if outcome is None:
        process.kill()
        process.wait()
        raise BootFailed(f"the kernel was not ready within {timeout:g} s; its log is {home.log}")
    if outcome.code:
        process.wait()
        raise error_for_code(outcome.code, outcome.message)
    # The kernel lives on by itself. It is remembered only so that its end can be collected by the next call.
    _started[:] = [earlier for earlier in _started if earlier.poll() is None]
    _started.append(process)
    return outcome.os_pid


def _await_outcome(reader: int, timeout: float) -> _Outcome | None:
    """Read one line; ``None`` at the deadline."""
    data = b""
    deadline = time.monotonic() + timeout
    poller = select.poll()
    poller.register(reader, select.POLLIN | select.POLLHUP)
    while b"\n" not in data:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        if poller.poll(left * 1000):
            chunk = os.read(reader, 65536)
            if not chunk:
                return _Outcome(0, BootFailed.code, "the kernel ended while it booted; its log says more")
            data += chunk
    return msgspec.json.decode(data, type=_Outcome)


def run_foreground(home: Home, config_path: Path | None = None) -> int:
    """Be the kernel until it is shut down.

    Returns:
        Exit status: 0 after an orderly shutdown.

    Raises:
        WeftError: it could not boot.
    """
    os.environ.setdefault(INSTANCE_VARIABLE, str(home.root))
    fd, lifeline = _given(_READY_VARIABLE), _given(_LIFELINE_VARIABLE)
    try:
        config = load(config_path or home.config)
        # The forks for service and agents point the same number to logs of their own.
        logs.setup(config.log.level, fd=_LOG_FD)
        return asyncio.run(_serve(home, config, config_path, fd, lifeline))
    except WeftError as error:
        _tell(fd, _Outcome(os.getpid(), error.code, str(error)))
        raise


def _given(variable: str) -> int | None:
    """A descriptor that the starter left for this process alone, by the name of the variable that tells its number."""
    text = os.environ.pop(variable, None)
    if text is None:
        return None
    os.set_inheritable(int(text), False)
    return int(text)


async def _serve(
    home: Home, config: Config, config_path: Path | None, ready_fd: int | None, lifeline: int | None
) -> int:
    from weftos.kernel.kernel import Kernel

    gc.enable()  # ``weftos.kernel.__main__`` imports without it
    kernel = Kernel(home, config, _LOG_FD)
    kernel.core.config_path = str(config_path.absolute()) if config_path is not None else None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, kernel.request_shutdown, f"signal {number.name}")
    loop.add_signal_handler(signal.SIGHUP, kernel.reload)
    await kernel.boot()
    _tell(ready_fd, _Outcome(os.getpid()))
    if lifeline is not None:

        def cut() -> None:
            # Nobody writes into it: it is readable when it has ended.
            loop.remove_reader(lifeline)
            kernel.request_shutdown("the program that it was started for has ended")

        loop.add_reader(lifeline, cut)
    await kernel.halted.wait()
    return 0


def _tell(fd: int | None, outcome: _Outcome) -> None:
    if fd is None:
        return
    try:
        os.write(fd, msgspec.json.encode(outcome) + b"\n")
        os.close(fd)
    except OSError as error:
        # Whoever started us has gone; the log keeps what we had to say.
        log.warning("the starter could not be told: %s", error)

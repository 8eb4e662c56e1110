"""What every job needs: a kernel, a coordinator that is asked until it is done, and an end whatever happens.

A job is one agent, the coordinator, that starts the others and answers ``status`` (``workers/coordinating.py``). It is
done on the kernel that runs, or on one that is started for it and ended again.

Whatever ends this process in an orderly way (Ctrl-C, SIGTERM, SIGHUP, an error) ends the job's agents too. SIGKILL
cannot be answered: then the agents finish the job, and a kernel that was started for it goes on running.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from weftos import limits
from weftos.cli.session import instance
from weftos.errors import AgentExited, InvalidRequest, KernelNotRunning, ServiceError, WeftTimeout, error_for_code

if TYPE_CHECKING:
    from weftos.rpc.client import RpcClient

__all__ = ["AgentJob", "JobResult", "Progress", "kernel_for_job", "readable_folder"]

#: How often the coordinator is asked how far it is, in seconds.
_POLL_S: Final = 0.1
#: How long it may take to answer one question, in seconds: the machine may be busy with the job.
_ANSWER_S: Final = 60.0
#: How long the agents may take to start, in seconds.
_START_S: Final = 120.0
#: How long an agent that was asked for may take to appear in the kernel's table, in seconds: the gate's deadline, and
#: some. Only waited for when the answer to the spawn was not.
_ADMISSION_S: Final = limits.CONTROL_TIMEOUT_S + limits.RPC_MARGIN_S
#: How long a kernel that was started for the job may take to end, in seconds.
_END_S: Final = 15.0

#: Gives, for as long as the job takes, a function that is told the coordinator's progress.
Progress: TypeAlias = "AbstractContextManager[Callable[[dict[str, Any]], None]]"


class JobResult(msgspec.Struct, frozen=True):
    """What a job came to.

    Attributes:
        summary: as the coordinator tells it.
        elapsed_s: from the start of the coordinator to its last answer, in seconds.
        agents: who did it: pid, name, role, CPU time, restarts.
    """

    summary: dict[str, Any]
    elapsed_s: float
    agents: list[dict[str, Any]]


@contextmanager
def kernel_for_job() -> Iterator[RpcClient]:
    """Give a client of the kernel that runs, or of one that lives as long as the body; signals end the body."""
    from weftos.cli.kernel_life import stop_kernel
    from weftos.kernel.daemon import start_daemon
    from weftos.rpc.client import RpcClient

    home = instance()
    with _ended_by_signals():
        with RpcClient(home.socket, home=home.root) as client:
            try:
                client.call("ping")
            except KernelNotRunning:
                pass
            else:
                yield client
                return
        try:
            start_daemon(home)
            with RpcClient(home.socket, home=home.root) as client:
                yield client
        finally:
            # One that is gone already is what the error on its way says.
            with suppress(KernelNotRunning):
                stop_kernel(_END_S, force=True)


def readable_folder(path: Path) -> Path:
    """Return a folder that a job is to read, absolute and without links.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        root = path.resolve(strict=True)
        os.listdir(root)
    except (OSError, RuntimeError) as error:
        # RuntimeError: links that lead in a circle, as Python 3.11 says it.
        reason = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
        raise InvalidRequest(f"{path} cannot be read as a folder: {reason}") from error
    return root


class AgentJob:
    """One run of a coordinator.

    Args:
        params: of ``agent.spawn`` for the coordinator; its name must be one that no other agent ever has.
        failed: what did not happen if the job fails, as the beginning of a sentence.
    """

    def __init__(self, params: dict[str, Any], failed: str) -> None:
        self._params = {"restart": "never", **params}
        self._failed = failed

    def run(self, client: RpcClient, progress: Progress) -> JobResult:
        """Do the job, and end its agents whatever comes of it.

        Raises:
            ServiceError: it was not completed, and why.
            WeftError: it was refused, as the coordinator says it.
        """
        started = time.monotonic()
        pid: int | None = None
        try:
            pid = client.call("agent.spawn", self._params, timeout=_START_S).pid
            status = self._await(client, pid, progress)
            elapsed = time.monotonic() - started
            return JobResult(status["summary"], elapsed, _agents(client, pid, status))
        except KernelNotRunning as error:
            raise self._not_completed("the kernel ended in the middle; its log says why") from error
        except AgentExited as error:
            raise self._not_completed(f"the coordinator ended: {error}") from error
        except (KeyboardInterrupt, SystemExit, WeftTimeout):
            if pid is None:
                # The kernel goes on with a spawn whose answer nobody waits for.
                pid = _find(self._params["name"])
            raise
        finally:
            if pid is not None:
                _end(pid)

    def _await(self, client: RpcClient, pid: int, progress: Progress) -> dict[str, Any]:
        """Ask the coordinator until it is done, and return its last answer."""
        question = {"pid": pid, "message": "status", "timeout_secs": _ANSWER_S}
        with progress as update:
            while True:
                reply = client.call("agent.send", question, timeout=_ANSWER_S + limits.RPC_MARGIN_S).reply
                status: dict[str, Any] = reply
                update(status["progress"])
                if status["state"] == "failed":
                    if status.get("code"):
                        raise error_for_code(status["code"], status["error"])
                    raise self._not_completed(status["error"])
                if status["state"] == "done":
                    return status
                time.sleep(_POLL_S)

    def _not_completed(self, why: str) -> ServiceError:
        return ServiceError(f"{self._failed}: {why}")


def _end(pid: int) -> None:
    """End the coordinator, and with it the agents that it started."""
    from weftos.rpc.client import RpcClient

    home = instance()
    # On a connection of its own: Ctrl-C may have come between a question and its answer, and the old one would
    # answer that. Where there is no kernel there are no agents.
    with suppress(KernelNotRunning, AgentExited), RpcClient(home.socket, home=home.root) as closing:
        closing.call("kernel.kill-process", {"pid": pid})


def _find(name: str) -> int | None:
    """Pid of an agent that was asked for: wait until it is in the table, into which it comes past the gate.

    Returns:
        ``None`` when it does not come, because the kernel had not been asked yet, or refused.
    """
    from weftos.rpc.client import RpcClient

    home = instance()
    deadline = time.monotonic() + _ADMISSION_S
    with suppress(KernelNotRunning), RpcClient(home.socket, home=home.root) as asking:
        while time.monotonic() < deadline:
            for row in asking.call("agent.list", {"all": True}):
                if row.name == name:
                    return int(row.pid)
            time.sleep(_POLL_S)
    return None


def _agents(client: RpcClient, coordinator: int, status: dict[str, Any]) -> list[dict[str, Any]]:
    """CPU time and restarts of the agents that did it."""
    roles = {coordinator: "coordinator"} | {int(pid): role for pid, role in status["agents"].items()}
    return [
        {
            "pid": row.pid,
            "name": row.name,
            "role": roles[row.pid],
            "cpu_seconds": row.cpu_seconds,
            "restarts": row.restarts,
        }
        for row in client.call("agent.list", {"all": True})
        if row.pid in roles
    ]


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as an error does, so that it cleans up; Ctrl-C does so by itself."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

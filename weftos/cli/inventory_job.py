"""One run of the inventory job: on the kernel that runs, or on one that is started for it and ended again.

Whatever ends this process in an orderly way (Ctrl-C, SIGTERM, SIGHUP, an error) ends the job's agents too. SIGKILL
cannot be answered: then the agents finish the job, and a kernel that was started for it goes on running.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from weftos import limits
from weftos.cli.session import instance
from weftos.errors import AgentExited, KernelNotRunning, ServiceError, WeftTimeout

if TYPE_CHECKING:
    from weftos_workers.inventory_record import Recorded  # type: ignore[import-not-found]

    from weftos.rpc.client import RpcClient

__all__ = ["InventoryJob"]

#: How often the coordinator is asked how far it is, in seconds.
_POLL_S: Final = 0.1
#: How long it may take to answer one question, in seconds: the machine may be busy with hashing.
_ANSWER_S: Final = 60.0
#: How long the agents may take to start, in seconds.
_START_S: Final = 120.0
#: How long an agent that was asked for may take to appear in the kernel's table, in seconds: the gate's deadline, and
#: some. Only waited for when the answer to the spawn was not.
_ADMISSION_S: Final = limits.CONTROL_TIMEOUT_S + limits.RPC_MARGIN_S
#: How long a kernel that was started for the job may take to end, in seconds.
_END_S: Final = 15.0
_COUNTS: Final = (
    "files",
    "bytes",
    "links",
    "hard_links",
    "skipped",
    "duplicates",
    "duplicate_bytes",
    "problems",
)


class InventoryJob:
    """One run.

    Args:
        root: the folder, absolute and without links.
        hashers: how many agents hash.
        exclude: patterns of what is left out; ``None`` for those of the record that is compared with.
    """

    def __init__(self, root: Path, *, hashers: int, exclude: list[str] | None, profile: str = "standard") -> None:
        self.root = root
        self.name = secrets.token_hex(6)
        self.home = instance()
        self._hashers = hashers
        self._exclude = exclude
        self._profile = profile
        self._against: Recorded | None = None

    def compare_with_record(self) -> bool:
        """Make this run a check: verify the chain and find the last inventory of this folder.

        Returns:
            Whether there is one.

        Raises:
            ChainCorrupted: the log is not intact.
        """
        from weftos_workers.inventory_record import last_recorded

        from weftos import chain
        from weftos.errors import ChainCorrupted

        if not any(self.home.chain.glob("*.log")):
            return False
        report = chain.verify(str(self.home.chain))
        if not report.valid:
            first = report.errors[0]
            raise ChainCorrupted(f"the log is not intact, so there is nothing to compare with: {first.detail}")
        self._against = last_recorded(str(self.home.chain), os.fsencode(self.root))
        if self._against is not None and self._exclude is None:
            self._exclude = self._against.exclude
        return self._against is not None

    def run(self, *, show_progress: bool) -> dict[str, Any]:
        """Do the job and return its summary, as ``--json`` shows it.

        Raises:
            ServiceError: the inventory was not completed, and why; nothing complete is recorded.
        """
        from weftos.rpc.client import RpcClient

        with _ended_by_signals(), RpcClient(self.home.socket, home=self.home.root) as client:
            try:
                client.call("ping")
            except KernelNotRunning:
                return self._embedded(show_progress=show_progress)
            return self._on(client, show_progress=show_progress)

    def _embedded(self, *, show_progress: bool) -> dict[str, Any]:
        from contextlib import suppress

        from weftos.cli.kernel_life import stop_kernel
        from weftos.kernel.daemon import start_daemon
        from weftos.rpc.client import RpcClient

        try:
            start_daemon(self.home)
            with RpcClient(self.home.socket, home=self.home.root) as client:
                return self._on(client, show_progress=show_progress)
        finally:
            # One that is gone already is what the error on its way says.
            with suppress(KernelNotRunning):
                stop_kernel(_END_S, force=True)

    def _on(self, client: RpcClient, *, show_progress: bool) -> dict[str, Any]:
        import msgspec

        started = time.monotonic()
        exclude = self._exclude or []
        args = [
            os.fsencode(self.root).hex(),
            self.name,
            msgspec.json.encode(self._against).decode(),
            str(self._hashers),
            msgspec.json.encode(exclude).decode(),
        ]
        coordinator = f"inventory-{self.name}"
        params = {
            "program": "inventory",
            "name": coordinator,
            "args": args,
            "restart": "never",
            # A child may hold no more than its parent, and the recorder needs this.
            "limits": {"memory_bytes": limits.INVENTORY_MEMORY_BYTES},
            "sandbox": self._sandbox(),
        }
        pid: int | None = None
        try:
            pid = client.call("agent.spawn", params, timeout=_START_S).pid
            status = self._await(client, pid, show_progress=show_progress)
            elapsed = time.monotonic() - started
            agents = self._agents(client, pid, status)
        except KernelNotRunning as error:
            raise _not_completed("the kernel ended in the middle; its log says why") from error
        except AgentExited as error:
            raise _not_completed(f"the coordinator ended: {error}") from error
        except (KeyboardInterrupt, SystemExit, WeftTimeout):
            if pid is None:
                # The kernel goes on with a spawn whose answer nobody waits for.
                pid = self._find(coordinator)
            raise
        finally:
            if pid is not None:
                self._end(pid)
        return self._summary(status["summary"], elapsed, agents)

    def _sandbox(self) -> dict[str, Any]:
        """The agents may read the folder, and nothing else of the user's; with a name that is no text they are trusted.

        One of them reads the log as well, to compare.
        """
        root = os.path.realpath(self.root)
        try:
            os.fsencode(root).decode()
        except UnicodeDecodeError:
            return {"profile": "trusted"}
        paths = [root, os.path.realpath(self.home.chain)]
        return {"profile": self._profile, "readable": paths if self._profile != "trusted" else []}

    def _end(self, pid: int) -> None:
        """End the coordinator, and with it the agents that it started."""
        from contextlib import suppress

        from weftos.rpc.client import RpcClient

        # On a connection of its own: Ctrl-C may have come between a question and its answer, and the old one would
        # answer that. Where there is no kernel there are no agents.
        with suppress(KernelNotRunning, AgentExited), RpcClient(self.home.socket, home=self.home.root) as closing:
            closing.call("kernel.kill-process", {"pid": pid})

    def _find(self, name: str) -> int | None:
        """Pid of an agent that was asked for: wait until it is in the table, into which it comes past the gate.

        Returns:
            ``None`` when it does not come, because the kernel had not been asked yet, or refused.
        """
        from contextlib import suppress

        from weftos.rpc.client import RpcClient

        deadline = time.monotonic() + _ADMISSION_S
        with suppress(KernelNotRunning), RpcClient(self.home.socket, home=self.home.root) as asking:
            while time.monotonic() < deadline:
                for row in asking.call("agent.list", {"all": True}):
                    if row.name == name:
                        return int(row.pid)
                time.sleep(_POLL_S)
        return None

    def _await(self, client: RpcClient, pid: int, *, show_progress: bool) -> dict[str, Any]:
        """Ask the coordinator until it is done, and return its last answer.

        Raises:
            ServiceError: the job failed, and why.
        """
        from weftos.cli.inventory_progress import progress

        question = {"pid": pid, "message": "status", "timeout_secs": _ANSWER_S}
        with progress(show_progress) as update:
            while True:
                reply = client.call("agent.send", question, timeout=_ANSWER_S + limits.RPC_MARGIN_S).reply
                status: dict[str, Any] = reply
                update(status["progress"])
                if status["state"] == "failed":
                    raise _not_completed(status["error"])
                if status["state"] == "done":
                    return status
                time.sleep(_POLL_S)

    def _agents(self, client: RpcClient, coordinator: int, status: dict[str, Any]) -> list[dict[str, Any]]:
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

    def _summary(self, found: dict[str, Any], elapsed: float, agents: list[dict[str, Any]]) -> dict[str, Any]:
        from weftos_workers.inventory_names import shown  # type: ignore[import-not-found]

        summary: dict[str, Any] = {
            "root": shown(os.fsencode(self.root)),
            "check": self._against is not None,
            **{name: found[name] for name in _COUNTS},
            "errors": found["errors"],
            "exclude": self._exclude or [],
            "elapsed_secs": round(elapsed, 3),
            "bytes_per_sec": round(found["bytes"] / elapsed, 1),
            "hashers": self._hashers,
            "agents": agents,
            "record": {
                "run": self.name,
                "first_seq": found["first_seq"],
                "last_seq": found["last_seq"],
                "root_digest": found["root_digest"],
            },
        }
        names = ("changed", "added", "removed", "unreadable", "counts", "against")
        return summary | {name: found[name] for name in names if name in found}


def _not_completed(why: str) -> ServiceError:
    return ServiceError(f"the inventory was not completed, and nothing complete is recorded: {why}")


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

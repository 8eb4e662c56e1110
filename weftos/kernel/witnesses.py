"""The kernel's side of the witnesses: start them before the log is opened, start them again, end them last.

A witness that does not come up is reported and left out: the log goes on, and its checkpoints lack a signature.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from weftos import limits
from weftos.config import ChainSection
from weftos.home import Home
from weftos.kernel.fork import ChildHandle, fork_child
from weftos.kernel.restart import RestartTracker
from weftos.witness.server import WitnessBoot, run_witness

__all__ = ["WitnessHost"]

#: Puts an event on the log: its kind and payload.
Record: TypeAlias = Callable[[str, dict[str, Any]], None]

log = logging.getLogger(__name__)


class _Witness:
    """One of them."""

    def __init__(self, number: int, folder: Path, socket_path: Path, uid: int | None) -> None:
        self.name = f"weftos/witness-{number}"
        self.folder = folder
        self.socket_path = socket_path
        self.uid = uid
        self.child: ChildHandle | None = None
        self.started_at = 0.0
        self.on_log = False
        self.tracker = RestartTracker(backoff_max_s=limits.SERVICE_RESTART_BACKOFF_MAX_S)


class WitnessHost:
    """All of them.

    Args:
        home: of the instance.
        config: how many, where, and as whom.
        log_fd: where they log.
    """

    def __init__(self, home: Home, config: ChainSection, log_fd: int) -> None:
        base = Path(config.witness_dir).absolute() if config.witness_dir else home.witnesses
        self._base = base
        self._log_fd = log_fd
        self._ending = False
        self._record: Record | None = None
        uids = [*config.witness_uids, *[None] * config.witnesses]
        self._all = [
            _Witness(number, base / str(number), home.socket.parent / f"witness-{number}.sock", uids[number - 1])
            for number in range(1, config.witnesses + 1)
        ]

    @property
    def sockets(self) -> tuple[str, ...]:
        """Where they listen."""
        return tuple(str(one.socket_path) for one in self._all)

    @property
    def running(self) -> list[str]:
        """Names of those whose process the log knows of."""
        return sorted(one.name for one in self._all if one.on_log)

    def attach_log(self, record: Record) -> None:
        """From now on put their lives on the log; those that run already go there at once."""
        self._record = record
        for one in self._all:
            self._began(one)

    def _began(self, one: _Witness) -> None:
        if self._record is not None and one.child is not None:
            one.on_log = True
            self._record("witness.start", {"name": one.name, "os_pid": one.child.os_pid})

    async def start(self) -> list[str]:
        """Start all, and wait a while until they listen.

        Returns:
            Names of those that did not come up.
        """
        if self._all:
            self._base.mkdir(mode=0o755, parents=True, exist_ok=True)
        waiting = {self._fork(one): one for one in self._all}
        deadline = time.monotonic() + limits.WITNESS_START_S
        late = []
        for fd, one in waiting.items():
            loop = asyncio.get_running_loop()
            patience = max(0.0, deadline - time.monotonic())
            if not await loop.create_task(_readable(fd, patience)):
                late.append(one.name)
            os.close(fd)
        return late

    def _fork(self, one: _Witness) -> int:
        """Fork one; returns a descriptor that becomes readable when it listens or has ended."""
        ready, told = os.pipe()
        one.folder.mkdir(mode=0o755, exist_ok=True)
        boot = WitnessBoot(
            name=one.name,
            folder=str(one.folder / "memory"),
            keys_folder=str(one.folder / "keys"),
            socket_path=str(one.socket_path),
            uid=one.uid,
            gid=one.uid,
            ready_fd=told,
        )
        one.started_at = time.monotonic()
        try:
            one.child = fork_child(
                lambda: run_witness(boot), keep=[told], log_fd=self._log_fd, death_signal=signal.SIGTERM
            )
        finally:
            os.close(told)
        log.info("%s forked: OS process %d", one.name, one.child.os_pid)
        return ready

    def owns(self, os_pid: int) -> bool:
        """Whether this is the process of a witness."""
        return any(one.child is not None and one.child.os_pid == os_pid for one in self._all)

    def ended(self, os_pid: int, how: str) -> bool:
        """A process was reaped; returns whether it was a witness."""
        for one in self._all:
            if one.child is None or one.child.os_pid != os_pid:
                continue
            one.child.close()
            one.child = None
            if one.on_log and self._record is not None and not self._ending:
                one.on_log = False
                self._record("witness.exit", {"name": one.name, "how": how})
            if not self._ending:
                delay = one.tracker.next_delay(time.monotonic(), time.monotonic() - one.started_at)
                if delay is None:
                    log.error("%s ended with %s again and again; it is not started any more", one.name, how)
                else:
                    log.warning("%s ended with %s; it is started again in %g s", one.name, how, delay)
                    asyncio.get_running_loop().call_later(delay, self._again, one)
            return True
        return False

    def _again(self, one: _Witness) -> None:
        if not self._ending and one.child is None:
            os.close(self._fork(one))
            self._began(one)

    async def stop(self) -> None:
        """End all; those that do not go are killed."""
        self._ending = True
        for one in self._all:
            if one.child is not None:
                one.child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + limits.STOP_TIMEOUT_S
        while any(one.child is not None for one in self._all):
            if time.monotonic() >= deadline:
                for one in self._all:
                    if one.child is not None:
                        log.error("%s does not end and is killed", one.name)
                        one.child.signal_group(signal.SIGKILL)
                deadline = float("inf")
            await asyncio.sleep(limits.POLL_LONGEST_S)


async def _readable(fd: int, patience_s: float) -> bool:
    """Wait until a pipe has something to read; False when it has ended or time is up."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await asyncio.wait_for(event.wait(), patience_s)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return bool(select.select([fd], [], [], 0)[0]) and bool(os.read(fd, 1))

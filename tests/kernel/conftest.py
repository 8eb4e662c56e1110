"""A real kernel in the background for each test, or for the tests of a module, driven through its control socket."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import await_end

from weftos import chain
from weftos.errors import RecordPruned
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.kernel.folding import Fold, boot_records, differences
from weftos.kernel.leftovers import INSTANCE_VARIABLE
from weftos.rpc.client import RpcClient

PROGRAMS = Path(__file__).parent / "programs"
LIMITED = Path(__file__).with_name("limited_kernel.py")


class Driver:
    """One kernel and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.os_pid = 0
        #: The first record that ``events`` tells of.
        self.since = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        self.os_pid = start_daemon(self.home)
        return self.os_pid

    def start_with(self, **limits: float) -> int:
        """Start a kernel with other limits of time, so that a test need not wait as long as an operator would."""
        self.home.ensure()
        reader, writer = os.pipe()
        environ = {"WEFTOS_HOME": str(self.home.root), INSTANCE_VARIABLE: str(self.home.root)}
        with open(self.home.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(LIMITED), *(f"{name}={value}" for name, value in limits.items())],
                env=os.environ | environ | {"WEFTOS_READY_FD": str(writer)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[writer],
                cwd="/",
            )
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert json.loads(told.readline())["code"] == "", self.log()
        self.os_pid = self._process.pid
        return self.os_pid

    def call(self, method: str, timeout: float = 20.0, **params: Any) -> Any:
        with RpcClient(self.home.socket, timeout=timeout) as client:
            return client.call(method, params)

    def spawn(self, program: str, **params: Any) -> Any:
        path = PROGRAMS / f"{program}.py"
        params.setdefault("restart", "never")
        return self.call("agent.spawn", program=str(path) if path.exists() else program, **params)

    def until(self, look: Callable[[], Any], timeout_s: float = 15.0) -> Any:
        """Ask again until the answer is true; from outside of the kernel there is no event to wait on."""
        deadline = time.monotonic() + timeout_s
        while not (found := look()):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {found!r}\n{self.log()}"
            select.select([], [], [], 0.02)
        return found

    def events(self) -> list[Any]:
        return list(chain.read(str(self.home.chain), start=self.since))

    def kinds(self) -> list[str]:
        return [record.kind for record in self.events()]

    def log(self) -> str:
        return self.home.log.read_text() if self.home.log.exists() else ""

    await_end = staticmethod(await_end)

    def stop(self) -> None:
        if self.os_pid and not await_end(self.os_pid, 0):
            self.call("kernel.shutdown")
            assert await_end(self.os_pid), f"the kernel did not halt\n{self.log()}"

    def check_log(self) -> None:
        """Everything the kernel wanted to write on the chain is there, unless the chain itself had failed."""
        lost = [line for line in self.log().splitlines() if "is not on the chain" in line and "form" in line]
        assert not lost, "\n".join(lost)

    def audit(self) -> None:
        """The kernel holds what its log adds up to, and nothing else."""
        held = self.call("kernel.state")
        boot_id = bytes.fromhex(held.boot_id)
        try:
            folded = Fold(boot_id).take_all(boot_records(str(self.home.chain), boot_id, held.seq + 1))
        except RecordPruned:
            return  # a test of pruning; it can be told no more
        found = differences(held, folded)
        assert not found, "\n".join(found)

    def begin(self) -> None:
        """Let a test begin with a kernel that others have used: no agent lives, and of the log it sees its own part."""
        if not self.os_pid or await_end(self.os_pid, 0):
            self.start()
        # It is answered behind all that the kernel has had written down, and the service has taken from ended agents.
        self.since = self.call("kernel.state").seq + 1

    def settle(self) -> None:
        """End what a test has left running, after a look at whether kernel and log agree."""
        self.audit()
        for agent in self.call("agent.list"):
            # By force: a program that does not listen would keep the next test waiting for its deadline.
            self.call("agent.stop", pid=agent.pid, graceful=False)
        self.until(lambda: not self.call("agent.list"))

    def end(self) -> None:
        """Stop the kernel, by force if need be, and look at its log."""
        if self.os_pid and not await_end(self.os_pid, 0):
            try:
                self.audit()
                self.stop()
            finally:
                if not await_end(self.os_pid, 0):
                    self.kill()
        if self._process is not None:
            self._process.wait(15)
        self.check_log()

    def kill(self) -> None:
        os.kill(self.os_pid, signal.SIGKILL)
        assert await_end(self.os_pid)


@pytest.fixture
def cold(weftos_home: Path) -> Iterator[Driver]:
    """An instance whose kernel has not been started."""
    driver = Driver(weftos_home)
    try:
        yield driver
    finally:
        driver.end()


@pytest.fixture
def fresh(cold: Driver) -> Driver:
    """A running kernel that nobody has used."""
    cold.start()
    return cold


@pytest.fixture
def kernel(fresh: Driver) -> Driver:
    """A running kernel; a module whose tests can share one puts ``shared`` in its place."""
    return fresh


@pytest.fixture(scope="module")
def _of_module(module_home: Path) -> Iterator[Driver]:
    driver = Driver(module_home)
    try:
        yield driver
    finally:
        driver.end()


@pytest.fixture
def shared(_of_module: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A running kernel that the tests of a module share, one after the other.

    For tests that are about agents and leave nothing but records: a start and a stop cost more than most of them. Pids
    go on from test to test. Who changes settings or rules, or damages something, takes ``fresh`` or ``cold``.
    """
    driver = _of_module
    monkeypatch.setenv("WEFTOS_HOME", str(driver.home.root))
    driver.begin()
    try:
        yield driver
    finally:
        if not await_end(driver.os_pid, 0):
            try:
                driver.settle()
            except BaseException:
                # The next test gets a kernel that knows nothing of this one.
                driver.kill()
                raise

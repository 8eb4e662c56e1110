"""Shared fixtures, and the check that fails a run which leaves anything behind.

Every process that a run starts carries the run's mark in its environment. At the end no process with the mark may live,
no semaphore under one of the run's tags may exist, and no worker may hold shared memory. Other runs on the same machine
do not disturb it.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weftos.ids import instance_tag

MARK = "WEFTOS_TEST_RUN"
TAGS = "WEFTOS_TEST_TAGS"
_START = pytest.StashKey[dict[str, Any]]()
_LEAKS = pytest.StashKey[list[str]]()
#: How long processes that were told to end may take to do so, in seconds.
GRACE_S = 5.0


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def weftos_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new instance folder with a short path (a socket's path has 107 bytes at most), named by WEFTOS_HOME."""
    folder = Path(tempfile.mkdtemp(prefix="wh-"))
    own_semaphores(instance_tag(str(folder)))
    monkeypatch.setenv("WEFTOS_HOME", str(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- the leak check ---------------------------------------------------------------------------------------------------


def own_semaphores(tag: str) -> None:
    """Declare that this run makes semaphores named after ``tag``, so that the end of the run looks for them."""
    (Path(os.environ[TAGS]) / tag).touch()


def semaphores(tags: set[str]) -> set[str]:
    """Names of semaphores that were made under one of the tags."""
    folder = Path("/dev/shm")
    names = {entry.name for entry in folder.glob("sem.weftos-*")} if folder.is_dir() else set()
    return {name for name in names if name.split("-")[1] in tags}


def marked_processes(mark: str) -> dict[int, str]:
    """Live processes whose environment carries the mark, with their command lines; not this one and not zombies."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
    return found


def shared_memory_descriptors() -> list[str]:
    """Descriptors of this process that are shared memory of ours."""
    gc.collect()
    found = []
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if "memfd:weftos" in target or "/dev/shm/sem.weftos" in target:
            found.append(target)
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEAKS] = []
    if hasattr(config, "workerinput"):
        return
    os.environ[MARK] = secrets.token_hex(8)
    os.environ[TAGS] = tempfile.mkdtemp(prefix="weftos-tags-")
    config.stash[_START] = {"tags": os.environ[TAGS], "mark": os.environ[MARK]}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    leaks = config.stash[_LEAKS]
    leaks += [f"descriptor left open: {target}" for target in shared_memory_descriptors()]
    if hasattr(config, "workeroutput"):
        config.workeroutput["leaks"] = leaks
        return
    start = config.stash[_START]
    leaks += [f"process left: {pid} {command}" for pid, command in _remaining(start["mark"]).items()]
    leaks += [f"semaphore left: {name}" for name in sorted(semaphores(set(os.listdir(start["tags"]))))]
    shutil.rmtree(start["tags"])
    if leaks and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _remaining(mark: str) -> dict[int, str]:
    """Marked processes that do not end within the grace."""
    deadline = time.monotonic() + GRACE_S
    while (found := marked_processes(mark)) and time.monotonic() < deadline:
        for pid in found:
            _await_end(pid, deadline - time.monotonic())
    return found


def _await_end(pid: int, timeout_s: float) -> None:
    import select

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([handle], [], [], max(0.0, timeout_s))
    finally:
        os.close(handle)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    leaks = config.stash[_LEAKS]
    if leaks:
        terminalreporter.section("left behind", red=True, bold=True)
        for leak in leaks:
            terminalreporter.line(leak)


def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker of pytest-xdist has ended: take over what it found."""
    if not error:
        node.config.stash[_LEAKS].extend(node.workeroutput.get("leaks", ()))


def pytest_configure_node(node: Any) -> None:
    """A worker is about to start; it inherits the mark through the environment."""
    assert os.environ[MARK]

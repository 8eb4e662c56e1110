"""A pytest plugin that fails a run which leaves anything behind: processes, semaphores, descriptors.

Every process that a run starts inherits the run's mark in its environment, and every instance folder that a test gets
is on the run's list. So what is found at the end belongs to this run, and several runs on one machine do not accuse
each other. Each worker of pytest-xdist looks after its own descriptors and children, the controller looks for marked
processes and for semaphores; all of it is printed under "left behind", with the test after which it first appeared.

What it cannot see: a process forked (not executed) by a test in a run without workers that has also left its parent,
and named objects whose name tells nothing about the run.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from weftos.ids import instance_tag

MARK = "WEFTOS_TEST_RUN"
TAGS = "WEFTOS_TEST_TAGS"
#: How long processes that were told to end may take to do so, in seconds.
GRACE_S = float(os.environ.get("WEFTOS_TEST_GRACE", "5"))
#: What libraries open once, at first use, and keep for the life of the process.
_KEPT = ("/dev/null", "/dev/urandom", "/dev/random", "/usr/", "/etc/", "/proc/")

_OBSERVER = pytest.StashKey["_Observer"]()


# --- looking ----------------------------------------------------------------------------------------------------------


def own_semaphores(tag: str) -> None:
    """Declare that this run makes semaphores named after ``tag``, so that the end of the run looks for them."""
    (Path(os.environ[TAGS]) / tag).touch()


def own_home(folder: Path) -> None:
    """Declare that this run uses an instance folder."""
    own_semaphores(instance_tag(str(folder)))


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
        except OSError:  # it has ended, or is another user's
            continue
    return found


def children() -> dict[int, str]:
    """Live descendants of this process with their command lines, without those that wait to be reaped."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found[child.pid] = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
    return found


def descriptors() -> set[tuple[int, str]]:
    """Open descriptors of this process and what they lead to, without those that libraries keep on purpose."""
    found = set()
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        return found
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
        if not target.startswith(_KEPT) and not target.endswith((".so", ".pyc")):
            found.add((int(name), target))
    return found


def await_end(pids: Iterable[int], timeout_s: float) -> None:
    """Wait until all of the processes have ended, or the time is over."""
    alive = []
    for pid in pids:
        try:
            alive.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout_s)


class _Observer:
    """What one pytest process had at its start, and which test was the first to add something."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self.before = descriptors()
        self.before_children = children()
        self.seen: dict[tuple[int, str], str] = {}
        self.seen_children: dict[int, str] = {}

    def after_test(self, nodeid: str) -> None:
        """Remember what is new, so that the report can name a test. Cheap: one listing, no collection of garbage."""
        for entry in descriptors() - self.before:
            self.seen.setdefault(entry, nodeid)
        for pid in _direct_children():
            self.seen_children.setdefault(pid, nodeid)

    def finish(self) -> None:
        """Say what is left of it."""
        gc.collect()
        left = children()
        await_end([pid for pid in left if pid not in self.before_children], GRACE_S)
        for pid, command in children().items():
            if pid not in self.before_children:
                self._say(f"child process {pid} {command}", self.seen_children.get(pid))
        for entry in sorted(descriptors() - self.before):
            self._say(f"descriptor {entry[0]} of {entry[1]}", self.seen.get(entry))

    def _say(self, what: str, nodeid: str | None) -> None:
        self.leaks.append(f"{what} (since {nodeid})" if nodeid else what)


def _direct_children() -> list[int]:
    """Children of this thread by number alone; walking all processes after every test would cost too much."""
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except OSError:  # a kernel without this file: the report names no test then
        return []


# --- hooks ------------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Mark the run; workers inherit the mark through the environment."""
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = secrets.token_hex(8)
        os.environ[TAGS] = tempfile.mkdtemp(prefix="weftos-tags-")
    own_semaphores(f"test{os.getpid()}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Everything that pytest and its plugins open for themselves is open now."""
    session.config.stash[_OBSERVER] = _Observer()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Look after each test, when its fixtures have been torn down."""
    result = yield
    item.config.stash[_OBSERVER].after_test(item.nodeid)
    return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look once more, and let the run fail if something is there."""
    config = session.config
    observer = config.stash.get(_OBSERVER, None)
    if observer is None:  # the run ended before it began
        return
    distributed = bool(getattr(config.option, "tx", None)) and not hasattr(config, "workeroutput")
    if not distributed:
        observer.finish()
    if hasattr(config, "workeroutput"):
        config.workeroutput["leaks"] = observer.leaks
        return
    mark, tags = os.environ[MARK], Path(os.environ[TAGS])
    await_end(marked_processes(mark), GRACE_S)
    known = {int(leak.split()[2]) for leak in observer.leaks if leak.startswith("child process ")}
    for pid, command in marked_processes(mark).items():
        if pid not in known:
            observer.leaks.append(f"process {pid} {command}")
    observer.leaks += [f"semaphore {name}" for name in sorted(semaphores(set(os.listdir(tags))))]
    shutil.rmtree(tags)
    if observer.leaks and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Report it where a failed run is read."""
    observer = config.stash.get(_OBSERVER, None)
    if observer is not None and observer.leaks:
        terminalreporter.section("left behind", red=True, bold=True)
        for leak in observer.leaks:
            terminalreporter.line(leak)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended: take over what it found. One that crashed fails the run by itself."""
    if not error:
        node.config.stash[_OBSERVER].leaks.extend(getattr(node, "workeroutput", {}).get("leaks", ()))

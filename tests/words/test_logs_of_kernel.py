"""Log levels in a real kernel and its agents, through ``weaver``."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from weftos.home import Home, InstanceLock

PROGRAM = """
import logging
import os
import re

def main(ctx):
    logging.getLogger("mine").debug("debug of %d", os.getpid())
    logging.getLogger("mine").info("info of %d", os.getpid())
    for message in ctx:
        ctx.reply(message, os.getpid())
"""

Weaver = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def weaver(weftos_home: Path) -> Iterator[Weaver]:
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "weftos.cli.main", *arguments],
            env={name: value for name, value in os.environ.items() if name != "WEFTOS_LOG"} | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    yield run
    pid = InstanceLock(Home(weftos_home).lock).holder()
    if pid:
        handle = os.pidfd_open(pid)
        assert run("kernel", "stop").returncode == 0
        assert select.select([handle], [], [], 20)[0]
        os.close(handle)


def agent_log(weaver: Weaver, weftos_home: Path, **environ: str) -> str:
    program = weftos_home / "program.py"
    program.write_text(PROGRAM)
    assert weaver("kernel", "start", **environ).returncode == 0
    assert weaver("agent", "spawn", str(program)).returncode == 0
    # Its answer comes after what it has logged.
    assert weaver("agent", "send", "1", "x").returncode == 0
    return Home(weftos_home).agent_log(1).read_text()


def test_an_agent_logs_to_its_own_log_at_the_kernels_levels(weaver: Weaver, weftos_home: Path) -> None:
    text = agent_log(weaver, weftos_home, WEFTOS_LOG="mine=debug,info")
    assert " DEBUG mine[" in text
    assert " INFO  mine[" in text
    assert "mine[" not in Home(weftos_home).log.read_text()


def test_the_configuration_sets_levels(weaver: Weaver, weftos_home: Path) -> None:
    (weftos_home / "weftos.toml").write_text('[log]\nlevel = "warn"\n')
    assert "mine[" not in agent_log(weaver, weftos_home)


def test_a_malformed_variable_is_told_before_anything_starts(weaver: Weaver, weftos_home: Path) -> None:
    done = weaver("kernel", "start", WEFTOS_LOG="weftos.ipc=loud")
    assert done.returncode == 2
    assert "WEFTOS_LOG: 'loud'" in done.stderr
    assert InstanceLock(Home(weftos_home).lock).holder() is None


def kernel_log(weaver: Weaver, weftos_home: Path, **environ: str) -> str:
    """Log of a kernel that ran one agent, refused another, and stopped."""
    assert weaver("kernel", "start", **environ).returncode == 0
    assert weaver("agent", "spawn", "echo", "--name", "ear").returncode == 0
    assert weaver("agent", "spawn", "no_such_module:main").returncode != 0
    assert weaver("agent", "stop", "1").returncode == 0
    assert weaver("kernel", "stop").returncode == 0
    return Home(weftos_home).log.read_text()


def test_the_kernel_tells_what_it_does_under_the_name_of_each_part(weaver: Weaver, weftos_home: Path) -> None:
    text = kernel_log(weaver, weftos_home, WEFTOS_LOG="weftos.kernel=debug,info")
    for level, part, words in [
        ("DEBUG", "kernel.kernel", "boot phase SERVICES done in "),
        ("INFO ", "kernel.kernel", "Boot complete in "),
        ("INFO ", "kernel.service_host", "service process forked: OS process "),
        ("INFO ", "service.process", "the log is closed; exit status 0"),
        ("INFO ", "kernel.supervisor", "agent 1 (ear) forked: OS process "),
        ("INFO ", "kernel.stopping", "agent 1 (ear) is asked to stop: operator:"),
        ("INFO ", "kernel.supervisor", "agent 1 (ear) ended: stopped: operator:"),
        ("DEBUG", "kernel.supervisor", "agent 1 is gone for good: "),
        ("WARN ", "kernel.supervisor", "no_such_module"),
    ]:
        assert re.search(rf"(?m)Z {level} weftos\.{part}\[\d+\] .*{re.escape(words)}", text), (part, words, text)


def test_a_quiet_kernel_still_tells_what_went_wrong_and_keeps_all_for_the_operator(
    weaver: Weaver, weftos_home: Path
) -> None:
    text = kernel_log(weaver, weftos_home, WEFTOS_LOG="warning")
    assert "no_such_module" in text
    assert " INFO " not in text
    assert " DEBUG " not in text
    assert weaver("kernel", "start", WEFTOS_LOG="off").returncode == 0
    assert "Boot complete in " in weaver("kernel", "logs").stdout
    assert Home(weftos_home).log.read_text() == text

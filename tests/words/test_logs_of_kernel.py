"""Log levels in a real kernel and its agents, through ``weaver``."""

from __future__ import annotations

import os
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

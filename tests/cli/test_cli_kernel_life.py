"""Starting and stopping: start returns when the kernel answers, stop when its process is gone, force always ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import STATUS

import weftos.kernel.daemon as daemon_module
from weftos import limits
from weftos.errors import BootFailed, KernelAlreadyRunning

SCRIPT = Path(__file__).with_name("kernel_process.py")


@pytest.fixture
def process(weaver):
    """Start a process that plays the kernel in a given manner; whatever is left of it is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(manner: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(SCRIPT), str(weaver.socket), str(weaver.home / "run" / "kernel.lock"), manner]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_stop_returns_when_the_process_is_gone(weaver, process):
    kernel = process("orderly")
    outcome = weaver("kernel", "stop")
    assert (outcome.status, outcome.out) == (0, f"kernel {kernel.pid} stopped\n")
    assert kernel.poll() == 0


def test_stop_with_json(weaver, process):
    kernel = process("orderly")
    assert weaver("kernel", "stop", "--json").json == {"os_pid": kernel.pid, "state": "halted", "killed": False}


def test_stop_of_a_kernel_that_stays_says_so_and_force_ends_it(weaver, process):
    kernel = process("deaf")
    begun = time.monotonic()
    outcome = weaver("kernel", "stop", "--timeout", "0.3")
    assert outcome.status == 1
    assert f"process {kernel.pid}) has not ended within 0.3 s; `weaver kernel stop --force` kills it" in outcome.err
    assert kernel.poll() is None
    forced = weaver("kernel", "stop", "--force", "--timeout", "0.3", "--json")
    assert forced.json == {"os_pid": kernel.pid, "state": "halted", "killed": True}
    assert kernel.wait(0) == -signal.SIGKILL
    assert time.monotonic() - begun < 10


def test_a_stopped_kernel_is_ended_by_force(weaver, process):
    kernel = process("orderly")
    kernel.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, kernel.pid, os.WSTOPPED | os.WNOWAIT)
    outcome = weaver("kernel", "stop", "--timeout", "0.3")
    assert outcome.status == 1
    assert kernel.poll() is None
    assert weaver("kernel", "stop", "--force", "--timeout", "0.3").status == 0
    assert kernel.wait(0) == -signal.SIGKILL


def test_a_kernel_without_socket_is_reached_by_its_lock(weaver, process):
    kernel = process("mute")
    outcome = weaver("kernel", "stop")
    assert outcome.status == 0
    assert "was sent SIGTERM" in outcome.err
    assert kernel.wait(0) == 0


def test_stop_without_a_kernel_is_status_6(weaver):
    outcome = weaver("kernel", "stop", "--json")
    assert outcome.status == 6
    assert outcome.error["code"] == "kernel.not_running"


def test_a_lock_file_that_nobody_holds_is_no_kernel(weaver):
    lock = weaver.home / "run" / "kernel.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{os.getpid()}\n")
    assert weaver("kernel", "stop", "--force").status == 6


# --- start: the kernel's own part is replaced ----------------------------------------------------


@pytest.fixture
def started(weaver, monkeypatch):
    """Record calls of start_daemon; a fake kernel answers while the fixture lives."""
    calls: list[tuple[str, object, float]] = []

    def start_daemon(home, config_path, timeout):
        calls.append((str(home.root), config_path, timeout))
        return STATUS.os_pid

    monkeypatch.setattr(daemon_module, "start_daemon", start_daemon)
    with weaver.kernel(kernel_status=STATUS):
        yield calls


def test_start_shows_where_everything_is(weaver, started):
    text = weaver("kernel", "start").out
    for fact in (STATUS.os_pid, STATUS.state, STATUS.home, STATUS.socket, STATUS.log):
        assert str(fact) in text
    assert started == [(str(weaver.home), None, limits.KERNEL_START_TIMEOUT_S)]


def test_start_with_json_config_and_timeout(weaver, started, tmp_path):
    config = tmp_path / "weftos.toml"
    config.write_text("")
    outcome = weaver("kernel", "start", "--config", str(config), "--timeout", "3", "--json")
    assert outcome.json == {
        "os_pid": 99,
        "state": "running",
        "socket": STATUS.socket,
        "log": STATUS.log,
        "home": STATUS.home,
    }
    assert started == [(str(weaver.home), config, 3.0)]


@pytest.mark.parametrize("error", [BootFailed("no room"), KernelAlreadyRunning("process 5 runs")])
def test_a_start_that_fails_says_why(weaver, monkeypatch, error):
    def start_daemon(*_):
        raise error

    monkeypatch.setattr(daemon_module, "start_daemon", start_daemon)
    outcome = weaver("kernel", "start", "--json")
    assert outcome.status == 1
    assert outcome.error["code"] == error.code


def test_foreground_ends_with_the_status_of_the_kernel(weaver, monkeypatch):
    monkeypatch.setattr(daemon_module, "run_foreground", lambda home, config: 3)
    assert weaver("kernel", "start", "--foreground").status == 3


def test_restart_without_a_kernel_starts_one(weaver, monkeypatch):
    answering = []

    def start_daemon(home, config_path, timeout):
        kernel = weaver.kernel(kernel_status=STATUS)
        answering.append(kernel.__enter__())
        return STATUS.os_pid

    monkeypatch.setattr(daemon_module, "start_daemon", start_daemon)
    outcome = weaver("kernel", "restart", "--json")
    answering[0].close()
    assert outcome.err == "no kernel was running\n"
    assert outcome.json["os_pid"] == STATUS.os_pid

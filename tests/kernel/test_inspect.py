"""Observations of real processes: our own, a child's session, one that vanishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.kernel import inspect

_CHILD = """
import os, subprocess, sys, threading
held = bytearray(48 * 1024 * 1024)
for i in range(0, len(held), 4096):
    held[i] = 1
opened = [open(sys.argv[1], "w") for _ in range(7)]
helper = subprocess.Popen(["sleep", "60"])
threading.Thread(target=lambda: sys.stdin.read(), daemon=True).start()
print(helper.pid, flush=True)
signal_never = threading.Event()
signal_never.wait()
"""


@pytest.fixture
def child(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "held")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    yield process, helper
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_facts_of_a_child_are_its_own(child):
    process, helper = child
    seen = inspect.observe(process.pid)
    assert seen is not None
    assert seen.os_pid == process.pid
    assert seen.rss_bytes >= 48 * 1024 * 1024
    assert 48 * 1024 * 1024 <= seen.uss_bytes <= seen.pss_bytes <= seen.rss_bytes
    assert seen.open_files == 7
    assert seen.descriptors == len(os.listdir(f"/proc/{process.pid}/fd"))
    assert seen.threads == 2
    assert seen.cpu_seconds > 0
    assert seen.voluntary_switches > 0
    assert seen.created_at == psutil.Process(process.pid).create_time()
    assert seen.processes == 2
    assert inspect.session_processes(process.pid) == sorted([process.pid, helper])
    assert seen.cgroup == inspect.observe(os.getpid()).cgroup


def test_the_quick_look_leaves_out_what_is_dear(child):
    process, _ = child
    quick = inspect.observe(process.pid, detailed=False)
    assert quick.rss_bytes >= 48 * 1024 * 1024
    assert quick.descriptors > 7
    assert (quick.uss_bytes, quick.pss_bytes, quick.open_files, quick.processes) == (0, 0, 0, 0)


def test_a_stopped_process_can_be_observed(child):
    process, _ = child
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert inspect.observe(process.pid).status == "stopped"


def test_a_zombie_and_a_reaped_process_are_nothing():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert inspect.observe(process.pid) is None
    process.wait()
    assert inspect.observe(process.pid) is None
    assert inspect.cgroup_of(process.pid) == ""


@pytest.mark.parametrize("number", [-1, 2**31, 2**70])
def test_numbers_that_name_no_process(number):
    assert inspect.observe(number) is None


@pytest.mark.parametrize("error", [psutil.AccessDenied(), psutil.NoSuchProcess(1), PermissionError(), OSError()])
def test_one_unreadable_fact_leaves_the_others(monkeypatch, error):
    def refuse(self):
        raise error

    monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    monkeypatch.setattr(psutil.Process, "open_files", refuse)
    seen = inspect.observe(os.getpid())
    assert (seen.uss_bytes, seen.open_files) == (0, 0)
    assert seen.unknown == ["uss_bytes", "pss_bytes", "open_files"]
    assert seen.rss_bytes > 0
    assert seen.descriptors > 0


def test_a_process_that_ends_between_two_reads_is_nothing(monkeypatch):
    process = subprocess.Popen(["sleep", "60"])
    real = psutil.Process.num_threads

    def end_first(self):
        process.kill()
        process.wait()
        return real(self)

    monkeypatch.setattr(psutil.Process, "num_threads", end_first)
    assert inspect.observe(process.pid) is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/user.slice/a:b\n", "/user.slice/a:b"),
        ("12:cpu,cpuacct:/c\n5:memory:/m\n1:name=systemd:/s\n0::/u\n", "/m"),
        ("3:hugetlb,memory:/m\n", "/m"),
        ("1:name=systemd:/s\n", ""),
        ("", ""),
    ],
)
def test_control_group_of_both_versions(text, path):
    assert inspect.parse_cgroup(text) == path


@given(st.text())
def test_any_text_for_a_control_group_is_survived(text):
    assert isinstance(inspect.parse_cgroup(text), str)

"""The leak check is itself checked: small runs that leave something behind have to fail and say what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONFTEST = TESTS / "conftest.py"

CLEAN = """
import os, subprocess, sys

def test_clean(weftos_home):
    (weftos_home / "file").write_text("x")
    subprocess.run([sys.executable, "-c", ""], check=True)
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
"""

PROCESS = """
import subprocess

def test_leaves_a_process():
    subprocess.Popen(["sleep", "60"])
"""

ORPHAN = """
import subprocess

def test_leaves_an_orphan():
    subprocess.run(["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 &"], check=True)
"""

SEMAPHORE = """
import posix_ipc
from weftos.ids import instance_tag

def test_leaves_a_semaphore(weftos_home):
    name = f"/weftos-{instance_tag(str(weftos_home))}-left"
    posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600).close()
"""

DESCRIPTOR = """
import os

def test_leaves_a_descriptor():
    os.memfd_create("weftos-left")
"""

SEGMENT = """
from weftos.shm import Segment

kept = []

def test_leaves_a_segment():
    kept.append(Segment.create(4096))
"""

LATE = """
import os
import pytest

@pytest.fixture(scope="module")
def reader():
    reader, writer = os.pipe()
    os.close(writer)
    yield reader
    os.close(reader)

def test_first(reader):
    pass

def test_second(reader):
    pass
"""


def run(folder: Path, source: str, *options: str) -> tuple[int, str]:
    """Run pytest on one file in a process of its own, under the check and nothing else of this project."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest\n")
    (folder / "test_it.py").write_text(source)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "WEFTOS_"))}
    environ["PYTHONPATH"] = str(TESTS)
    environ["WEFTOS_TEST_GRACE"] = "0.3"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "1"), ("-p", "no:xdist")], ids=["alone", "worker", "no-xdist"])
def test_a_clean_run_passes(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, CLEAN + LATE, *options)
    assert code == 0, output
    assert "3 passed" in output
    assert "left behind" not in output


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_process_left_behind_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, PROCESS + ORPHAN, *options)
    try:
        assert code == 1, output
        assert "2 passed" in output
        assert "left behind" in output
        told = [line for line in output.splitlines() if "process " in line and "sleep 60" in line]
        assert sorted(line.startswith("child ") for line in told) == [False, True], output
    finally:
        end_sleepers(output)


def end_sleepers(output: str) -> None:
    """End what the inner run left, by the numbers that its report gives."""
    for line in output.splitlines():
        if "process " in line and "sleep 60" in line:
            os.kill(int(line.split("process ", 1)[1].split()[0]), signal.SIGKILL)


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_semaphore_left_behind_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, SEMAPHORE, *options)
    found = [line.split()[1] for line in output.splitlines() if line.startswith("semaphore ")]
    for name in found:
        os.unlink(f"/dev/shm/{name}")
    assert code == 1, output
    assert len(found) == 1, output
    assert found[0].startswith("sem.weftos-")


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_descriptor_left_behind_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, DESCRIPTOR + SEGMENT, *options)
    assert code == 1, output
    assert "left behind" in output
    told = [line for line in output.splitlines() if line.startswith("descriptor ")]
    for name in ("descriptor", "segment"):
        assert any("memfd:weftos" in line and f"(since test_it.py::test_leaves_a_{name})" in line for line in told), (
            output
        )


def test_a_failed_run_keeps_its_own_status(tmp_path: Path) -> None:
    code, output = run(tmp_path, DESCRIPTOR + "\ndef test_fails():\n    assert False\n")
    assert code == 1
    assert "left behind" in output
    assert run(tmp_path, DESCRIPTOR, "--no-such-option")[0] == pytest.ExitCode.USAGE_ERROR

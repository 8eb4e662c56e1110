"""What the doctor says, of machines and instances with a known fault. Nothing that it looks at is changed by it."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from weftos import chain
from weftos.cli.main import root
from weftos.disk.files import RealFiles
from weftos.doctor import AREAS, examine
from weftos.errors import SharedMemoryExhausted
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc.client import RpcClient
from weftos.shm import Doorbell, Segment


@pytest.fixture
def home(weftos_home):
    return Home(weftos_home)


def found(home, *areas):
    return {one.name: one for one in examine(home, areas or AREAS).findings}


def everything_below(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_a_machine_that_runs_these_tests_is_well(home):
    seen = found(home, "machine")
    assert not [one for one in seen.values() if one.state == "failed"]
    assert "numpy" in seen["packages"].detail
    assert {"shared memory", "semaphores", "process descriptors", "open files", "disk"} <= seen.keys()


def test_nothing_is_made_or_changed(home, tmp_path):
    absent = Home(tmp_path / "nowhere")
    seen = found(absent)
    assert not absent.root.exists()
    assert {seen[name].state for name in ("folder", "keys", "log", "kernel")} == {"absent"}
    home.ensure()
    before = everything_below(home.root)
    found(home)
    assert everything_below(home.root) == before


def test_every_finding_that_is_not_well_says_what_follows_or_what_to_do(home, monkeypatch):
    monkeypatch.setattr("weftos.shm.fence.mode", lambda: "bounded-wait")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    home.config.write_text("[kernel]\nmax_process = 3\n")
    home.cedar_policies.write_text("permit(principal, action, resource);")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    seen = found(home)
    assert {seen[name].state for name in ("barriers", "cpus")} == {"limited"}
    assert {seen[name].state for name in ("configuration", "extra cedar")} == {"failed"}
    for one in seen.values():
        assert one.state == "ok" or one.means or one.next_step, one


def test_what_a_machine_without_landlock_comes_to(home, monkeypatch):
    seen = found(home, "sandbox")
    wanted = {"files", "system calls", "refused calls", "refused paths", "users", "control groups", "strict agents"}
    assert wanted == seen.keys()
    monkeypatch.setattr("weftos.sandbox.landlock.abi", lambda: 0)
    seen = found(home, "sandbox")
    assert seen["files"].state == seen["strict agents"].state == "limited"
    assert "strict is not started" in seen["strict agents"].means
    monkeypatch.setattr("weftos.sandbox.landlock.abi", lambda: 3)
    assert found(home, "sandbox")["files"].detail.startswith("Landlock ABI 3 of")
    monkeypatch.setattr("weftos.sandbox.seccomp.offered", lambda: False)
    seen = found(home, "sandbox")
    assert seen["system calls"].state == seen["strict agents"].state == "limited"


def test_what_of_refusals_is_recorded_here(home, monkeypatch):
    monkeypatch.setattr("weftos.sandbox.seccomp.notifies", lambda: False)
    monkeypatch.setattr("weftos.sandbox.offers.why_not", lambda: "the audit is off")
    seen = found(home, "sandbox")
    assert (seen["refused calls"].state, seen["refused paths"].state) == ("limited", "absent")
    assert "the audit is off" in seen["refused paths"].detail
    monkeypatch.setattr("weftos.sandbox.seccomp.notifies", lambda: True)
    monkeypatch.setattr("weftos.sandbox.offers.why_not", lambda: "")
    seen = found(home, "sandbox")
    assert seen["refused calls"].state == seen["refused paths"].state == "ok"


def test_memory_that_cannot_be_shared_and_bells_that_cannot_be_made_are_failures(home, monkeypatch):
    def refuse(*_, **__):
        raise SharedMemoryExhausted("no space left")

    monkeypatch.setattr(Segment, "create", refuse)
    monkeypatch.setattr(Doorbell, "create", refuse)
    seen = found(home, "machine")
    assert seen["shared memory"].state == seen["semaphores"].state == "failed"
    assert "no space left" in seen["semaphores"].detail


@pytest.mark.parametrize("call", ["create", "write", "sync_data"])
def test_a_disk_that_refuses_is_a_failure_and_leaves_nothing(home, monkeypatch, call):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RealFiles, call, refuse)
    assert found(home, "machine")["disk"].state == "failed"
    assert not list(home.root.iterdir())


def test_few_descriptors_are_told_with_what_they_allow(home):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "from weftos.cli.main import root; root(['doctor', '--area', 'machine', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    (seen,) = [one for one in json.loads(done.stdout)["findings"] if one["name"] == "open files"]
    assert seen["state"] == "limited"
    assert "6 agents" in seen["means"]


def test_a_place_that_is_no_folder(home):
    file = home.root / "file"
    file.touch()
    assert found(Home(file), "instance")["folder"].state == "failed"


def test_keys_and_folders_that_others_may_read(home):
    home.ensure()
    key = home.keys / "ed25519.key"
    key.write_bytes(b"secret")
    key.chmod(0o644)
    home.keys.chmod(0o755)
    seen = found(home, "instance")
    assert seen["folder"].state == seen["keys"].state == "failed"
    assert "ed25519.key" in seen["keys"].next_step
    assert "rotate-key" in seen["keys"].next_step
    key.chmod(0o600)
    home.keys.chmod(0o700)
    seen = found(home, "instance")
    assert seen["folder"].state == seen["keys"].state == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_instance_of_another_user(home):
    home.ensure()
    os.chown(home.root, 65534, 65534)
    assert "65534" in found(home, "instance")["folder"].detail
    os.chown(home.root, 0, 0)


def write(home, t_ns=None):
    with chain.ChainWriter.open(home.chain, boot_id=bytes(16)) as writer:
        for number in range(3):
            writer.append(chain.NewEvent("agent:1", "app.test", {"n": number}))
        writer.commit()


def test_a_log_that_is_damaged_and_one_from_the_future(home, monkeypatch):
    home.ensure()
    write(home)
    seen = found(home, "instance")["log"]
    assert seen.state == "ok"
    assert seen.detail.startswith("4 records,")  # with that of its own beginning
    real = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: real() - 3600 * 10**9)
    assert found(home, "instance")["log"].state == "limited"
    monkeypatch.undo()
    segment = next(home.chain.glob("*.log"))
    data = bytearray(segment.read_bytes())
    data[20] ^= 1
    segment.write_bytes(data)
    assert found(home, "instance")["log"].state == "failed"


def test_a_running_kernel_a_dead_one_and_one_that_does_not_answer(home):
    os_pid = start_daemon(home)
    try:
        seen = found(home, "instance")
        assert seen["kernel"].state == "ok", seen["kernel"]
        assert seen["log"].state == seen["keys"].state == "ok"
        result = CliRunner().invoke(root, ["doctor"], standalone_mode=False)
        assert "running" in result.output
    finally:
        with RpcClient(home.socket) as client:
            client.call("kernel.shutdown")
        ended = os.pidfd_open(os_pid)
        assert os.waitid(os.P_PIDFD, ended, os.WEXITED | os.WNOWAIT)
        os.close(ended)
    assert found(home, "instance")["kernel"].state == "absent"


def test_the_command_fails_when_something_failed_and_shows_what(home):
    home.config.write_text("no toml")
    result = CliRunner().invoke(root, ["doctor", "--area", "instance"], standalone_mode=False)
    assert result.return_value == 1
    assert "1 failed" in result.output
    assert "next: mend" in result.output
    home.config.write_text("")
    result = CliRunner().invoke(root, ["doctor", "--area", "instance", "--json"], standalone_mode=False)
    assert result.return_value == 0
    report = json.loads(result.output)
    assert report["home"] == str(home.root)
    assert {one["area"] for one in report["findings"]} == {"instance"}

"""`weaver run inventory` from end to end, with real agents and real kills."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import blake3
import pytest

from weftos import chain
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc.client import RpcClient

WEAVER = [sys.executable, "-m", "weftos.cli.main"]


def weaver(*words, check=True, **options):
    done = subprocess.run([*WEAVER, *map(str, words)], capture_output=True, text=True, timeout=120, **options)
    if check:
        assert done.returncode == 0, done.stderr + done.stdout
    return done


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for n in range(300):
        (root / f"file{n:03}").write_bytes(os.urandom(1000 + n) if n % 10 else b"the same")
    (root / "sub").mkdir()
    (root / "sub" / "more").write_bytes(b"more")
    os.symlink("file001", root / "link")
    with open(os.path.join(os.fsencode(root), b"odd\n\xff"), "wb") as file:
        file.write(b"odd")
    return root


def test_an_inventory_is_recorded_checked_and_verified(weftos_home, folder):
    summary = json.loads(weaver("run", "inventory", folder, "--json").stdout)
    assert (summary["files"], summary["links"], summary["duplicates"], summary["problems"]) == (302, 1, 29, 0)
    assert summary["bytes"] == sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    assert {a["role"] for a in summary["agents"]} == {"coordinator", "scanner", "hasher", "recorder"}
    assert weaver("run", "inventory", folder, "--check").returncode == 0
    assert chain.verify(str(Home(weftos_home).chain)).valid
    (folder / "file001").write_bytes(b"changed")
    (folder / "new").write_bytes(b"new")
    (folder / "sub" / "more").unlink()
    done = weaver("run", "inventory", folder, "--check", "--json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["changed"], found["added"], found["removed"]) == (["file001"], ["new"], ["sub/more"])
    assert weaver("kernel", "status", check=False).returncode == 6, "the embedded kernel is gone"


def test_digests_are_those_of_the_files(weftos_home, folder, tmp_path):
    target = tmp_path / "sums"
    (folder / "new\nline").write_bytes(b"new")
    done = weaver("run", "inventory", folder, "--digests", target, "--no-progress")
    lines = [line for line in target.read_bytes().split(b"\n") if line]
    assert len(lines) == 302
    plain = dict(reversed(line.split(b"  ", 1)) for line in lines if not line.startswith(b"\\"))
    path = os.fsencode(folder / "file007")
    assert plain[path] == blake3.blake3(Path(os.fsdecode(path)).read_bytes()).hexdigest().encode()
    assert any(line.startswith(b"\\") and line.endswith(b"new\\nline") for line in lines)
    assert "odd" in done.stderr, "b3sum gives up on the whole file at a name that is not UTF-8"
    if shutil.which("b3sum"):
        subprocess.run(["b3sum", "--check", target], check=True, capture_output=True)


def test_a_check_of_what_was_never_recorded_or_was_tampered_with_is_refused(weftos_home, folder):
    assert weaver("run", "inventory", folder, "--check", check=False).returncode == 2
    weaver("run", "inventory", folder)
    assert weaver("run", "inventory", folder / "sub", "--check", check=False).returncode == 2
    segment = sorted(Home(weftos_home).chain.glob("*.log"))[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    done = weaver("run", "inventory", folder, "--check", check=False)
    assert done.returncode == 5
    assert "not intact" in done.stderr


@pytest.mark.parametrize("path", ["/no/such/folder", "/etc/passwd"])
def test_a_path_that_is_no_folder_is_named(weftos_home, path):
    done = weaver("run", "inventory", path, check=False)
    assert done.returncode == 2
    assert path in done.stderr


def test_an_empty_folder_is_an_inventory_too(weftos_home, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    summary = json.loads(weaver("run", "inventory", empty, "--json").stdout)
    assert (summary["files"], summary["bytes"]) == (0, 0)
    assert weaver("run", "inventory", empty, "--check").returncode == 0


@pytest.mark.parametrize("victim", ["hasher", "recorder"])
def test_a_killed_agent_never_makes_a_wrong_record(weftos_home, folder, victim, request):
    """A hasher is restarted and the record is complete and exact; without its recorder the job fails, and says so."""
    for n in range(300, 900):
        (folder / f"file{n}").write_bytes(os.urandom(200_000))
    home = Home(weftos_home)
    request.addfinalizer(lambda: weaver("kernel", "stop"))
    start_daemon(home)
    job = subprocess.Popen(
        [*WEAVER, "run", "inventory", str(folder), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = 0
    with RpcClient(home.socket, timeout=20) as client:
        while job.poll() is None and killed < (3 if victim == "hasher" else 1):
            for row in client.call("agent.list"):
                if victim in row.name and row.os_pid and row.incarnation == 1 and row.state == "running":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(row.os_pid, signal.SIGKILL)
                        killed += 1
        out, err = job.communicate(timeout=120)
        assert killed, "the job was over before anything could be killed"
        events = list(chain.read(str(home.chain)))
        if victim == "hasher":
            assert job.returncode == 0, err
            summary = json.loads(out)
            assert summary["files"] == 902
            assert sum(a["restarts"] for a in summary["agents"]) >= 1
            rows = [row for e in events if e.kind == "app.inventory.entries" for row in e.payload["entries"]]
            assert len(rows) == len({bytes(row[0]) for row in rows}) == 903
        else:
            assert job.returncode == 1
            assert "recorder" in err
            assert not [e for e in events if e.kind == "app.inventory.end"]


def _at_work(os_pid, path):
    """Whether a process has a file open."""
    try:
        return any(os.readlink(f"/proc/{os_pid}/fd/{fd}") == str(path) for fd in os.listdir(f"/proc/{os_pid}/fd"))
    except OSError:
        return False


@pytest.mark.parametrize("kills", [4, 20])
def test_a_piece_that_kills_its_hasher_again_and_again(weftos_home, tmp_path, kills, request):
    """What went to the dead letters is handed out again; where restarts run out, the job fails and does not hang."""
    big = tmp_path / "data" / "big"
    big.parent.mkdir()
    big.touch()
    # Holes: long to hash, nothing to store.
    os.truncate(big, 2 << 30)
    home = Home(weftos_home)
    request.addfinalizer(lambda: weaver("kernel", "stop"))
    start_daemon(home)
    words = ["run", "inventory", str(big.parent), "--json", "--hashers", "1"]
    job = subprocess.Popen([*WEAVER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = set()
    with RpcClient(home.socket, timeout=20) as client:
        while job.poll() is None and len(killed) < kills:
            for row in client.call("agent.list"):
                if "hasher" in row.name and row.os_pid not in killed and row.os_pid and _at_work(row.os_pid, big):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(row.os_pid, signal.SIGKILL)
                        killed.add(row.os_pid)
        out, err = job.communicate(timeout=120)
    assert len(killed) >= 4
    ends = [e for e in chain.read(str(home.chain)) if e.kind == "app.inventory.end"]
    if kills == 4:
        assert job.returncode == 0, err
        assert (json.loads(out)["bytes"], len(ends)) == (2 << 30, 1)
    else:
        assert (job.returncode, ends) == (1, [])
        assert "hasher" in err


def test_ctrl_c_ends_the_job_and_its_agents(weftos_home, tmp_path, request):
    big = tmp_path / "data" / "big"
    big.parent.mkdir()
    big.touch()
    os.truncate(big, 64 << 30)
    home = Home(weftos_home)
    request.addfinalizer(lambda: weaver("kernel", "stop"))
    start_daemon(home)
    job = subprocess.Popen([*WEAVER, "run", "inventory", str(big.parent)], stderr=subprocess.DEVNULL)
    with RpcClient(home.socket, timeout=20) as client:
        deadline = time.monotonic() + 60
        while not any(_at_work(row.os_pid, big) for row in client.call("agent.list") if row.os_pid):
            assert time.monotonic() < deadline
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=30) == 130
        while any(row.os_pid for row in client.call("agent.list")):
            assert time.monotonic() < deadline
    assert "app.inventory.end" not in [e.kind for e in chain.read(str(home.chain))]


def _interrupted(home, folder, *, when):
    """Start a job, send it SIGINT at a moment, and return it and what is to be done before it can end."""
    job = subprocess.Popen([*WEAVER, "run", "inventory", str(folder)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not when():
        assert time.monotonic() < deadline
        assert job.poll() is None, job.communicate()
    job.send_signal(signal.SIGINT)
    return job


def test_ctrl_c_before_the_coordinator_is_there_ends_it_all_the_same(weftos_home, folder, request, monkeypatch):
    """The spawn waits at the gate while the service is stopped, and goes on when nobody waits for it any more."""
    home = Home(weftos_home)
    monkeypatch.setenv("WEFTOS_LOG", "weftos.kernel=debug")
    request.addfinalizer(lambda: weaver("kernel", "stop"))
    start_daemon(home)
    with RpcClient(home.socket, timeout=20) as client:
        service = next(s.os_pid for s in client.call("kernel.services") if s.name == "service")
        os.kill(service, signal.SIGSTOP)
        try:
            job = _interrupted(home, folder, when=lambda: "spawn of inventory asked for" in home.log.read_text())
            with pytest.raises(subprocess.TimeoutExpired):
                # It stays to see what becomes of the coordinator.
                job.communicate(timeout=0.5)
        finally:
            os.kill(service, signal.SIGCONT)
        _, err = job.communicate(timeout=30)
        assert job.returncode == 130, err
        _all_end(client)
        (coordinator,) = (row for row in client.call("agent.list", {"all": True}) if row.parent_pid is None)
        assert coordinator.name.startswith("inventory-")


def test_ctrl_c_while_the_coordinator_starts_ends_it(weftos_home, folder, request):
    home = Home(weftos_home)
    request.addfinalizer(lambda: weaver("kernel", "stop"))
    start_daemon(home)
    with RpcClient(home.socket, timeout=20) as client:
        held = []

        def hold():
            """Stop the coordinator before it can say that it is ready."""
            held[:] = [row for row in client.call("agent.list") if row.os_pid]
            for row in held:
                os.kill(row.os_pid, signal.SIGSTOP)
            return bool(held)

        job = _interrupted(home, folder, when=hold)
        try:
            _, err = job.communicate(timeout=30)
        finally:
            for row in held:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(row.os_pid, signal.SIGCONT)
        assert job.returncode == 130, err
        _all_end(client)


def _all_end(client):
    deadline = time.monotonic() + 30
    while rows := client.call("agent.list"):
        assert time.monotonic() < deadline, rows

"""Agents that try to get out of their sandbox: real programs, each attempt made, each refusal seen."""

import contextlib
import os
import platform
import socket
import stat
import threading
from pathlib import Path

import pytest

from weftos.errors import CapabilityDenied, InvalidRequest, SandboxFailed
from weftos.sandbox.offers import offers

pytestmark = pytest.mark.skipif(
    not (offers().landlock and offers().seccomp and platform.machine() == "x86_64"),
    reason="this machine cannot confine, or its calls have other numbers",
)

#: Landlock answers a link or a rename into another folder as if that were another disk.
DENIED = {"EACCES", "EPERM", "EXDEV"}


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def attempt(kernel, agent, *words):
    return kernel.call("agent.send", pid=agent.pid, message=list(words), timeout_secs=15.0).reply


def refused(answer):
    assert answer.get("refused") in DENIED, answer
    return True


@pytest.fixture(params=["standard", "strict"])
def profile(request):
    return request.param


@pytest.fixture
def escapist(kernel, profile):
    return kernel.spawn("escapist", sandbox={"profile": profile})


def test_files_that_belong_to_the_kernel_to_others_and_to_the_user(kernel, escapist, tmp_path):
    other = kernel.spawn("escapist", name="other")
    assert "done" in attempt(kernel, other, "write", "mine")
    mine = Path(kernel.call("agent.inspect", pid=other.pid).scratch) / "mine"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    key = next(path for path in kernel.home.keys.iterdir() if path.suffix != ".pub")
    before = {path: path.stat() for path in (mine, secret, key)}
    segment = next(kernel.home.chain.glob("*.log"))
    others = (Path("/etc/shadow"), Path.home() / ".bashrc")
    for path in (mine, secret, key, segment, kernel.home.log, *(path for path in others if path.exists())):
        for what in ("read", "write", "truncate", "chmod", "fchmod", "utime", "chown", "unlink"):
            assert refused(attempt(kernel, escapist, what, str(path))), (what, path)
        assert refused(attempt(kernel, escapist, "link", str(path), "stolen"))
        assert refused(attempt(kernel, escapist, "rename", str(path), "stolen"))
    for folder in (kernel.home.root, kernel.home.keys, kernel.home.chain, kernel.home.run, tmp_path, Path("/")):
        assert refused(attempt(kernel, escapist, "list", str(folder))), folder
        assert refused(attempt(kernel, escapist, "write", str(folder / "planted"))), folder
        assert refused(attempt(kernel, escapist, "make folder", str(folder / "planted"))), folder
    for path, status in before.items():
        assert (path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_size) == (
            status.st_mode,
            status.st_mtime_ns,
            status.st_size,
        )


def test_a_link_in_the_scratch_folder_leads_nowhere(kernel, escapist):
    key = next(path for path in kernel.home.keys.iterdir() if path.suffix != ".pub")
    assert "done" in attempt(kernel, escapist, "symlink", str(key), "way")
    assert refused(attempt(kernel, escapist, "read", "way"))
    assert refused(attempt(kernel, escapist, "write", "way"))


def test_sockets(kernel, escapist):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for what in ("connect to a port", "send a datagram"):
            assert refused(attempt(kernel, escapist, what, port))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    for what in ("connect to a file", "send from a pair"):
        assert refused(attempt(kernel, escapist, what, str(kernel.home.socket)))
    for what in ("netlink", "raw"):
        assert refused(attempt(kernel, escapist, what))


def test_the_network_is_open_to_who_was_given_it(kernel, profile):
    agent = kernel.spawn("escapist", capabilities={"can_network": True}, sandbox={"profile": profile, "network": True})
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: accepted.append(server.accept()[0]))
        thread.start()
        assert "done" in attempt(kernel, agent, "connect to a port", server.getsockname()[1])
        thread.join()
    accepted[0].close()
    assert refused(attempt(kernel, agent, "connect to a file", str(kernel.home.socket)))
    assert refused(attempt(kernel, agent, "raw"))
    half = kernel.spawn("escapist", sandbox={"profile": profile, "network": True})
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert refused(attempt(kernel, half, "connect to a port", server.getsockname()[1]))


def test_other_processes(kernel, escapist):
    other = kernel.spawn("escapist", name="other")
    service = next(row.os_pid for row in kernel.call("kernel.services") if row.os_pid)
    for pid in (kernel.os_pid, service, other.os_pid, os.getpid()):
        for what in (
            "signal", "signal by descriptor", "trace", "read memory", "copy memory", "environment",
            "steal a descriptor", "limits of another", "priority of another", "cores of another",
        ):  # fmt: skip
            assert refused(attempt(kernel, escapist, what, pid)), (what, pid)
    assert attempt(kernel, other, "where")["done"]


def test_the_system_and_what_the_kernel_set(kernel, escapist):
    for what in (
        "be looked into", "outlive the kernel", "another name", "mount", "namespace", "change root",
        "ring of requests", "bpf", "keys", "clock", "shared memory by key",
        "list semaphores", "truncate semaphores", "make a semaphore",
    ):  # fmt: skip
        assert refused(attempt(kernel, escapist, what)), what
    if os.geteuid() == 0:
        assert refused(attempt(kernel, escapist, "become another", 65534))


def test_programs_are_confined_as_the_agent_is(kernel, tmp_path):
    agent = kernel.spawn("escapist", limits={"processes": 0})
    secret = tmp_path / "secret"
    secret.write_text("secret")
    assert attempt(kernel, agent, "execute", "/bin/echo", "hello")["done"] == "hello\n"
    assert "imported" in attempt(kernel, agent, "python")["done"]
    assert refused(attempt(kernel, agent, "as a program", "/bin/cat", str(secret)))
    assert refused(attempt(kernel, agent, "as a program", "/bin/chmod", "777", str(secret)))
    # One that is another user's by its mode gives nothing either.
    assert "done" in attempt(kernel, agent, "fork")
    assert "done" in attempt(kernel, agent, "thread")
    for kind in ({"sandbox": {"profile": "strict"}}, {"capabilities": {"can_exec_tools": False}}):
        bare = kernel.spawn("escapist", **kind)
        assert refused(attempt(kernel, bare, "execute", "/bin/echo", "hello"))
    alone = kernel.spawn("escapist", limits={"processes": 1})
    assert attempt(kernel, alone, "fork")["refused"] in {"EPERM", "EAGAIN"}
    if kernel.call("agent.inspect", pid=alone.pid).uid == 0:  # of other users the system counts threads as well
        assert "done" in attempt(kernel, alone, "thread")


def test_memory_descriptors_processes_and_disk_run_out_for_the_one_alone(kernel):
    other = kernel.spawn("escapist", name="other")
    agent = kernel.spawn("escapist", limits={"descriptors": 64})
    assert attempt(kernel, agent, "open many", 100)["refused"] == "EMFILE"
    bomb = kernel.spawn("escapist", name="bomb", limits={"processes": 8})
    if kernel.call("agent.inspect", pid=bomb.pid).uid == 0:
        kernel.call("agent.send", pid=bomb.pid, message=["fork many", 60], wait=False)
        kernel.until(lambda: kernel.call("agent.inspect", pid=bomb.pid).state == "exited")
    else:
        assert attempt(kernel, bomb, "fork many", 60)["refused"] == "EAGAIN"
    filler = kernel.spawn("escapist", name="filler", limits={"scratch_bytes": 8 * 2**20})
    scratch = Path(kernel.call("agent.inspect", pid=filler.pid).scratch)
    kernel.call("agent.send", pid=filler.pid, message=["fill", 64], wait=False)
    record = kernel.until(lambda: kernel.call("agent.inspect", pid=filler.pid).last_exit)
    assert "scratch_bytes" in record.message
    assert not scratch.exists()
    wide = kernel.spawn("escapist", name="wide", limits={"file_bytes": 2**19})
    assert attempt(kernel, wide, "fill", 1)["refused"] == "EFBIG"
    assert attempt(kernel, other, "where")["done"]
    kinds = kernel.until(lambda: kernel.kinds().count("resource.breach") >= 1 and kernel.kinds())
    assert "resource.breach" in kinds


def test_paths_that_are_given(kernel, profile, tmp_path):
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "file").write_text("text")
    (tmp_path / "write").mkdir()
    (tmp_path / "other").touch()
    agent = kernel.spawn(
        "escapist",
        sandbox={"profile": profile, "readable": [str(tmp_path / "read")], "writable": [str(tmp_path / "write")]},
    )
    assert attempt(kernel, agent, "read", str(tmp_path / "read" / "file")) == {"done": 4}
    assert refused(attempt(kernel, agent, "write", str(tmp_path / "read" / "file")))
    assert "done" in attempt(kernel, agent, "write", str(tmp_path / "write" / "new"))
    assert refused(attempt(kernel, agent, "read", str(tmp_path / "other")))
    assert (tmp_path / "write" / "new").read_text() == "x"


def test_what_cannot_be_given_keeps_an_agent_from_starting(kernel, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    keys, chain = str(kernel.home.keys), str(kernel.home.chain)
    for paths, word in (
        ({"readable": [keys]}, "belongs to the kernel"),
        ({"writable": [chain]}, "belongs to the kernel"),
        ({"readable": [str(tmp_path / "missing")]}, "No such file"),
        ({"readable": [str(tmp_path / "link")]}, "it leads to /etc"),
        ({"writable": [str(tmp_path / "link" / "ssl")]}, "symbolic"),
    ):
        with pytest.raises(SandboxFailed, match=word):
            kernel.spawn("escapist", sandbox=paths)
    # The log is there to be read, and the folder around the kernel's is opened around it.
    reader = kernel.spawn("escapist", sandbox={"readable": [chain, str(kernel.home.root.parent)]})
    segment = next(kernel.home.chain.glob("*.log"))
    assert attempt(kernel, reader, "read", str(segment))["done"] > 0
    assert refused(attempt(kernel, reader, "list", keys))


def test_a_child_is_never_freer_than_its_parent(kernel, tmp_path):
    parent = kernel.spawn("escapist", sandbox={"profile": "strict", "readable": [str(tmp_path)]})
    for looser in ({"profile": "standard"}, {"profile": "strict", "readable": ["/home"]}):
        with pytest.raises(CapabilityDenied):
            kernel.call("agent.spawn", program="echo", parent_pid=parent.pid, sandbox=looser)
    child = kernel.call("agent.spawn", program="echo", parent_pid=parent.pid)
    assert kernel.call("agent.inspect", pid=child.pid).profile == "strict"
    with pytest.raises(InvalidRequest):
        kernel.spawn("echo", sandbox={"profile": "none"})


def test_a_child_runs_what_its_parent_may_read(kernel, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("def main(ctx):\n    for message in ctx:\n        ctx.reply(message, 'here')\n")
    reader = kernel.spawn("tester", sandbox={"readable": [str(tmp_path)]})
    blind = kernel.spawn("tester")
    order = {"do": "spawn", "program": str(program)}
    assert kernel.call("agent.send", pid=reader.pid, message=order, timeout_secs=15.0).reply > 0
    for path in (program, next(kernel.home.keys.iterdir()), "/etc/shadow"):
        answer = kernel.call(
            "agent.send", pid=blind.pid, message=order | {"program": str(path)}, timeout_secs=15.0
        ).reply
        assert answer["error"] == "process.sandbox", answer
    inside = kernel.home.root / "program.py"
    inside.write_text(program.read_text())
    agent = kernel.call("agent.spawn", program=str(inside), restart="never")
    assert kernel.call("agent.send", pid=agent.pid, message="x", timeout_secs=15.0).reply == "here"
    with pytest.raises(SandboxFailed, match="belongs to the kernel"):
        kernel.call("agent.spawn", program=str(next(kernel.home.keys.iterdir())), restart="never")
    kernel.until(lambda: kernel.call("kernel.status").process_count == 4)


def test_what_is_in_force_is_shown_and_on_the_log(kernel, profile):
    agent = kernel.spawn("echo", sandbox={"profile": profile})
    detail = kernel.call("agent.inspect", pid=agent.pid)
    states = {one.name: one.state for one in detail.confinement}
    closed = {"privileges", "closed memory", "files", "calls", "network", "signals"}
    assert {name for name in closed if states[name] == "enforced"} == closed
    assert states["programs"] == ("enforced" if profile == "strict" else "open")
    assert "cgroup v2" in next(one.detail for one in detail.confinement if one.name == "memory")
    record = kernel.until(lambda: [one for one in kernel.events() if one.kind == "agent.confined"])[0]
    assert (record.payload["profile"], record.payload["pid"]) == (profile, agent.pid)
    assert {one["name"]: one["state"] for one in record.payload["measures"]} == states


def test_a_trusted_agent_is_not_confined_and_says_so(kernel, tmp_path):
    agent = kernel.spawn("escapist", sandbox={"profile": "trusted"})
    assert "done" in attempt(kernel, agent, "write", str(tmp_path / "file"))
    states = {one.name: one.state for one in kernel.call("agent.inspect", pid=agent.pid).confinement}
    assert states["files"] == states["network"] == "open"


def test_scratch_folders_are_new_private_and_gone_with_their_agent(kernel):
    agent = kernel.spawn("escapist", restart="on-failure")
    scratch = Path(kernel.call("agent.inspect", pid=agent.pid).scratch)
    assert attempt(kernel, agent, "where") == {"done": str(scratch)}
    assert attempt(kernel, agent, "temporary file")["done"].startswith(f"{scratch}/")
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert "done" in attempt(kernel, agent, "write", "kept")
    os.kill(agent.os_pid, 9)
    assert kernel.until(lambda: kernel.call("agent.inspect", pid=agent.pid).incarnation == 2)
    assert kernel.call("agent.send", pid=agent.pid, message=["read", "kept"], timeout_secs=15.0).reply == {"done": 1}
    kernel.call("agent.stop", pid=agent.pid)
    kernel.until(lambda: not scratch.exists())
    leaving = scratch.parent.with_name("scratch.leaving")
    kernel.until(lambda: not leaving.exists() or not list(leaving.iterdir()))


def test_what_a_killed_kernel_leaves_is_removed_by_the_next(kernel):
    agent = kernel.spawn("escapist", limits={"processes": 0})
    attempt(kernel, agent, "write", "left")
    scratch = Path(kernel.call("agent.inspect", pid=agent.pid).scratch)
    kernel.call("agent.send", pid=agent.pid, message=["fork many", 3], wait=False)
    session = kernel.until(lambda: [pid for pid in _session(agent.os_pid) if pid != agent.os_pid][2:])
    kernel.kill()
    kernel.start()
    kernel.until(lambda: not any(_alive(pid) for pid in session))
    kernel.until(lambda: not list(scratch.parent.iterdir()))


def _session(os_pid):
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(int(name)) == os_pid:
                    yield int(name)


def _alive(os_pid):
    try:
        return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""The client against a real socket: it always comes back in time, and never talks to a stranger."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest
from fake_kernel import HANG_UP, FakeKernel

from weftos import limits
from weftos.errors import (
    KernelNotRunning,
    MessageTooLarge,
    MethodNotFound,
    PeerRefused,
    ProcessNotFound,
    ProtocolError,
    WeftTimeout,
)
from weftos.rpc import agent_types as a
from weftos.rpc import client as client_module
from weftos.rpc.client import RpcClient

EXIT = a.ExitRecord(
    reason="stopped", code=0, signal=None, message="m", cpu_user_secs=0.1, cpu_system_secs=0.0, max_rss_bytes=1,
    started_at=1.0, ended_at=2.0, core_dumped=False, incarnation=1,
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "kernel.sock"


def test_a_call_returns_the_type_of_the_table(path):
    with FakeKernel(path, {"agent.stop": a.StopResult(pid=3, state="exited", exit=EXIT), "ping": "pong"}) as kernel:
        with RpcClient(path) as client:
            assert client.call("agent.stop", a.StopParams(pid=3)) == a.StopResult(pid=3, state="exited", exit=EXIT)
            assert client.call("ping") == "pong"
            assert client.server_pid == os.getpid()
        assert kernel.asked == [("agent.stop", {"pid": 3, "graceful": True, "timeout_secs": None}), ("ping", {})]


def test_params_may_be_a_mapping_and_the_result_type_given(path):
    with FakeKernel(path, {"agent.suspend": {"pid": 1, "state": "suspended"}}), RpcClient(path) as client:
        assert client.call("agent.suspend", {"pid": 1}, dict)["state"] == "suspended"


def test_an_error_is_raised_in_its_own_class_and_the_connection_goes_on(path):
    answers = {"agent.inspect": ProcessNotFound("no agent has pid 9"), "ping": "pong"}
    with FakeKernel(path, answers), RpcClient(path) as client:
        with pytest.raises(ProcessNotFound, match="pid 9"):
            client.call("agent.inspect", a.PidParams(pid=9))
        assert client.call("ping") == "pong"


def test_an_unknown_method_is_not_even_sent(path):
    with pytest.raises(MethodNotFound):
        RpcClient(path).call("kernel.fly")


def test_without_a_kernel_the_message_says_what_to_do(path):
    with pytest.raises(KernelNotRunning) as caught:
        RpcClient(path).call("ping")
    assert str(caught.value) == f"no kernel is running for {path.parent.parent}; start one with `weaver kernel start`"
    assert caught.value.exit_code == 6


def test_a_stale_socket_is_no_kernel(path):
    FakeKernel(path).close()
    assert path.exists()
    with pytest.raises(KernelNotRunning, match="no kernel is running"):
        RpcClient(path).call("ping")


def test_a_file_that_is_no_socket_is_no_kernel(path):
    path.parent.mkdir()
    path.write_text("x")
    with pytest.raises(KernelNotRunning):
        RpcClient(path).call("ping")


def test_a_path_too_long_for_a_socket_is_no_kernel(tmp_path):
    with pytest.raises(KernelNotRunning, match="cannot be connected to"):
        RpcClient(tmp_path / ("x" * 200)).call("ping")


def test_a_kernel_that_ends_before_it_answers(path):
    with FakeKernel(path, {"ping": HANG_UP}), RpcClient(path) as client, pytest.raises(KernelNotRunning, match="ended"):
        client.call("ping")


def test_the_next_call_connects_anew(path):
    answers = {"ping": HANG_UP}
    with FakeKernel(path, answers) as kernel, RpcClient(path) as client:
        with pytest.raises(KernelNotRunning):
            client.call("ping")
        kernel.answers["ping"] = "pong"
        assert client.call("ping") == "pong"


def test_a_silent_kernel_costs_the_deadline_and_no_more(path):
    with FakeKernel(path, raw=lambda _: b""), RpcClient(path, timeout=0.3) as client:
        begun = time.monotonic()
        with pytest.raises(WeftTimeout, match=r"ping within 0\.3 s"):
            client.call("ping")
        assert 0.25 < time.monotonic() - begun < 3


def test_a_late_answer_is_not_taken_for_the_next_one(path):
    late = b'{"jsonrpc":"2.0","id":1,"result":"late"}\n'

    def answer(line: bytes) -> bytes:
        # Nothing for the first request; for the second, the belated answer to the first.
        return b"" if b'"id":1' in line else late

    with FakeKernel(path, raw=answer), RpcClient(path, timeout=0.2) as client:
        with pytest.raises(WeftTimeout):
            client.call("ping")
        with pytest.raises(ProtocolError, match="request 1 instead of 2"):
            client.call("ping")


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b'{"jsonrpc":"2.0","id":1,"result":5}\n',
        b'{"jsonrpc":"2.0","id":1,"result":"a"}\n{"jsonrpc":"2.0","id":1,"result":"b"}\n',
        b'{"jsonrpc":"2.0","id":1,"result":"a"}\n{"json',
    ],
)
def test_a_babbling_kernel_is_a_protocol_error(path, answer):
    with FakeKernel(path, raw=lambda _: answer), RpcClient(path) as client, pytest.raises(ProtocolError):
        client.call("ping")


def test_an_endless_answer_does_not_fill_memory(path, monkeypatch):
    monkeypatch.setattr(limits, "RPC_REPLY_BYTES", 100_000)
    with FakeKernel(path, raw=lambda _: b"x" * 300_000), RpcClient(path) as client, pytest.raises(MessageTooLarge):
        client.call("ping")


def test_a_large_answer_arrives_whole(path):
    rows = [
        a.ProcessInfo(pid=n, os_pid=n, agent_id=f"a.{n}", name="a" * 60, program="p" * 200, state="running")
        for n in range(1, 8000)
    ]
    with FakeKernel(path, {"agent.list": rows}), RpcClient(path) as client:
        assert client.call("agent.list") == rows


def test_a_refusal_sent_before_closing_is_read(path):
    """A server with too many connections says so and closes, perhaps before our request is written."""
    path.parent.mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        listener.bind(str(path))
        listener.listen(1)
        client = RpcClient(path)
        assert client.connect() == os.getpid()
        served, _ = listener.accept()
        served.sendall(
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"full","data":{"code":"rpc.peer_refused"}}}\n'
        )
        served.close()
        with client, pytest.raises(PeerRefused, match="full"):
            client.call("ping")


# --- who is there --------------------------------------------------------------------------------


def test_a_server_of_another_user_is_sent_nothing(path, monkeypatch):
    monkeypatch.setattr(client_module.os, "geteuid", lambda: 4242)
    monkeypatch.setattr(
        client_module.struct, "unpack", lambda fmt, data: (struct.unpack_from("i", data)[0], 1234, 1234)
    )
    with FakeKernel(path, {"ping": "pong"}) as kernel:
        with pytest.raises(PeerRefused, match="runs as user 1234"):
            RpcClient(path).call("ping")
        assert kernel.asked == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
def test_a_server_of_another_user_for_real(path):
    """A process of user nobody listens where the kernel should be; we are not root for the question."""
    path.parent.mkdir()
    path.parent.chmod(0o777)
    code = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1); print('up', flush=True)\n"
        "c, _ = s.accept(); sys.stdout.write(repr(c.recv(100))); sys.stdout.flush()\n"
    )
    for parent in path.parents:
        if parent.stat().st_uid == os.geteuid() and parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o055)
    server = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    with pytest.raises(PeerRefused, match="65534"):
        RpcClient(path).call("ping")
    assert server.communicate(timeout=10)[0] == b"b''"


# --- a kernel that is stopped --------------------------------------------------------------------

_STOPPABLE = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(0)
print("up", flush=True)
c, _ = s.accept()
c.recv(1)
"""


@pytest.fixture
def stopped(path):
    path.parent.mkdir()
    server = subprocess.Popen([sys.executable, "-c", _STOPPABLE, str(path)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    server.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)
    yield server
    server.kill()
    server.communicate()


def test_a_stopped_kernel_does_not_hang_the_caller(stopped, path):
    begun = time.monotonic()
    with RpcClient(path, timeout=0.3) as client, pytest.raises(WeftTimeout, match=f"process {stopped.pid}"):
        client.call("kernel.status")
    assert time.monotonic() - begun < 3


def test_a_full_queue_of_connections_does_not_hang_the_caller(stopped, path):
    waiting = []
    for _ in range(3):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        waiting.append(connection)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            break
    else:
        pytest.fail("the queue never filled")
    begun = time.monotonic()
    with RpcClient(path, timeout=0.3) as client, pytest.raises(WeftTimeout):
        client.call("kernel.status")
    with RpcClient(path, timeout=0.3) as client, pytest.raises(WeftTimeout):
        client.connect()
    assert time.monotonic() - begun < 5
    for connection in waiting:
        connection.close()


def test_no_descriptor_is_left_by_calls_that_fail(path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(KernelNotRunning):
            RpcClient(path).call("ping")
    with FakeKernel(path, raw=lambda _: b""):
        for _ in range(3):
            with pytest.raises(WeftTimeout):
                RpcClient(path, timeout=0.05).call("ping")
    assert len(os.listdir("/proc/self/fd")) == before

"""Boot, shutdown, and what a kernel does with an instance that is not as it should be."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from weftos import chain
from weftos.errors import BootFailed, ChainCorrupted, ChainError, ConfigError, KernelAlreadyRunning, WeftError
from weftos.ids import instance_tag
from weftos.kernel.daemon import start_daemon


def test_a_kernel_boots_answers_and_halts_cleanly(cold):
    os_pid = cold.start()
    status = cold.call("kernel.status")
    assert (status.os_pid, status.state) == (os_pid, "running")
    assert stat.S_IMODE(cold.home.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(cold.home.socket.parent.stat().st_mode) == 0o700
    cold.stop()
    assert not cold.home.socket.exists()
    kinds = cold.kinds()
    assert [kind for kind in kinds if kind.startswith("boot.") or kind == "shutdown"] == [
        "boot.init",
        "boot.config",
        "boot.services",
        "boot.ready",
        "shutdown",
    ]
    report = chain.verify(str(cold.home.chain))
    assert report.valid, report.errors


def test_a_second_kernel_on_the_same_home_is_refused(kernel):
    with pytest.raises(KernelAlreadyRunning, match=str(kernel.os_pid)):
        start_daemon(kernel.home)
    assert kernel.call("ping") == "pong"


def test_a_clean_restart_is_recognised_and_pids_start_again(cold):
    for _ in range(2):
        cold.start()
        assert cold.call("kernel.status").unclean_shutdown is False
        assert cold.spawn("echo").pid == 1
        cold.stop()
    assert "kernel.unclean_shutdown" not in cold.kinds()
    assert chain.verify(str(cold.home.chain)).valid


def test_a_killed_kernel_takes_its_agents_along_and_is_reported(cold):
    cold.start()
    agents = [cold.spawn("echo").os_pid for _ in range(3)]
    service = cold.call("kernel.services")[0].os_pid
    cold.kill()
    assert all(cold.await_end(pid) for pid in [*agents, service])
    names = os.listdir("/dev/shm")
    assert not [name for name in names if instance_tag(str(cold.home.root)) in name], "the service sweeps for the dead"
    cold.start()
    assert cold.call("kernel.status").unclean_shutdown is True
    cold.stop()
    assert cold.kinds().count("kernel.unclean_shutdown") == 1
    assert chain.verify(str(cold.home.chain)).valid


def test_a_damaged_chain_is_refused_with_its_place_and_left_as_it_is(cold):
    cold.start()
    cold.stop()
    segment = sorted(cold.home.chain.glob("*.log"))[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    with pytest.raises((ChainCorrupted, ChainError), match="offset"):
        cold.start()
    assert segment.read_bytes() == bytes(data)
    assert not cold.home.socket.exists()


def test_a_home_that_cannot_be_used_is_named(tmp_path, cold):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="WEFTOS_HOME"):
        start_daemon(type(cold.home)(blocked / "home"))


def test_a_bad_configuration_names_the_key(cold):
    cold.home.ensure()
    cold.home.config.write_text("[kernel]\nmax_proceses = 3\n")
    with pytest.raises(ConfigError, match=r"max_proceses.*did you mean kernel.max_processes"):
        cold.start()


def test_a_boot_that_fails_leaves_nothing(cold):
    cold.home.ensure()
    key_folder = cold.home.keys
    for name in ("signing.key", "node.key", "chain.key"):
        (key_folder / name).mkdir()
    with pytest.raises((ChainError, ConfigError, BootFailed)):
        cold.start()
    for name in ("signing.key", "node.key", "chain.key"):
        (key_folder / name).rmdir()
    cold.start()
    assert cold.call("ping") == "pong"


def test_something_in_the_place_of_the_socket_is_named(cold):
    cold.home.ensure()
    cold.home.socket.mkdir()
    with pytest.raises(ConfigError, match=r"in the way of the control socket.*move it away"):
        cold.start()


def test_a_boot_that_fails_late_says_so_on_the_log_and_is_no_unclean_end(cold):
    cold.start()
    cold.stop()
    cold.home.socket.touch()
    held = os.open(cold.home.chain, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        try:
            booting = pool.submit(cold.start)
            # The first step removes what it takes for a leftover; then the service waits for the lock on the log.
            cold.until(lambda: not cold.home.socket.exists())
            cold.home.socket.mkdir()
        finally:
            os.close(held)
        with pytest.raises(ConfigError, match="control socket"):
            booting.result(20)
    (failed,) = [record.payload for record in cold.events() if record.kind == "boot.failed"]
    assert failed["step"] == "NETWORK"
    assert str(cold.home.socket) in failed["reason"]
    cold.home.socket.rmdir()
    cold.start()
    assert cold.call("kernel.status").unclean_shutdown is False


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"null\n",
        b'{"jsonrpc":"2.0","id":1}\n',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"no.such"}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"agent.inspect","params":{"pid":"x"}}\n',
        b"\xff\xfe\x00\n",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 5000 + b"}\n",
    ],
)
def test_garbage_on_the_socket_gets_an_error_and_costs_nothing(shared, line):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(shared.home.socket))
        raw.sendall(line + b'{"jsonrpc":"2.0","id":7,"method":"ping"}\n')
        data = b""
        while b'"pong"' not in data:
            chunk = raw.recv(65536)
            assert chunk, data
            data += chunk
    if line.strip():
        assert b'"error"' in data
    assert shared.call("ping") == "pong"


def test_an_endless_line_is_cut_off(shared):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(shared.home.socket))
        data = b""
        try:
            for _ in range(40):
                raw.sendall(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            data = raw.recv(65536)
        except ConnectionResetError:
            data = b""
    assert b'"error"' in data or not data
    assert shared.call("ping") == "pong"


def test_reload_takes_a_new_limit_and_survives_a_bad_file(kernel):
    import signal

    kernel.home.config.write_text("[kernel]\nmax_processes = 1\n")
    os.kill(kernel.os_pid, signal.SIGHUP)
    kernel.until(lambda: kernel.call("kernel.status").max_processes == 1)
    kernel.home.config.write_text("[kernel\n")
    os.kill(kernel.os_pid, signal.SIGHUP)
    kernel.until(lambda: "not reloaded" in kernel.log())
    assert kernel.call("kernel.status").max_processes == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_kernel_not_only_by_the_folder(kernel):
    """Even with the folders opened wide the kernel asks the system who connects."""
    for folder in (kernel.home.root, kernel.home.run):
        folder.chmod(0o755)
    kernel.home.socket.chmod(0o666)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(kernel.home.socket))
            os.write(writer, raw.recv(4096))
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 4096)
    os.close(reader)
    os.waitpid(child, 0)
    assert b"rpc.peer_refused" in answer
    assert b"65534" in answer
    assert kernel.call("ping") == "pong"


def test_a_full_disk_stops_privileged_acts_and_loses_nothing(cold):
    """The log cannot grow: what was acknowledged stays, a spawn is refused and says why, the next kernel goes on."""
    import resource

    cold.start()
    service = cold.call("kernel.services")[0].os_pid
    room = cold.call("chain.status").bytes + 4096
    resource.prlimit(service, resource.RLIMIT_FSIZE, (room, room))
    spawned = 0
    with pytest.raises(WeftError) as refused:
        for _ in range(200):
            cold.call("agent.spawn", program="echo", restart="never")
            spawned += 1
    assert refused.value.code in ("chain.storage", "gate.unavailable", "gate.denied"), refused.value
    assert spawned > 0
    assert cold.call("kernel.health").overall == "unhealthy"
    cold.stop()
    cold.start()
    kinds = cold.kinds()
    assert kinds.count("agent.spawn") >= spawned
    assert chain.verify(str(cold.home.chain)).valid
    assert cold.spawn("echo").pid == 1


def test_a_kernel_has_one_thread_for_linear_algebra():
    """Its service and its agents inherit the library as the kernel loaded it; idle threads of it spin."""
    asking = (
        "import weftos.kernel.daemon, ctypes, numpy as np\n"
        "np.ones((400, 400)) @ np.ones((400, 400))\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if 'openblas' in line}\n"
        "for path in maps:\n"
        "    library = ctypes.CDLL(path)\n"
        "    names = ('scipy_openblas_get_num_threads64_', 'openblas_get_num_threads64_', 'openblas_get_num_threads')\n"
        "    print(next(getattr(library, name)() for name in names if hasattr(library, name)))\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", asking], env=environ, capture_output=True, text=True, check=True)
    if not done.stdout:
        pytest.skip("this NumPy does not use OpenBLAS")
    assert done.stdout.split() == ["1"]

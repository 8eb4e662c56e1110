"""Finding an instance, making its folders, and the lock, held by real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from weftos.errors import ConfigError, KernelAlreadyRunning
from weftos.home import Home, InstanceLock, find_home

#: Takes the lock and says so; ends when its standard input does. With "fork", a child of it lives on.
HOLDER = """
import os, sys
from pathlib import Path
from weftos.home import InstanceLock
lock = InstanceLock(Path(sys.argv[1]))
lock.acquire()
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
else:
    print(os.getpid(), flush=True)
sys.stdin.read()
if sys.argv[2] == "release":
    lock.release()
    print("released", flush=True)
"""


class Holder:
    """Another process that has the lock."""

    def __init__(self, path: Path, mode: str = "hold") -> None:
        command = [sys.executable, "-c", HOLDER, str(path), mode]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.line = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "kernel.lock"


# --- finding ----------------------------------------------------------------------------------------------------------


def test_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".weftos").mkdir()
    assert find_home({"WEFTOS_HOME": "/some/where"}, tmp_path).root == Path("/some/where")


def test_a_relative_name_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_home({"WEFTOS_HOME": "here"}).root == tmp_path / "here"


def test_the_nearest_folder_upwards(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".weftos").mkdir()
    assert find_home({}, deep).root == tmp_path / ".weftos"
    (tmp_path / "a" / ".weftos").mkdir()
    assert find_home({"WEFTOS_HOME": ""}, deep).root == tmp_path / "a" / ".weftos"


def test_a_file_of_that_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".weftos").touch()
    assert find_home({"HOME": str(tmp_path / "user")}, tmp_path).root == tmp_path / "user" / ".weftos"


def test_finding_creates_nothing(tmp_path: Path) -> None:
    find_home({"HOME": str(tmp_path)}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_found_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="WEFTOS_HOME"):
        find_home({"WEFTOS_HOME": "~nobody-has-this-name/x"})
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="WEFTOS_HOME"):
        find_home({})


# --- folders ----------------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_made_and_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home").ensure()
    for folder in (home.root, home.run, home.chain, home.keys, home.agent_log(1).parent):
        assert folder.is_dir()
        assert mode(folder) == 0o700
    assert not home.config.exists()
    assert home.ensure() is home


def test_folders_that_stand_open_are_closed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for folder in (home.run, home.keys):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    home.ensure()
    assert mode(home.run) == mode(home.keys) == 0o700


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConfigError, match="home is not a folder"):
        Home(tmp_path / "home").ensure()
    with pytest.raises(ConfigError, match=r"inside.*Not a directory"):
        Home(tmp_path / "home" / "inside").ensure()


def test_a_place_that_cannot_be_written_is_named() -> None:
    # /proc refuses new folders to root as well.
    with pytest.raises(ConfigError, match=r"/proc/weftos cannot be used.*WEFTOS_HOME"):
        Home(Path("/proc/weftos")).ensure()


def test_a_short_path_keeps_the_socket_at_home(tmp_path: Path) -> None:
    assert Home(Path("/srv/weftos")).socket == Path("/srv/weftos/run/kernel.sock")


@pytest.mark.parametrize("letter", ["x", "ä"], ids=["ascii", "two bytes each"])
def test_a_long_path_moves_the_socket_where_it_can_be_bound(
    letter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weftos_home: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(weftos_home))
    home = Home(tmp_path / (letter * 100)).ensure()
    other = Home(tmp_path / (letter * 99)).ensure()
    assert home.socket.is_relative_to(weftos_home)
    assert home.socket != other.socket
    assert home.socket == Home(home.root).socket
    assert mode(home.socket.parent) == 0o700
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))


def test_the_longest_path_at_home_can_be_bound(tmp_path: Path, weftos_home: Path) -> None:
    room = 103 - len(os.fsencode(weftos_home)) - len("//run/kernel.sock")
    home = Home(weftos_home / ("y" * room)).ensure()
    assert len(os.fsencode(home.socket)) == 103
    assert home.socket.is_relative_to(home.root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
    assert not Home(weftos_home / ("y" * (room + 1))).socket.is_relative_to(weftos_home)


def test_a_foreign_folder_for_the_socket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weftos_home: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(weftos_home))
    home = Home(tmp_path / ("z" * 100))
    home.socket.parent.mkdir()
    os.chown(home.socket.parent, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        home.ensure()


def test_a_link_in_the_shared_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weftos_home: Path
) -> None:
    import tempfile

    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(weftos_home))
    home = Home(tmp_path / ("l" * 100))
    (tmp_path / "elsewhere").mkdir()
    home.socket.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        home.ensure()


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_the_second_is_refused_with_the_pid_of_the_first(lock_path: Path) -> None:
    holder = Holder(lock_path)
    try:
        with pytest.raises(KernelAlreadyRunning, match=rf"OS pid {holder.process.pid}\b"):
            InstanceLock(lock_path).acquire()
        with pytest.raises(KernelAlreadyRunning, match=rf"OS pid {holder.process.pid}\b"):
            InstanceLock(lock_path).check_free()
        assert InstanceLock(lock_path).holder() == holder.process.pid
    finally:
        holder.kill()


def test_asking_takes_nothing_and_leaves_nothing(lock_path: Path) -> None:
    assert InstanceLock(lock_path).holder() is None
    assert not lock_path.exists()
    lock_path.touch()
    before = set(os.listdir("/proc/self/fd"))
    InstanceLock(lock_path).check_free()
    holder = Holder(lock_path)
    assert InstanceLock(lock_path).holder() == holder.process.pid
    # Many questions do not loosen the holder's lock.
    assert {InstanceLock(lock_path).holder() for _ in range(50)} == {holder.process.pid}
    holder.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_kill_gives_it_back(lock_path: Path) -> None:
    holder = Holder(lock_path)
    holder.kill()
    # The dead one's pid is still in the file and means nothing.
    assert lock_path.read_text() == f"{holder.line}\n"
    assert InstanceLock(lock_path).holder() is None
    with InstanceLock(lock_path):
        assert lock_path.read_text() == f"{os.getpid()}\n"
    assert lock_path.read_text() == ""


def test_a_child_of_a_dead_holder_does_not_keep_it(lock_path: Path) -> None:
    holder = Holder(lock_path, "fork")
    child = os.pidfd_open(int(holder.line))
    try:
        holder.process.kill()
        holder.process.wait()
        assert not select.select([child], [], [], 0)[0], "the child must live for this test to mean something"
        with InstanceLock(lock_path):
            pass
    finally:
        signal.pidfd_send_signal(child, signal.SIGKILL)
        assert select.select([child], [], [], 20)[0]
        os.close(child)
        holder.close()


def test_releasing_twice_is_once(lock_path: Path) -> None:
    lock = InstanceLock(lock_path)
    lock.acquire()
    lock.release()
    lock.release()
    holder = Holder(lock_path, "release")
    assert holder.process.communicate(timeout=20)[0] == "released\n"
    lock.acquire()
    lock.release()


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for question in (InstanceLock(tmp_path).acquire, InstanceLock(tmp_path).holder):
        with pytest.raises(ConfigError, match="cannot be opened: Is a directory"):
            question()

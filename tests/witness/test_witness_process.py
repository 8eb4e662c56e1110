"""Witnesses as real processes over real sockets: kills, hostile clients, users, parents."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from logs_of_witnesses import TestLog
from witness_processes import PROGRAM, WitnessProcess

from weftos import limits
from weftos.errors import WitnessUnavailable
from weftos.witness import protocol as p
from weftos.witness.client import WitnessClient
from weftos.witness.outcomes import Conflict, Cosigned, Head, Pinned, Refused

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user of a process")
UID = "47311"
#: Starts a program and waits to be killed.
BETWEEN = """
import os, subprocess, sys
told = int(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", *sys.argv[2:]], pass_fds=[told], stdout=subprocess.DEVNULL)
os.close(told)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder():
    """Short enough for a socket, and enterable by another user."""
    with tempfile.TemporaryDirectory(prefix="wp-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def witness(folder):
    one = WitnessProcess(folder / "w")
    yield one
    one.kill()


@pytest.fixture
def log():
    return TestLog().grow(9)


def cosign(witness, log, old, new=None):
    assert isinstance(witness.client.tell_keys(log.origin, log.keys), Pinned)
    return witness.client.add_checkpoint(old, log.proof(old, new), log.note(new))


def test_a_life(witness, log):
    witness.start()
    key = witness.key
    assert witness.client.key().text == key.format()
    assert isinstance(witness.client.head(log.origin), Refused)
    answer = cosign(witness, log, 0, 4)
    assert isinstance(answer, Cosigned)
    answer.added_to(log.note(4), key)
    head = witness.client.head(log.origin)
    assert witness.stop() == 0
    assert not (witness.folder / "s").exists()
    with pytest.raises(WitnessUnavailable):
        witness.client.key()
    witness.start()
    assert witness.key == key
    assert witness.client.head(log.origin) == head
    assert cosign(witness, log, 0) == Conflict(4)
    assert isinstance(cosign(witness, log, 4), Cosigned)
    assert cosign(witness, log.fork(5, 4), 9).code == "split_view"
    assert witness.client.evidence(log.origin).count == 1
    assert stat.S_IMODE((witness.folder / "s").stat().st_mode) == 0o600
    assert stat.S_IMODE((witness.folder / "keys" / "witness.key").stat().st_mode) == 0o600


def test_killed_between_the_disk_and_the_answer(witness, log):
    witness.start("persisted")
    with pytest.raises(WitnessUnavailable):
        cosign(witness, log, 0, 4)
    assert witness.wait() == -signal.SIGKILL
    for step in (4, 7, 9):
        # What was promised on the disk is known, so the client is told how far it has come, and goes on from there.
        witness.start("persisted")
        assert cosign(witness, log, 0) == Conflict(step)
        answer = cosign(witness, log, step, step)
        assert isinstance(answer, Cosigned)
        answer.added_to(log.note(step), witness.key)
        if step < 9:
            with pytest.raises(WitnessUnavailable):
                cosign(witness, log, step, 7 if step == 4 else 9)
            assert witness.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_time(witness, log):
    """What has left is never contradicted, however often and whenever the process dies."""
    random_ = random.Random(5)
    log.grow(40)
    newest, proven = 0, 0
    for _ in range(60):
        witness.start()
        victim = witness.process.pid
        handle = os.pidfd_open(victim)
        assert isinstance(witness.client.tell_keys(log.origin, log.keys), Pinned)
        found = witness.client.head(log.origin)
        if isinstance(found, Head):
            size = int(found.note.split(b"\n")[1])
            assert size >= newest
            newest = size
        new = min(newest + random_.randint(0, 2), 49)
        pending = witness.client.start_request(p.AddCheckpoint(newest, tuple(log.proof(newest, new)), log.note(new)))
        pending.on_ready()
        select.select([pending], [], [], random_.random() * 0.03)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
        witness.wait()
        if pending.result is None:
            pending.on_ready()
        if isinstance(pending.result, Cosigned):
            newest, proven = new, proven + 1
        pending.close()
    assert proven


def test_hostile_bytes_do_no_harm(witness, log):
    witness.start()
    random_ = random.Random(7)
    assert isinstance(cosign(witness, log, 0, 4), Cosigned)
    good = p.format_request(p.AddCheckpoint(4, tuple(log.proof(4)), log.note()))
    bodies = [random_.randbytes(random_.randint(1, 300)) for _ in range(60)]
    for _ in range(150):
        at = random_.randrange(len(good))
        bodies.append(good[:at] + random_.randbytes(random_.randint(0, 3)) + good[at + random_.randint(0, 3) :])
    bodies += [good[:at] for at in range(1, len(good), 331)]
    for body in bodies:
        if body == good:
            continue
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(witness.folder / "s"))
            sock.sendall(p.frame(body))
            reader = p.FrameReader(limits.WITNESS_ANSWER_BYTES)
            while (answer := reader.next()) is None:
                reader.feed(sock.recv(65536) or b"\0\0\0\0")
            assert answer[:3] in (b"400", b"403", b"404", b"409", b"422"), (body, answer)
    raw = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0", b"", p.frame(b"key\n") * 2]
    for piece in raw:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(witness.folder / "s"))
            sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while piece_ := sock.recv(65536):
                answer += piece_
            # What cannot be read any further is told; what was cut off has nobody to tell.
            assert answer[4:7] == (b"400" if len(piece) >= 4 else b"")
    assert isinstance(cosign(witness, log, 4), Cosigned)
    assert witness.stop() == 0
    assert "Traceback" not in witness.log


def test_silent_clients_cost_a_place_until_their_deadline(witness, log):
    witness.start()
    silent = []
    for _ in range(limits.WITNESS_CLIENTS):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(witness.folder / "s"))
        silent.append(sock)
    silent[0].sendall(b"\x05\0")
    # All places are taken; the honest client gets in when the first of them is freed, within its own patience.
    assert isinstance(cosign(witness, log, 0), Cosigned)
    assert select.select(silent, [], [], 0)[0]
    for sock in silent:
        sock.settimeout(20)
        assert sock.recv(1) == b""
        sock.close()


def test_a_client_that_does_not_take_its_answer(witness, log):
    """The answers fill the socket; others are served all the while."""
    witness.start()
    log.leaves = [b"x"] * 3
    assert isinstance(cosign(witness, log, 0), Cosigned)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.connect(str(witness.folder / "s"))
        sock.sendall(p.frame(p.format_request(p.ShowHead(log.origin))))
        assert isinstance(witness.client.head(log.origin), Head)


def test_requests_from_a_loop_that_does_not_wait(witness, log):
    witness.start()
    assert isinstance(cosign(witness, log, 0, 2), Cosigned)
    os.kill(witness.process.pid, signal.SIGSTOP)
    pending = witness.client.start_request(p.ShowHead(log.origin), timeout_s=20)
    pending.on_ready()
    pending.on_ready()
    assert pending.result is None
    assert not select.select([pending], [], [], 0)[0]
    late = witness.client.start_request(p.ShowHead(log.origin), timeout_s=0)
    late.on_ready()
    assert isinstance(late.result, WitnessUnavailable)
    assert late.fileno() == -1
    with pytest.raises(WitnessUnavailable, match="within"):
        witness.client.head(log.origin, timeout_s=0.05)
    os.kill(witness.process.pid, signal.SIGCONT)
    while pending.result is None:
        assert select.select([pending], [], [], 20)[0]
        pending.on_ready()
    assert isinstance(pending.result, Head)
    gone = WitnessClient(str(witness.folder / "nowhere")).start_request(p.ShowKey())
    assert isinstance(gone.result, WitnessUnavailable)


def test_a_full_queue_is_told_from_silence(witness):
    witness.start()
    os.kill(witness.process.pid, signal.SIGSTOP)
    waiting = []
    while not (pending := witness.client.start_request(p.ShowKey())).is_full:
        waiting.append(pending)
        assert len(waiting) < 1000
    assert isinstance(pending.result, WitnessUnavailable)
    with pytest.raises(WitnessUnavailable, match="queue is full"):
        witness.client.key(timeout_s=0.05)
    os.kill(witness.process.pid, signal.SIGCONT)
    for one in waiting:
        one.close()
    assert witness.client.key()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"200\n",
        b"200\nx\n",
        b"409\n-1\n",
        b"403\nproof\nx\n",
        b"403\nnothing\nx\n",
        b"\xff" * 300,
        b"200\n" + b"\xe2\x80\x94 a b\n",
    ],
)
def test_a_lying_witness_does_not_harm_its_client(folder, log, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "l"))
        listener.listen()
        client = WitnessClient(str(folder / "l"))
        pending = client.start_request(p.AddCheckpoint(0, (), log.note()))
        sock, _ = listener.accept()
        with sock:
            sock.sendall(p.frame(answer))
        while pending.result is None:
            assert select.select([pending], [], [], 20)[0]
            pending.on_ready()
        assert isinstance(pending.result, WitnessUnavailable)


def test_a_second_witness_and_a_foreign_file_are_refused(witness, folder):
    witness.start()
    second = WitnessProcess(witness.folder)
    assert second.start().key is None
    assert second.wait() == 2
    assert "another witness runs" in second.log
    assert witness.client.key()
    (folder / "v").mkdir()
    (folder / "v" / "s").write_text("precious")
    third = WitnessProcess(folder / "v")
    assert third.start().key is None
    assert third.wait() == 2
    assert (folder / "v" / "s").read_text() == "precious"


def test_a_socket_left_behind_is_replaced_and_a_used_one_is_not(witness, folder):
    witness.start()
    witness.kill()
    assert (witness.folder / "s").exists()
    assert witness.start().key
    other = WitnessProcess(folder / "v")
    (folder / "v" / "s").symlink_to(witness.folder / "s")
    assert other.start().key is None
    assert other.wait() == 2


def test_a_damaged_memory_keeps_it_from_starting(witness, log):
    witness.start()
    assert isinstance(cosign(witness, log, 0), Cosigned)
    witness.stop()
    [state] = (witness.folder / "memory").glob("*.log")
    state.write_bytes(state.read_bytes()[:-5])
    assert witness.start().key is None
    assert witness.wait() == 5


def can_connect(path, group):
    """Whether a stranger of this group can; a fork, because he may not be able to read Python itself."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(50001)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
            os._exit(0)
        except PermissionError:
            os._exit(13)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 13)
    return code == 0


@ROOT
def test_it_becomes_a_user_of_its_own(folder, log):
    witness = WitnessProcess(folder / "w", uid=UID, group="47312").start()
    try:
        status = Path(f"/proc/{witness.process.pid}/status").read_text()
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(values["Uid"].split()) == set(values["Gid"].split()) == {UID}
        assert values["Groups"].split() == []
        assert {values[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        assert values["NoNewPrivs"] == "1"
        for name in ("memory", "keys"):
            state = (witness.folder / name).stat()
            assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (int(UID), 0o700)
        state = (witness.folder / "s").stat()
        assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (int(UID), 47312, 0o660)
        assert isinstance(cosign(witness, log, 0), Cosigned)
        assert not can_connect(witness.folder / "s", 50001)
        assert can_connect(witness.folder / "s", 47312)
        # Where it may not remove its socket, it leaves it for the next start.
        assert witness.stop() == 0
        assert witness.start().key
        assert isinstance(witness.client.head(log.origin), Head)
    finally:
        witness.kill()


@ROOT
@pytest.mark.parametrize("uid", ["0", "-1"])
def test_root_is_no_user_for_a_witness(folder, uid):
    witness = WitnessProcess(folder / "w", uid=uid).start()
    assert witness.key is None
    assert witness.wait() == 2
    assert not (witness.folder / "memory").exists()


@ROOT
def test_a_folder_of_another_user_is_refused(folder):
    witness = WitnessProcess(folder / "w", uid=UID)
    (witness.folder / "memory").mkdir(mode=0o700)
    assert witness.start().key is None
    assert witness.wait() == 2
    assert "belongs to user 0" in witness.log


@pytest.mark.parametrize("uid", ["", pytest.param(UID, marks=ROOT)])
def test_it_ends_with_its_parent(folder, uid):
    """Also as another user, although changing the user makes the system forget the request."""
    (folder / "w").mkdir()
    ready, told = os.pipe()
    arguments = [str(folder / "w"), "witness/one", uid, "", str(told), ""]
    parent = subprocess.Popen(
        [sys.executable, "-c", BETWEEN, str(told), PROGRAM, *arguments],
        pass_fds=[told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.close(told)
    handle = os.pidfd_open(int(parent.stdout.readline()))
    with open(ready, "rb") as file:
        started = file.readline()
    parent.kill()
    parent.communicate()
    try:
        assert started
        assert select.select([handle], [], [], 20)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)

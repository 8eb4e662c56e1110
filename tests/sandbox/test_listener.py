"""Calls that wait at a listener: real processes with a real filter, and what becomes of them when one side goes."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from weftos.sandbox import seccomp
from weftos.sandbox.notices import Source, is_listener
from weftos.sandbox.syscalls import number_of

pytestmark = pytest.mark.skipif(not seccomp.notifies(), reason="this system does not show refused calls")

PROGRAM = Path(__file__).with_name("confined_program.py")
WAIT_S = 20.0


@pytest.fixture
def folders(tmp_path):
    for name in ("home", "scratch"):
        (tmp_path / name).mkdir()
    return [str(tmp_path / "home"), str(tmp_path / "scratch")]


@pytest.mark.parametrize(
    ("fate", "why"),
    [
        ("nobody asks", "nobody takes them"),
        ("cannot be given", "nobody is there"),
        ("let go", "does not take them"),
        ("another has one", "a listener already"),
    ],
)
def test_without_a_listener_the_filter_answers_by_itself(folders, fate, why):
    done = subprocess.run([sys.executable, PROGRAM, fate, *folders], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert why in said["failed"].pop("refused calls")
    assert said["failed"] == {}
    assert said["found"] == {"mount": "EPERM", "keyctl": "EPERM", "clone3": "ENOSYS", "fcntl": "passed"}
    assert not said["kept"]


class Confined:
    """A confined process and its listener."""

    def __init__(self, folders):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(PROGRAM), "given", *folders, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.link.settimeout(WAIT_S)
        _, (listener,), _, _ = socket.recv_fds(self.link, 10, 1)
        assert is_listener(listener)
        self.source = Source(listener)
        # It makes sure that it is heard before it goes on.
        self.answer(self.waiting())
        assert json.loads(self.link.recv(1000)) == {}

    def readable(self):
        assert select.select([self.source.fd], [], [], WAIT_S)[0]

    def waiting(self):
        """Wait for a call, and take it."""
        while True:
            self.readable()
            notice = self.source.take()
            if notice is not None:
                return notice

    def answer(self, notice, code=errno.EPERM):
        self.source.refuse(notice, code)

    def ask(self, call):
        self.link.send(call.encode())

    def told(self):
        return json.loads(self.link.recv(1000))

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT_S)


@pytest.fixture
def confined(folders):
    one = Confined(folders)
    try:
        yield one
    finally:
        one.kill()
        if one.source.fd >= 0:
            one.source.close()
        one.link.close()


def test_a_call_is_seen_with_who_made_it_and_fails_as_it_is_told_to(confined):
    assert confined.source.take() is None
    for call, code in (("mount", errno.EPERM), ("ptrace", errno.ENOSYS)):
        confined.ask(call)
        notice = confined.waiting()
        assert (notice.number, notice.os_pid) == (number_of(call), confined.process.pid)
        assert confined.source.take() is None
        confined.answer(notice, code)
        assert confined.told() == [errno.errorcode[code], 0]
    confined.ask("fcntl")
    assert confined.told() == ["passed", 0]
    assert confined.source.take() is None
    with pytest.raises(AssertionError):
        confined.answer(notice, 0)


def test_a_call_that_a_signal_interrupts_before_it_was_taken_is_made_again_and_seen_once(confined):
    confined.ask("mount")
    confined.readable()
    for _ in range(3):
        confined.process.send_signal(signal.SIGUSR1)
    seen = confined.waiting()
    confined.answer(seen)
    outcome, signals = confined.told()
    assert outcome == "EPERM"
    assert signals >= 1
    # What the interrupted ones left is no call, and keeps nobody waiting.
    assert confined.source.take() is None


def test_a_call_that_a_signal_ends_before_it_was_taken_is_none(confined):
    confined.ask("mount")
    confined.readable()
    confined.process.send_signal(signal.SIGUSR2)
    assert confined.told() == ["EINTR", 1]
    assert confined.source.take() is None


def test_a_call_that_was_taken_is_ended_by_its_answer_alone(confined):
    confined.ask("mount")
    notice = confined.waiting()
    confined.process.send_signal(signal.SIGUSR2)
    confined.answer(notice)
    assert confined.told() == ["EPERM", 1]
    assert confined.source.take() is None


def test_a_call_whose_process_is_killed_keeps_nobody_waiting(confined):
    confined.ask("mount")
    confined.readable()
    confined.kill()
    for _ in range(3):
        with pytest.raises(EOFError):
            confined.source.take()


def test_an_answer_to_a_process_that_was_killed_is_passed_over(confined):
    confined.ask("mount")
    notice = confined.waiting()
    confined.kill()
    confined.answer(notice)
    with pytest.raises(EOFError):
        confined.source.take()


def test_a_call_fails_when_the_listener_is_closed(confined):
    confined.ask("mount")
    confined.readable()
    confined.source.close()
    assert confined.told() == ["ENOSYS", 0]
    confined.ask("mount")
    assert confined.told() == ["ENOSYS", 0]


def test_what_is_no_listener_is_seen_to_be_none():
    read, write = os.pipe()
    assert not is_listener(read)
    os.close(read)
    os.close(write)
    assert not is_listener(read)

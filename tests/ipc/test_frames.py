"""The control channel: frames arrive whole, in order, once; descriptors are returned or closed, never leaked."""

from __future__ import annotations

import array
import os
import signal
import socket
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import limits
from weftos.errors import ChannelClosed, MessageTooLarge, ProtocolError, WeftTimeout
from weftos.ipc.frames import FrameChannel, FrameOutbox, socket_pair


class Left(msgspec.Struct, array_like=True, tag=1):
    number: int
    data: bytes = b""


class Right(msgspec.Struct, array_like=True, tag=2):
    text: str


Vocabulary = Left | Right


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def pair():
    a, b = socket_pair()
    left, right = FrameChannel[Vocabulary](a, Vocabulary), FrameChannel[Vocabulary](b, Vocabulary)
    yield left, right
    left.close()
    right.close()


@pytest.fixture(autouse=True)
def no_leak():
    before = open_fds()
    yield
    assert open_fds() == before


def test_frames_arrive_in_order_with_their_type(pair):
    left, right = pair
    assert right.recv() is None
    assert left.send(Left(7, b"x"))
    assert left.send(Right("y"))
    assert right.recv() == (Left(7, b"x"), [])
    assert right.recv() == (Right("y"), [])
    assert right.recv() is None
    assert (left.statistics().frames_sent, right.statistics().frames_received) == (2, 2)


def test_descriptors_travel_close_on_exec(pair):
    left, right = pair
    reading, writing = os.pipe()
    assert left.send(Left(1), [reading, writing])
    os.close(reading)
    os.close(writing)
    _, fds = right.recv()
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    os.write(fds[1], b"through")
    assert os.read(fds[0], 10) == b"through"
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("data", [b"\xc1", b"\x91\x09", b"\x92\x01\xa1x", b"\x00" * 100, b"\x91" * 5000])
def test_bytes_outside_the_vocabulary_close_their_descriptors_and_keep_the_channel(pair, data):
    left, right = pair
    before = open_fds()
    fd = os.open("/dev/null", os.O_RDONLY)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    left._sock.sendmsg([data], rights)
    os.close(fd)
    with pytest.raises(ProtocolError):
        right.recv()
    assert open_fds() == before
    assert left.send(Left(1))
    assert right.recv() == (Left(1), [])
    assert right.statistics().refused == 1


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_decode_or_are_refused(data):
    a, b = socket_pair()
    with FrameChannel[Vocabulary](b, Vocabulary) as right, a:
        a.send(data)
        try:
            received = right.recv()
        except ProtocolError:
            return
        assert isinstance(received[0], Left | Right)


def test_too_many_descriptors_are_refused_and_closed(pair):
    left, right = pair
    before = open_fds()
    fd = os.open("/dev/null", os.O_RDONLY)
    many = array.array("i", [fd] * (limits.CONTROL_MAX_FDS + 10))
    left._sock.sendmsg([left.encode(Left(1))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
    os.close(fd)
    with pytest.raises(ProtocolError, match="cut off"):
        right.recv()
    assert open_fds() == before


def test_the_length_limit_holds_on_both_sides(pair):
    left, right = pair
    with pytest.raises(MessageTooLarge) as refused:
        left.send(Left(1, b"x" * limits.CONTROL_FRAME_BYTES))
    assert refused.value.limit == limits.CONTROL_FRAME_BYTES
    left._sock.send(b"x" * (limits.CONTROL_FRAME_BYTES + 100))
    with pytest.raises(ProtocolError, match="longer"):
        right.recv()
    assert left.send(Left(1, b"x" * (limits.CONTROL_FRAME_BYTES - 16)))
    assert len(right.recv()[0].data) == limits.CONTROL_FRAME_BYTES - 16


def test_what_was_sent_before_the_end_is_still_read(pair):
    left, right = pair
    left.send(Left(1))
    left.send(Left(2))
    # Unread frames at the closing end make the system report a reset first.
    right.send(Right("never read"))
    left.close()
    assert right.recv()[0] == Left(1)
    assert right.recv_wait(1)[0] == Left(2)
    for _ in range(3):
        with pytest.raises(ChannelClosed):
            right.recv()
    with pytest.raises(ChannelClosed):
        right.send(Left(3))
    assert right.closed


def test_a_closed_end_says_so(pair):
    left, _ = pair
    left.close()
    with pytest.raises(ChannelClosed):
        left.recv()
    with pytest.raises(ChannelClosed):
        left.send(Left(1))
    assert left.fileno() == -1


def fill(channel: FrameChannel[Vocabulary]) -> int:
    sent = 0
    while channel.send(Left(sent, bytes(1000))):
        sent += 1
    return sent


def test_a_full_buffer_never_blocks(pair):
    left, right = pair
    sent = fill(left)
    assert sent > 10
    assert not left.send(Left(0, bytes(1000)))
    assert left.statistics().put_off == 2
    started = time.monotonic()
    with pytest.raises(WeftTimeout):
        left.send_wait(Left(0, bytes(1000)), timeout_s=0.1)
    assert 0.09 < time.monotonic() - started < 5
    numbers = [right.recv()[0].number for _ in range(sent)]
    assert numbers == list(range(sent))
    left.send_wait(Right("room again"), timeout_s=1)
    assert right.recv()[0] == Right("room again")


def test_waiting_to_receive_has_a_deadline(pair):
    _, right = pair
    started = time.monotonic()
    with pytest.raises(WeftTimeout):
        right.recv_wait(0.1)
    assert 0.09 < time.monotonic() - started < 5


def test_the_death_of_the_other_process_ends_a_wait():
    a, b = socket_pair()
    child = os.fork()
    if not child:
        b.close()
        try:
            FrameChannel[Vocabulary](a, Vocabulary).send(Left(os.getpid()))
            signal.pause()
        finally:
            os._exit(1)
    a.close()
    with FrameChannel[Vocabulary](b, Vocabulary) as channel:
        assert channel.recv_wait(10)[0] == Left(child)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(ChannelClosed):
            channel.recv_wait(10)
    os.waitpid(child, 0)


def test_the_outbox_keeps_order_and_descriptors(pair):
    left, right = pair
    outbox = FrameOutbox(left, limit=3)
    sent = fill(left)
    fd = os.open("/dev/null", os.O_RDONLY)
    for number in range(3):
        assert outbox.post(Left(1000 + number), [fd])
    os.close(fd)
    assert not outbox.post(Left(9)), "the limit holds"
    assert len(outbox) == 3
    for _ in range(sent):
        right.recv()
    assert outbox.flush()
    assert outbox.post(Left(1003))
    for number in range(4):
        frame, fds = right.recv()
        assert frame == Left(1000 + number)
        assert len(fds) == (1 if number < 3 else 0)
        for received in fds:
            os.close(received)


def test_an_outbox_without_reader_lets_go_of_its_descriptors(pair):
    left, right = pair
    outbox = FrameOutbox(left)
    fill(left)
    fd = os.open("/dev/null", os.O_RDONLY)
    outbox.post(Left(1), [fd])
    os.close(fd)
    right.close()
    with pytest.raises(ChannelClosed):
        outbox.flush()
    assert len(outbox) == 0

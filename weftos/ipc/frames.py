"""Typed frames over a local socket pair: one datagram is one struct, with descriptors beside it.

Why it is as it is: the control sockets carry what is rare and must not be lost: grants, lifecycle, requests to the
service. SOCK_SEQPACKET keeps the boundaries, tells us of the other end's death, and carries descriptors. Whether a call
may wait is the caller's choice at each call: the kernel never waits for an agent, an agent waits with a deadline, and
both use the same class. The socket's own blocking mode is left alone, because whoever inherited the socket shares it.

Guaranteed: a frame arrives whole, in order and once, or the channel is closed. A descriptor that arrived is either
returned to the caller or closed, whatever the bytes beside it were. What lies unread when the other end dies can still
be read. Not guaranteed: that a frame that was sent will be read. Everything received may come from a liar: it decodes
to the agreed vocabulary or raises ``ProtocolError``, and the channel stays usable, for boundaries do not depend on
content.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from weftos import limits
from weftos.errors import ChannelClosed, MessageTooLarge, ProtocolError, WeftTimeout

__all__ = ["ChannelStatistics", "FrameChannel", "FrameOutbox", "close_all", "frame_decoder", "socket_pair"]

T = TypeVar("T")

_FD: Final = array.array("i").itemsize
_NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | _NO_SIGNAL
_RECV_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: One byte above the limit, so that a frame that is too long is seen to be, and one descriptor above, for the same
#: reason.
_RECV_BYTES: Final = limits.CONTROL_FRAME_BYTES + 1
_RECV_ANCILLARY: Final = socket.CMSG_SPACE((limits.CONTROL_MAX_FDS + 1) * _FD)
#: Full buffers, and more descriptors in flight than the system lets one user have: both pass when the other end reads.
_LATER: Final = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ETOOMANYREFS))
_GONE: Final = frozenset(
    (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.EBADF, errno.ECONNREFUSED)
)


class ChannelStatistics(msgspec.Struct, frozen=True):
    """Counts since the channel was made: frames and descriptors each way, frames refused, sends put off."""

    frames_sent: int
    frames_received: int
    fds_sent: int
    fds_received: int
    refused: int
    put_off: int


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected local sockets that keep frame boundaries; both close-on-exec.

    SOCK_SEQPACKET where the system has it for local sockets (Linux), else SOCK_DGRAM (macOS).
    """
    kind = socket.SOCK_SEQPACKET if hasattr(os, "memfd_create") else socket.SOCK_DGRAM
    return socket.socketpair(socket.AF_UNIX, kind)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that came with a frame nobody wants."""
    for fd in fds:
        os.close(fd)


@lru_cache(maxsize=16)
def frame_decoder(decode_type: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of a union of frames.

    Making one takes 2 ms. A process that forks others makes those that they will need beforehand.
    """
    return msgspec.msgpack.Decoder(decode_type)


class FrameChannel(Generic[T]):
    """One end of a control socket.

    Args:
        sock: a connected socket from ``socket_pair``; owned by the channel from here on.
        decode_type: what the *other* end may send: a ``msgspec`` struct with a tag, or a union of such.
    """

    __slots__ = (
        "_closed",
        "_decoder",
        "_encoder",
        "_fds_in",
        "_fds_out",
        "_in",
        "_out",
        "_put_off",
        "_refused",
        "_sock",
    )

    def __init__(self, sock: socket.socket, decode_type: Any) -> None:
        self._sock = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[T] = frame_decoder(decode_type)
        self._closed = False
        self._out = self._in = self._fds_out = self._fds_in = self._refused = self._put_off = 0

    def fileno(self) -> int:
        """Return the socket's descriptor, for ``select``, ``poll`` and event loops; -1 once closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """Whether this end was closed or the other end was found gone."""
        return self._closed

    def encode(self, frame: msgspec.Struct) -> bytes:
        """Encode a frame as ``send`` would.

        Raises:
            MessageTooLarge: it exceeds ``limits.CONTROL_FRAME_BYTES``.
        """
        data = self._encoder.encode(frame)
        if len(data) > limits.CONTROL_FRAME_BYTES:
            raise MessageTooLarge(
                f"a {type(frame).__name__} of {len(data)} bytes exceeds the limit of {limits.CONTROL_FRAME_BYTES}",
                size=len(data),
                limit=limits.CONTROL_FRAME_BYTES,
            )
        return data

    def send(self, frame: msgspec.Struct, fds: Sequence[int] = ()) -> bool:
        """Send one frame without waiting.

        Args:
            frame: the struct.
            fds: descriptors to pass along, at most ``limits.CONTROL_MAX_FDS``; the caller keeps its own.

        Returns:
            True when sent; False when the other end's buffer is full, and then nothing was sent.

        Raises:
            ChannelClosed: the other end is gone, or this end was closed.
            MessageTooLarge: the frame exceeds ``limits.CONTROL_FRAME_BYTES``.
        """
        return self.send_bytes(self.encode(frame), fds)

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a frame that ``encode`` made; otherwise as ``send``."""
        assert 0 < len(data) <= limits.CONTROL_FRAME_BYTES, "the frame comes from encode"
        assert len(fds) <= limits.CONTROL_MAX_FDS, f"{len(fds)} descriptors in one frame"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([data], ancillary, _SEND_FLAGS)
        except OSError as error:
            if error.errno in _LATER:
                self._put_off += 1
                return False
            if error.errno in _GONE:
                self._closed = True
                raise ChannelClosed("the process at the other end of the control socket is gone") from error
            raise
        self._out += 1
        self._fds_out += len(fds)
        return True

    def send_wait(
        self, frame: msgspec.Struct, fds: Sequence[int] = (), timeout_s: float = limits.CONTROL_TIMEOUT_S
    ) -> None:
        """Send one frame, waiting for room at most ``timeout_s`` seconds.

        Raises:
            WeftTimeout: there was no room in time; nothing was sent.
            ChannelClosed: as for ``send``.
            MessageTooLarge: as for ``send``.
        """
        data = self.encode(frame)
        deadline = time.monotonic() + timeout_s
        while not self.send_bytes(data, fds):
            left = deadline - time.monotonic()
            if left <= 0:
                raise WeftTimeout(f"no room on the control socket for a {type(frame).__name__} within {timeout_s:g} s")
            # In slices: too many descriptors in flight is a state that no poll event announces the end of.
            self._poll(select.POLLOUT, min(left, limits.WAIT_SLICE_S))

    def recv(self) -> tuple[T, list[int]] | None:
        """Receive one frame without waiting.

        Returns:
            The struct and its descriptors, close-on-exec and owned by the caller from here on; ``None`` when nothing is
            there.

        Raises:
            ChannelClosed: the other end is gone and everything it sent has been read, or this end was closed.
            ProtocolError: the frame is not in the vocabulary, too long, or lost descriptors on the way; what came with
            it is closed.
        """
        received = self._receive()
        if received is None:
            return None
        data, ancillary, flags = received
        fds = _descriptors(ancillary)
        try:
            if not data:
                self._closed = True
                raise ChannelClosed("the process at the other end of the control socket is gone")
            frame = self._decode(data, fds, flags)
        except BaseException:
            close_all(fds)
            raise
        self._in += 1
        self._fds_in += len(fds)
        return frame, fds

    def recv_wait(self, timeout_s: float = limits.CONTROL_TIMEOUT_S) -> tuple[T, list[int]]:
        """Receive one frame, waiting at most ``timeout_s`` seconds.

        Raises:
            WeftTimeout: nothing came in time.
            ChannelClosed: as for ``recv``.
            ProtocolError: as for ``recv``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            received = self.recv()
            if received is not None:
                return received
            left = deadline - time.monotonic()
            if left <= 0:
                raise WeftTimeout(f"nothing came on the control socket within {timeout_s:g} s")
            self._poll(select.POLLIN, left)

    def statistics(self) -> ChannelStatistics:
        """Return the counts since the channel was made."""
        return ChannelStatistics(self._out, self._in, self._fds_out, self._fds_in, self._refused, self._put_off)

    def close(self) -> None:
        """Close this end. Idempotent. The other end reads what was sent, then ``ChannelClosed``."""
        self._closed = True
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]], int] | None:
        # A peer that closes with unread frames leaves one ECONNRESET before what it had sent: step over that, once.
        for attempt in range(2):
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(_RECV_BYTES, _RECV_ANCILLARY, _RECV_FLAGS)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return None
                if error.errno == errno.ECONNRESET and not attempt and hasattr(os, "memfd_create"):
                    continue
                if error.errno in _GONE:
                    self._closed = True
                    raise ChannelClosed("the control socket is closed") from error
                raise
            return data, ancillary, flags
        raise ChannelClosed("the process at the other end of the control socket is gone")

    def _decode(self, data: bytes, fds: list[int], flags: int) -> T:
        if flags & socket.MSG_TRUNC or len(data) > limits.CONTROL_FRAME_BYTES:
            self._refused += 1
            raise ProtocolError(f"a frame longer than {limits.CONTROL_FRAME_BYTES} bytes")
        if flags & socket.MSG_CTRUNC or len(fds) > limits.CONTROL_MAX_FDS:
            self._refused += 1
            raise ProtocolError("descriptors of a frame were cut off: too many, or this process can open no more")
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
            self._refused += 1
            raise ProtocolError(f"a frame is not in the vocabulary: {error}") from error

    def _poll(self, event: int, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(self._sock, event)
        poller.poll(max(0, timeout_s) * 1000)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _FD])
    return fds.tolist()


class FrameOutbox(Generic[T]):
    """Frames that wait until the other end has room, in order; for a process that must not wait itself.

    Args:
        channel: where they go. All sending on it goes through the outbox, or the order is lost.
        limit: frames that may wait.
    """

    __slots__ = ("_channel", "_limit", "_queue")

    def __init__(self, channel: FrameChannel[T], limit: int = limits.CONTROL_OUTBOX_FRAMES) -> None:
        self._channel = channel
        self._limit = limit
        self._queue: deque[tuple[bytes, list[int]]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def post(self, frame: msgspec.Struct, fds: Sequence[int] = ()) -> bool:
        """Send a frame now, or keep it for ``flush``. Kept descriptors are duplicates, so the caller may close its own.

        Returns:
            False when as many frames as allowed wait already; then this one was not taken.

        Raises:
            ChannelClosed: the other end is gone.
            MessageTooLarge: as for ``FrameChannel.send``.
        """
        data = self._channel.encode(frame)
        if self.flush() and self._channel.send_bytes(data, fds):
            return True
        if len(self._queue) >= self._limit:
            return False
        copies: list[int] = []
        try:
            copies.extend(os.dup(fd) for fd in fds)
        except OSError:
            close_all(copies)
            raise
        self._queue.append((data, copies))
        return True

    def flush(self) -> bool:
        """Send what waits, as far as there is room.

        Returns:
            True when nothing waits any more. While it is False, wait for the channel to become writable.

        Raises:
            ChannelClosed: the other end is gone; what waited is dropped.
        """
        while self._queue:
            data, fds = self._queue[0]
            try:
                if not self._channel.send_bytes(data, fds):
                    return False
            except ChannelClosed:
                self.clear()
                raise
            self._queue.popleft()
            close_all(fds)
        return True

    def clear(self) -> None:
        """Drop what waits and close its descriptors."""
        while self._queue:
            close_all(self._queue.popleft()[1])

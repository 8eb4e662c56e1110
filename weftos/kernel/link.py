"""A child's control socket inside the kernel's event loop: frames in by callback, frames out without ever blocking.

What the socket does not take at once waits in an outbox; a child that reads nothing for long is cut off when the outbox
is full, because a kernel that waits for one agent fails all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from weftos.errors import ChannelClosed, ProtocolError
from weftos.ipc.frames import FrameChannel, FrameOutbox

__all__ = ["FrameLink"]

#: Frames taken from one child in a turn of the event loop, so that a chatty one cannot starve the others.
_FRAMES_PER_TURN: Final = 64

F = TypeVar("F")


class FrameLink(Generic[F]):
    """One child's control channel.

    Args:
        channel: owned by the link from here on.
        on_frame: called with each frame and the descriptors that came with it (which the callee owns).
        on_closed: called once, with a reason, when the child closed its end or broke the protocol.
    """

    def __init__(
        self,
        channel: FrameChannel[F],
        on_frame: Callable[[F, list[int]], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._outbox = FrameOutbox(channel)
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._writing = False
        self._loop.add_reader(channel.fileno(), self._readable)

    @property
    def backlog(self) -> int:
        """Frames waiting to be taken by the child."""
        return len(self._outbox)

    def send(self, frame: Any, fds: Sequence[int] = ()) -> None:
        """Send a frame, or queue it; a closed link swallows it, because its child is being buried already."""
        if not self._open:
            return
        try:
            if not self._outbox.post(frame, fds):
                self._fail(f"{len(self._outbox)} control frames wait unread")
                return
        except ChannelClosed as error:
            self._fail(str(error))
            return
        if len(self._outbox) and not self._writing:
            self._writing = True
            self._loop.add_writer(self._channel.fileno(), self._writable)

    def close(self) -> None:
        """Close the socket and drop what waits."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._outbox.clear()
        self._channel.close()

    def drain(self) -> None:
        """Take every frame that already lies in the socket: last words of a child that has ended."""
        while self._open and self._take_one():
            continue

    def _readable(self) -> None:
        for _ in range(_FRAMES_PER_TURN):
            if not self._open or not self._take_one():
                return

    def _take_one(self) -> bool:
        try:
            received = self._channel.recv()
        except (ChannelClosed, ProtocolError) as error:
            self._fail(str(error))
            return False
        if received is None:
            return False
        self._on_frame(*received)
        return True

    def _writable(self) -> None:
        try:
            if self._outbox.flush():
                self._writing = False
                self._loop.remove_writer(self._channel.fileno())
        except ChannelClosed as error:
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_closed(reason)

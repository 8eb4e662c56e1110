"""Calls under way: which reply belongs to which call, and which comes too late. Pure bookkeeping.

A reply names the position of the message that it answers, in the ring that carried it. So ``(pid, position)`` names a
call, and no two calls ever share a name.
"""

from __future__ import annotations

from typing import Final

from weftos.errors import WeftError, error_for_code
from weftos.ipc.message import Message
from weftos.ipc.payloads import Failure

__all__ = ["Calls", "PendingCall"]

#: Calls given up whose late replies are still recognised.
_ABANDONED_MAX: Final = 1024


class PendingCall:
    """A call whose reply has not been fetched."""

    __slots__ = ("error", "pid", "position", "reply")

    def __init__(self, pid: int, position: int) -> None:
        self.pid = pid
        self.position = position
        self.reply: Message | None = None
        self.error: WeftError | None = None

    def result(self) -> Message | None:
        """The reply, if it has come.

        Raises:
            WeftError: the other end answered with a failure, or is gone.
        """
        if self.reply is not None:
            payload = self.reply.payload
            if type(payload) is Failure:
                raise error_for_code(payload.code, payload.message)
            return self.reply
        if self.error is not None:
            raise self.error
        return None


class Calls:
    """All calls of one agent."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], PendingCall] = {}
        self._abandoned: dict[tuple[int, int], None] = {}
        self.late_replies = 0

    def begin(self, pid: int, position: int) -> PendingCall:
        """Expect a reply to the message that went to ``pid`` at ``position``."""
        call = self._open[pid, position] = PendingCall(pid, position)
        return call

    def end(self, call: PendingCall) -> None:
        """Expect it no more."""
        del self._open[call.pid, call.position]

    def abandon(self, call: PendingCall) -> None:
        """Recognise a late reply when it comes, and drop it."""
        self._abandoned[call.pid, call.position] = None
        while len(self._abandoned) > _ABANDONED_MAX:
            del self._abandoned[next(iter(self._abandoned))]

    def match(self, message: Message) -> bool:
        """Give a message to the call that waits for it; False when none does."""
        if not message.correlation:
            return False
        call = self._open.get((message.sender, message.correlation - 1))
        if call is None:
            return False
        call.reply = message
        return True

    def is_late(self, message: Message) -> bool:
        """Tell whether a message answers a call that was given up; each is counted once."""
        key = (message.sender, message.correlation - 1)
        if key in self._abandoned:
            del self._abandoned[key]
            self.late_replies += 1
            return True
        return False

    def fail(self, pid: int, error: WeftError) -> None:
        """The process at the other end is gone: its calls will have no reply."""
        for call in self._open.values():
            if call.pid == pid and call.reply is None:
                call.error = error

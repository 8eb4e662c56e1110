"""The hot path of receiving: one closure between the program and the messages that were already taken from a ring.

Why apart from ``inbox``: it is that file's ``next`` and the engine's ``receive`` in one piece, for the common case
alone: a plain message in the ring at hand. Everything else goes the long way. A call saved is 50 ns of about 1000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from weftos.agent.inbox import Inbox
from weftos.ipc.message import PLAIN_HEAD, DecodeError, Message, decode_wire
from weftos.shm.layout import CURRENT

__all__ = ["build_receive"]


class _Engine(Protocol):
    stopping: bool


def build_receive(
    inbox: Inbox, engine: _Engine, patiently: Callable[[float | None], Message | None]
) -> Callable[..., Message | None]:
    """Build ``receive(timeout=None)``.

    Args:
        inbox: where messages lie.
        engine: tells whether the agent is to stop.
        patiently: the long way.
    """
    decode: Final = decode_wire
    local: Final = inbox.local

    def receive(timeout: float | None = None) -> Message | None:
        hot = inbox.hot
        if hot is not None and hot.direct and not local and not engine.stopping and (waiting := hot.waiting):
            pair = position, item = waiting.popleft()
            if type(item) is bytes and item and item[0] == PLAIN_HEAD:
                try:
                    message = decode(item)
                except DecodeError:
                    message = None
                if message is not None and not message.tag:
                    message.arrival = hot.arrival
                    message.position = inbox.position = position
                    # Says which message is in the handler; everything before it is done.
                    hot.words[CURRENT] = position + 1
                    return message
            waiting.appendleft(pair)
        return patiently(timeout)

    return receive

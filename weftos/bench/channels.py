"""What the throughput and latency measurements see of a way to send: a channel, opened after the fork.

Why it is as it is: each package sets up its ends differently and most cannot be used across a fork, so the parent only
prepares what has to be shared, and each worker opens its own end.

Guaranteed: ``close`` removes what the channel left in the file system. A channel is for one measurement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from weftos.bench.loops import Load

__all__ = ["Channel"]


class Channel(ABC):
    """One way to send, for one measurement. Subclasses say how.

    Args:
        senders: processes that send; with more than one there is one receiver.
        receivers: processes that receive; with more than one there is one sender, which serves them in turn.
        load: what travels.

    Attributes:
        who: name of the package, as it appears in the rows.
        over: tells whether the measurement is over, for ends that wait and must not be killed.
        spins: whether the ends of a round trip look again and again instead of sleeping.
        graceful: whether its processes must end by themselves, because they leave files behind when killed.
    """

    who: ClassVar[str]
    graceful: ClassVar[bool] = False
    spins: ClassVar[bool] = False

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        self.senders, self.receivers, self.load = senders, receivers, load
        self.over: Callable[[], bool] = lambda: False

    @abstractmethod
    def sender(self, number: int) -> Callable[[], Any]:
        """Open a sending end in this process; returns the loop body."""

    @abstractmethod
    def receiver(self, number: int) -> Callable[[], int]:
        """Open a receiving end in this process; returns the loop body, which says how many messages it received."""

    @abstractmethod
    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end of a round trip: sends a message and waits for the answer."""

    @abstractmethod
    def answerer(self) -> Callable[[], None]:
        """Open the other end: waits for one message and sends it back."""

    def close(self) -> None:  # noqa: B027 -- most leave nothing
        """Remove what is left; the parent calls it after its workers have ended."""

"""The kernel's own state machine, and the log of what it did: boot events first, running events after."""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import msgspec

from weftos.errors import WrongState

__all__ = ["BootPhase", "EventLog", "KernelEvent", "KernelLife", "KernelState", "LogLevel"]


class KernelState(enum.StrEnum):
    """Life of a kernel."""

    BOOTING = "booting"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting_down"
    HALTED = "halted"


_ARROWS: Final = {
    KernelState.BOOTING: {KernelState.RUNNING, KernelState.HALTED},
    KernelState.RUNNING: {KernelState.SHUTTING_DOWN},
    KernelState.SHUTTING_DOWN: {KernelState.HALTED},
    KernelState.HALTED: set(),
}


class KernelLife:
    """Holds the state and refuses arrows that do not exist (a failed boot goes straight to Halted)."""

    def __init__(self) -> None:
        self.state = KernelState.BOOTING

    def move(self, to: KernelState) -> None:
        """Change state.

        Raises:
            WrongState: there is no such arrow.
        """
        if to not in _ARROWS[self.state]:
            raise WrongState(f"the kernel is {self.state}; it cannot become {to}")
        self.state = to

    def require_running(self) -> None:
        """Refuse new work unless the kernel runs.

        Raises:
            WrongState: it boots or shuts down.
        """
        if self.state is not KernelState.RUNNING:
            raise WrongState(f"the kernel is {self.state}, not running; the request was not carried out")


class BootPhase(enum.StrEnum):
    """Where in its life the kernel was when it logged a line."""

    INIT = "INIT"
    CONFIG = "CONFIG"
    SERVICES = "SERVICES"
    TREE = "TREE"
    AGENTS = "AGENTS"
    NETWORK = "NETWORK"
    ECC = "ECC"
    READY = "READY"


class LogLevel(enum.IntEnum):
    """Rank of an event."""

    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40


class KernelEvent(msgspec.Struct, frozen=True):
    """One line of the log. ``serial`` grows by one, so that a follower can ask for what is new."""

    serial: int
    timestamp: float
    phase: BootPhase
    level: LogLevel
    message: str

    def line(self) -> str:
        """The line as the boot screen shows it."""
        return f"  [{self.phase.value:<10}] {self.message}"


class EventLog:
    """A bounded ring of events; the oldest fall out.

    Args:
        capacity: events kept.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._events: deque[KernelEvent] = deque(maxlen=capacity)
        self._serial = 0

    def add(self, now: float, phase: BootPhase, level: LogLevel, message: str) -> KernelEvent:
        """Append an event and return it."""
        self._serial += 1
        event = KernelEvent(self._serial, now, phase, level, message)
        self._events.append(event)
        return event

    def tail(self, count: int = 0, min_level: LogLevel = LogLevel.DEBUG, after: int = 0) -> list[KernelEvent]:
        """The newest ``count`` events (0 means all) of at least ``min_level`` and with a serial above ``after``, oldest
        first.
        """
        chosen = [event for event in self._events if event.level >= min_level and event.serial > after]
        return chosen[-count:] if count else chosen

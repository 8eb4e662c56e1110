"""Messages that nobody will handle, kept with the reason: bounded by count and by bytes, the oldest give way and are
counted.
"""

from __future__ import annotations

import enum
from collections import deque

import msgspec

from weftos import limits

__all__ = ["DeadLetter", "DeadLetterReason", "DeadLetters"]


class DeadLetterReason(enum.StrEnum):
    """Why a message was not handled."""

    TARGET_NOT_FOUND = "target_not_found"
    INBOX_FULL = "inbox_full"
    TIMEOUT = "timeout"
    GOVERNANCE_DENIED = "governance_denied"
    AGENT_EXITED = "agent_exited"
    POISONED = "poisoned"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One undelivered message: where it was from and to, why it is here, and its bytes as they lay in the ring
    (bounded).
    """

    message_id: str
    sender: int
    target: int
    reason: DeadLetterReason
    detail: str
    payload_type: str
    data: bytes
    timestamp: float
    deliveries: int = 0


class DeadLetters:
    """The store.

    Args:
        max_count: letters kept; at least 1.
        max_bytes: bytes of message data kept; at least 1.
    """

    def __init__(self, max_count: int = limits.DEAD_LETTERS_MAX, max_bytes: int = limits.DEAD_LETTERS_BYTES) -> None:
        assert max_count > 0
        assert max_bytes > 0
        self._letters: deque[DeadLetter] = deque()
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._bytes = 0
        self.evicted = 0

    def add(self, letter: DeadLetter) -> None:
        """Keep a letter; the oldest make room."""
        self._letters.append(letter)
        self._bytes += len(letter.data)
        while len(self._letters) > self._max_count or (self._bytes > self._max_bytes and len(self._letters) > 1):
            self._bytes -= len(self._letters.popleft().data)
            self.evicted += 1

    def newest(self, count: int = 0) -> list[DeadLetter]:
        """The newest ``count`` letters (0 means all), oldest first."""
        letters = list(self._letters)
        return letters[-count:] if count else letters

    def __len__(self) -> int:
        return len(self._letters)

"""Agents whose answers wait for the disk of the memory, while the loop serves others.

Why it is as it is: an agent's answers come in the order of its requests, and its ring is committed behind them. So one
that waits gets nothing and gives nothing until its changes are on the disk; that it has more to ask is found then.

Guaranteed: first come, first answered. None is in here twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from weftos.service.clients import Client

__all__ = ["Parked", "Waiting"]


class Waiting(NamedTuple):
    """One that waits.

    Attributes:
        client: the agent; its ``replies`` are what is to be delivered.
        number: of the sync that it waits for, as ``Cognition.sync`` gave it.
        failed: why the log could not be written when the answers were made, or ``None``.
    """

    client: Client
    number: int
    failed: str | None


class Parked:
    """Those who wait.

    Args:
        is_synced: tells whether a sync is over.
    """

    def __init__(self, is_synced: Callable[[int], bool]) -> None:
        self._is_synced = is_synced
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waiting) -> None:
        """Let an agent wait."""
        assert not one.client.parked, "an agent that waits is not served"
        one.client.parked = True
        self._waiting.append(one)

    def take(self) -> list[Waiting]:
        """Return those who need not wait any more."""
        done = []
        while self._waiting and self._is_synced(self._waiting[0].number):
            done.append(self._waiting.popleft())
            done[-1].client.parked = False
        return done

    def clear(self) -> list[Client]:
        """Give all up, and return them."""
        left = [one.client for one in self._waiting]
        self._waiting.clear()
        return left

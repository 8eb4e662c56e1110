"""How much memory agents may take: of all, and of the part of each.

Why it is as it is: entries, nodes and edges are held by the service, so an agent that writes without end would take
the log and the gate down with it. A collection counts to who made it, and to the agent at the top of those who started
it, so that starting others gives no more. What is nobody's own (a graph in a shared space) counts to the collection of
its space, without which there is none.

Guaranteed: nothing is written that does not fit by these sums. They are estimates of what it takes, not measurements.
"""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from weftos import limits
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import CollectionNotFound, MemoryQuotaReached
from weftos.governance.permissions import PRIVATE_SPACES
from weftos.service.clients import Caller
from weftos.service.ecc_spaces import Spaces

__all__ = ["Quota", "Room"]


class Room(msgspec.Struct, frozen=True):
    """What may be taken, in bytes; 0 is unlimited.

    Attributes:
        agent_bytes: by the spaces of one agent and of those below it.
        store_bytes: by all.
    """

    agent_bytes: int = limits.ECC_AGENT_BYTES
    store_bytes: int = limits.ECC_STORE_BYTES


def _top(scope: str) -> str:
    """Return the agent at the top of a scope."""
    return scope.partition("/")[0]


class Quota:
    """Adds up what is taken, and refuses what is too much.

    Args:
        vectors: the collections.
        spaces: the graphs.
        room: what may be taken.
    """

    def __init__(self, vectors: VectorStore, spaces: Spaces, room: Room) -> None:
        self._vectors = vectors
        self._spaces = spaces
        self._room = room
        self._sizes: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._total = 0
        self._fresh_until = float("-inf")

    def take(self, caller: Caller, space: str, more: int) -> None:
        """Let somebody write so many bytes into a space. The operator is bound by the whole alone.

        Raises:
            MemoryQuotaReached: they do not fit.
        """
        self._add_up()
        room = self._room
        if room.store_bytes and self._total + more > room.store_bytes:
            raise MemoryQuotaReached(
                f"memory holds about {self._total} bytes and may hold {room.store_bytes}; forget something, or raise "
                "memory.store_bytes in weftos.toml"
            )
        owner = self._owner(space)
        if owner and not caller.kernel and room.agent_bytes and self._sizes[owner] + more > room.agent_bytes:
            raise MemoryQuotaReached(
                f"the spaces of {owner!r} take about {self._sizes[owner]} bytes and may take {room.agent_bytes}; "
                "forget something, or raise memory.agent_bytes in weftos.toml"
            )
        self._total += more
        self._sizes[owner] += more

    def make(self, caller: Caller) -> None:
        """Let somebody make a collection.

        Raises:
            MemoryQuotaReached: he has made as many as he may.
        """
        self._add_up()
        made = self._made[_top(caller.scope)]
        if not caller.kernel and made >= limits.ECC_AGENT_SPACES:
            raise MemoryQuotaReached(
                f"{_top(caller.scope)!r} and the agents below it have made {made} collections, and no more are "
                "allowed; drop one"
            )
        self._fresh_until = float("-inf")

    def _owner(self, space: str) -> str:
        if space.startswith(PRIVATE_SPACES):
            return _top(space.removeprefix(PRIVATE_SPACES))
        try:
            return _top(self._vectors.spec(space).owner)
        except CollectionNotFound:
            return ""

    def _add_up(self) -> None:
        now = time.monotonic()
        if now < self._fresh_until:
            return
        self._sizes.clear()
        self._made.clear()
        for one in self._vectors.collections():
            row = one.spec.dimension * 4 + limits.ECC_ENTRY_BYTES
            self._sizes[self._owner(one.spec.name)] += one.bytes + one.delta_rows * row
            self._made[_top(one.spec.owner)] += 1
        for space in self._spaces.graphs.names():
            graph = self._spaces.graphs.make(space).graph
            taken = graph.node_count * limits.ECC_NODE_BYTES + graph.edge_count * limits.ECC_EDGE_BYTES
            self._sizes[self._owner(space)] += taken
        self._total = sum(self._sizes.values())
        self._fresh_until = now + limits.ECC_SIZES_S

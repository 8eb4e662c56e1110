"""How much of the artifact store one agent takes, and how many requests it has under way. Pure bookkeeping.

It lives as long as the agent and the kernel do: agents end with their kernel, and what an agent of an earlier boot put
is the operator's to release.
"""

from __future__ import annotations

from weftos import limits
from weftos.errors import ArtifactQuotaReached, ResourceLimitExceeded

__all__ = ["ArtifactShare"]


class ArtifactShare:
    """The share of one agent.

    Attributes:
        used: bytes of what it has put and not released, with what is under way.
        under_way: requests without an answer.
    """

    __slots__ = ("_put", "under_way", "used")

    def __init__(self) -> None:
        self.used = self.under_way = 0
        self._put: dict[str, int] = {}

    def enter(self) -> None:
        """Count a request as under way.

        Raises:
            ResourceLimitExceeded: there are too many.
        """
        if self.under_way >= limits.ARTIFACT_IN_FLIGHT:
            raise ResourceLimitExceeded(
                f"{self.under_way} requests about artifacts are under way, which is the most; wait for an answer"
            )
        self.under_way += 1

    def leave(self) -> None:
        """Count a request as answered."""
        self.under_way -= 1

    def reserve(self, size: int, most: int) -> int:
        """Take room for an artifact.

        Args:
            size: bytes of its content.
            most: the agent's limit in bytes; 0 is unlimited, and then nothing is counted.

        Returns:
            What was taken, for ``keep`` or ``give_back``.

        Raises:
            ArtifactQuotaReached: there is no room.
        """
        if not most:
            return 0
        charge = -(-max(size, 1) // limits.ARTIFACT_BLOCK_BYTES) * limits.ARTIFACT_BLOCK_BYTES
        if self.used + charge > most:
            raise ArtifactQuotaReached(
                f"an artifact of {size} bytes: this agent has put {self.used} of the {most} bytes that its limit "
                "artifact_bytes allows; release some, or raise the limit"
            )
        self.used += charge
        return charge

    def keep(self, digest: str, charge: int) -> None:
        """The artifact was put. One that this agent has put before counts once."""
        if digest in self._put:
            self.used -= charge
        elif charge:
            self._put[digest] = charge

    def give_back(self, charge: int) -> None:
        """The artifact was not put."""
        self.used -= charge

    def release(self, digest: str) -> None:
        """The agent needs an artifact no more."""
        self.used -= self._put.pop(digest, 0)

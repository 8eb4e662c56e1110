"""Which changes of a store the log vouches for, and by which record.

Why it is as it is: a record of the log for each change would cost more than the change. So each change gets a number
and a leaf, and now and then one record commits to the Merkle root over the leaves since the record before. Which record
vouches for a change is then a search in a short list.

Guaranteed: every change is under exactly one commitment, in order and without a gap, also over a restart, if the store
keeps ``state`` with its snapshot and makes the changes behind it again. Pure memory.

Source of the tree: RFC 9162, section 2.1.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from weftos.merkle.frontier import Frontier, leaf_hash
from weftos.merkle.proofs import inclusion_proof

__all__ = ["Commitment", "CommitmentState", "Uncommitted"]


class Uncommitted(msgspec.Struct, frozen=True):
    """Changes that no record vouches for yet.

    Attributes:
        first: number of the first.
        last: number of the last; ``first - 1`` if there is none.
        root: Merkle root over their leaves, 32 bytes.
    """

    first: int
    last: int
    root: bytes

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


class CommitmentState(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot keeps: leaves without a record, and the last change and record of each commitment."""

    last: int = 0
    leaves: list[bytes] = []
    ends: list[int] = []
    seqs: list[int] = []


class Commitment:
    """The numbers of changes, from 1 on.

    Args:
        state: of the snapshot that is gone on from.
    """

    def __init__(self, state: CommitmentState | None = None) -> None:
        state = state or CommitmentState()
        self.last = state.last
        self._leaves = list(state.leaves)
        self._ends, self._seqs = list(state.ends), list(state.seqs)

    def add(self, content: bytes) -> int:
        """Give a change its number.

        Args:
            content: all that it says.
        """
        self._leaves.append(leaf_hash(content))
        self.last += 1
        return self.last

    def uncommitted(self) -> Uncommitted:
        """Return what a record has to say to vouch for all changes so far."""
        tree = Frontier()
        tree.extend(self._leaves)
        return Uncommitted(self.last - len(self._leaves) + 1, self.last, tree.root())

    @property
    def waiting(self) -> int:
        """How many changes no record vouches for."""
        return len(self._leaves)

    def commit(self, last: int, seq: int) -> None:
        """Note that a record vouches for the changes up to ``last``; those that it does already are passed over."""
        first = self.last - len(self._leaves) + 1
        if last < first:
            return
        del self._leaves[: last - first + 1]
        self._ends.append(last)
        self._seqs.append(seq)

    def seq_of(self, op: int) -> int:
        """Return the number of the record that vouches for a change; 0 if none does yet."""
        at = bisect_left(self._ends, op)
        return self._seqs[at] if at < len(self._ends) else 0

    def proof(self, op: int) -> list[bytes]:
        """Return the path from a change that waits to the root of ``uncommitted``, lowest first.

        Raises:
            ProofInvalid: it does not wait.
        """
        first = self.last - len(self._leaves) + 1

        def node(level: int, index: int) -> bytes:
            tree = Frontier()
            tree.extend(self._leaves[index << level : (index + 1) << level])
            return tree.root()

        return inclusion_proof(op - first, len(self._leaves), node)

    def state(self) -> CommitmentState:
        """Return what a snapshot has to keep."""
        return CommitmentState(self.last, list(self._leaves), list(self._ends), list(self._seqs))

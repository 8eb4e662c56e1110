"""The numbered mutations of a store: their leaves, and which record of the log vouches for which of them.

Why it is as it is: a leaf is 33 bytes and must be there as long as anybody may ask for a proof, which is as long as the
log. So leaves and commitments are in two files that only grow, of records of fixed size that are found by their number.
What was added since the last :meth:`Ledger.save` is in memory, and the journal has it.

Guaranteed: what a proof is made of leads to the root that was committed, or there is an error. Retained: the leaf of
every mutation; not what the leaf is the hash of. Format in docs/formats/vectors.md.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left
from collections import Counter
from typing import Final, NamedTuple

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from weftos.disk.files import Files, ReadFile, write_all
from weftos.ecc.vectors.digests import KINDS
from weftos.ecc.vectors.model import OpKind, OpProof, Uncommitted
from weftos.errors import VectorRefused, VectorsDamaged
from weftos.merkle.frontier import Frontier, parents
from weftos.merkle.proofs import inclusion_proof

__all__ = ["Commitment", "Ledger", "LedgerState"]

_LEAF_BYTES: Final = 33
#: first, last, number of the record of the log, root, digest of the records of the leaves; then 8 bytes of BLAKE3 over
#: them. The digest is there for the kinds, which the root does not cover.
_COMMITMENT: Final = struct.Struct("<QQQ32s16s")
_RECORDS_DIGEST: Final = 16
_CHECK: Final = 8
_COMMITMENT_BYTES: Final = _COMMITMENT.size + _CHECK


class Commitment(NamedTuple):
    """A record of the log vouches for the mutations from ``first`` to ``last``."""

    first: int
    last: int
    chain_seq: int
    root: bytes
    records: bytes


class LedgerState(msgspec.Struct, frozen=True, array_like=True):
    """How much of the two files counts.

    Attributes:
        ops: leaves.
        commitments: records of the other file.
        commitments_digest: BLAKE3 of them.
        tail_digest: BLAKE3 of the leaves that are not committed.
    """

    ops: int
    commitments: int
    commitments_digest: bytes
    tail_digest: bytes


#: Of a store that nothing was done to yet.
EMPTY_LEDGER: Final = LedgerState(0, 0, blake3(b"").digest(), blake3(b"").digest())


class Ledger:
    """Leaves and commitments of one store.

    Args:
        fs: the calls on files.
        folder: where the files are; they may be longer than the state says, never shorter.
        state: as :meth:`save` returned it.

    Raises:
        VectorsDamaged: the files are not what was saved.
        OSError: they cannot be read.
    """

    def __init__(self, fs: Files, folder: str, state: LedgerState = EMPTY_LEDGER) -> None:
        self._fs = fs
        self._leaves_path = os.path.join(folder, "ops.leaves")
        self._commitments_path = os.path.join(folder, "ops.commitments")
        self._saved_ops = state.ops
        self._saved_commitments = state.commitments
        self._ends, self._seqs = array("Q"), array("Q")
        #: Both as they are looked up for many; None after a change.
        self._vouching: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None
        self._hasher = blake3()
        self._read_commitments(state)
        self._committed = self._ends[-1] if self._ends else 0
        tail = self._read(self._leaves_path, self._committed * _LEAF_BYTES, (state.ops - self._committed) * _LEAF_BYTES)
        if blake3(tail).digest() != state.tail_digest:
            raise VectorsDamaged(f"{self._leaves_path} was altered; restore it from a copy")
        #: Records of the mutations that are not committed, then those that are in no file.
        self._tail = bytearray(tail)
        self._buffer = bytearray()
        self._new_commitments: list[bytes] = []
        self._last = state.ops
        self._frontier = Frontier()

    @property
    def last_op(self) -> int:
        """Number of the last mutation."""
        return self._last

    @property
    def committed_op(self) -> int:
        """Number of the last mutation that a record of the log vouches for."""
        return self._committed

    def note(self, kind: OpKind, leaves: list[bytes]) -> None:
        """Add the next mutations, all of one kind.

        Args:
            kind: theirs.
            leaves: their hashes.
        """
        code = bytes([KINDS.index(kind) + 1])
        records = b"".join([code + leaf for leaf in leaves])
        self._tail += records
        self._buffer += records
        self._last += len(leaves)

    def uncommitted(self) -> Uncommitted:
        """Return what no record of the log vouches for."""
        size = len(self._tail) // _LEAF_BYTES
        if self._frontier.size < size:
            self._frontier.extend(_hashes(self._tail, self._frontier.size, size))
        counts = Counter(self._tail[0::_LEAF_BYTES])
        named: dict[OpKind, int] = {KINDS[code - 1]: count for code, count in sorted(counts.items())}
        return Uncommitted(self._committed + 1, self._last, self._frontier.root(), named)

    def commit(self, last: int, chain_seq: int) -> None:
        """Note that a record of the log vouches for the mutations up to ``last``; those that one does already stay.

        Raises:
            VectorRefused: they have not all happened.
        """
        self.check_commit(last, chain_seq)
        if last <= self._committed:
            return
        count = last - self._committed
        if self._frontier.size > count:
            self._frontier = Frontier()
        self._frontier.extend(_hashes(self._tail, self._frontier.size, count))
        records = blake3(bytes(self._tail[: count * _LEAF_BYTES])).digest(_RECORDS_DIGEST)
        fields = _COMMITMENT.pack(self._committed + 1, last, chain_seq, self._frontier.root(), records)
        record = fields + blake3(fields).digest(_CHECK)
        self._new_commitments.append(record)
        self._ends.append(last)
        self._seqs.append(chain_seq)
        self._vouching = None
        del self._tail[: count * _LEAF_BYTES]
        self._committed = last
        self._frontier = Frontier()

    def check_commit(self, last: int, chain_seq: int) -> None:
        """Refuse what :meth:`commit` would refuse."""
        if not 0 < last <= self._last:
            raise VectorRefused(f"mutation {last} cannot be committed: the last is {self._last}")
        if not 0 < chain_seq < 1 << 64:
            raise VectorRefused(f"{chain_seq} is no number of a record that can vouch for mutations")

    def chain_seq(self, op: int) -> int:
        """Return the number of the record of the log that vouches for a mutation; 0 if there is none."""
        place = bisect_left(self._ends, op)
        return self._seqs[place] if place < len(self._ends) else 0

    def chain_seqs(self, ops: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """As :meth:`chain_seq`, for many."""
        if self._vouching is None:
            # Copies: an array of which there is a view cannot grow. The 0 is for what no record vouches for.
            self._vouching = np.array(self._ends, np.uint64), np.append(np.array(self._seqs, np.uint64), np.uint64(0))
        ends, seqs = self._vouching
        found: NDArray[np.uint64] = seqs[ends.searchsorted(ops)]
        return found

    def proof(self, op: int) -> OpProof:
        """Return the proof of a mutation.

        Args:
            op: its number.

        Returns:
            The proof, without what the leaf is the hash of.

        Raises:
            VectorRefused: there is no such mutation, or it is not committed.
            VectorsDamaged: the leaves do not lead to the root.
        """
        if not 0 < op <= self._last:
            raise VectorRefused(f"there is no mutation {op}; the last is {self._last}")
        if op > self._committed:
            raise VectorRefused(f"mutation {op} is not committed to the log yet; commit it first")
        commitment = self.commitment(bisect_left(self._ends, op))
        records = self._records(commitment.first, commitment.last)
        levels = [_hashes(records, 0, commitment.last - commitment.first + 1)]
        size, index = len(levels[0]), op - commitment.first
        while len(levels[-1]) > 1:
            levels.append(parents(levels[-1]))
        path = tuple(inclusion_proof(index, size, lambda level, at: levels[level][at]))
        frontier = Frontier()
        frontier.extend(levels[0])
        if (frontier.root(), blake3(records).digest(_RECORDS_DIGEST)) != (commitment.root, commitment.records):
            raise VectorsDamaged(f"{self._leaves_path}: the leaves around mutation {op} were altered; restore the file")
        code = records[index * _LEAF_BYTES]
        return OpProof(
            op, KINDS[code - 1], levels[0][index], index, size, path, commitment.root, commitment.chain_seq, b""
        )

    def commitment(self, place: int) -> Commitment:
        """Return the commitment with this number, from 0 on."""
        new = place - self._saved_commitments
        if new >= 0:
            raw = self._new_commitments[new]
        else:
            raw = self._read(self._commitments_path, place * _COMMITMENT_BYTES, _COMMITMENT_BYTES)
        return self._unpacked(raw)

    def save(self) -> LedgerState:
        """Bring all leaves and commitments into their files.

        Returns:
            What has to be given to the next ledger.

        Raises:
            OSError: a call failed.
        """
        if self._buffer or not self._saved_ops:
            self._append(self._leaves_path, self._saved_ops * _LEAF_BYTES, self._buffer)
            self._saved_ops, self._buffer = self._last, bytearray()
        if self._new_commitments or not self._saved_commitments:
            added = b"".join(self._new_commitments)
            self._append(self._commitments_path, self._saved_commitments * _COMMITMENT_BYTES, added)
            self._hasher.update(added)
            self._saved_commitments, self._new_commitments = len(self._ends), []
        return LedgerState(self._saved_ops, self._saved_commitments, self._hasher.digest(), blake3(self._tail).digest())

    def _append(self, path: str, size: int, data: bytes | bytearray) -> None:
        fresh = not os.path.lexists(path)
        fd = self._fs.create(path) if fresh else self._fs.open_append(path)
        try:
            # What lies behind was written by a save whose manifest never came.
            self._fs.truncate(fd, size)
            if data:
                write_all(self._fs, fd, data)
            self._fs.sync_file(fd)
        finally:
            self._fs.close(fd)
        if fresh:
            self._fs.sync_dir(os.path.dirname(path))

    def _records(self, first: int, last: int) -> bytes:
        """Records of the leaves from ``first`` to ``last``, from file and memory."""
        in_file = max(0, min(last, self._saved_ops) - first + 1)
        raw = self._read(self._leaves_path, (first - 1) * _LEAF_BYTES, in_file * _LEAF_BYTES)
        begin = max(0, first - 1 - self._saved_ops) * _LEAF_BYTES
        return raw + bytes(self._buffer[begin : max(0, last - self._saved_ops) * _LEAF_BYTES])

    def _read(self, path: str, offset: int, count: int) -> bytes:
        if not count:
            return b""
        try:
            with ReadFile(path) as file:
                raw = file.read(offset, count)
        except FileNotFoundError as error:
            raise VectorsDamaged(f"{path} is missing; restore it from a copy") from error
        if len(raw) < count:
            raise VectorsDamaged(f"{path} is shorter than what was saved; restore it from a copy")
        return raw

    def _read_commitments(self, state: LedgerState) -> None:
        raw = self._read(self._commitments_path, 0, state.commitments * _COMMITMENT_BYTES)
        self._hasher.update(raw)
        if self._hasher.digest() != state.commitments_digest:
            raise VectorsDamaged(f"{self._commitments_path} was altered; restore it from a copy")
        for _first, last, seq, _root, _records, _check in struct.iter_unpack(f"{_COMMITMENT.format}{_CHECK}s", raw):
            self._ends.append(last)
            self._seqs.append(seq)

    def _unpacked(self, raw: bytes) -> Commitment:
        fields = raw[: _COMMITMENT.size]
        if blake3(fields).digest(_CHECK) != raw[_COMMITMENT.size :]:
            raise VectorsDamaged(f"{self._commitments_path} was altered; restore it from a copy")
        return Commitment(*_COMMITMENT.unpack(fields))


def _hashes(records: bytes | bytearray, begin: int, end: int) -> list[bytes]:
    """The hashes in the records with these numbers."""
    return [
        bytes(records[at + 1 : at + _LEAF_BYTES]) for at in range(begin * _LEAF_BYTES, end * _LEAF_BYTES, _LEAF_BYTES)
    ]

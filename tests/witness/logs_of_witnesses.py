"""Logs for witnesses: a tree of given leaves with signed checkpoints and proofs; and a disk that fails."""

from __future__ import annotations

import errno
import os

from weftos.chain.signing.checkpoint import Checkpoint, log_origin, sign_checkpoint
from weftos.chain.signing.keyring import KeyPair
from weftos.disk.files import RealFiles
from weftos.merkle.frontier import EMPTY_ROOT, leaf_hash, node_hash
from weftos.merkle.proofs import consistency_proof

LOG_ID = bytes(range(16))


class TestLog:
    """A log whose leaves can be anything, so that it can also lie."""

    __test__ = False

    def __init__(self, seed: int = 1, log_id: bytes = LOG_ID, leaves: list[bytes] | None = None) -> None:
        self.pair = KeyPair(bytes([seed]) * 32, bytes([seed + 1]) * 32)
        self.keys = self.pair.public
        self.origin = log_origin(log_id)
        self.leaves = leaves or []

    def grow(self, count: int, letter: str = "a") -> TestLog:
        self.leaves += [f"{letter}{len(self.leaves) + n}".encode() for n in range(count)]
        return self

    def fork(self, size: int, count: int, letter: str = "b") -> TestLog:
        """Another history with the same keys: the first ``size`` leaves, then others."""
        other = TestLog.__new__(TestLog)
        other.pair, other.keys, other.origin = self.pair, self.keys, self.origin
        other.leaves = self.leaves[:size]
        return other.grow(count, letter)

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self.leaves[index])
        return node_hash(self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1))

    def root(self, size: int | None = None) -> bytes:
        hashes = [leaf_hash(leaf) for leaf in self.leaves[:size]]

        def tree(part: list[bytes]) -> bytes:
            if len(part) == 1:
                return part[0]
            split = 1 << (len(part) - 1).bit_length() - 1
            return node_hash(tree(part[:split]), tree(part[split:]))

        return tree(hashes) if hashes else EMPTY_ROOT

    def proof(self, old: int, new: int | None = None) -> list[bytes]:
        return consistency_proof(old, len(self.leaves) if new is None else new, self._node)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        return Checkpoint(self.origin, len(self.leaves) if size is None else size, self.root(size))

    def note(self, size: int | None = None) -> bytes:
        return sign_checkpoint(self.checkpoint(size), self.pair.signers(self.origin))


class Crash(BaseException):
    """The process ends here."""


class FailingFiles(RealFiles):
    """Real files of which one call fails or stops the world, before it has done its work or after."""

    def __init__(self) -> None:
        self.calls = 0
        self.arm()

    def arm(self, at: int = -1, what: BaseException | None = None, *, after: bool = False) -> None:
        """Let the ``at``-th changing call from now on fail."""
        self.at, self.what, self.after = self.calls + at if at >= 0 else -1, what or OSError(errno.EIO, "broken"), after

    def _do(self, work, *arguments):
        number, self.calls = self.calls, self.calls + 1
        if number == self.at and not self.after:
            raise self.what
        result = work(*arguments)
        if number == self.at:
            raise self.what
        return result

    def write(self, fd, data):
        return self._do(super().write, fd, data)

    def sync_file(self, fd):
        return self._do(super().sync_file, fd)

    def sync_dir(self, path):
        return self._do(super().sync_dir, path)

    def rename(self, source, target):
        return self._do(super().rename, source, target)

    def unlink(self, path):
        return self._do(super().unlink, path)

    def create(self, path):
        number = self.calls
        try:
            return self._do(super().create, path)
        except BaseException:
            # Nobody holds the descriptor then; the file stays, as after a crash.
            if number == self.at and self.after:
                _close_newest(path)
            raise


def _close_newest(path: str) -> None:
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == os.path.realpath(path):
                os.close(int(name))
        except FileNotFoundError:
            continue

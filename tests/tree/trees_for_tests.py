"""Trees with content, and a plain description of a tree to compare with."""

from __future__ import annotations

from typing import Any

from weftos.tree.deltas import Created, Delta
from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.tree import ResourceTree

P = ResourcePath


class Log:
    """Applies changes with numbers and times as a log would give them."""

    def __init__(self, tree: ResourceTree | None = None) -> None:
        self.tree = tree or ResourceTree()
        self.records: list[tuple[Delta, int, int]] = []

    def add(self, *deltas: Delta) -> ResourceTree:
        for delta in deltas:
            seq = self.tree.last_seq + 3
            self.tree.apply(delta, seq, 10**18 + seq)
            self.records.append((delta, seq, 10**18 + seq))
        return self.tree

    def make(self, path: str, kind: str = "namespace", **values: Any) -> ResourceTree:
        return self.add(Created(path=P(path), kind=Kind(kind), values=values))


def booted() -> Log:
    """A tree with the namespaces."""
    log = Log()
    log.add(*log.tree.bootstrap_deltas())
    return log


def state(tree: ResourceTree) -> dict[str, Any]:
    """All that the root binds, in plain values."""
    return {
        str(entry.path): (
            str(entry.kind),
            sorted(entry.values.items()),
            entry.scoring.to_bytes(),
            sorted((name, policy.to_bytes()) for name, policy in entry.policies.items()),
        )
        for entry in tree.entries()
    }


def stamps(tree: ResourceTree) -> dict[str, tuple[int, int, int]]:
    """Numbers and times, which the root does not bind."""
    return {str(e.path): (e.chain_seq, e.created_ns, e.updated_ns) for e in tree.entries()}

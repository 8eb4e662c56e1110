"""The resource tree: the sum of the changes in the log, with a hash that binds all of it.

Why it is as it is: nothing but a change changes the tree, and a change carries its number in the log. So the tree of a
log is a function of the log: whoever replays it gets the same root. A change that does not fit is refused before it
does anything; whoever writes the log asks ``check`` first, so that no record is written that cannot be applied.

Guaranteed: after an error the tree is what it was; equal states have equal roots, whatever way led to them; a reader
gets copies. Not guaranteed: safety in several threads at once, and authority: who may change what is asked elsewhere.

The name of an agent outlives its process. Creating an agent that exists is its next incarnation: it gets the new
metadata and keeps its scores, its children, its policies and the time when it was first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from weftos import limits
from weftos.errors import DeltaRefused, NodeExists, NodeNotEmpty, NodeNotFound, ResourceLimitExceeded
from weftos.tree import metadata, queries
from weftos.tree.deltas import (
    Created,
    Delta,
    MetadataRemoved,
    MetadataSet,
    PolicyRemoved,
    PolicySet,
    Removed,
    ScoringSet,
)
from weftos.tree.entries import Entry
from weftos.tree.names import Kind
from weftos.tree.nodes import INCARNATION, Node
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.queries import Ranked, TreeStatistics
from weftos.tree.scoring import DEFAULT_SCORING, Scoring

__all__ = ["NAMESPACES", "Filter", "ResourceTree"]

#: The nodes that every tree has, parents first.
NAMESPACES: Final = tuple(
    ResourcePath(text)
    for text in (
        "/kernel",
        "/kernel/services",
        "/kernel/processes",
        "/kernel/agents",
        "/kernel/tools",
        "/network",
        "/network/peers",
        "/apps",
        "/environments",
    )
)

#: Says of a node whether it counts for a question.
Filter = Callable[[ResourcePath, Kind], bool]

_AGENT: Final = Kind("agent")
_NAMESPACE: Final = Kind("namespace")
_INT_MAX: Final = 2**63 - 1


class ResourceTree:
    """The tree. A new one has only the root, a namespace."""

    def __init__(self) -> None:
        self._root = Entry(ROOT, _NAMESPACE, DEFAULT_SCORING, None)
        self._entries: dict[ResourcePath, Entry] = {ROOT: self._root}
        self._last_seq = -1
        self._policy_generation = 0

    @classmethod
    def assemble(cls, entries: Iterable[Entry], last_seq: int) -> ResourceTree:
        """Build a tree from entries that nobody else uses.

        Args:
            entries: with a hash for none of them; the root first, each after the one above it.
            last_seq: number of the last record that led to them.

        Raises:
            DeltaRefused: an entry is there twice, comes before the one above it, or misses what its kind must have.
            ResourceLimitExceeded: they are more than ``limits.TREE_NODES``.
        """
        tree = cls()
        tree._last_seq = last_seq
        for entry in entries:
            tree._adopt(entry)
        return tree

    # --- changes ------------------------------------------------------------------------------------------------------

    def check(self, delta: Delta) -> None:
        """Refuse a change that cannot be applied now; change nothing.

        Raises:
            NodeNotFound: the node is not there, or for a new one its parent.
            NodeExists: the new node is there already, and is not an agent that comes again.
            NodeNotEmpty: the node that is to go has children.
            NodeInvalid: the node would have too much metadata.
            DeltaRefused: there is no such key or policy, the root is to be removed, or a node has too many policies.
            ResourceLimitExceeded: the tree has ``limits.TREE_NODES`` nodes.
        """
        if isinstance(delta, Created):
            self._check_created(delta)
            return
        entry = self._entry(delta.path)
        match delta:
            case Removed():
                if entry is self._root:
                    raise DeltaRefused("the root of the tree cannot be removed")
                if entry.children:
                    raise NodeNotEmpty(f"{delta.path} has {len(entry.children)} children; remove them first")
            case MetadataSet():
                metadata.check_size(entry.values | metadata.encode_map(delta.values))
            case MetadataRemoved():
                if delta.key not in entry.values:
                    raise DeltaRefused(f"{delta.path} has no metadata {delta.key!r}")
            case PolicySet():
                if len(entry.policies) >= limits.TREE_POLICIES and delta.policy_id not in entry.policies:
                    raise DeltaRefused(f"{delta.path} has {limits.TREE_POLICIES} policies, and no more are allowed")
            case PolicyRemoved():
                if delta.policy_id not in entry.policies:
                    raise DeltaRefused(f"{delta.path} has no policy {delta.policy_id!r}")

    def apply(self, delta: Delta, chain_seq: int, t_ns: int) -> None:
        """Change the tree as a record of the log says.

        Args:
            delta: the change.
            chain_seq: number of the record, larger than all before.
            t_ns: time of the record, ns since 1970 UTC. It may go back, as clocks do.

        Raises:
            TreeError: the change does not fit, see ``check``; or the numbers do not (``DeltaRefused``).
            ResourceLimitExceeded: see ``check``.
        """
        if type(chain_seq) is not int or not self._last_seq < chain_seq <= _INT_MAX:
            raise DeltaRefused(f"record {chain_seq} cannot follow record {self._last_seq}")
        if type(t_ns) is not int or not 0 <= t_ns <= _INT_MAX:
            raise DeltaRefused(f"{t_ns} is no time in ns since 1970")
        self.check(delta)
        self._last_seq = chain_seq
        match delta:
            case Created():
                self._create(delta, chain_seq, t_ns)
                return
            case Removed():
                self._remove(self._entries[delta.path])
                return
        entry = self._entries[delta.path]
        match delta:
            case MetadataSet():
                # A new map, because the old one may be in use by somebody who walks the tree.
                entry.values = entry.values | metadata.encode_map(delta.values)
            case MetadataRemoved():
                entry.values = {key: data for key, data in entry.values.items() if key != delta.key}
            case ScoringSet():
                entry.scoring = delta.scoring
            case PolicySet():
                entry.policies = entry.policies | {delta.policy_id: delta.policy}
                self._policy_generation += 1
            case PolicyRemoved():
                entry.policies = {name: rule for name, rule in entry.policies.items() if name != delta.policy_id}
                self._policy_generation += 1
        entry.stamp(chain_seq, t_ns)

    def bootstrap_deltas(self) -> tuple[Created, ...]:
        """Return the changes that add those of ``NAMESPACES`` that are missing, parents first."""
        return tuple(Created(path=path, kind=_NAMESPACE) for path in NAMESPACES if path not in self._entries)

    # --- questions ----------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """Number of the last record that was applied; -1 if none was."""
        return self._last_seq

    @property
    def policy_generation(self) -> int:
        """A number that grows whenever a policy came, changed or went anywhere in the tree."""
        return self._policy_generation

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: ResourcePath) -> bool:
        return path in self._entries

    def root_hash(self) -> bytes:
        """Return the hash of the whole tree, 32 bytes. Costs what was changed since the last time."""
        return self._root.digest()

    def hash_of(self, path: ResourcePath) -> bytes:
        """Return the hash of a node with all below it, 32 bytes.

        Raises:
            NodeNotFound: it is not there.
        """
        return self._entry(path).digest()

    def get(self, path: ResourcePath) -> Node:
        """Return a node.

        Raises:
            NodeNotFound: it is not there.
        """
        return self._entry(path).node()

    def children(self, path: ResourcePath) -> list[Node]:
        """Return the nodes directly below one, by name.

        Raises:
            NodeNotFound: it is not there.
        """
        below = self._entry(path).children
        return [below[name].node() for name in sorted(below)]

    def ancestors(self, path: ResourcePath) -> list[Node]:
        """Return the nodes above one, the nearest first.

        Raises:
            NodeNotFound: it is not there.
        """
        self._entry(path)
        return [self._entries[above].node() for above in path.ancestors]

    def subtree(self, path: ResourcePath = ROOT) -> Iterator[Node]:
        """Give a node and all below it, each before what is below it, siblings by name.

        The tree must not be changed before the last one was taken.

        Raises:
            NodeNotFound: it is not there.
        """
        return (entry.node() for entry in self._entry(path).walk())

    def entries(self, path: ResourcePath = ROOT) -> Iterator[Entry]:
        """Give what ``subtree`` gives, as the tree keeps it: for reading only.

        Raises:
            NodeNotFound: it is not there.
        """
        return self._entry(path).walk()

    def policies(self, path: ResourcePath) -> dict[str, Policy]:
        """Return the policies on a node by identifier; none if it is not there."""
        entry = self._entries.get(path)
        return {} if entry is None else dict(entry.policies)

    def find_similar(self, path: ResourcePath, limit: int, where: Filter | None = None) -> list[Ranked]:
        """Return other nodes with similar scores.

        Args:
            path: the node to compare with.
            limit: how many at most.
            where: which nodes count; all if not given.

        Returns:
            Paths with the cosine similarity, the most similar first.

        Raises:
            NodeNotFound: it is not there.
            NodeInvalid: ``limit`` is negative.
        """
        own = self._entry(path)
        others = (entry for entry in self._chosen(where) if entry is not own)
        return queries.most_similar(own.scoring, others, limit)

    def rank(self, weights: Sequence[float], limit: int, where: Filter | None = None) -> list[Ranked]:
        """Return the nodes with the best scores.

        Args:
            weights: six, in the order of ``scoring.DIMENSIONS``.
            limit: how many at most.
            where: which nodes count; all if not given.

        Returns:
            Paths with the weighted sum, the largest first.

        Raises:
            NodeInvalid: the weights are not six finite numbers, or ``limit`` is negative.
        """
        return queries.ranked(weights, self._chosen(where), limit)

    def aggregate_scoring(self, path: ResourcePath) -> Scoring:
        """Return the scores that a node gets from all below it: means weighted by reward, from the leaves up.

        Raises:
            NodeNotFound: it is not there.
        """
        return queries.aggregate_below(self._entry(path))

    def statistics(self) -> TreeStatistics:
        """Count over all nodes."""
        return queries.count(self._entries.values(), self._last_seq)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _entry(self, path: ResourcePath) -> Entry:
        entry = self._entries.get(path)
        if entry is None:
            raise NodeNotFound(f"the tree has no node {path}")
        return entry

    def _chosen(self, where: Filter | None) -> Iterator[Entry]:
        return (entry for entry in self._entries.values() if where is None or where(entry.path, entry.kind))

    def _check_created(self, delta: Created) -> None:
        there = self._entries.get(delta.path)
        if there is not None and not (there.kind == delta.kind == _AGENT):
            raise NodeExists(f"{delta.path} exists already and is of the kind {there.kind}")
        if there is None:
            parent = delta.path.parent
            if parent not in self._entries:
                raise NodeNotFound(f"{delta.path} has no parent: create {parent} first")
            if len(self._entries) >= limits.TREE_NODES:
                raise ResourceLimitExceeded(f"the tree has {len(self._entries)} nodes, {limits.TREE_NODES} are allowed")
        metadata.check_size(self._created_values(delta))

    def _created_values(self, delta: Created) -> dict[str, bytes]:
        values = metadata.encode_map(delta.values)
        if delta.kind == _AGENT:
            there = self._entries.get(delta.path)
            before = 0 if there is None else metadata.decode(there.values[INCARNATION])
            values[INCARNATION] = metadata.encode(before + 1)
        return values

    def _create(self, delta: Created, chain_seq: int, t_ns: int) -> None:
        values = self._created_values(delta)
        entry = self._entries.get(delta.path)
        if entry is None:
            above = delta.path.parent
            assert above is not None, "the root exists"
            parent = self._entries[above]
            entry = Entry(delta.path, delta.kind, delta.scoring, parent)
            entry.created_ns = t_ns
            self._entries[delta.path] = entry
            parent.attach(entry)
        entry.values = values
        entry.stamp(chain_seq, t_ns)

    def _adopt(self, entry: Entry) -> None:
        incarnation = entry.values.get(INCARNATION)
        counted = None if incarnation is None else metadata.decode(incarnation)
        if (type(counted) is not int or counted < 1) if entry.kind == _AGENT else counted is not None:
            raise DeltaRefused(f"{entry.path} has the incarnation {counted!r}")
        if len(entry.policies) > limits.TREE_POLICIES or entry.chain_seq > self._last_seq:
            raise DeltaRefused(f"{entry.path} has too many policies, or is newer than the tree")
        metadata.check_size(entry.values)
        above = entry.path.parent
        if above is None:
            if len(self._entries) > 1 or entry.kind != _NAMESPACE:
                raise DeltaRefused("the root comes first and is a namespace")
            self._root = self._entries[ROOT] = entry
            return
        parent = self._entries.get(above)
        if parent is None or entry.path in self._entries:
            raise DeltaRefused(f"{entry.path} comes twice, or before the node above it")
        if len(self._entries) >= limits.TREE_NODES:
            raise ResourceLimitExceeded(f"a tree has at most {limits.TREE_NODES} nodes")
        self._entries[entry.path] = entry
        entry.parent = parent
        parent.attach(entry)

    def _remove(self, entry: Entry) -> None:
        assert entry.parent is not None, "the root is not removed"
        del self._entries[entry.path]
        entry.parent.detach(entry.path.name)
        # Its policies went with it; decisions that rested on them must not be remembered.
        self._policy_generation += bool(entry.policies)

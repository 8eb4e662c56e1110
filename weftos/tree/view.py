"""What one agent sees of the tree: what lies below its prefixes and a rule lets it read. It cannot change anything.

Why it is as it is: an agent should find its neighbours without learning what else there is. So a view answers "not
allowed" in the same words for what is hidden and for what does not exist outside of its prefixes, and counts, lists and
rankings are made over the visible nodes alone. A rule (of capabilities, or of an access list) can only take away.

Guaranteed: every node that a view gives out lies within a prefix, by segments, and passes the rule at that moment. Not
guaranteed: that nothing can be concluded; ``Node.child_count`` of a visible node counts hidden ones, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from weftos.errors import CapabilityDenied
from weftos.tree import queries
from weftos.tree.acl import EffectiveAcl
from weftos.tree.entries import Entry
from weftos.tree.names import Action, Kind, Role
from weftos.tree.nodes import Node
from weftos.tree.paths import ResourcePath
from weftos.tree.queries import Ranked, TreeStatistics
from weftos.tree.tree import ResourceTree

__all__ = ["AGENTS", "ReadRule", "TreeView", "acl_rule", "agent_view"]

#: Below it each agent has its node.
AGENTS: Final = ResourcePath("/kernel/agents")

#: Says whether a node within the prefixes may be read.
ReadRule: TypeAlias = Callable[[ResourcePath], bool]

_READ: Final = Action("read")


class TreeView:
    """A part of a tree, for reading.

    Args:
        tree: what is looked at; the view follows its changes.
        prefixes: what can be seen at all, each with everything below it. None: nothing; ``/``: everything.
        rule: what of that may be read; all of it if not given.
    """

    def __init__(self, tree: ResourceTree, prefixes: Iterable[ResourcePath], rule: ReadRule | None = None) -> None:
        self._tree = tree
        self._prefixes = _outermost(prefixes)
        self._rule = rule

    @property
    def prefixes(self) -> tuple[ResourcePath, ...]:
        """The prefixes, sorted, without those that lie within others."""
        return self._prefixes

    def can_read(self, path: ResourcePath) -> bool:
        """Tell whether a node at this path would be visible, whether it exists or not."""
        within = any(path.is_within(prefix) for prefix in self._prefixes)
        return within and (self._rule is None or self._rule(path))

    def get(self, path: ResourcePath) -> Node:
        """Return a node.

        Raises:
            CapabilityDenied: it is not visible.
            NodeNotFound: it would be, but does not exist.
        """
        self._require(path)
        return self._tree.get(path)

    def children(self, path: ResourcePath) -> list[Node]:
        """Return the visible nodes directly below a visible one, by name.

        Raises:
            CapabilityDenied: it is not visible.
            NodeNotFound: it would be, but does not exist.
        """
        self._require(path)
        return [node for node in self._tree.children(path) if self.can_read(node.path)]

    def ancestors(self, path: ResourcePath) -> list[Node]:
        """Return the visible nodes above a visible one, the nearest first.

        Raises:
            CapabilityDenied: it is not visible.
            NodeNotFound: it would be, but does not exist.
        """
        self._require(path)
        return [node for node in self._tree.ancestors(path) if self.can_read(node.path)]

    def subtree(self, path: ResourcePath) -> Iterator[Node]:
        """Give a visible node and all visible ones below it, each before what is below it, siblings by name.

        Raises:
            CapabilityDenied: it is not visible.
            NodeNotFound: it would be, but does not exist.
        """
        self._require(path)
        return (entry.node() for entry in self._tree.entries(path) if self.can_read(entry.path))

    def find_similar(self, path: ResourcePath, limit: int, kind: Kind | None = None) -> list[Ranked]:
        """Return visible nodes with scores similar to those of a visible one; see ``ResourceTree.find_similar``.

        Args:
            path: the node to compare with.
            limit: how many at most.
            kind: only nodes of this one; of all if not given.

        Raises:
            CapabilityDenied: it is not visible.
            NodeNotFound: it would be, but does not exist.
            NodeInvalid: ``limit`` is negative.
        """
        self._require(path)
        scoring = self._tree.get(path).scoring
        return queries.most_similar(scoring, (e for e in self._visible(kind) if e.path != path), limit)

    def rank(self, weights: Sequence[float], limit: int, kind: Kind | None = None) -> list[Ranked]:
        """Return the visible nodes with the best scores; see ``ResourceTree.rank``.

        Args:
            weights: six, in the order of ``scoring.DIMENSIONS``.
            limit: how many at most.
            kind: only nodes of this one; of all if not given.

        Raises:
            NodeInvalid: the weights are not six finite numbers, or ``limit`` is negative.
        """
        return queries.ranked(weights, self._visible(kind), limit)

    def statistics(self) -> TreeStatistics:
        """Count over the visible nodes."""
        return queries.count(self._visible(None), self._tree.last_seq)

    def _require(self, path: ResourcePath) -> None:
        if not self.can_read(path):
            raise CapabilityDenied(f"{path} is not visible from here")

    def _visible(self, kind: Kind | None) -> Iterator[Entry]:
        for prefix in self._prefixes:
            if prefix in self._tree:
                for entry in self._tree.entries(prefix):
                    if kind in (None, entry.kind) and (self._rule is None or self._rule(entry.path)):
                        yield entry


def agent_view(
    tree: ResourceTree, name: str, namespaces: Iterable[ResourcePath] = (), rule: ReadRule | None = None
) -> TreeView:
    """Make the view of an agent: its own node, and what it was given.

    Args:
        tree: what is looked at.
        name: of the agent.
        namespaces: what else it can see, each with everything below it.
        rule: what of that it may read; all of it if not given.

    Raises:
        PathInvalid: the name is no segment of a path.
    """
    return TreeView(tree, (AGENTS.child(name), *namespaces), rule)


def acl_rule(acl: EffectiveAcl, principal: str, role: Role) -> ReadRule:
    """Return the rule that shows what an access list lets somebody read."""
    return lambda path: acl.decide(principal, role, _READ, path).allowed


def _outermost(prefixes: Iterable[ResourcePath]) -> tuple[ResourcePath, ...]:
    kept: list[ResourcePath] = []
    for path in sorted(set(prefixes)):
        # In the order of a walk, the only one that it can be within is the last that was kept.
        if not kept or not path.is_within(kept[-1]):
            kept.append(path)
    return tuple(kept)

"""What the tree keeps about a node, and the hashes that follow a change up to the root.

Why it is as it is: a change marks the node and the nodes above it, as far as they are not marked already, and nothing
is hashed until somebody wants to know. Then each marked node is hashed once, however many changes there were: a burst
of ten thousand registrations costs ten thousand leaves and one branch, not ten thousand branches.

Guaranteed: an entry without a hash is named in the ``stale`` of its parent, and its parent has no hash either.
"""

from __future__ import annotations

from collections.abc import Iterator

from weftos.tree import metadata
from weftos.tree.hashing import node_hash
from weftos.tree.names import Kind
from weftos.tree.nodes import Node
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring
from weftos.tree.siblings import SiblingSet

__all__ = ["Entry"]


class Entry:
    """One node inside the tree. Only the tree changes it; whoever does calls ``touch``.

    Attributes:
        path, kind, scoring, created_ns, updated_ns, chain_seq: as in ``Node``.
        values: encoded metadata by key.
        policies: by identifier.
        parent: the entry above; ``None`` for the root.
        children: by name.
        stale: names of children that came, went or changed since the last hash.
        hashed: hash of the node, 32 bytes; ``None`` if it must be computed.
    """

    __slots__ = (
        "_siblings",
        "chain_seq",
        "children",
        "created_ns",
        "hashed",
        "kind",
        "parent",
        "path",
        "policies",
        "scoring",
        "stale",
        "updated_ns",
        "values",
    )

    def __init__(self, path: ResourcePath, kind: Kind, scoring: Scoring, parent: Entry | None) -> None:
        self.path = path
        self.kind = kind
        self.scoring = scoring
        self.parent = parent
        self.values: dict[str, bytes] = {}
        self.policies: dict[str, Policy] = {}
        self.chain_seq = -1
        self.created_ns = 0
        self.updated_ns = 0
        self.children: dict[str, Entry] = {}
        self.stale: set[str] = set()
        self.hashed: bytes | None = None
        self._siblings: SiblingSet | None = None

    def stamp(self, chain_seq: int, t_ns: int) -> None:
        """Note the record that changed the node, and that its hash is out of date."""
        self.chain_seq, self.updated_ns = chain_seq, t_ns
        self.touch()

    def touch(self) -> None:
        """Note that the hash of this node is out of date, and of all above it."""
        entry: Entry | None = self
        while entry is not None and entry.hashed is not None:
            entry.hashed = None
            if entry.parent is not None:
                entry.parent.stale.add(entry.path.name)
            entry = entry.parent

    def attach(self, child: Entry) -> None:
        """Put a new entry below this one."""
        name = child.path.name
        self.children[name] = child
        self.stale.add(name)
        self.touch()

    def detach(self, name: str) -> None:
        """Take the entry of this name away."""
        del self.children[name]
        self.stale.add(name)
        self.touch()

    def digest(self) -> bytes:
        """Return the hash of the node, 32 bytes; computes what is out of date below, and nothing else."""
        if self.hashed is None:
            below = self._digest_children()
            policies = {name: policy.to_bytes() for name, policy in self.policies.items()}
            self.hashed = node_hash(self.path, self.kind, self.values, self.scoring, policies, below)
        return self.hashed

    def walk(self) -> Iterator[Entry]:
        """Give this entry and all below it, each before what is below it, siblings by name."""
        waiting = [self]
        while waiting:
            entry = waiting.pop()
            yield entry
            waiting += [entry.children[name] for name in sorted(entry.children, reverse=True)]

    def node(self) -> Node:
        """Return a copy for readers."""
        return Node(
            path=self.path,
            kind=self.kind,
            metadata={key: metadata.decode(data) for key, data in self.values.items()},
            scoring=self.scoring,
            chain_seq=self.chain_seq,
            created_ns=self.created_ns,
            updated_ns=self.updated_ns,
            child_count=len(self.children),
            policies=tuple(sorted(self.policies)),
        )

    def _digest_children(self) -> tuple[int, bytes] | None:
        if not self.children:
            self._siblings = None
            self.stale.clear()
            return None
        if self._siblings is None:
            self._siblings = SiblingSet()
        for name in self.stale:
            child = self.children.get(name)
            if child is None:
                self._siblings.discard(name)
            else:
                self._siblings.put(name, child.digest())
        self.stale.clear()
        return len(self.children), self._siblings.digest()

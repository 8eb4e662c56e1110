"""Cross-references in memory, with an index for each question that is asked of them. Pure.

Guaranteed: one per source, target and type. Each answer is in the order in which its references were added. Finding and
removing costs what is found or removed, not what is there. Not for several threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from weftos import limits
from weftos.ecc.crossrefs.model import CrossRef, CrossRefType, Key, key_of, to_row
from weftos.ecc.universal import StructureTag
from weftos.errors import CrossRefRefused

__all__ = ["CrossRefTable"]

#: Keys in the order in which they were added: a dict is an ordered set.
_Keys = dict[Key, None]
_NONE: Final[_Keys] = {}


class CrossRefTable:
    """The references and their indexes."""

    def __init__(self) -> None:
        self._refs: dict[Key, CrossRef] = {}
        self._forward: dict[bytes, _Keys] = {}
        self._reverse: dict[bytes, _Keys] = {}
        self._types: dict[int, _Keys] = {}
        self._targets: dict[int, _Keys] = {}

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[CrossRef]:
        return iter(self._refs.values())

    def get(self, key: Key) -> CrossRef | None:
        """Return the reference with this source, target and type."""
        return self._refs.get(key)

    def insert(self, ref: CrossRef) -> bool:
        """Add a reference, unless one with its source, target and type is there; that one stays as it is.

        Returns:
            Whether it is new.

        Raises:
            CrossRefRefused: the one that is there has its ends in other structures, or it is full.
        """
        key = key_of(ref)
        there = self._refs.get(key)
        if there is not None:
            if (there.source_structure, there.target_structure) != (ref.source_structure, ref.target_structure):
                raise CrossRefRefused(
                    f"{ref.source} is known to refer from {there.source_structure} to {there.target_structure}, "
                    f"not from {ref.source_structure} to {ref.target_structure}; one of both is wrong"
                )
            return False
        if len(self._refs) >= limits.CROSSREFS:
            raise CrossRefRefused(f"the store has room for {limits.CROSSREFS} cross-references; remove some")
        self._refs[key] = ref
        for index, value in self._places(ref):
            index.setdefault(value, {})[key] = None
        return True

    def remove(self, key: Key) -> bool:
        """Remove a reference; return whether it was there."""
        ref = self._refs.pop(key, None)
        if ref is None:
            return False
        for index, value in self._places(ref):
            keys = index[value]
            del keys[key]
            if not keys:
                del index[value]
        return True

    def remove_all_of(self, node: bytes) -> int:
        """Remove every reference from or to a node; return how many there were."""
        keys = [*self._forward.get(node, _NONE), *self._reverse.get(node, _NONE)]
        return sum(self.remove(key) for key in keys)

    def forward(self, node: bytes) -> list[CrossRef]:
        """The references from a node."""
        return [self._refs[key] for key in self._forward.get(node, _NONE)]

    def reverse(self, node: bytes) -> list[CrossRef]:
        """The references to a node."""
        return [self._refs[key] for key in self._reverse.get(node, _NONE)]

    def both(self, node: bytes) -> list[CrossRef]:
        """The references from a node, then those to it; one from the node to itself once."""
        return self.forward(node) + [ref for ref in self.reverse(node) if ref.source != node]

    def by_type(self, ref_type: CrossRefType) -> list[CrossRef]:
        """The references of a type."""
        return [self._refs[key] for key in self._types.get(int(ref_type), _NONE)]

    def by_target_structure(self, tag: StructureTag) -> list[CrossRef]:
        """The references into a structure."""
        return [self._refs[key] for key in self._targets.get(int(tag), _NONE)]

    def rows(self) -> bytes:
        """Every reference as its row, one behind the other, sorted: the same bytes for the same references."""
        return b"".join(sorted(map(to_row, self._refs.values())))

    def _places(self, ref: CrossRef) -> tuple[tuple[dict[Any, _Keys], Any], ...]:
        """Where a reference is entered: each index with the value that it is found by."""
        return (
            (self._forward, ref.source),
            (self._reverse, ref.target),
            (self._types, int(ref.ref_type)),
            (self._targets, int(ref.target_structure)),
        )

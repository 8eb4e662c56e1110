"""Proofs about a Merkle tree: that a leaf is in it, and that an older tree is its beginning.

Why it is as it is: whoever holds a signed root can be convinced with a handful of hashes, without the log. The two
verifying functions are written to the letter of the RFC, because they are what others rely on; making a proof only has
to be right, and is tested against them.

Source: RFC 9162, sections 2.1.3 and 2.1.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weftos.errors import ProofInvalid
from weftos.merkle.frontier import EMPTY_ROOT, node_hash

__all__ = ["consistency_proof", "inclusion_proof", "verify_consistency", "verify_inclusion"]

#: Gives the hash of a complete subtree: level, index.
Node = Callable[[int, int], bytes]

_HASH_BYTES = 32


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the hashes that lead from a leaf to the root, lowest first.

    Args:
        index: of the leaf.
        size: leaves of the tree.
        node: gives the hash of a complete subtree of ``2**level`` leaves.

    Raises:
        ProofInvalid: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"there is no leaf {index} in a tree of {size}")
    return _path(index, 0, size, node)


def _path(index: int, begin: int, end: int, node: Node) -> list[bytes]:
    """PATH of the RFC over the leaves from ``begin`` to ``end``."""
    if end - begin == 1:
        return []
    split = begin + _largest_power_below(end - begin)
    if index < split:
        return [*_path(index, begin, split, node), _range_hash(split, end, node)]
    return [*_path(index, split, end, node), _range_hash(begin, split, node)]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Return the hashes that lead from an older root to a newer one.

    Args:
        old: leaves of the older tree.
        new: leaves of the newer one.
        node: as for ``inclusion_proof``.

    Raises:
        ProofInvalid: the older tree is larger, or a size is negative.
    """
    if not 0 <= old <= new:
        raise ProofInvalid(f"a tree of {old} leaves is no beginning of one of {new}")
    if old in (0, new):
        return []
    return _subproof(old, 0, new, node, is_known=True)


def _subproof(old: int, begin: int, end: int, node: Node, *, is_known: bool) -> list[bytes]:
    """SUBPROOF of the RFC over the leaves from ``begin`` to ``end``; ``old`` counts from ``begin``."""
    size = end - begin
    if old == size:
        return [] if is_known else [_range_hash(begin, end, node)]
    half = _largest_power_below(size)
    if old <= half:
        return [*_subproof(old, begin, begin + half, node, is_known=is_known), _range_hash(begin + half, end, node)]
    rest = _subproof(old - half, begin + half, end, node, is_known=False)
    return [*rest, _range_hash(begin, begin + half, node)]


def _largest_power_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def _range_hash(begin: int, end: int, node: Node) -> bytes:
    """Hash of the leaves from ``begin``, which a complete subtree begins with, to ``end``."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, begin >> level)
    split = begin + _largest_power_below(size)
    return node_hash(_range_hash(begin, split, node), _range_hash(split, end, node))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is in a tree (RFC 9162, 2.1.3.2).

    Args:
        leaf: its hash, 32 bytes.
        index: of the leaf.
        size: leaves of the tree.
        proof: as ``inclusion_proof`` gives it.
        root: of the tree, 32 bytes.

    Raises:
        ProofInvalid: it is not shown to be.
    """
    _check_form(leaf, root, *proof)
    if not 0 <= index < size:
        raise ProofInvalid(f"there is no leaf {index} in a tree of {size}")
    at, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the proof has too many hashes")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofInvalid("the proof has too few hashes")
    if found != root:
        raise ProofInvalid(f"the proof does not lead from leaf {index} to the root of the tree of {size} leaves")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that an older tree is the beginning of a newer one (RFC 9162, 2.1.4.2).

    Args:
        old: leaves of the older tree.
        old_root: its root, 32 bytes.
        new: leaves of the newer tree.
        new_root: its root, 32 bytes.
        proof: as ``consistency_proof`` gives it.

    Raises:
        ProofInvalid: it is not shown to be.
    """
    _check_form(old_root, new_root, *proof)
    if not 0 <= old <= new:
        raise ProofInvalid(f"a tree of {old} leaves is no beginning of one of {new}")
    if old in (0, new):
        if proof:
            raise ProofInvalid("the proof has too many hashes")
        if old_root != (EMPTY_ROOT if old == 0 else new_root):
            raise ProofInvalid(f"the trees of {old} and {new} leaves contradict each other")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise ProofInvalid("the proof has too few hashes")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("the proof has too many hashes")
        if at & 1 or at == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofInvalid("the proof has too few hashes")
    if (older, newer) != (old_root, new_root):
        raise ProofInvalid(f"the tree of {old} leaves is not shown to be the beginning of that of {new}")


def _check_form(*hashes: bytes) -> None:
    if any(type(one) is not bytes or len(one) != _HASH_BYTES for one in hashes):
        raise ProofInvalid(f"every hash of a proof has {_HASH_BYTES} bytes")

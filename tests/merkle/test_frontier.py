"""The frontier against the definition of the tree in RFC 9162, and against the known vectors of RFC 6962."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.merkle.frontier import EMPTY_ROOT, Frontier, leaf_hash, node_hash

ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree_root(leaves: list[bytes]) -> bytes:
    """The definition: split at the largest power of two below the size."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_root(leaves[:split]), tree_root(leaves[split:]))


def test_the_known_vectors():
    assert Frontier().root() == EMPTY_ROOT == sha256(b"").digest()
    for size in range(1, 9):
        frontier = Frontier()
        frontier.extend(map(leaf_hash, ENTRIES[:size]))
        assert frontier.root().hex() == ROOTS[size - 1]


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(n.to_bytes(4, "big")) for n in range(count)]


def test_every_size_up_to_300():
    leaves = leaves_of(300)
    grown = Frontier()
    for size, leaf in enumerate(leaves, 1):
        grown.extend([leaf])
        whole = Frontier()
        whole.extend(leaves[:size])
        assert grown.root() == whole.root() == tree_root(leaves[:size])
        assert Frontier.restore(size, whole.subtrees()).root() == whole.root()


@given(st.lists(st.integers(0, 70), max_size=12), st.data())
def test_pieces_and_parts(sizes, data):
    """Grown piece by piece, or hashed in parts that are put together: the same tree."""
    leaves = leaves_of(sum(sizes))
    pieces, parts, at = Frontier(), Frontier(), 0
    for size in sizes:
        pieces.extend(leaves[at : at + size])
        part = Frontier(at)
        cut = data.draw(st.integers(0, size))
        part.extend(leaves[at : at + cut])
        part.extend(leaves[at + cut : at + size])
        parts.append(part)
        at += size
    assert pieces.root() == parts.root() == tree_root(leaves)
    assert pieces.size == parts.size == len(leaves)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_new_nodes_are_told_once_and_in_order(sizes):
    leaves = leaves_of(sum(sizes))
    told: dict[int, list[bytes]] = {}

    def emit(level, start, nodes):
        assert start == len(told.setdefault(level, []))
        told[level] += nodes

    frontier, at = Frontier(), 0
    for size in sizes:
        frontier.extend(leaves[at : at + size], emit)
        at += size
    assert told[0] == leaves
    for level in range(1, len(leaves).bit_length()):
        below = told[level - 1]
        assert told.get(level, []) == [node_hash(a, b) for a, b in zip(below[0::2], below[1::2], strict=False)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier.restore(3, [bytes(32)])
    with pytest.raises(ValueError, match="does not follow"):
        Frontier().append(Frontier(5))

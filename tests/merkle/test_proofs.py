"""Proofs: every one of small trees, every single change of them, and random large ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import ProofInvalid
from weftos.merkle.frontier import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from weftos.merkle.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion

LEAVES = [leaf_hash(b"%d" % n) for n in range(700)]
MOST = 40


def node(level, index):
    nodes = LEAVES[index << level : (index + 1) << level]
    assert len(nodes) == 1 << level
    while len(nodes) > 1:
        nodes = [node_hash(a, b) for a, b in zip(nodes[0::2], nodes[1::2], strict=True)]
    return nodes[0]


def root(size):
    tree = Frontier()
    tree.extend(LEAVES[:size])
    return tree.root()


ROOTS = [root(size) for size in range(MOST + 1)]


def changed(proof):
    """Every proof that differs from this one in one place."""
    for at in range(len(proof)):
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[:at], bytes(32), *proof[at:]]
        for bit in (0, 255):
            wrong = bytearray(proof[at])
            wrong[bit // 8] ^= 1 << bit % 8
            yield [*proof[:at], bytes(wrong), *proof[at + 1 :]]
    yield [*proof, bytes(32)]
    yield [*proof, *proof[-1:], bytes(32)]


def test_every_inclusion_in_small_trees_and_nothing_else():
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, node)
            verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
            for wrong in changed(proof):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(LEAVES[index], index, size, wrong, ROOTS[size])
            for other in (index - 1, index + 1, size, -1):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(LEAVES[index], other, size, proof, ROOTS[size])
            with pytest.raises(ProofInvalid):
                verify_inclusion(LEAVES[index + 1], index, size, proof, ROOTS[size])
            with pytest.raises(ProofInvalid):
                verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size - 1])


def test_every_consistency_of_small_trees_and_nothing_else():
    for new in range(MOST + 1):
        for old in range(new + 1):
            proof = consistency_proof(old, new, node)
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
            for wrong in changed(proof):
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, ROOTS[old], new, ROOTS[new], wrong)
            other = ROOTS[old + 1] if old < MOST else ROOTS[old - 1]
            with pytest.raises(ProofInvalid):
                verify_consistency(old, other, new, ROOTS[new], proof)
            if old:  # after nothing, anything may come
                with pytest.raises(ProofInvalid):
                    verify_consistency(old, ROOTS[old], new, ROOTS[new - 1], proof)


@given(st.integers(1, 700).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_larger_trees(case):
    size, index = case
    verify_inclusion(LEAVES[index], index, size, inclusion_proof(index, size, node), root(size))
    old = index + 1
    verify_consistency(old, root(old), size, root(size), consistency_proof(old, size, node))


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_any_hashes_are_refused(index, size, proof):
    with pytest.raises(ProofInvalid):
        verify_inclusion(bytes(32), index, size, proof, b"r" * 32)
    if not (index == size and not proof):
        with pytest.raises(ProofInvalid):
            verify_consistency(index, b"o" * 32, size, b"r" * 32, proof)


def test_what_has_no_proper_form_is_refused():
    with pytest.raises(ProofInvalid, match="32 bytes"):
        verify_inclusion(LEAVES[0][:31], 0, 1, [], LEAVES[0])
    with pytest.raises(ProofInvalid, match="32 bytes"):
        verify_consistency(1, LEAVES[0], 1, LEAVES[0] + b"x", [])
    with pytest.raises(ProofInvalid, match="no leaf"):
        inclusion_proof(3, 3, node)
    with pytest.raises(ProofInvalid, match="no beginning"):
        consistency_proof(4, 3, node)
    assert consistency_proof(0, 3, node) == []
    verify_consistency(0, EMPTY_ROOT, 3, ROOTS[3], [])

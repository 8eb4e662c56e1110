"""Commitments of changes: against a list, over restarts, with proofs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.ecc.commitment import Commitment, CommitmentState
from weftos.errors import ProofInvalid
from weftos.merkle.frontier import EMPTY_ROOT, leaf_hash
from weftos.merkle.proofs import verify_inclusion

STEPS = st.lists(st.one_of(st.just("add"), st.just("restart"), st.integers(0, 12)), max_size=60)


@given(STEPS)
def test_every_change_is_under_exactly_one_record(steps: list[str | int]) -> None:
    commitment, record = Commitment(), 100
    covering: list[int] = []
    for step in steps:
        if step == "add":
            assert commitment.add(bytes([len(covering) % 256])) == len(covering) + 1
            covering.append(0)
        elif step == "restart":
            raw = msgspec.msgpack.encode(commitment.state())
            commitment = Commitment(msgspec.msgpack.decode(raw, type=CommitmentState))
        else:
            record += 1
            last = min(int(step), len(covering))
            commitment.commit(last, record)
            covering[:last] = [seq or record for seq in covering[:last]]
        waiting = [op for op, seq in enumerate(covering, 1) if not seq]
        now = commitment.uncommitted()
        assert (now.count, commitment.waiting, now.last) == (len(waiting), len(waiting), len(covering))
        assert now.first == (waiting[0] if waiting else len(covering) + 1)
        assert [commitment.seq_of(op) for op in range(1, len(covering) + 1)] == covering


@given(st.integers(1, 40), st.integers(0, 39))
def test_a_proof_leads_to_the_root(count: int, done: int) -> None:
    commitment = Commitment()
    for number in range(count):
        commitment.add(b"change %d" % number)
    commitment.commit(min(done, count - 1), 7)
    now = commitment.uncommitted()
    for op in range(now.first, now.last + 1):
        leaf = leaf_hash(b"change %d" % (op - 1))
        verify_inclusion(leaf, op - now.first, now.count, commitment.proof(op), now.root)
    with pytest.raises(ProofInvalid):
        commitment.proof(now.last + 1)


def test_nothing_waits_at_first() -> None:
    assert Commitment().uncommitted().root == EMPTY_ROOT

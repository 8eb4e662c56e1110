"""The index stays small, and refuses rather than forgets silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.idempotency import ProducerIndex
from weftos.chain.record import Ack
from weftos.errors import AppendRefused


def ack(n: int) -> Ack:
    return Ack(n, n.to_bytes(32, "big"), n)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.booleans()), max_size=200))
def test_an_answer_is_the_first_one_or_a_refusal(steps):
    index, first = ProducerIndex(window=8, entries=16), {}
    for number, (producer, position, forget) in enumerate(steps):
        if forget:
            index.forget_before(producer, position)
            continue
        try:
            known = index.find(producer, position)
        except AppendRefused:
            continue
        if known is None:
            assert (producer, position) not in first
            first[producer, position] = ack(number)
            index.add(producer, position, ack(number))
        else:
            assert known == first[producer, position]
        assert len(index) <= 16


def test_the_fullest_producer_pays_for_lack_of_room():
    index = ProducerIndex(window=1000, entries=100)
    for position in range(10):
        index.add("quiet", position, ack(position))
    for position in range(500):
        index.add("loud", position, ack(position))
    assert all(index.find("quiet", position) == ack(position) for position in range(10))
    assert index.find("loud", 499) == ack(499)
    with pytest.raises(AppendRefused):
        index.find("loud", 0)


def test_many_producers_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "CHAIN_PRODUCERS", 10)
    index = ProducerIndex()
    for producer in range(100):
        index.add(producer, 1, ack(producer))
        if producer % 2:
            index.forget_before(producer, 2)
    assert len(index) <= 10
    assert index.find(98, 1) == ack(98)


def test_forgetting_what_is_not_known_changes_nothing():
    index = ProducerIndex()
    index.forget_before("x", 5)
    assert index.find("x", 1) is None
    index.add("x", 7, ack(1))
    index.forget_before("x", 7)
    assert index.find("x", 7) == ack(1)
    with pytest.raises(AppendRefused):
        index.find("x", 6)

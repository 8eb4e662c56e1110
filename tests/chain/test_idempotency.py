"""The index stays small, and refuses rather than forgets silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_for_tests import note, open_log

from weftos import limits
from weftos.chain.idempotency import ProducerIndex
from weftos.chain.record import Ack
from weftos.errors import AppendRefused, IdempotencyConflict


def ack(n: int) -> Ack:
    return Ack(n, n.to_bytes(32, "big"), n)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(1, 2), st.booleans()), max_size=200))
def test_an_answer_is_the_first_one_or_a_refusal(steps):
    index, first = ProducerIndex(window=8, entries=16), {}
    for number, (producer, position, digest, forget) in enumerate(steps):
        if forget:
            index.forget_before(producer, position)
            continue
        try:
            known = index.find(producer, position, digest)
        except IdempotencyConflict as refused:
            answered, said = first[producer, position]
            assert (said != digest, refused.seq) == (True, answered.seq)  # noqa: PT017 - one of three good outcomes
            continue
        except AppendRefused:
            continue
        if known is None:
            assert (producer, position) not in first
            first[producer, position] = ack(number), digest
            index.add(producer, position, ack(number), digest)
        else:
            assert (known, digest) == first[producer, position]
        assert len(index) <= 16


def test_the_fullest_producer_pays_for_lack_of_room():
    index = ProducerIndex(window=1000, entries=100)
    for position in range(10):
        index.add("quiet", position, ack(position), 7)
    for position in range(500):
        index.add("loud", position, ack(position), 7)
    assert all(index.find("quiet", position, 7) == ack(position) for position in range(10))
    assert index.find("loud", 499, 7) == ack(499)
    with pytest.raises(AppendRefused):
        index.find("loud", 0, 7)


def test_many_producers_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "CHAIN_PRODUCERS", 10)
    index = ProducerIndex()
    for producer in range(100):
        index.add(producer, 1, ack(producer), 7)
        if producer % 2:
            index.forget_before(producer, 2)
    assert len(index) <= 10
    assert index.find(98, 1, 7) == ack(98)


def test_forgetting_what_is_not_known_changes_nothing():
    index = ProducerIndex()
    index.forget_before("x", 5)
    assert index.find("x", 1, 7) is None
    index.add("x", 7, ack(1), 7)
    index.forget_before("x", 7)
    assert index.find("x", 7, 7) == ack(1)
    with pytest.raises(AppendRefused):
        index.find("x", 6, 7)


def test_two_events_in_one_place_of_a_batch_are_refused_whole(home):
    with open_log(home) as writer:
        before = writer.head.seq
        same = note(1, producer="p", position=1)
        assert len({ack.seq for ack in writer.append_many([same, same])}) == 1
        with pytest.raises(IdempotencyConflict):
            writer.append_many([note(2, producer="p", position=2), note(3, producer="p", position=2)])
        assert writer.head.seq == before + 1


def test_a_withheld_payload_is_not_held_against_whoever_submits_again(home):
    event = note(1, producer="p", position=1)
    with open_log(home) as writer:
        first = writer.append(event)
        writer.commit()
        writer.redact(first.seq, "wanted", "me")
        with pytest.raises(IdempotencyConflict):
            writer.append(note(2, producer="p", position=1))
    with open_log(home) as writer:
        assert writer.append(event) == first

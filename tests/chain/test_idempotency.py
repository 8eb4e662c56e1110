"""The index stays small, and refuses rather than forgets silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_for_tests import note, open_log

from weftos import limits
from weftos.chain.records.idempotency import ProducerIndex
from weftos.chain.records.record import Ack, NewEvent
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


BATCHES = st.lists(
    st.one_of(
        # A run, as a ring gives it; and anything else.
        st.builds(
            lambda producer, first, gaps: [(producer, first + sum(gaps[: n + 1]), 0) for n in range(len(gaps))],
            st.sampled_from(["a", 7]),
            st.integers(0, 30),
            st.lists(st.integers(1, 3), min_size=1, max_size=6),
        ),
        st.lists(
            st.tuples(st.sampled_from(["a", 7, None]), st.integers(0, 40), st.integers(0, 1)), min_size=1, max_size=6
        ),
    ),
    max_size=25,
)


def events_of(batch) -> list[NewEvent]:
    return [
        NewEvent("test", "app.n", {"said": said}, None, None, producer, None if producer is None else position)
        for producer, position, said in batch
    ]


@given(BATCHES)
def test_a_run_is_taken_as_its_events_one_by_one(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("logs")
    with open_log(folder / "together") as together, open_log(folder / "alone") as alone:
        for batch in batches:
            events = events_of(batch)
            try:
                acks = together.append_many(events)
            except AppendRefused:
                # All or none: then one of them at least is refused alone as well, if those before it are taken.
                head = together.head.seq
                places = [(e.producer, e.position) for e in events if e.producer is not None]
                assert any(refused(alone, event) for event in events) or len(set(places)) < len(places)
                assert together.head.seq == head
                return
            assert [ack.seq for ack in acks] == [alone.append(event).seq for event in events]
            assert together.head.seq == alone.head.seq


def refused(writer, event) -> bool:
    try:
        writer.append(event)
    except AppendRefused:
        return True
    return False


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

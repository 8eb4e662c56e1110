"""Topics as streams against a list of numbers: what is counted, lost and late, however numbers come."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from weftos import limits
from weftos.agent import topic_streams
from weftos.agent.leaves import LeafKeeper, StreamLeaves
from weftos.agent.topic_streams import NUMBER_BITS, TopicEnd, TopicStreams
from weftos.merkle.frontier import Frontier, leaf_hash

BASE = 1 << NUMBER_BITS


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(topic_streams, "_GRID", 8)


def final(end: TopicEnd) -> list[topic_streams.TopicWindow]:
    end.flush(final=True)
    return end.closed


def last_word(windows):
    """Of each window what was said last: a complete one repeats the partial ones."""
    return list({one.first: one for one in windows}.values())


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60), max_size=6), st.sets(st.integers(1, 60)))
def test_both_ends_of_a_topic_agree_about_every_message(skipped, flushed_there, flushed_here):
    there, here = TopicEnd(BASE + 1), TopicEnd(BASE + 1)
    for n in range(1, 61):
        there.note(BASE + n, n)
        if n not in skipped:
            here.note(BASE + n, n)
        else:
            there.lose((BASE + n, "full", 2))
        if n in flushed_there:
            there.flush()
        if n in flushed_here:
            here.flush()
    said, heard = last_word(final(there)), last_word(final(here))
    taken = [n for n in range(1, 61) if n not in skipped]
    assert sum(one.count for one in said) == 60
    assert sum(one.bytes for one in said) == sum(range(1, 61))
    assert sum(one.count for one in heard) == len(taken)
    assert sum(one.bytes for one in heard) == sum(taken)
    # A subscriber sees a jump at what comes next, so not what was skipped at the end.
    missed = {n - BASE for one in heard for first, last in one.lost for n in range(first, last + 1)}
    assert missed == {n for n in skipped if n < max(taken, default=0)}
    assert sum(one.lost_count for one in heard) == len(missed)
    # Windows follow each other without a hole.
    for windows in (said, heard):
        ends = [one.last + 1 for one in windows]
        assert [one.first for one in windows][1:] == ends[:-1]
        assert [one.final for one in windows][-1]
    # Over the same numbers with nothing lost they say the same.
    whole = {(one.first, one.last): (one.count, one.bytes) for one in said if not one.lost_count}
    for one in heard:
        if not one.lost_count and (one.first, one.last) in whole:
            assert (one.count, one.bytes) == whole[one.first, one.last]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
@example([7, 1, 16])
def test_numbers_in_any_order_are_counted_once(numbers):
    end = TopicEnd(BASE + numbers[0])
    due, count, lost, late = numbers[0], 0, 0, 0
    for n in numbers:
        end.note(BASE + n, 1)
        if n < due:
            late += 1
            continue
        lost += n - due
        count, due = count + 1, n + 1
    windows = last_word(final(end))
    assert sum(one.count for one in windows) == count
    assert sum(one.lost_count for one in windows) == lost
    assert sum(one.late for one in windows) == late
    assert windows[-1].last == BASE + due - 1


def test_a_new_life_of_the_publisher_is_no_gap():
    end = TopicEnd(BASE + 1)
    for number in (BASE + 1, BASE + 2, 2 * BASE + 1, 2 * BASE + 2):
        end.note(number, 1)
    first, second = final(end)
    assert (first.first, first.last, first.lost_count) == (BASE + 1, BASE + 2, 0)
    assert (second.first, second.last, second.lost_count) == (2 * BASE + 1, 2 * BASE + 2, 0)


def test_losses_beyond_the_list_are_counted():
    end = TopicEnd(BASE + 1)
    for n in range(1, 4 * limits.WINDOW_LOST_LISTED, 2):
        end.note(BASE + n, 1)
    listed = [one for window in final(end) for one in window.lost]
    assert len(listed) <= sum(window.lost_count for window in end.closed)
    with_room = TopicEnd(BASE + 1)
    for _ in range(100):
        with_room.lose((BASE + 1, "full", 2))
    (window,) = final(with_room)
    assert (len(window.lost), window.lost_count) == (limits.WINDOW_LOST_LISTED, 100)


def test_nothing_is_said_twice_and_an_end_is_always_said():
    end = TopicEnd(BASE + 1)
    end.flush()
    assert end.closed == []
    end.note(BASE + 1, 5)
    end.flush()
    end.flush()
    assert len(end.closed) == 1
    assert [one.final for one in final(end)] == [False, True]


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_a_proved_topic_has_the_root_over_its_messages(messages):
    end = TopicEnd(BASE + 1, StreamLeaves(None))
    for n, data in enumerate(messages, BASE + 1):
        end.note(n, len(data), 0, data)
    windows = final(end)
    for window in last_word(windows):
        tree = Frontier()
        tree.extend([leaf_hash(messages[n - BASE - 1]) for n in range(window.first, window.last + 1)])
        assert window.root == tree.root()


def test_an_agent_publishes_in_its_own_numbers_and_leaves_what_it_received():
    streams = TopicStreams(4, 3, ["proved"], LeafKeeper())
    assert streams.publication("t").next == 3 * BASE + 1
    assert streams.publication("t") is streams.publication("t")
    assert streams.publication("proved").leaves is not None
    streams.received("t", 9, BASE + 5, 10, 0, b"")
    assert {(topic, pid) for topic, pid, _ in streams.items()} == {("t", 4), ("proved", 4), ("t", 9)}
    (window,) = streams.leave("t", 9)
    assert (window.first, window.count, window.final) == (BASE + 5, 1, True)
    assert streams.leave("t", 9) == []

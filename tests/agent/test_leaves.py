"""Leaves of windows: every message that is kept can be proved, and what does not fit goes."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from weftos import limits
from weftos.agent.leaves import LeafKeeper, topic_key
from weftos.merkle.frontier import leaf_hash
from weftos.merkle.proofs import verify_inclusion


@given(st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=40), min_size=1, max_size=4), st.booleans())
def test_every_message_leads_to_the_root_of_its_window(windows, last_is_open):
    keeper = LeafKeeper()
    stream = keeper.stream((7, "consumer"))
    position, places, roots = 0, [], []
    for index, window in enumerate(windows):
        for record in window:
            stream.take([position], [record])
            places.append((position, record, index))
            position += 8 + len(record)
        roots.append(stream.cut(complete=not last_is_open or index + 1 < len(windows)))
    for position, record, index in places:
        label, found = keeper.find(7, "consumer", position)
        root, size = roots[index]
        data = position.to_bytes(8, "little") + record
        assert label == (7, "consumer")
        assert (found.data, found.leaf, found.size) == (data, leaf_hash(data), size)
        verify_inclusion(found.leaf, found.index, found.size, found.path, root)
    assert keeper.find(7, "consumer", position + 8) is None
    assert keeper.find(7, "producer", 0) is None
    assert keeper.find(8, "consumer", 0) is None


def test_old_windows_make_room_for_new_ones():
    keeper = LeafKeeper(most_bytes=5000)
    one, other = keeper.stream((1, "consumer")), keeper.stream(("t", 4))
    for n in range(10):
        one.take([8 * n], [b"x" * 500])
        one.cut(complete=True)
        other.add(n, topic_key(1, 8 * n + 1), b"y" * 300)
        other.cut(complete=True)
    assert keeper.bytes <= 5000
    assert keeper.find(1, "consumer", 0) is None
    assert keeper.find(1, "consumer", 72) is not None
    assert keeper.find(1, "consumer", 73)[0] == ("t", 4)


def test_of_a_large_message_only_the_hash_is_kept():
    keeper = LeafKeeper()
    stream = keeper.stream((1, "consumer"))
    record = bytes(limits.PROOF_MESSAGE_BYTES + 1)
    stream.take([0], [record])
    root, size = stream.cut(complete=False)
    _, found = keeper.find(1, "consumer", 0)
    assert found.data == b""
    assert found.leaf == leaf_hash(bytes(8) + record)
    verify_inclusion(found.leaf, 0, size, found.path, root)


def test_a_stream_without_a_keeper_keeps_nothing():
    from weftos.agent.leaves import StreamLeaves

    stream = StreamLeaves(None)
    stream.take([0, 16], [b"a", b"b"])
    assert stream.cut(complete=True)[1] == 2
    assert stream.find(0) is None

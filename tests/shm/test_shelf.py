"""Memory of received arrays is used again, but never under somebody who still looks at it."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weftos.shm import RingConsumer, RingProducer, create_ring


def address(array):
    return array.__array_interface__["data"][0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(20_000, 120_000), st.booleans()), max_size=25))
def test_an_array_that_is_held_never_changes(steps):
    """Some arrays are kept, as views and slices of views; the others are dropped and their memory comes again."""
    with create_ring(4 << 20, max_record=2 << 20) as segment:
        producer, consumer = RingProducer(segment), RingConsumer(segment)
        held = []
        for number, (kind, length, keep) in enumerate(steps):
            producer.put_array(np.full(length, number, np.float64))
            array = consumer.get().array
            consumer.commit()
            assert (array == number).all()
            if keep:
                held.append((number, [array, array[3:], memoryview(array), array.reshape(1, -1).T][kind]))
            del array
        assert all((np.asarray(view) == number).all() for number, view in held)
        del producer, consumer


def test_dropped_memory_is_used_again():
    with create_ring(4 << 20, max_record=2 << 20) as segment:
        producer, consumer = RingProducer(segment), RingConsumer(segment)
        seen = set()
        for _ in range(10):
            producer.put_array(np.zeros(100_000))
            seen.add(address(consumer.get().array))
            consumer.commit()
        gc.collect()
        assert len(seen) <= 2
        del producer, consumer

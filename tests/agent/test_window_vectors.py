"""The examples of docs/formats/windows.md, made again by the code."""

from __future__ import annotations

import re
from pathlib import Path

from weftos.agent.leaves import StreamLeaves
from weftos.agent.topic_streams import TopicEnd
from weftos.agent.windows import WindowSender, window_hash
from weftos.chain.records.canonical import encode_payload
from weftos.ipc.message import encode_message
from weftos.merkle.frontier import leaf_hash
from weftos.shm import RingConsumer, RingProducer, Window, create_ring

PAGE = (Path(__file__).parents[2] / "docs/formats/windows.md").read_text()


def stated(name: str) -> str:
    """The value of an example on the page."""
    found = re.search(rf"^\| {re.escape(name)} \| `([0-9a-f]+)` \|$", PAGE, re.MULTILINE)
    assert found, name
    return found.group(1)


class Service:
    def __init__(self) -> None:
        self.payloads: list[dict] = []

    def offer(self, request) -> bool:
        self.payloads += [event.payload for event in request.events]
        return True


def ring_windows() -> list[Window]:
    segment = create_ring(4096, ring_id=3)
    leaves = StreamLeaves(None)
    producer = RingProducer(segment, audit=True, leaves=leaves)
    producer.put(b"hello")
    producer.put(b"ab")
    windows = producer.audit_windows(final=True)
    consumer = RingConsumer(segment, audit=True, leaves=StreamLeaves(None))
    consumer.take(2)
    consumer.commit()
    assert consumer.audit_windows(final=True)[0].root == windows[0].root
    segment.close()
    return windows


def test_leaves_and_root_of_a_ring():
    first = (0).to_bytes(8, "little") + (5).to_bytes(8, "little") + b"hello"
    second = (16).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"ab"
    assert first.hex() == stated("leaf of `hello` at 0")
    assert leaf_hash(first).hex() == stated("its hash")
    assert leaf_hash(second).hex() == stated("hash of the leaf of `ab` at 16")
    (window,) = ring_windows()
    assert window.root.hex() == stated("root of both")
    assert window.digest.hex() == stated("digest of the 32 bytes")


def test_the_hash_of_a_window():
    (window,) = ring_windows()
    service = Service()
    sender = WindowSender(service, 1, 1, 60.0)  # type: ignore[arg-type]
    import msgspec

    timed = msgspec.structs.replace(window, opened_ns=1, closed_ns=2)
    sender.ring(3, "producer", 2, [timed], resumed=False)
    sender.flush()
    data = encode_payload(service.payloads[0])
    assert data.hex() == stated("payload of its window")
    assert window_hash(data).hex() == stated("hash that the next window names")


def test_a_topic():
    end = TopicEnd((1 << 40) + 1, StreamLeaves(None), lambda: 0)
    data = encode_message("x", 0, None, "tt", (1 << 40) + 1)
    end.note((1 << 40) + 1, len(data), 0, data)
    end.flush(final=True)
    (window,) = end.closed
    assert window.root == leaf_hash(data)
    assert window.root.hex() == stated("root of a window of topic `t` with the one message `x`")


def test_every_field_that_is_sent_is_described():
    service = Service()
    sender = WindowSender(service, 1, 1, 60.0)  # type: ignore[arg-type]
    sender.ring(3, "producer", 2, ring_windows(), resumed=False)
    end = TopicEnd((1 << 40) + 1, StreamLeaves(None))
    end.note((1 << 40) + 1, 1)
    end.flush()
    sender.topic("t", 1, end.closed)
    sender.heartbeat()
    sender.heartbeat()
    sender.flush()
    described = set(re.findall(r"^\| `([a-z_]+)`", PAGE, re.MULTILINE))
    assert len(service.payloads) == 3
    for payload in service.payloads:
        assert set(payload) <= described, set(payload) - described

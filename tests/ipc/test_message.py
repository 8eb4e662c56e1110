"""Messages on the wire: vectors of docs/formats/message.md, round trips, and liars."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import ProtocolError
from weftos.ipc.message import (
    Arrival,
    Message,
    MessageBatch,
    Source,
    decode_message,
    encode_batch,
    encode_message,
    encode_message_for,
    encode_plain,
)
from weftos.ipc.payloads import Failure, KernelSignal, Rvf, Signal, ToolCall, ToolResult, payload_type
from weftos.ipc.targets import (
    Broadcast,
    Kernel,
    Process,
    RemoteNode,
    Service,
    ServiceMethod,
    Topic,
    parse_target,
    target_from_wire,
    target_to_wire,
)

VECTORS = {
    "Text `hi`": encode_message("hi"),
    'Json `{"a": 1}`': encode_message({"a": 1}),
    "Bytes `00 ff`": encode_message(b"\x00\xff"),
    "Text `hi` as answer to position 8": encode_message("hi", 9),
    "Text `x` to topic `t`": encode_message("x", 0, None, "tt"),
    "Failure": encode_message(Failure("c", "t")),
    "Batch of `1`, `2`": encode_batch([1, 2]),
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
wrapped = st.one_of(
    st.builds(ToolCall, st.text(), st.dictionaries(st.text(), plain, max_size=3), st.text()),
    st.builds(ToolResult, st.text(), plain),
    st.builds(Signal, st.sampled_from(list(KernelSignal)), st.dictionaries(st.text(), plain, max_size=2)),
    st.builds(Rvf, st.integers(0, 255), st.binary()),
    st.builds(Failure, st.text(), st.text()),
)


def test_the_page_and_the_code_have_the_same_vectors():
    page = (Path(__file__).parents[2] / "docs/formats/message.md").read_text()
    for name, data in VECTORS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        found = re.search(r"\| `([0-9a-f ]+)`", row.removeprefix(f"| {name} "))
        assert found, row
        assert bytes.fromhex(found.group(1)) == data, name


@given(plain | wrapped, st.integers(0, 2**63), st.none() | st.text())
def test_every_payload_comes_back(payload, correlation, trace):
    message = decode_message(encode_message(payload, correlation, trace))
    assert (message.payload, message.correlation, message.trace_id) == (payload, correlation, trace)
    assert type(message.payload) is type(payload)
    assert message.type == payload_type(payload)


@given(plain)
def test_the_fast_encoder_writes_the_same(payload):
    assert encode_plain(payload) == encode_message(payload)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(data):
    try:
        message = decode_message(data)
    except ProtocolError:
        return
    assert isinstance(message, Message)


@given(st.lists(plain, min_size=1, max_size=20), st.integers(0, 2**40))
def test_a_batch_keeps_order_and_identity(payloads, position):
    unit = decode_message(encode_batch(payloads))
    source = Source(3, 7, 9)
    batch = MessageBatch(unit.payload, Arrival(source, 5), position)
    messages = list(batch)
    assert [message.payload for message in messages] == payloads
    assert len({message.id for message in messages}) == len(payloads) == len(batch)
    assert all(message.sender == 3 for message in messages)


@pytest.mark.parametrize(
    "data", [b"\x92\x07\x90", b"\x92\x07\xa1x", b"\x92\x08\x01", b"\x92\x05\xc0", b"\x92\x01\x01", b""]
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(ProtocolError):
        decode_message(data)


def test_deep_nesting_is_refused_not_fatal():
    with pytest.raises(ProtocolError):
        decode_message(b"\x92\x00" + b"\x91" * 100_000 + b"\xc0")


@pytest.mark.parametrize("payload", [object(), {1, 2}.__iter__(), 2**70, {"a": object()}, "\ud800"])
def test_what_cannot_travel_is_refused_at_the_sender(payload):
    with pytest.raises(ProtocolError, match="cannot be sent"):
        encode_message(payload)
    with pytest.raises(ProtocolError, match="cannot be sent"):
        encode_plain(payload)


def test_an_array_needs_its_data_and_data_needs_an_array():
    array = np.arange(3)
    message = decode_message(encode_message_for(array), array)
    assert message.payload is array
    with pytest.raises(ProtocolError, match="disagree"):
        decode_message(encode_message_for(array))
    with pytest.raises(ProtocolError, match="disagree"):
        decode_message(encode_message("x"), array)


def test_the_receiver_overwrites_what_a_sender_claims_about_itself():
    forged = msgspec.msgpack.encode([0, "x", 0, None, None, 0, {"pid": 0}, 99, 1])
    message = decode_message(forged)
    source = Source(5, 2, 1)
    message.arrival, message.position = Arrival(source, 10), 64
    assert (message.sender, message.id, message.redelivered) == (5, "2-40", 0)


TARGETS = [Topic("a.b"), Broadcast(), Service("s"), ServiceMethod("s", "m"), Process(4)]


@pytest.mark.parametrize("target", TARGETS)
def test_targets_come_back(target):
    assert target_from_wire(target_to_wire(target), 4) == target


@pytest.mark.parametrize("wire", ["", "x", "t", "bb", "m", "msvc", "ta/b", "t\x00", "s" + "n" * 300])
def test_strings_that_are_no_targets_are_refused(wire):
    with pytest.raises(ProtocolError):
        target_from_wire(wire, 1)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (3, Process(3)),
        (0, Kernel()),
        ("7", Process(7)),
        ("kernel", Kernel()),
        ("broadcast", Broadcast()),
        ("topic:t", Topic("t")),
        ("service:s", Service("s")),
        ("service:s/m", ServiceMethod("s", "m")),
    ],
)
def test_what_people_write_is_understood(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "topic:", "service:/m", "nobody", "topic:a/b", "-3"])
def test_what_nobody_means_is_refused(text):
    with pytest.raises(ProtocolError):
        parse_target(text)


def test_a_remote_target_has_no_local_wire():
    with pytest.raises(ProtocolError):
        target_to_wire(RemoteNode("n", Process(1)))

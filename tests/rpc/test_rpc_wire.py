"""The wire format: what is accepted, how everything else is refused, and that no bytes get past that."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weftos import errors, limits
from weftos.errors import InvalidRequest, MessageTooLarge, MethodNotFound, PayloadRefused, ProtocolError, WeftError
from weftos.rpc import kernel_types as kt
from weftos.rpc import message_types as mt
from weftos.rpc import wire
from weftos.rpc.methods import METHODS

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def line(**members: object) -> bytes:
    return json.dumps(members).encode()


def refused(data: bytes) -> wire.Refusal:
    parsed = wire.parse_request(data)
    assert isinstance(parsed, wire.Refusal)
    return parsed


# --- requests ------------------------------------------------------------------------------------


def test_a_request_is_read_in_full():
    parsed = wire.parse_request(line(jsonrpc="2.0", id=7, method="agent.list", params={"all": True}))
    assert parsed == wire.Request(7, "agent.list", {"all": True})


@pytest.mark.parametrize("params", [{}, {"params": None}, {"params": {}}])
def test_absent_params_are_no_params(params):
    assert wire.parse_request(line(jsonrpc="2.0", id="a", method="ping", **params)) == wire.Request("a", "ping", {})


def test_without_id_it_is_a_notification_but_null_is_an_id():
    assert wire.parse_request(line(jsonrpc="2.0", method="ping")).notification
    assert not wire.parse_request(line(jsonrpc="2.0", method="ping", id=None)).notification


@pytest.mark.parametrize(
    ("data", "number", "word"),
    [
        (b"", wire.PARSE_ERROR, "not JSON"),
        (b"{", wire.PARSE_ERROR, "not JSON"),
        (b"\xff\xfe", wire.PARSE_ERROR, "not JSON"),
        (b'{"jsonrpc":"2.0"} x', wire.PARSE_ERROR, "not JSON"),
        (b"[" * 100_000, wire.PARSE_ERROR, "not JSON"),
        (b"[]", wire.INVALID_REQUEST, "batches"),
        (line(jsonrpc="2.0", id=1, method="ping").join([b"[", b"]"]), wire.INVALID_REQUEST, "batches"),
        (b"17", wire.INVALID_REQUEST, "object"),
        (b"null", wire.INVALID_REQUEST, "object"),
        (line(id=1, method="ping"), wire.INVALID_REQUEST, "jsonrpc"),
        (line(jsonrpc="1.0", id=1, method="ping"), wire.INVALID_REQUEST, "jsonrpc"),
        (line(jsonrpc=2.0, id=1, method="ping"), wire.INVALID_REQUEST, "jsonrpc"),
        (line(jsonrpc="2.0", id=1), wire.INVALID_REQUEST, "method"),
        (line(jsonrpc="2.0", id=1, method=""), wire.INVALID_REQUEST, "method"),
        (line(jsonrpc="2.0", id=1, method=["ping"]), wire.INVALID_REQUEST, "method"),
        (line(jsonrpc="2.0", id=1, method="ping", auth="admin"), wire.INVALID_REQUEST, "auth"),
        (line(jsonrpc="2.0", id=1, method="ping", params=[1]), wire.INVALID_PARAMS, "by name"),
        (line(jsonrpc="2.0", id=1, method="ping", params="x"), wire.INVALID_PARAMS, "by name"),
        (line(jsonrpc="2.0", id=True, method="ping"), wire.INVALID_REQUEST, "id"),
        (line(jsonrpc="2.0", id={}, method="ping"), wire.INVALID_REQUEST, "id"),
        (line(jsonrpc="2.0", id="x" * 300, method="ping"), wire.INVALID_REQUEST, "id"),
    ],
)
def test_what_is_no_request_is_refused_with_the_right_number(data, number, word):
    refusal = refused(data)
    assert refusal.number == number
    assert word in refusal.message
    answer = json.loads(refusal.encode())
    assert answer["error"]["code"] == number
    assert answer["error"]["data"] == {"code": "rpc.invalid"}


def test_a_refusal_names_the_request_where_it_can():
    assert refused(line(jsonrpc="1.0", id="abc", method="ping")).id == "abc"
    assert refused(line(jsonrpc="2.0", id=[1], method="ping")).id is None


def test_a_line_at_the_limit_is_read_and_one_byte_more_is_refused():
    body = line(jsonrpc="2.0", id=1, method="ping", params={"x": ""})
    padding = limits.RPC_LINE_BYTES - len(body)
    full = body.replace(b'"x": ""', b'"x": "' + b"a" * padding + b'"')
    assert len(full) == limits.RPC_LINE_BYTES
    assert isinstance(wire.parse_request(full), wire.Request)
    assert "bytes" in refused(full.replace(b"aa", b"aaa", 1)).message


@given(st.binary(max_size=300))
@example(b'{"jsonrpc":"2.0","method":"\\ud800","id":1}')
@example(b'{"jsonrpc":"2.0","method":"a","id":' + b"9" * 400 + b"}")
@example(b'{"jsonrpc":"2.0","method":"a","id":1e400}')
def test_any_bytes_give_a_request_or_an_answer(data):
    check_answerable(wire.parse_request(data))


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "x"]), json_values))
def test_any_object_gives_a_request_or_an_answer(members):
    check_answerable(wire.parse_request(json.dumps(members).encode()))


@given(st.sampled_from(sorted(METHODS)), json_values)
def test_any_params_are_converted_or_refused_by_name(name, params):
    parsed = wire.parse_request(line(jsonrpc="2.0", id=1, method=name, params=params))
    check_answerable(parsed)
    if isinstance(parsed, wire.Request):
        with contextlib.suppress(InvalidRequest):
            assert isinstance(wire.decode_params(METHODS[name], parsed.params), METHODS[name].params)


def check_answerable(parsed: wire.Request | wire.Refusal) -> None:
    encoded = parsed.encode() if isinstance(parsed, wire.Refusal) else wire.encode_result(parsed.id, "ok")
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["jsonrpc"] == "2.0"


def test_an_unknown_method_is_refused_with_a_similar_one():
    with pytest.raises(MethodNotFound, match=r"did you mean agent\.inspect"):
        wire.find_method("agent.inspct")
    with pytest.raises(MethodNotFound):
        wire.find_method("")


@pytest.mark.parametrize(
    ("method", "params", "word"),
    [
        ("agent.inspect", {}, "pid"),
        ("agent.inspect", {"pid": 0}, "pid"),
        ("agent.inspect", {"pid": "1"}, "pid"),
        ("agent.inspect", {"pid": True}, "pid"),
        ("agent.inspect", {"pid": 1, "pidd": 2}, "pidd"),
        ("agent.spawn", {"program": ""}, "program"),
        ("agent.spawn", {"program": "echo", "restart": "sometimes"}, "restart"),
        ("agent.spawn", {"program": "echo", "name": "a b"}, "name"),
        ("agent.spawn", {"program": "echo", "limits": {"memory_bytes": "1"}}, "limits"),
        ("agent.spawn", {"program": "echo", "capabilities": {"can_fly": True}}, "can_fly"),
        ("agent.send", {"pid": 1}, "message"),
        ("agent.send", {"pid": 1, "message": 1, "timeout_secs": -1}, "timeout_secs"),
        ("kernel.logs", {"level": "loud"}, "level"),
        ("kernel.logs", {"count": -1}, "count"),
        ("ipc.publish", {"topic": "", "message": 1}, "topic"),
        ("kernel.status", {"x": 1}, "x"),
    ],
)
def test_wrong_params_are_refused_and_named(method, params, word):
    with pytest.raises(InvalidRequest) as caught:
        wire.decode_params(METHODS[method], params)
    assert method in str(caught.value)
    assert word in str(caught.value)


# --- lines ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=8), st.data())
def test_lines_do_not_depend_on_how_the_bytes_arrive(parts, data):
    stream = b"".join(part + b"\n" for part in parts)
    splitter, found, at = wire.LineSplitter(64), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        found += splitter.feed(stream[at : at + step])
        at += step
    assert found == [part.strip(b" \t\r") for part in parts if part.strip(b" \t\r")]
    assert splitter.pending == 0


@pytest.mark.parametrize(
    "chunks", [[b"a" * 65], [b"a" * 60, b"a" * 5], [b"x\n", b"a" * 64, b"a\n"], [b"a" * 65 + b"\n"]]
)
def test_a_line_without_end_is_refused_before_it_fills_memory(chunks):
    splitter = wire.LineSplitter(64)
    with pytest.raises(MessageTooLarge) as caught:
        for chunk in chunks:
            splitter.feed(chunk)
    assert caught.value.limit == 64


def test_a_line_of_exactly_the_limit_passes():
    assert wire.LineSplitter(64).feed(b"a" * 64 + b"\n") == [b"a" * 64]


# --- answers -------------------------------------------------------------------------------------


@given(json_values)
def test_a_result_comes_back_as_it_was(value):
    assert wire.decode_response(wire.encode_result(3, value).strip(), 3, object) == value


def test_structs_travel_by_field_name():
    sent = mt.TopicInfo(topic="a", subscriber_count=1, subscribers=[4])
    assert wire.decode_response(wire.encode_result(1, [sent]), 1, list[mt.TopicInfo]) == [sent]


@pytest.mark.parametrize("value", [object(), {1j: 2}, {(1, 2): object()}])
def test_a_result_without_json_form_is_refused(value):
    with pytest.raises(PayloadRefused):
        wire.encode_result(1, value)


def test_a_result_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(PayloadRefused):
        wire.encode_result(1, loop)
    with pytest.raises(PayloadRefused):
        wire.encode_request(1, "ping", {"x": loop})


def test_what_json_cannot_say_becomes_null():
    assert json.loads(wire.encode_result(1, [math.nan, math.inf]))["result"] == [None, None]


def all_errors() -> list[type[WeftError]]:
    return [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_crosses_the_socket_in_its_own_class(kind):
    with pytest.raises(WeftError) as caught:
        wire.decode_response(wire.encode_error(5, kind("no room: 3 of 2")), 5, str)
    assert type(caught.value) is kind
    assert str(caught.value) == "no room: 3 of 2"
    assert caught.value.exit_code == kind.exit_code


def test_error_numbers_follow_json_rpc():
    number = lambda error: json.loads(wire.encode_error(1, error))["error"]["code"]  # noqa: E731
    assert number(MethodNotFound("x")) == -32601
    assert number(InvalidRequest("x")) == -32602
    assert number(WeftError("x")) == -32000


def test_a_message_with_lone_surrogates_can_be_answered():
    answer = json.loads(wire.encode_error(1, WeftError("file \udcff is odd")))
    assert answer["error"]["message"] == "file ? is odd"


def test_an_unknown_error_code_becomes_a_plain_error():
    answer = line(jsonrpc="2.0", id=1, error={"code": -1, "message": "m", "data": {"code": "new.thing"}})
    with pytest.raises(WeftError, match="m") as caught:
        wire.decode_response(answer, 1, str)
    assert type(caught.value) is WeftError


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"[]",
        line(jsonrpc="1.0", id=1, result="pong"),
        line(jsonrpc="2.0", id=2, result="pong"),
        line(jsonrpc="2.0", id=1),
        line(jsonrpc="2.0", id=1, result=17),
        line(jsonrpc="2.0", id=2, error={"code": 1, "message": "m"}),
        line(jsonrpc="2.0", id=1, error="text"),
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_a_protocol_error(answer):
    with pytest.raises(ProtocolError):
        wire.decode_response(answer, 1, str)


def test_an_error_without_id_concerns_the_only_request():
    with pytest.raises(InvalidRequest):
        wire.decode_response(refused(b"{").encode(), 9, str)


@given(st.binary(max_size=200))
def test_any_answer_gives_a_value_or_one_of_our_errors(data):
    with contextlib.suppress(WeftError):
        wire.decode_response(data, 1, kt.KernelStatus)


def test_a_request_longer_than_the_server_accepts_is_not_sent():
    with pytest.raises(MessageTooLarge):
        wire.encode_request(1, "agent.send", {"message": "x" * limits.RPC_LINE_BYTES})

"""Requests and answers survive the way there and back; anything else is a ``ProtocolError`` and nothing worse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs_of_witnesses import TestLog

from weftos import limits
from weftos.chain.signing.cosignature import CosignatureSigner
from weftos.chain.signing.keyring import KeyPair, hand_over
from weftos.errors import ProtocolError
from weftos.witness import protocol as p
from weftos.witness.outcomes import STATUS, Conflict, Cosigned, Evidence, Head, Key, Pinned, Refused, SplitView

LOG = TestLog().grow(9)
SIGNER = CosignatureSigner("witness/one", b"w" * 32)
HEIR = KeyPair(b"h" * 32, b"i" * 32)
ROTATION = hand_over(LOG.origin, LOG.pair, LOG.keys, HEIR)
ADD = p.AddCheckpoint(5, tuple(LOG.proof(5)), LOG.note())
TELL = p.TellKeys(LOG.origin, HEIR.public, (ROTATION,))
REQUESTS = [
    ADD,
    p.AddCheckpoint(0, (), LOG.note(0)),
    p.ShowHead(LOG.origin),
    p.ShowEvidence(LOG.origin),
    p.ShowKey(),
    TELL,
]
ANSWERS = [
    (ADD, Cosigned((SIGNER.sign(LOG.note().decode().partition("\n\n")[0] + "\n"),))),
    (ADD, Conflict(2**63 - 1)),
    (p.ShowHead(LOG.origin), Head(LOG.note())),
    (p.ShowKey(), Key(SIGNER.verifier.format())),
    (p.ShowEvidence(LOG.origin), Evidence(SplitView(LOG.note(5), LOG.note(4)), 3)),
    (p.ShowEvidence(LOG.origin), Evidence(None, 0)),
    (TELL, Pinned(LOG.keys.pair_id)),
    *((request, Refused(code, "because")) for code in STATUS for request in (ADD, TELL)),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_requests(request_):
    assert p.parse_request(p.format_request(request_)) == request_


@pytest.mark.parametrize(("request_", "answer"), ANSWERS)
def test_answers(request_, answer):
    assert p.parse_answer(p.format_answer(answer), request_) == answer


def test_the_form_is_that_of_other_witnesses():
    body = p.format_request(p.AddCheckpoint(7, (bytes(32),), b"o\n1\nx\n\n- s\n"))
    assert body == b"old 7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\no\n1\nx\n\n- s\n"
    assert p.format_answer(Conflict(12)) == b"409\n12\n"
    assert p.format_answer(Refused("proof", "a\nb\x00")) == b"422\nproof\na b \n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"old",
        b"old \n\nx",
        b"old 01\n\nx",
        b"old -1\n\nx",
        b"old 9223372036854775808\n\nx",
        b"old 1\nAAAA\n\nx",
        b"old 1\nnonsense\n\nx",
        b"old 1\n\n",
        b"old 1\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\nx",
        b"head",
        b"head x",
        b"head x\ny\n",
        b"head x\r\n",
        b"key \n",
        b"key x\n",
        b"keys\n",
        b"keys x\ny\nz\n",
        p.format_request(p.TellKeys(LOG.origin, LOG.keys)).replace(b"keys w", b"keys v"),
        p.format_request(TELL).replace(b"iA", b"iB", 1)[:-9] + b"\n",
        b"evidence \xff\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x93" * 5000,
    ],
)
def test_malformed_requests(body):
    with pytest.raises(ProtocolError):
        p.parse_request(body)


def test_a_client_does_not_send_what_no_witness_takes():
    for request in (
        p.AddCheckpoint(0, (), bytes(limits.WITNESS_NOTE_BYTES + 1)),
        p.AddCheckpoint(0, (bytes(32),) * 64, b"x"),
        p.TellKeys(LOG.origin, LOG.keys, (ROTATION,) * (limits.WITNESS_ROTATIONS + 1)),
        p.ShowHead("x" * limits.WITNESS_REQUEST_BYTES),
    ):
        with pytest.raises(ProtocolError):
            p.format_request(request)
    full = p.TellKeys(LOG.origin, LOG.keys, (ROTATION,) * limits.WITNESS_ROTATIONS)
    assert p.parse_request(p.format_request(full)) == full


def parsed_or_refused(parse):
    try:
        return parse()
    except ProtocolError:
        return None


@given(st.data())
@settings(max_examples=400)
def test_hostile_bytes(data):
    """Good bodies with a part replaced, and plain noise."""
    noise = st.binary(max_size=40)
    whole = data.draw(
        st.sampled_from([p.format_request(one) for one in REQUESTS] + [p.format_answer(a) for _, a in ANSWERS])
    )
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 50)))
    body = data.draw(st.one_of(noise, noise.map(lambda piece: whole[:begin] + piece + whole[end:])))
    request = parsed_or_refused(lambda: p.parse_request(body))
    if request is not None:
        assert p.parse_request(p.format_request(request)) == request
    for asked in REQUESTS:
        answer = parsed_or_refused(lambda asked=asked: p.parse_answer(body, asked))
        if answer is not None:
            assert p.parse_answer(p.format_answer(answer), asked) == answer


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.data())
def test_frames_in_any_pieces(bodies, data):
    stream, reader, found = b"".join(p.frame(body) for body in bodies), p.FrameReader(30), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:cut])
        stream = stream[cut:]
        while (body := reader.next()) is not None:
            found.append(body)
    assert found == bodies
    assert reader.is_empty


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\x1f\0\0\0", b"\xff\xff\xff\xff"])
def test_frames_of_a_wrong_length(head):
    with pytest.raises(ProtocolError):
        p.FrameReader(30).feed(head)

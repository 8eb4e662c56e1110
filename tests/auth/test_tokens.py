"""Tokens: what is written is read, nothing else is, and an answer fits one challenge only."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.auth.scope import TokenScope
from weftos.auth.tokens import PREFIX, Challenge, Token, matches, parse, token_id, verify
from weftos.errors import InvalidRequest, TokenRefused

SEEDS = st.binary(min_size=32, max_size=32)
CHALLENGES = st.builds(
    Challenge,
    nonce=st.binary(min_size=32, max_size=32),
    boot_id=st.binary(min_size=16, max_size=16),
    server_uid=st.integers(0, 2**32 - 2),
    client_uid=st.integers(0, 2**32 - 2),
)


@given(SEEDS)
def test_a_token_is_read_as_it_was_written(seed):
    token = Token(seed)
    again = parse(token.text())
    assert again.text() == token.text()
    assert again.fingerprint == token.fingerprint
    assert token.id == token_id(token.fingerprint)


@given(SEEDS, st.integers(0, 64), st.sampled_from(string.ascii_letters + string.digits + "-_=+/ é\n"))
def test_a_slip_of_the_pen_is_refused(seed, at, wrong):
    text = Token(seed).text()
    slipped = text[:at] + wrong + text[at + 1 :]
    if slipped == text:
        return
    with pytest.raises(TokenRefused) as refused:
        parse(slipped)
    assert text[len(PREFIX) :][:20] not in str(refused.value), "the message does not repeat the secret"


@given(st.text(max_size=100))
def test_any_text_is_a_token_or_refused(text):
    with pytest.raises(TokenRefused):
        parse(text)


@given(SEEDS, CHALLENGES, CHALLENGES)
def test_an_answer_fits_its_challenge_and_no_other(seed, challenge, other):
    token = Token(seed)
    answer = token.sign(challenge)
    assert verify(token.public_key, answer, challenge)
    assert verify(token.public_key, answer, other) == (other == challenge)


@given(SEEDS, SEEDS, CHALLENGES)
def test_a_token_answers_for_itself_alone(seed, foreign, challenge):
    one, other = Token(seed), Token(foreign)
    assert verify(other.public_key, one.sign(challenge), challenge) == (seed == foreign)
    assert matches(one.fingerprint, other.public_key) == (seed == foreign)


@given(st.binary(max_size=100), st.binary(max_size=100), CHALLENGES)
def test_what_is_no_key_or_no_signature_verifies_nothing(key, signature, challenge):
    assert verify(key, signature, challenge) is False


def test_its_secret_is_not_in_its_representation():
    token = Token.make()
    assert token.text()[len(PREFIX) :] not in repr(token)
    assert token.id in repr(token)


def scope(**fields):
    token = Token(bytes(32))
    facts = {"id": token.id, "name": "ci", "fingerprint": token.fingerprint, "access": "read", "expires_ns": 10**18 + 1}
    return TokenScope(**facts | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"name": "-x"},
        {"access": "root"},
        {"access": "", "methods": []},
        {"methods": ["kernel.halt"]},
        {"methods": ["ping", "ping"]},
        {"agents": [""]},
        {"agents": ["a\nb"]},
        {"agents": [f"a{n}" for n in range(limits.AUTH_SCOPE_NAMES + 1)]},
        {"uids": [1, 1]},
        {"expires_ns": 10**18},
        {"expires_ns": 10**18 + limits.AUTH_TOKEN_LIFE_S * 10**9 + 1},
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(fields):
    with pytest.raises(InvalidRequest):
        scope(**fields).check(10**18, {"ping"})


def test_a_scope_is_what_it_was_after_the_log():
    one = scope(methods=["ping"], agents=["echo", "a/b"], uids=[7])
    one.check(10**18, {"ping"})
    again = msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(one)), TokenScope)
    assert again == one
    assert not one.is_expired(10**18)
    assert one.is_expired(10**18 + 1), "the end of its life is not part of it"

"""A checkpoint is read in one form only, for one log only, and with the log's own signatures only."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.chain.signing.checkpoint import (
    Checkpoint,
    format_text,
    log_id_of,
    log_origin,
    open_checkpoint,
    parse_text,
    sign_checkpoint,
)
from weftos.chain.signing.note import (
    COSIGNATURE,
    ED25519,
    ML_DSA_65,
    Ed25519NoteSigner,
    MLDSA65NoteSigner,
    SignaturePolicy,
    VerifierKey,
    parse_note,
    sign_note,
)
from weftos.errors import ChainCorrupted, ChainError, SignatureInvalid

ORIGIN = log_origin(bytes(range(16)))
SIGNERS = (Ed25519NoteSigner(ORIGIN, b"c" * 32), MLDSA65NoteSigner(ORIGIN, b"l" * 32))
KEYS = tuple(signer.verifier for signer in SIGNERS)
BOTH, CLASSIC = SignaturePolicy(), SignaturePolicy(frozenset({ED25519}))
HERE = Checkpoint(ORIGIN, 20852163, b"r" * 32)
# From c2sp.org/tlog-checkpoint; its key is not published.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
).encode()

lines = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


def test_the_c2sp_example_is_read():
    checkpoint = parse_text(parse_note(C2SP).text)
    assert (checkpoint.origin, checkpoint.size, checkpoint.extensions) == ("example.com/behind-the-sofa", 20852163, ())
    assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert format_text(checkpoint) == parse_note(C2SP).text
    with pytest.raises(SignatureInvalid):
        open_checkpoint(C2SP, KEYS, CLASSIC, "example.com/behind-the-sofa")


def test_a_log_id_and_its_origin_belong_together():
    assert ORIGIN == "weftos/log/000102030405060708090a0b0c0d0e0f"
    assert log_id_of(ORIGIN) == bytes(range(16))
    for bad in ("", ORIGIN.upper(), ORIGIN + "0", ORIGIN[:-1], ORIGIN + "\n", "x" + ORIGIN):
        with pytest.raises(ChainError):
            log_id_of(bad)
    with pytest.raises(ChainError):
        log_origin(bytes(15))


@given(checkpoints)
def test_what_is_formatted_is_read_back(checkpoint):
    assert parse_text(format_text(checkpoint)) == checkpoint


@given(st.text(st.sampled_from("0123456789ab=\n+ \t"), max_size=70) | st.text(max_size=20))
def test_any_text_is_refused_or_comes_back_the_same(text):
    try:
        checkpoint = parse_text(text)
    except ChainCorrupted:
        return
    assert format_text(checkpoint) == text


ROOT = base64.b64encode(b"r" * 32).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n\n",
        f"o\n1\n{ROOT}",
        f"o\n1\n{ROOT}\n\n",
        f"\n1\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n1 \n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",  # a digit, and not an ASCII one
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n{'9' * 100}\n{ROOT}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[:-2]}J=\n",  # the same root in a second form
        f"o\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"o\n1\n{base64.b64encode(bytes(33)).decode()}\n",
        f"o\n1\n{base64.urlsafe_b64encode(b'?' * 32).decode()}\n".replace("/", "_"),
        f"o\t\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\nmore\n",
    ],
)
def test_malformed_texts_are_refused(text):
    with pytest.raises(ChainCorrupted):
        parse_text(text)


@pytest.mark.parametrize(
    "bad",
    [
        Checkpoint("", 1, b"r" * 32),
        Checkpoint("a\nb", 1, b"r" * 32),
        Checkpoint("a\tb", 1, b"r" * 32),
        Checkpoint("o", -1, b"r" * 32),
        Checkpoint("o", 2**63, b"r" * 32),
        Checkpoint("o", 1, b"r" * 31),
        Checkpoint("o", 1, b"r" * 32, ("",)),
    ],
)
def test_what_cannot_be_read_is_not_written(bad):
    with pytest.raises(ChainError):
        format_text(bad)


def test_a_signed_checkpoint_is_opened():
    data = sign_checkpoint(HERE, SIGNERS)
    assert data.startswith(f"{ORIGIN}\n20852163\n{ROOT}\n\n\u2014 {ORIGIN} ".encode())
    assert open_checkpoint(data, KEYS, BOTH, ORIGIN) == HERE
    empty = Checkpoint(ORIGIN, 0, b"r" * 32, ("more", "lines"))
    assert open_checkpoint(sign_checkpoint(empty, SIGNERS), KEYS, BOTH, ORIGIN) == empty


def test_a_signature_that_was_left_out_is_missed():
    for signer, missing in zip(SIGNERS, (ML_DSA_65, ED25519), strict=True):
        with pytest.raises(SignatureInvalid, match=missing) as caught:
            open_checkpoint(sign_checkpoint(HERE, [signer]), KEYS, BOTH, ORIGIN)
        assert caught.value.algorithm == missing
    assert open_checkpoint(sign_checkpoint(HERE, SIGNERS[:1]), KEYS, CLASSIC, ORIGIN) == HERE
    for signers in ((), (Ed25519NoteSigner("another", b"c" * 32),)):
        with pytest.raises(ChainError):
            sign_checkpoint(HERE, signers)
    with pytest.raises(ChainError, match="cannot name a key"):
        sign_checkpoint(Checkpoint("a b", 1, b"r" * 32), SIGNERS)


def test_keys_of_others_do_not_stand_in_for_the_log():
    others = (Ed25519NoteSigner("other", b"c" * 32), MLDSA65NoteSigner("other", b"l" * 32))
    keys = (*KEYS, *(signer.verifier for signer in others))
    for signers in (others, (SIGNERS[0], others[1]), (others[0], SIGNERS[1])):
        with pytest.raises(SignatureInvalid):
            open_checkpoint(sign_note(format_text(HERE), signers), keys, BOTH, ORIGIN)
    # A cosignature under the log's own name is none of a witness.
    own = VerifierKey(ORIGIN, COSIGNATURE, KEYS[0].public_key)
    with pytest.raises(SignatureInvalid, match=COSIGNATURE):
        open_checkpoint(sign_checkpoint(HERE, SIGNERS), (*KEYS, own), SignaturePolicy(frozenset({COSIGNATURE})), ORIGIN)


def test_a_checkpoint_of_another_log_is_refused():
    elsewhere = Checkpoint(log_origin(bytes(16)), 1, b"r" * 32)
    data = sign_note(format_text(elsewhere), SIGNERS)
    with pytest.raises(SignatureInvalid, match="of the log"):
        open_checkpoint(data, KEYS, BOTH, ORIGIN)
    with pytest.raises(ChainCorrupted):
        open_checkpoint(sign_note("no checkpoint\n", SIGNERS), KEYS, BOTH, ORIGIN)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_byte_can_be_changed(data):
    signed = sign_checkpoint(HERE, SIGNERS)
    head = len(format_text(HERE).encode()) + 60
    at = data.draw(st.integers(0, head) | st.integers(0, len(signed) - 1))
    bad = signed[:at] + bytes([signed[at] ^ data.draw(st.integers(1, 255))]) + signed[at + 1 :]
    with pytest.raises((ChainCorrupted, SignatureInvalid)):
        open_checkpoint(bad, KEYS, BOTH, ORIGIN)


def test_no_byte_of_the_text_can_be_changed():
    signed = sign_checkpoint(HERE, SIGNERS)
    for at in range(len(format_text(HERE)) + 1):
        for mask in range(8):
            bad = signed[:at] + bytes([signed[at] ^ 1 << mask]) + signed[at + 1 :]
            with pytest.raises((ChainCorrupted, SignatureInvalid)):
                open_checkpoint(bad, KEYS, BOTH, ORIGIN)

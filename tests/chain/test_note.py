"""Notes are read in one form only, and believed only with the signatures that the policy asks for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.signing.note import (
    ED25519,
    ML_DSA_65,
    Ed25519NoteSigner,
    MLDSA65NoteSigner,
    Note,
    NoteSignature,
    SignaturePolicy,
    VerifierKey,
    check_signatures,
    format_note,
    parse_note,
    sign_note,
    verify_note,
)
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid, error_for_code

# From the public documentation of golang.org/x/mod/sumdb/note: verifier key, seed of the signer key, and note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
GO_NOTE = f"{GO_TEXT}\n{GO_SIGNATURE}".encode()
# The examples of c2sp.org/signed-note; the key of the second is not published.
C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_SIGNED = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
C2SP_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "\u2014 quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

ONLY_ED25519 = SignaturePolicy(frozenset({ED25519}))
BOTH = SignaturePolicy()
CLASSIC, LATTICE = Ed25519NoteSigner("log.example/1", b"c" * 32), MLDSA65NoteSigner("log.example/1", b"l" * 32)
KEYS = (CLASSIC.verifier, LATTICE.verifier)
TEXT = "log.example/1\n\nsome text é\n"

names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Z"), exclude_characters="+"), min_size=1).filter(
    lambda name: not any(letter.isspace() for letter in name)
)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n")).map(lambda text: text + "\n")
signatures = st.builds(NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=99))


def test_the_go_example_is_read_verified_and_made():
    key = VerifierKey.parse(GO_KEY)
    assert (key.name, key.algorithm, key.key_id.hex(), key.format()) == ("PeterNeumann", ED25519, "c74f20a3", GO_KEY)
    note = parse_note(GO_NOTE)
    assert note.text == GO_TEXT
    assert verify_note(note, [key], ONLY_ED25519) == (key,)
    assert sign_note(GO_TEXT, [Ed25519NoteSigner("PeterNeumann", GO_SEED)]) == GO_NOTE


def test_the_c2sp_examples_are_read():
    key = VerifierKey.parse(C2SP_KEY)
    assert key.format() == C2SP_KEY
    assert verify_note(parse_note(C2SP_SIGNED), [key], ONLY_ED25519) == (key,)
    note = parse_note(C2SP_NOTE)
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert [(s.name, s.key_id.hex(), len(s.signature)) for s in note.signatures] == [
        ("quasimodo.example/salvatore", "367ba04b", 64)
    ]
    assert format_note(note) == C2SP_NOTE


def test_no_mangled_verifier_key_is_taken():
    for start in range(len(GO_KEY)):
        for end in range(start + 1, len(GO_KEY) + 1):
            if (start, end) != (0, len(GO_KEY)):
                with pytest.raises(ConfigError):
                    VerifierKey.parse(GO_KEY[start:end])
    for at, letter in enumerate(GO_KEY):
        with pytest.raises(ConfigError):
            VerifierKey.parse(GO_KEY[:at] + chr(ord(letter) + 1) + GO_KEY[at + 1 :])
    for text in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY.replace("c74f20a3", "c7 4f20a3"),
        GO_KEY + "\n",
        "",
    ):
        with pytest.raises(ConfigError):
            VerifierKey.parse(text)


def test_every_algorithm_has_an_id_and_a_text_form_of_its_own():
    keys = [
        CLASSIC.verifier,
        LATTICE.verifier,
        VerifierKey("log.example/1", "cosignature", CLASSIC.verifier.public_key),
    ]
    assert len({key.key_id for key in keys}) == 3
    for key in keys:
        assert VerifierKey.parse(key.format()) == key
    for bad in (("a b", ED25519, 32), ("a+b", ED25519, 32), ("", ED25519, 32), ("a\nb", ED25519, 32)):
        with pytest.raises(ConfigError):
            VerifierKey(bad[0], bad[1], bytes(bad[2]))
    for algorithm, size in ((ED25519, 31), (ML_DSA_65, 1951), ("rsa", 32)):
        with pytest.raises(ConfigError):
            VerifierKey("a", algorithm, bytes(size))
    for signer in (Ed25519NoteSigner, MLDSA65NoteSigner):
        with pytest.raises(ConfigError):
            signer("a", bytes(33))


@given(texts, st.lists(signatures, min_size=1, max_size=5))
def test_what_is_formatted_is_read_back(text, lines):
    note = Note(text, tuple(lines))
    assert parse_note(format_note(note)) == note


@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda b: GO_NOTE[:40] + b + GO_NOTE[40:]))
def test_any_bytes_are_refused_or_come_back_the_same(data):
    try:
        note = parse_note(data)
    except ChainCorrupted:
        return
    assert format_note(note) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        GO_TEXT.encode(),
        GO_TEXT.encode() + b"\n",
        GO_NOTE[:-1],
        GO_NOTE + b"\n",
        GO_NOTE + b"x\n",
        GO_SIGNATURE.encode(),
        b"\n" + GO_SIGNATURE.encode(),
        GO_NOTE.replace(b"\n", b"\r\n"),
        GO_NOTE.replace(b"problem is", b"problem\tis"),
        GO_NOTE.replace(b"problem is", b"problem\x00is"),
        GO_NOTE.replace(b"problem is", b"problem\x7fis"),
        GO_NOTE.replace(b"problem is", "problem\x85is".encode()),
        GO_NOTE.replace(b"problem is", b"problem\xffis"),
        GO_NOTE.replace(b"PeterNeumann", b"Peter Neumann"),
        GO_NOTE.replace(b"PeterNeumann", "Peter\u2003Neumann".encode()),
        GO_NOTE.replace(b"PeterNeumann", b"Peter+Neumann"),
        GO_NOTE.replace(b"PeterNeumann ", b" "),
        GO_NOTE.replace("\u2014".encode(), b"-"),
        GO_NOTE.replace(b"nAM=", b"nAM"),
        GO_NOTE.replace(b"nAM=", b"nAN="),  # the same bytes in a second form
        GO_NOTE.replace(b"nAM=", b"nAM=="),
        f"{GO_TEXT}\n\u2014 PeterNeumann x08goQ==\n\n".encode(),
        f"{GO_TEXT}\n\u2014 PeterNeumann x08gow==\n".encode(),  # an id and no signature
        GO_NOTE + GO_SIGNATURE.encode() * limits.NOTE_SIGNATURES,
        b"x" * limits.NOTE_BYTES + GO_NOTE,
    ],
)
def test_malformed_notes_are_refused(data):
    with pytest.raises(ChainCorrupted):
        parse_note(data)


def test_as_many_signatures_as_the_limit_are_read():
    data = GO_NOTE + GO_SIGNATURE.encode() * (limits.NOTE_SIGNATURES - 1)
    assert verify_note(parse_note(data), [VerifierKey.parse(GO_KEY)], ONLY_ED25519)


def test_what_cannot_be_read_is_not_written():
    line = NoteSignature("a", b"1234", b"5")
    for text in ("", "x", "x\t\n", "\ud800\n"):
        with pytest.raises(ChainError):
            format_note(Note(text, (line,)))
        with pytest.raises(ChainError):
            CLASSIC.sign(text)
    for lines in ((), (line,) * 101, (NoteSignature("a b", b"1234", b"5"),), (NoteSignature("a", b"123", b"5"),)):
        with pytest.raises(ChainError):
            format_note(Note("x\n", lines))


def test_both_algorithms_sign_and_are_required():
    data = sign_note(TEXT, [CLASSIC, LATTICE])
    assert verify_note(parse_note(data), KEYS, BOTH) == KEYS
    for signers, missing in (([CLASSIC], ML_DSA_65), ([LATTICE], ED25519)):
        with pytest.raises(SignatureInvalid, match=missing) as caught:
            verify_note(parse_note(sign_note(TEXT, signers)), KEYS, BOTH)
        assert (caught.value.algorithm, caught.value.code, caught.value.exit_code) == (missing, "chain.signature", 5)
    with pytest.raises(SignatureInvalid, match=ML_DSA_65):
        verify_note(parse_note(data), KEYS[:1], BOTH)  # the key is not known, so its signature does not count
    assert isinstance(error_for_code("chain.signature", "x"), SignatureInvalid)


def test_a_policy_is_never_empty_and_never_changes():
    for required in (set(), {"rsa"}, {ED25519, "rsa"}):
        with pytest.raises(ConfigError):
            SignaturePolicy(required)
    given_set = {ED25519}
    policy = SignaturePolicy(given_set)
    given_set.clear()
    assert policy.required == frozenset({ED25519})
    with pytest.raises(AttributeError):
        policy.required = frozenset()


def test_unknown_signatures_are_skipped_and_wrong_ones_are_not():
    stranger = Ed25519NoteSigner("log.example/1", b"s" * 32)
    note = parse_note(sign_note(TEXT, [stranger, CLASSIC, LATTICE]))
    assert verify_note(note, KEYS, BOTH) == KEYS
    assert check_signatures(note, []) == ()
    good = CLASSIC.sign(TEXT)
    wrong = NoteSignature(good.name, good.key_id, CLASSIC.sign("another\n").signature)
    for lines in ((good, wrong), (wrong, good), (NoteSignature(good.name, good.key_id, good.signature + b"\0"),)):
        with pytest.raises(SignatureInvalid, match="is wrong"):
            verify_note(Note(TEXT, lines), KEYS, ONLY_ED25519)


def test_a_signature_made_for_another_purpose_does_not_pass():
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    key = MLDSA65PrivateKey.from_seed_bytes(b"l" * 32)
    for context in (None, b"weftos/note/v2"):
        line = NoteSignature("log.example/1", LATTICE.verifier.key_id, key.sign(TEXT.encode(), context))
        with pytest.raises(SignatureInvalid):
            check_signatures(Note(TEXT, (line,)), KEYS)


def test_two_keys_with_one_id_are_not_guessed_between(monkeypatch):
    monkeypatch.setattr(VerifierKey, "key_id", b"same")
    with pytest.raises(ConfigError, match="two keys"):
        check_signatures(parse_note(GO_NOTE), KEYS)


def flips(data):
    for at in range(len(data)):
        for mask in (1, 0x20, 0x80):
            yield at, data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_no_byte_can_be_changed():
    data = sign_note(TEXT, [CLASSIC, LATTICE])
    for at, bad in flips(data):
        # All of the head and the ends of the long lines, and of the rest a sample: each costs a verification.
        if 400 < at < len(data) - 60 and at % 37:
            continue
        with pytest.raises((ChainCorrupted, SignatureInvalid)):
            verify_note(parse_note(bad), KEYS, BOTH)


@settings(deadline=None)
@given(texts)
def test_any_text_can_be_signed(text):
    assert verify_note(parse_note(sign_note(text, [CLASSIC, LATTICE])), KEYS, BOTH) == KEYS

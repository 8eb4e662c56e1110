"""A witness's time is believed only with its signature, and stands for that checkpoint alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.signing.checkpoint import Checkpoint, format_text, log_origin, open_checkpoint, sign_checkpoint
from weftos.chain.signing.cosignature import CosignatureSigner, cosign, cosignature_time, cosignature_times
from weftos.chain.signing.note import (
    COSIGNATURE,
    ED25519,
    Ed25519NoteSigner,
    Note,
    NoteSignature,
    SignaturePolicy,
    VerifierKey,
    format_note,
    parse_note,
)
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid

ORIGIN = log_origin(bytes(16))
LOG = Ed25519NoteSigner(ORIGIN, b"c" * 32)
SIGNED = sign_checkpoint(Checkpoint(ORIGIN, 7, b"r" * 32), [LOG])
WITNESSED = SignaturePolicy(frozenset({ED25519, COSIGNATURE}))

# From c2sp.org/tlog-cosignature; its keys are not published.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()
# A checkpoint of a public test network, made by other software: the log's key, its witness's, and both signatures.
FOREIGN_LOG = "registry.dev.dnsid.test+63709d10+ARwL6oG1DPOaYXpfGFYdSw26SwXFlXwg/4pSQkH+meO1"
FOREIGN_WITNESS = "dnsid-testnet-witness+140f1588+BAsNEfLiOQ/CLTgTGutdjkXbl+Ur7aleRlda6PWY0lcW"
FOREIGN = (
    "registry.dev.dnsid.test\n1\nhoRk0hkPFzObCxDX9po81RS5jnJB3iXBewKTs061yX0=\n\n"
    "\u2014 registry.dev.dnsid.test "
    "Y3CdECgpKysQCRqhl6VHhpBNH1fVarM6rb7x1GEaTHLOm6N4EyO/wy+ZjAf3wU+zJeBzJZ0zs0DA+u/D9ooB6RFJtAA=\n"
    "\u2014 dnsid-testnet-witness "
    "FA8ViAAAAABqVT7r7JIYyN4uQ5HTMTos+yN1oxBaNRgxoLkpzkWDR3LhxYQ3urhvCZ7hdbVNZU2OsUues3gpgSCrOrpSBmQAJOgDAg==\n"
).encode()


class Stopped:
    """A clock that shows one time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def wall_ns(self):
        return self.seconds * 1_000_000_000 + 999_999_999

    mono_ns = wall_ns


def witness(seconds=1_700_000_000, name="witness.example/1", seed=b"w" * 32):
    return CosignatureSigner(name, seed, clock=Stopped(seconds))


def test_the_c2sp_example_has_its_form():
    line = parse_note(C2SP).signatures[1]
    assert (line.key_id.hex(), len(line.signature), int.from_bytes(line.signature[:8])) == ("8d66cf3f", 72, 1679315147)


def test_a_checkpoint_that_other_software_made_is_verified():
    log, other = VerifierKey.parse(FOREIGN_LOG), VerifierKey.parse(FOREIGN_WITNESS)
    assert open_checkpoint(FOREIGN, [log, other], WITNESSED, "registry.dev.dnsid.test").size == 1
    assert cosignature_times(FOREIGN, [log, other]) == {other: 0x6A553EEB}
    with pytest.raises(SignatureInvalid):
        cosignature_times(FOREIGN.replace(b"\n1\n", b"\n2\n"), [other])


@given(st.integers(1, 2**63 // 10**9))
def test_the_time_comes_back(seconds):
    signer = witness(seconds)
    data = cosign(SIGNED, signer)
    assert data.startswith(SIGNED)
    assert cosignature_times(data, [signer.verifier, LOG.verifier]) == {signer.verifier: seconds}
    line = parse_note(data).signatures[-1]
    assert cosignature_time(line, signer.verifier, parse_note(data).text) == seconds


def test_witnesses_count_for_the_policy_and_the_log_does_not_count_as_one():
    data = cosign(SIGNED, witness())
    keys = (LOG.verifier, witness().verifier)
    assert open_checkpoint(data, keys, WITNESSED, ORIGIN).size == 7
    with pytest.raises(SignatureInvalid, match=COSIGNATURE):
        open_checkpoint(SIGNED, keys, WITNESSED, ORIGIN)
    with pytest.raises(SignatureInvalid, match=COSIGNATURE):
        open_checkpoint(data, keys[:1], WITNESSED, ORIGIN)


def test_the_newest_time_of_each_witness_counts():
    second = witness(5, "witness.example/2", b"v" * 32)
    data = SIGNED
    for signer in (witness(30), witness(10), second, witness(20)):
        data = cosign(data, signer)
    times = cosignature_times(data, [witness().verifier, second.verifier])
    assert times == {witness().verifier: 30, second.verifier: 5}
    with pytest.raises(SignatureInvalid, match="clock"):
        cosignature_times(data, [witness().verifier], not_after=29)
    assert cosignature_times(data, []) == {}


def test_no_bit_of_a_cosignature_can_be_changed():
    data = cosign(SIGNED, witness())
    keys = (LOG.verifier, witness().verifier)
    for at in range(len(data)):
        for mask in range(8):
            bad = data[:at] + bytes([data[at] ^ 1 << mask]) + data[at + 1 :]
            with pytest.raises((ChainCorrupted, SignatureInvalid)):
                open_checkpoint(bad, keys, WITNESSED, ORIGIN)


def test_a_cosignature_stands_for_one_checkpoint_one_time_and_one_kind_of_key():
    key = witness().verifier
    text = parse_note(SIGNED).text
    line = witness().sign(text)
    other = format_text(Checkpoint(ORIGIN, 8, b"r" * 32))
    later = (1_700_000_001).to_bytes(8) + line.signature[8:]
    huge = (2**63).to_bytes(8) + line.signature[8:]
    for bad, under in (
        (line, other),
        (NoteSignature(line.name, line.key_id, later), text),
        (NoteSignature(line.name, line.key_id, huge), text),
        (NoteSignature("another", line.key_id, line.signature), text),
        (NoteSignature(line.name, b"1234", line.signature), text),
    ):
        with pytest.raises(SignatureInvalid):
            cosignature_time(bad, key, under)
    with pytest.raises(SignatureInvalid):
        cosignature_time(line, VerifierKey(key.name, ED25519, key.public_key), text)
    with pytest.raises(ChainCorrupted):
        cosignature_time(NoteSignature(line.name, line.key_id, line.signature[:-1]), key, text)
    # The bytes of a plain signature with the same secret do not pass, with or without a time in front.
    plain = Ed25519NoteSigner(key.name, b"w" * 32).sign(text).signature
    for blob in (plain, bytes(8) + plain):
        with pytest.raises(SignatureInvalid):
            cosignature_times(format_note(Note(text, (NoteSignature(key.name, key.key_id, blob),))), [key])


def test_only_checkpoints_are_cosigned_and_only_with_a_clock_that_runs():
    with pytest.raises(ChainCorrupted):
        witness().sign("no checkpoint\n")
    with pytest.raises(ChainCorrupted):
        cosignature_times(format_note(Note("no checkpoint\n", parse_note(SIGNED).signatures)), [])
    for seconds in (0, -1, 2**63):
        with pytest.raises(ChainError, match="clock"):
            witness(seconds).sign(parse_note(SIGNED).text)
    with pytest.raises(ConfigError):
        CosignatureSigner("w", b"short")
    full = Note(parse_note(SIGNED).text, parse_note(SIGNED).signatures * limits.NOTE_SIGNATURES)
    with pytest.raises(ChainError):
        cosign(format_note(full), witness())


def test_the_clock_of_the_system_is_the_default():
    data = cosign(SIGNED, CosignatureSigner("w", b"w" * 32))
    assert min(cosignature_times(data, [CosignatureSigner("w", b"w" * 32).verifier]).values()) > 1_750_000_000

"""Keys hand over only with both proofs of both algorithms, for one log, from the trusted pair."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.chain.signing.keyring import KeyPair, hand_over
from weftos.chain.signing.rotation import (
    ACCEPT_TAG,
    ENDORSE_TAG,
    Genesis,
    PublicKeys,
    Rotation,
    follow_rotations,
    rotation_message,
    verify_rotation,
)
from weftos.errors import ChainCorrupted, ConfigError, SignatureInvalid

ORIGIN = "weftos/log/" + "0" * 32
A, B, C, D = (KeyPair(bytes([2 * n]) * 32, bytes([2 * n + 1]) * 32) for n in range(4))


def change(old, new, origin=ORIGIN):
    return hand_over(origin, old, old.public, new)


A_TO_B, B_TO_C = change(A, B), change(B, C)


def test_a_change_holds_and_survives_its_record():
    assert verify_rotation(A_TO_B, ORIGIN, A.public) == B.public
    payload = A_TO_B.to_payload()
    assert {type(value) for value in payload.values()} == {str, bytes, int}
    assert Rotation.from_payload(payload) == A_TO_B
    assert len(msgspec.msgpack.encode(payload)) < 12_000


@settings(deadline=None)
@given(st.data())
def test_no_bit_of_it_can_be_changed(data):
    payload = A_TO_B.to_payload()
    name = data.draw(st.sampled_from([n for n, value in payload.items() if isinstance(value, bytes)]))
    value = payload[name]
    at = data.draw(st.integers(0, len(value) - 1))
    bad = value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]
    with pytest.raises(SignatureInvalid):
        verify_rotation(Rotation.from_payload({**payload, name: bad}), ORIGIN, A.public)


def test_a_change_of_another_log_or_from_another_pair_is_refused():
    with pytest.raises(SignatureInvalid, match="of the log"):
        verify_rotation(A_TO_B, ORIGIN + "1", A.public)
    # The same proofs under another origin: the origin is signed.
    moved = msgspec.structs.replace(A_TO_B, origin="another")
    with pytest.raises(SignatureInvalid, match="proof"):
        verify_rotation(moved, "another", A.public)
    with pytest.raises(SignatureInvalid, match="trusted"):
        verify_rotation(A_TO_B, ORIGIN, B.public)


def test_each_of_the_four_proofs_is_needed_and_none_stands_in_for_another():
    names = ("endorse_ed25519", "endorse_ml_dsa_65", "accept_ed25519", "accept_ml_dsa_65")
    other = change(A, C).to_payload()
    for name in names:
        for bad in (b"", other[name], A_TO_B.to_payload()[name][:-1]):
            with pytest.raises(SignatureInvalid):
                verify_rotation(msgspec.structs.replace(A_TO_B, **{name: bad}), ORIGIN, A.public)
    # The old pair alone, signing for both sides, does not make a change.
    forged = hand_over(ORIGIN, A, A.public, B)
    message = rotation_message(ACCEPT_TAG, ORIGIN, A.public, B.public)
    forged = msgspec.structs.replace(
        forged, **dict(zip(("accept_ed25519", "accept_ml_dsa_65"), A.prove(message), strict=True))
    )
    with pytest.raises(SignatureInvalid, match="new pair"):
        verify_rotation(forged, ORIGIN, A.public)
    # Nor does what the pair signed in the other role.
    swapped = dict(
        zip(
            ("endorse_ed25519", "endorse_ml_dsa_65"),
            A.prove(rotation_message(ACCEPT_TAG, ORIGIN, A.public, B.public)),
            strict=True,
        )
    )
    with pytest.raises(SignatureInvalid, match="old pair"):
        verify_rotation(msgspec.structs.replace(A_TO_B, **swapped), ORIGIN, A.public)


def test_a_log_of_one_algorithm_gains_the_second_and_never_loses_it():
    legacy = PublicKeys(A.public.ed25519)
    gain = hand_over(ORIGIN, A, legacy, A)
    assert gain.endorse_ml_dsa_65 == b""
    assert verify_rotation(gain, ORIGIN, legacy) == A.public
    with pytest.raises(SignatureInvalid, match="trusted"):
        verify_rotation(gain, ORIGIN, A.public)  # a pair that has both keys does not accept the weaker proof
    with pytest.raises(SignatureInvalid):
        verify_rotation(msgspec.structs.replace(gain, endorse_ml_dsa_65=b"x" * 3309), ORIGIN, legacy)
    message = rotation_message(ENDORSE_TAG, ORIGIN, A.public, PublicKeys(B.public.ed25519))
    loss = msgspec.structs.replace(A_TO_B, new_ml_dsa_65=b"", accept_ml_dsa_65=b"", endorse_ed25519=A.prove(message)[0])
    with pytest.raises(SignatureInvalid, match="gives up"):
        verify_rotation(loss, ORIGIN, A.public)


def test_both_keys_change():
    half = KeyPair(b"\0" * 32, b"\7" * 32)
    assert half.public.ed25519 == A.public.ed25519
    with pytest.raises(SignatureInvalid, match="both have to be new"):
        verify_rotation(change(A, half), ORIGIN, A.public)
    with pytest.raises(SignatureInvalid, match="both have to be new"):
        verify_rotation(change(A, A), ORIGIN, A.public)


def test_a_chain_is_followed_from_the_trusted_pair():
    chain = [A_TO_B, B_TO_C, change(C, D)]
    for trusted in (A, B, C, D):
        assert follow_rotations(ORIGIN, trusted.public, chain) == D.public
    assert follow_rotations(ORIGIN, A.public, []) == A.public
    for broken in ([A_TO_B, chain[2]], [A_TO_B, A_TO_B], [A_TO_B, B_TO_C, A_TO_B], [B_TO_C, A_TO_B, B_TO_C, B_TO_C]):
        with pytest.raises(SignatureInvalid):
            follow_rotations(ORIGIN, A.public, broken)
    assert follow_rotations(ORIGIN, A.public, [B_TO_C]) == A.public


def test_the_first_keys_survive_their_record_in_both_versions():
    payload = Genesis.of(A.public).to_payload()
    assert {type(value) for value in payload.values()} == {str, bytes, int}
    assert Genesis.read(payload) == A.public
    assert Genesis.read({"algorithm": "ed25519", "public_key": A.public.ed25519}) == PublicKeys(A.public.ed25519)
    for bad in (
        {},
        {"algorithm": "rsa", "public_key": A.public.ed25519},
        {"algorithm": "ed25519", "public_key": b"short"},
        {**payload, "version": 3},
        {**payload, "pair_id": B.pair_id},
        {**payload, "ed25519": B.public.ed25519},
        {**payload, "ml_dsa_65": b""},
        {**payload, "more": 1},
    ):
        with pytest.raises(ChainCorrupted):
            Genesis.read(bad)


def test_malformed_changes_are_refused():
    payload = A_TO_B.to_payload()
    for bad in (
        {},
        {**payload, "version": 2},
        {**payload, "old_ed25519": b"x"},
        {**payload, "new_ml_dsa_65": b"x"},
        {**payload, "origin": 1},
        {**payload, "more": 1},
        {name: value for name, value in payload.items() if name != "accept_ed25519"},
    ):
        with pytest.raises(ChainCorrupted):
            Rotation.from_payload(bad)
    with pytest.raises(ChainCorrupted):
        verify_rotation(msgspec.structs.replace(A_TO_B, old_ed25519=b"x"), ORIGIN, A.public)
    with pytest.raises(ConfigError):
        PublicKeys(b"x" * 31)


def test_secrets_are_not_shown():
    assert repr(A) == f"KeyPair({A.pair_id})"
    assert A.pair_id == A.public.pair_id != B.pair_id

"""An attestation is believed from the device that made it, and only as it was made."""

from __future__ import annotations

import struct

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.records.canonical import decode_payload, encode_payload
from weftos.chain.signing.statement import U64_MAX
from weftos.chain.statements.custody import Attestation, attest, verify_attestation
from weftos.errors import AttestationInvalid, error_for_code

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEVICE = KEY.public_key().public_bytes_raw()
HEAD = b"h" * 32
ROOTS = {"vectors": b"v" * 32, "graph": b"g" * 32, "ä": b"a" * 32}


def made(**changes):
    fields = {"epoch": 3, "head_hash": HEAD, "size": 1234, "roots": ROOTS, "t_ns": 1_700_000_000_000_000_000, **changes}
    return attest(KEY.sign, DEVICE, **fields)


def test_the_signed_bytes_are_what_is_documented():
    fields = [b"exo/custody/v1", b"ed25519", DEVICE, struct.pack("<Q", 3), HEAD, struct.pack("<Q", 1234)]
    fields += [struct.pack("<Q", 1_700_000_000_000_000_000), struct.pack("<Q", 3)]
    fields += [b"graph", b"g" * 32, b"vectors", b"v" * 32, "ä".encode(), b"a" * 32]
    message = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    attestation = made()
    assert attestation.message() == message
    KEY.public_key().verify(attestation.signature, message)
    assert made(roots=dict(reversed(ROOTS.items()))) == attestation


@given(
    st.integers(0, U64_MAX),
    st.integers(0, U64_MAX),
    st.dictionaries(st.text("abc/ä", min_size=1, max_size=8), st.binary(min_size=32, max_size=32), max_size=6),
)
def test_what_was_made_is_believed(epoch, size, roots):
    attestation = made(epoch=epoch, size=size, roots=roots)
    verify_attestation(attestation, DEVICE)
    again = Attestation.from_payload(decode_payload(encode_payload(attestation.to_payload())))
    assert again == attestation
    verify_attestation(again, DEVICE)


@given(st.data())
def test_every_change_is_found(data):
    attestation = made()
    name = data.draw(st.sampled_from(Attestation.__struct_fields__))
    value = getattr(attestation, name)
    if name == "roots":
        changed = dict(value)
        key = data.draw(st.sampled_from(sorted(value)))
        how = data.draw(st.sampled_from(["gone", "renamed", "swapped", "more"]))
        if how == "more":
            changed["x"] = HEAD
        else:
            root = changed.pop(key)
            if how == "renamed":
                changed[key + "x"] = root
            elif how == "swapped":
                changed[key] = HEAD
    elif name == "algorithm":
        changed = value + "x"
    elif isinstance(value, bytes):
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        changed = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")
    else:
        changed = value ^ 1 << data.draw(st.integers(0, 63))
    forged = msgspec.structs.replace(attestation, **{name: changed})
    with pytest.raises(AttestationInvalid):
        verify_attestation(forged, DEVICE)


def test_names_and_hashes_cannot_flow_into_each_other():
    one = made(roots={"a" * 32: b"b" * 32, "c" * 32: b"d" * 32})
    two = made(roots={"a" * 32: b"c" * 32, "b" * 32: b"d" * 32})
    assert one.message() != two.message()


def test_another_device_is_not_believed():
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    device = other.public_key().public_bytes_raw()
    with pytest.raises(AttestationInvalid, match="of the device"):
        verify_attestation(made(), device)
    with pytest.raises(AttestationInvalid, match="not signed by this device"):
        verify_attestation(msgspec.structs.replace(made(), device_id=device), device)
    assert type(error_for_code("chain.attestation", "x")) is AttestationInvalid


def test_a_wrong_signer_is_noticed_at_once():
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    with pytest.raises(AttestationInvalid, match="not signed by this device"):
        attest(other.sign, DEVICE, epoch=0, head_hash=HEAD, size=1, roots={}, t_ns=0)
    with pytest.raises(AttestationInvalid, match="not signed"):
        attest(lambda message: b"", DEVICE, epoch=0, head_hash=HEAD, size=1, roots={}, t_ns=0)
    with pytest.raises(AttestationInvalid, match="signature"):
        attest(lambda message: None, DEVICE, epoch=0, head_hash=HEAD, size=1, roots={}, t_ns=0)
    with pytest.raises(AttestationInvalid):
        attest(KEY.sign, DEVICE[:31], epoch=0, head_hash=HEAD, size=1, roots={}, t_ns=0)


def test_another_algorithm_brings_its_own_check():
    def sign(message):
        return b"signed:" + message[-8:]

    def verify(key, signature, message):
        return key == b"device" and signature == sign(message)

    fields = {"epoch": 1, "head_hash": HEAD, "size": 1, "roots": ROOTS, "t_ns": 5, "algorithm": "test"}
    attestation = attest(sign, b"device", **fields, verify=verify)
    verify_attestation(attestation, b"device", algorithm="test", verify=verify)
    with pytest.raises(AttestationInvalid, match="nothing here checks"):
        attest(sign, b"device", **fields)
    with pytest.raises(AttestationInvalid, match="signed with test, not with ed25519"):
        verify_attestation(attestation, b"device", verify=verify)


def test_the_largest_fits_into_a_record():
    roots = {f"{number:03}" + "x" * (limits.CHAIN_NAME_BYTES - 3): HEAD for number in range(limits.CHAIN_CUSTODY_ROOTS)}
    assert len(encode_payload(made(roots=roots).to_payload())) < limits.CHAIN_PAYLOAD_BYTES
    with pytest.raises(AttestationInvalid, match="at most"):
        made(roots={**roots, "one more": HEAD})


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"more": 1},
        {"device_id": b""},
        {"device_id": "x"},
        {"epoch": -1},
        {"epoch": True},
        {"size": 2**64},
        {"t_ns": 1.0},
        {"head_hash": bytes(31)},
        {"roots": []},
        {"roots": {"a": b"x"}},
        {"roots": {"": HEAD}},
        {"roots": {"a\n": HEAD}},
        {"roots": {7: HEAD}},
        {"roots": {"\ud800": HEAD}},
        {"algorithm": ""},
        {"algorithm": None},
        {"signature": None},
        {"signature": bytes(9000)},
    ],
)
def test_a_payload_of_another_form_is_refused(change):
    good = made().to_payload()
    with pytest.raises(AttestationInvalid):
        Attestation.from_payload({**good, **change})
    for name in good:
        with pytest.raises(AttestationInvalid):
            Attestation.from_payload({key: value for key, value in good.items() if key != name})

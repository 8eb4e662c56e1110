"""The forms, byte for byte, written from docs/formats/checkpoint.md alone and compared with what is made.

If a change makes this test fail, notes, key files and changes of keys that exist can no longer be read: that needs a
new version of the form, not another expectation here.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from weftos.chain.signing.checkpoint import Checkpoint, log_origin, sign_checkpoint
from weftos.chain.signing.keyring import KeyPair, KeyRing, hand_over
from weftos.chain.signing.rotation import Genesis

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "checkpoint.md"
ORIGIN = "weftos/log/" + "00" * 16
ML_DSA_TYPE = b"\xffweftos/ml-dsa-65/v1\n"
PAIR, NEXT = KeyPair(bytes(32), bytes(32)), KeyPair(b"1" * 32, b"2" * 32)
CLASSIC = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
LATTICE = MLDSA65PrivateKey.from_seed_bytes(bytes(32)).public_key()


def fields(*parts):
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def key_id(kind, public):
    return hashlib.sha256(ORIGIN.encode() + b"\n" + kind + public).digest()[:4]


def test_the_example_of_the_page():
    page = PAGE.read_text()
    classic, lattice = PAIR.public.verifier_keys(log_origin(bytes(16)))
    assert classic.format() in page
    assert f"key id {lattice.key_id.hex()}" in page
    assert f"the pair    {PAIR.pair_id}" in page


def test_a_signed_checkpoint():
    data = sign_checkpoint(Checkpoint(ORIGIN, 300, b"r" * 32), PAIR.signers(ORIGIN))
    text, _, rest = data.partition(b"\n\n")
    text += b"\n"
    assert text == f"{ORIGIN}\n300\n{base64.b64encode(b'r' * 32).decode()}\n".encode()
    first, second, end = rest.split(b"\n")
    assert end == b""
    blobs = []
    for line in (first, second):
        start = f"\u2014 {ORIGIN} ".encode()
        assert line.startswith(start)
        blobs.append(base64.b64decode(line[len(start) :], validate=True))
    assert blobs[0][:4] == key_id(b"\x01", CLASSIC.public_bytes_raw())
    assert blobs[1][:4] == key_id(ML_DSA_TYPE, LATTICE.public_bytes_raw())
    CLASSIC.verify(blobs[0][4:], text)
    LATTICE.verify(blobs[1][4:], text, b"weftos/note/v1")


def test_a_verifier_key():
    lattice = PAIR.public.verifier_keys(ORIGIN)[1]
    material = ML_DSA_TYPE + LATTICE.public_bytes_raw()
    assert lattice.format() == f"{ORIGIN}+{lattice.key_id.hex()}+{base64.b64encode(material).decode()}"


def test_a_pair_its_file_and_its_record(tmp_path):
    public = (CLASSIC.public_bytes_raw(), LATTICE.public_bytes_raw())
    pair_id = hashlib.sha256(fields(b"weftos/key.pair/v1", *public)).hexdigest()[:16]
    assert Genesis.of(PAIR.public).to_payload() == {
        "version": 2,
        "pair_id": pair_id,
        "ed25519": public[0],
        "ml_dsa_65": public[1],
    }
    folder = tmp_path / "keys"
    folder.mkdir(0o700)
    path = folder / f"pair-{pair_id}.key"
    path.write_bytes(b"weftos/pair/v1\n" + bytes(64))
    path.chmod(0o600)
    assert KeyRing(folder).load(pair_id).public == PAIR.public


def test_a_change_of_keys():
    payload = hand_over(ORIGIN, PAIR, PAIR.public, NEXT).to_payload()
    common = [ORIGIN.encode()]
    common += [payload[name] for name in ("old_ed25519", "old_ml_dsa_65", "new_ed25519", "new_ml_dsa_65")]
    for role, side in (("endorse", "old"), ("accept", "new")):
        message = fields(f"weftos/key.rotate/{role}/v1".encode(), *common)
        Ed25519PublicKey.from_public_bytes(payload[f"{side}_ed25519"]).verify(payload[f"{role}_ed25519"], message)
        lattice = MLDSA65PublicKey.from_public_bytes(payload[f"{side}_ml_dsa_65"])
        lattice.verify(payload[f"{role}_ml_dsa_65"], message, b"weftos/key.rotate/v1")

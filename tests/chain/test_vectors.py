"""The format, byte for byte: the writer makes these bytes, and a reader written from the document alone reads them.

``vectors.json`` belongs to docs/formats/chain.md. If a change makes this test fail, logs that exist can no longer be
read, or read differently: that needs a new version of the format, not new vectors.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import msgspec
from blake3 import blake3
from logs_for_tests import BOOT, Ticking

from weftos import chain
from weftos.chain.signing.keyring import KeyPair

VECTORS = Path(__file__).with_name("vectors.json")
SEED = bytes(range(32))


def make(directory, monkeypatch):
    """Write the log of the vectors with everything that is random made certain."""
    monkeypatch.setattr(os, "urandom", lambda n: bytes(at * 7 % 251 for at in range(n)))
    # The vectors are about bytes; their events need not say what events of their kinds have to.
    monkeypatch.setattr("weftos.chain.writing.writer.SCHEMAS", {})
    clock = Ticking()
    pair = KeyPair(SEED, SEED[::-1])
    signer = chain.Signer(str(directory.parent / "keys"), {pair.pair_id: pair}, pair.pair_id)
    (directory.parent / "keys").mkdir(mode=0o700)
    with chain.ChainWriter.open(directory, boot_id=BOOT, clock=clock, signer=signer) as writer:
        writer.append(chain.NewEvent("kernel", "boot.ready", {}))
        writer.append(
            chain.NewEvent(
                "agent:7",
                "app.sample",
                {
                    "z": [1, -1, 127, 128, 65535, 1 << 32, (1 << 64) - 1, -(1 << 63)],
                    "a": {"b": True, "é": None, "Z": False},
                    "f": [0.5, -0.0, 1e300],
                    "bytes": b"\x00\xff",
                    "text": "Größe",
                },
                "agent:8",
                2,
                "ring-5",
                1 << 40,
                "permit-1",
            )
        )
        writer.append(chain.NewEvent("kernel", "shutdown", {"reason": "x" * 300}, None, 0, 12, 0))


def test_the_writer_makes_these_bytes(home, monkeypatch):
    make(home, monkeypatch)
    vectors = json.loads(VECTORS.read_text())
    assert (home / "00000001.log").read_bytes().hex() == vectors["segment"]
    text, _, signatures = (home / "checkpoint").read_text().partition("\n\n")
    assert text + "\n" == vectors["checkpoint"]["text"]
    # The other signature is not the same each time.
    assert signatures.splitlines()[0] == vectors["checkpoint"]["ed25519"]
    for name in ("tile/0/000.p/5", "tile/entries/000.p/5"):
        assert (home / name).read_bytes().hex() == vectors[name]


def test_a_reader_from_the_document_alone():
    vectors = json.loads(VECTORS.read_text())
    data, at, seen, previous = bytes.fromhex(vectors["segment"]), 0, [], bytes(32)
    while at < len(data):
        size, crc = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack_from("<I", data, at + 8 + size) == (size,)
        assert zlib.crc32(body, size) == crc
        kind, flags, length = struct.unpack_from("<BBH", body)
        assert flags == 0
        header, rest = body[4 : 4 + length], body[4 + length :]
        fields = msgspec.msgpack.decode(header)
        if at == 0:
            assert (kind, fields[:2], fields[3:6], rest) == (1, ["exo/segment", 1], [1, 0, bytes(32)], b"")
            log_id = fields[2]
        else:
            assert kind == 2
            assert (len(fields), fields[0], fields[1], fields[2]) == (16, 1, log_id, len(seen))
            assert fields[13] == blake3(rest).digest()
            assert fields[14] == len(rest) - 16
            assert fields[15] == previous
            previous = blake3(b"exo/leaf/v1" + header).digest()
            seen.append(
                {
                    "offset": at,
                    "frame_bytes": size + 12,
                    "header": header.hex(),
                    "salt": rest[:16].hex(),
                    "payload": rest[16:].hex(),
                    "payload_hash": fields[13].hex(),
                    "record_hash": previous.hex(),
                }
            )
        at += size + 12
    assert seen == vectors["records"]
    assert decoded_bundle(bytes.fromhex(vectors["tile/entries/000.p/5"])) == [one["header"] for one in seen]


def decoded_bundle(data):
    entries, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        entries.append(data[at + 2 : at + 2 + size].hex())
        at += 2 + size
    return entries


def test_the_checkpoint_from_the_document_alone():
    """Root by the definition of RFC 9162, key id and signature by that of a signed note."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    vectors = json.loads(VECTORS.read_text())
    leaves = [sha256(b"\0" + bytes.fromhex(one["header"])).digest() for one in vectors["records"]]
    assert b"".join(leaves).hex() == vectors["tile/0/000.p/5"]

    def join(a, b):
        return sha256(b"\1" + a + b).digest()

    root = join(join(join(leaves[0], leaves[1]), join(leaves[2], leaves[3])), leaves[4])
    text = vectors["checkpoint"]["text"]
    origin, size, stated = text.splitlines()
    log_id = msgspec.msgpack.decode(bytes.fromhex(vectors["records"][0]["header"]))[1]
    assert (origin, size, base64.b64decode(stated)) == (f"weftos/log/{log_id.hex()}", "5", root)
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = key.public_key().public_bytes_raw()
    key_id = sha256(origin.encode() + b"\n\x01" + public).digest()[:4]
    line = f"— {origin} {base64.b64encode(key_id + key.sign(text.encode())).decode()}"
    assert line == vectors["checkpoint"]["ed25519"]

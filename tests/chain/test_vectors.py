"""The format, byte for byte: the writer makes these bytes, and a reader written from the document alone reads them.

``vectors.json`` belongs to docs/formats/chain.md. If a change makes this test fail, logs that exist can no longer be
read, or read differently: that needs a new version of the format, not new vectors.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import msgspec
from blake3 import blake3
from logs_for_tests import BOOT, Ticking

from weftos import chain

VECTORS = Path(__file__).with_name("vectors.json")
SEED = bytes(range(32))


def make(directory, monkeypatch):
    """Write the log of the vectors with everything that is random made certain."""
    monkeypatch.setattr(os, "urandom", lambda n: bytes(at * 7 % 251 for at in range(n)))
    clock = Ticking()
    with chain.ChainWriter.open(directory, boot_id=BOOT, clock=clock, signer=chain.Signer(SEED)) as writer:
        clock.now -= clock.step  # opening signs the first head, which the vectors do not count
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
    assert json.loads((home / "head.json").read_text()) == vectors["head"]


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
    assert vectors["head"]["head_hash"] == previous.hex()
    assert vectors["head"]["size"] == len(seen)


def test_the_signature_of_the_head():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    head = json.loads(VECTORS.read_text())["head"]
    message = (
        b"exo/head/v1"
        + bytes.fromhex(head["log_id"])
        + struct.pack("<Q", head["size"])
        + bytes.fromhex(head["head_hash"])
        + struct.pack("<Q", head["t_ns"])
    )
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    assert key.public_key().public_bytes_raw().hex() == head["public_key"]
    assert key.sign(message).hex() == head["signature"]

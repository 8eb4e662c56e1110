"""What reads bytes from outside, each with good bytes for it and the errors that it may raise."""

from __future__ import annotations

import functools
import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from weftos.chain.folder.archive import archived_header, open_segment
from weftos.chain.records.canonical import decode_payload, encode_payload
from weftos.chain.records.cursor import Cursor, parse
from weftos.chain.records.frames import (
    FrameReader,
    decode_segment_header,
    encode_frame,
    encode_segment_header,
    find_frame,
    frame_problem,
    read_frame_at,
)
from weftos.chain.records.record import encode_header, payload_hash
from weftos.chain.signing.checkpoint import Checkpoint, format_text, open_checkpoint, parse_text, sign_checkpoint
from weftos.chain.signing.keyring import KeyPair, hand_over
from weftos.chain.signing.log_signer import HIGH_WATER_NAME, HighWater, Signer
from weftos.chain.signing.note import SignaturePolicy, format_note, parse_note, sign_note
from weftos.chain.signing.pins import Pins
from weftos.chain.signing.rotation import Genesis, Rotation, verify_rotation
from weftos.chain.statements.prune_statement import PruneStatement, check_statement
from weftos.chain.statements.pruned_file import PRUNED_NAME, Act, Pruned, read_pruned
from weftos.chain.statements.seals import Seal, SealState, verify_seals
from weftos.chain.tiles.tile_paths import decode_bundle, encode_bundle, entries_path, parse_tile_path, tile_path
from weftos.chain.verification.proof_file import EventProof, check_proof, parse_proof
from weftos.disk.files import ReadFile
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ChainCorrupted, ChainError, ConfigError, ProofInvalid, SealInvalid

ORIGIN = "weftos/log/" + "ab" * 16
PAIR = KeyPair(b"1" * 32, b"2" * 32)
NEXT = KeyPair(b"3" * 32, b"4" * 32)
CHECKPOINT = Checkpoint(ORIGIN, 77, bytes(range(32)))


@functools.cache
def signed_note() -> bytes:
    return sign_checkpoint(CHECKPOINT, PAIR.signers(ORIGIN))


@functools.cache
def record() -> tuple[bytes, bytes]:
    """Header and salted payload of one record."""
    salted = b"s" * 16 + encode_payload({"n": 1, "list": [1, "x", b"y", None, 0.5]})
    header = (1, b"l" * 16, 3, 10**18, 5, b"b" * 16, "agent:7", "app.note", "x", "p", 9, 1, None)
    return encode_header((*header, payload_hash(salted), len(salted) - 16, bytes(32))), salted


# --- targets: each takes bytes, and raises nothing else than it says --------------------------------------------------


def read_record(data: bytes) -> None:
    header, raw, salted = parse(data)
    assert data.endswith(raw + salted)
    assert not salted or len(salted) >= 16
    cursor = Cursor(b"l" * 16, header.seq, header.prev_hash)
    cursor.take(data)
    assert all(one.code and one.detail for one in cursor.findings)


def read_frames(data: bytes, folder: Path) -> None:
    path = folder / "frames"
    path.write_bytes(data)
    with ReadFile(str(path)) as file:
        reader = FrameReader(file)
        bodies = list(reader)
        assert reader.offset <= len(data) == reader.end
        assert (reader.problem == "") == (reader.offset == len(data))
        assert frame_problem(data, reader.offset) == reader.problem
    at = 0
    for body in bodies:
        assert read_frame_at(data, at) == body
        at += len(body) + 12
    found, steps = find_frame(data, 0), 0
    while found is not None:
        assert read_frame_at(data, found) is not None
        found, steps = find_frame(data, found + 1), steps + 1
        assert steps <= len(data)


def read_segment(data: bytes) -> None:
    header = decode_segment_header(data)
    assert read_frame_at(
        encode_segment_header(header.log_id, header.number, header.first_seq, header.prev_hash, header.t_ns), 0
    )


def read_note(data: bytes) -> None:
    parsed = parse_note(data)
    assert format_note(parsed) == data, "one form only"
    stated = parse_text(parsed.text)
    assert format_text(stated) == parsed.text


def read_signed(data: bytes) -> None:
    stated = open_checkpoint(data, PAIR.public.verifier_keys(ORIGIN), SignaturePolicy(), ORIGIN)
    assert stated == CHECKPOINT, "nothing else was signed"


def read_proof(data: bytes) -> None:
    proof = parse_proof(data)
    assert parse_proof(proof.encode()) == proof
    check_proof(proof, PAIR.public, ORIGIN)
    raise AssertionError("the tree has no such root")


def read_tile_path(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    level, index, width = parse_tile_path(text)
    assert text == (entries_path(index, width) if level is None else tile_path(level, index, width))


def read_bundle(data: bytes) -> None:
    for count in (0, 1, 3, 256):
        try:
            entries = decode_bundle(data, count)
        except ChainCorrupted:
            continue
        assert (len(entries), encode_bundle(entries)) == (count, data)


def as_payload(data: bytes) -> dict:
    payload = decode_payload(data)
    assert type(payload) is dict
    return payload


def read_seal(data: bytes) -> None:
    seal = Seal.from_payload(as_payload(data))
    assert Seal.from_payload(seal.to_payload()) == seal
    verify_seals(b"k" * 32, [seal])


def read_rotation(data: bytes) -> None:
    rotation = Rotation.from_payload(as_payload(data))
    assert Rotation.from_payload(rotation.to_payload()) == rotation
    assert verify_rotation(rotation, ORIGIN, PAIR.public) == NEXT.public


def read_pruned_file(data: bytes, folder: Path) -> None:
    (folder / PRUNED_NAME).write_bytes(data)
    try:
        found = read_pruned(str(folder))
    finally:
        (folder / PRUNED_NAME).unlink()
    assert found is not None
    assert all(one.seq < found.size for one in found.records())
    assert found.segment_of(0)[0] == 1
    assert found.segment_of(found.size - 1)[0] == found.segment


def read_pruning(data: bytes) -> None:
    statement = PruneStatement.from_payload(as_payload(data))
    assert PruneStatement.from_payload(statement.to_payload()) == statement
    check_statement(statement, ORIGIN, [PAIR.public], [], PAIR.public)


def read_archived(data: bytes, folder: Path) -> None:
    path = folder / "00000001.log.gz"
    path.write_bytes(data)
    try:
        with open_segment(str(path)) as file:
            assert file.read(0, file.size + 1) == gzip.decompress(data)
        archived_header(str(path))
    finally:
        path.unlink()


def read_genesis(data: bytes) -> None:
    assert Genesis.read(as_payload(data)).ed25519


def read_high_water(data: bytes, folder: Path) -> None:
    path = folder / HIGH_WATER_NAME
    path.write_bytes(data)
    try:
        mark = Signer(str(folder), {PAIR.pair_id: PAIR}, PAIR.pair_id).high_water()
    finally:
        path.unlink()
    assert isinstance(mark, HighWater)


def read_pins(data: bytes, folder: Path) -> None:
    path = folder / "known_logs"
    path.write_bytes(data)
    path.chmod(0o600)
    found = Pins(str(path)).get(ORIGIN)
    assert found is None or len(found.ed25519) == 32


def read_seal_state(data: bytes, folder: Path) -> None:
    path = folder / "seal-state"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        assert SealState.open(RealSecretFiles(), str(path), b"l" * 16).epoch >= 1
    finally:
        path.unlink()


class Target(NamedTuple):
    read: Callable[..., None]
    errors: tuple[type[Exception], ...]
    #: Makes good bytes.
    good: Callable[[], bytes]


def _body() -> bytes:
    return read_frame_at(encode_frame(2, *record()), 0) or b""


def _frames() -> bytes:
    return encode_segment_header(b"l" * 16, 1, 0, bytes(32), 5) + encode_frame(2, *record()) * 3


def good_proof() -> bytes:
    header, salted = record()
    return EventProof(3, header, salted, [bytes([n]) * 32 for n in range(6)], signed_note()).encode()


def good_seal() -> bytes:
    return encode_payload(Seal(b"l" * 16, 1, 0, 9, b"r" * 32, bytes(32), b"m" * 32).to_payload())


@functools.cache
def _rotation() -> bytes:
    return encode_payload(hand_over(ORIGIN, PAIR, PAIR.public, NEXT).to_payload())


def _pins() -> bytes:
    lines = [one.format() for keys in (PAIR, NEXT) for one in keys.public.verifier_keys(ORIGIN)][:2]
    return ("# a comment\n\n" + "\n".join(lines) + "\n").encode()


def good_pruned() -> Pruned:
    act = Act(1, [0, 2], [100, 200], 4, True, "/archive")
    return Pruned.make(
        log_id=b"l" * 16, seq=9, segment=2, size=4, head_hash=bytes(32), root=bytes(32), acts=[act], kept=[_body()]
    )


@functools.cache
def _pruning() -> bytes:
    statement = PruneStatement.of(good_pruned())
    note = sign_note(statement.text(ORIGIN), PAIR.signers(ORIGIN))
    return encode_payload(msgspec.structs.replace(statement, note=note).to_payload())


@functools.cache
def _seal_state() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        state, _ = SealState.create(RealSecretFiles(), f"{folder}/state", b"l" * 16)
        state.seal(0, 5, b"r" * 32)
        return Path(folder, "state").read_bytes()


TARGETS = {
    "record": Target(read_record, (msgspec.DecodeError,), _body),
    "frames": Target(read_frames, (), _frames),
    "segment header": Target(read_segment, (msgspec.DecodeError,), lambda: read_frame_at(_frames(), 0) or b""),
    "note": Target(read_note, (ChainCorrupted,), signed_note),
    "signed checkpoint": Target(read_signed, (ChainError,), signed_note),
    "proof": Target(read_proof, (ProofInvalid, ChainError), good_proof),
    "tile path": Target(read_tile_path, (ChainCorrupted,), lambda: tile_path(1, 1_234_567, 70).encode()),
    "bundle": Target(read_bundle, (), lambda: encode_bundle([b"a" * 300, b"", b"b"])),
    "seal": Target(read_seal, (SealInvalid, msgspec.DecodeError), good_seal),
    "rotation": Target(read_rotation, (ChainError, msgspec.DecodeError), _rotation),
    "genesis": Target(
        read_genesis,
        (ChainCorrupted, msgspec.DecodeError),
        lambda: encode_payload(Genesis.of(PAIR.public).to_payload()),
    ),
    "pruned file": Target(read_pruned_file, (ChainCorrupted,), lambda: good_pruned().encode()),
    "pruning": Target(read_pruning, (ChainError, msgspec.DecodeError), _pruning),
    "archived segment": Target(
        read_archived, (ChainCorrupted,), lambda: gzip.compress(encode_segment_header(b"l" * 16, 1, 0, bytes(32), 1))
    ),
    "high water": Target(read_high_water, (ChainError,), lambda: msgspec.json.encode(HighWater(ORIGIN, 9, "ab" * 32))),
    "pins": Target(read_pins, (ConfigError,), _pins),
    "seal state": Target(read_seal_state, (SealInvalid, ConfigError), _seal_state),
}

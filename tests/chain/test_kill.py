"""A real process appends and is killed; what it was told is there, once."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys

import pytest
from logs_for_tests import BOOT, open_log

from weftos import chain

PROGRAM = """
import os, sys, struct
from weftos import chain
first, boot = int(sys.argv[2]), bytes.fromhex(sys.argv[3])
writer = chain.ChainWriter.open(sys.argv[1], boot_id=boot, segment_bytes=30_000)
group = 1
while True:
    numbers = range(first, first + group)
    events = [chain.NewEvent("a", "app.note", {"n": n, "x": "x" * (n % 300)}, None, None, "p", n) for n in numbers]
    acks = writer.append_many(events)
    writer.commit()
    os.write(1, b"".join(struct.pack("<QQ32s", n, ack.seq, ack.hash) for n, ack in zip(numbers, acks)))
    first, group = first + group, group % 40 + 1
"""
ENTRY = struct.Struct("<QQ32s")


def run_and_kill(home, first, after):
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home), str(first), BOOT.hex()], stdout=subprocess.PIPE)
    assert child.stdout is not None
    data = b""
    while len(data) < after * ENTRY.size:
        piece = os.read(child.stdout.fileno(), 65536)
        assert piece, "the writer ended by itself"
        data += piece
    os.kill(child.pid, signal.SIGKILL)
    while piece := os.read(child.stdout.fileno(), 65536):
        data += piece
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return {n: (seq, digest) for n, seq, digest in ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size])}


def campaign(home, rounds):
    acked: dict[int, tuple[int, bytes]] = {}
    for number in range(rounds):
        # Every second round submits again what the writer before may have done without having said so.
        first = max(acked, default=-1) + 1
        acked |= run_and_kill(home, first, after=1 + number * 37 % 300)
        found: dict[int, tuple[int, bytes]] = {}
        for record in chain.read(home):
            if record.kind == "app.note":
                assert record.payload["n"] not in found
                found[record.payload["n"]] = (record.seq, record.hash)
        assert acked.items() <= found.items()
        assert list(found) == list(range(len(found)))
    with open_log(home) as writer:
        for n, (seq, digest) in list(acked.items())[-500:]:
            ack = writer.append(chain.NewEvent("a", "app.note", {"n": n, "x": "x" * (n % 300)}, None, None, "p", n))
            assert (ack.seq, ack.hash) == (seq, digest)
    assert chain.verify(home).valid


def test_killed_while_appending(home):
    campaign(home, 4)


@pytest.mark.slow
def test_killed_while_appending_many_times(home):
    campaign(home, 60)


def test_a_reader_beside_a_writer_sees_a_growing_prefix(home):
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home), "0", BOOT.hex()], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        seen = 0
        while seen < 3000:
            data = os.read(child.stdout.fileno(), 65536)
            assert data, "the writer ended by itself"
            _, seq, digest = list(ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]))[-1]
            hashes = {record.seq: record.hash for record in chain.read(home, start=seen)}
            assert hashes[seq] == digest
            assert list(hashes) == list(range(seen, seen + len(hashes)))
            newest = chain.tail(home, 50)
            assert newest[-1].seq >= seq
            assert chain.verify(home).errors == []
            seen = seq
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()

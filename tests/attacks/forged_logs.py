"""Logs to be attacked, and what an attacker can do to them who writes files and computes every unkeyed hash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ticking import Ticking

from weftos import chain
from weftos.chain.records.cursor import parse
from weftos.chain.records.frames import FRAME_OVERHEAD, LENGTH, RECORD, encode_frame, read_frame_at
from weftos.chain.records.record import SALT_BYTES, encode_header, payload_hash, record_hash
from weftos.chain.signing.checkpoint import log_origin

BOOT = bytes(range(16))
FIRST = "00000001.log"


def note(number: int, **more: object) -> chain.NewEvent:
    return chain.NewEvent("agent:7", "app.note", {"n": number}, **more)


def open_log(directory: Path, **settings) -> chain.ChainWriter:
    settings.setdefault("boot_id", BOOT)
    settings.setdefault("clock", Ticking())
    return chain.ChainWriter.open(directory, **settings)


@dataclass
class Target:
    """A signed log: genesis, the keys, and notes from record 2 on; its keys lie in another folder."""

    home: Path
    keys: Path

    @classmethod
    def build(cls, folder: Path, notes: int = 10) -> Target:
        target = cls(folder / "chain", folder / "keys")
        with target.open() as writer:
            for number in range(notes):
                writer.append(note(number, producer="ring-1", position=number))
        return target

    @property
    def signer(self) -> chain.Signer:
        return chain.Signer.open(self.keys)

    @property
    def public(self) -> chain.PublicKeys:
        return self.signer.public

    @property
    def segment(self) -> Path:
        return self.home / FIRST

    @property
    def checkpoint(self) -> Path:
        return self.home / "checkpoint"

    @property
    def origin(self) -> str:
        return log_origin(next(iter(chain.read(self.home))).header.log_id)

    def open(self, **settings) -> chain.ChainWriter:
        return open_log(self.home, signer=self.signer, **settings)

    def found(self) -> list[tuple[str, int]]:
        """Code and record number of every error, for somebody who knows the public keys."""
        return [(one.code, one.seq) for one in self.report().errors]

    def report(self) -> chain.VerifyReport:
        return chain.verify(self.home, keys=self.public)

    def weaver_verify(self) -> tuple[int, list[tuple[str, int]]]:
        """Exit status of ``weaver chain verify`` in a process of its own, and the errors it shows."""
        keys = self.keys.parent / "public.txt"
        keys.write_text("".join(f"{key.format()}\n" for key in self.public.verifier_keys(self.origin)))
        return weaver_verify(self.home, "--key", str(keys))


def weaver_verify(home: Path, *arguments: str) -> tuple[int, list[tuple[str, int]]]:
    command = [sys.executable, "-m", "weftos.cli.main", "chain", "verify", "--dir", str(home), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "WEFTOS_HOME": str(home.parent)})
    shown = json.loads(done.stdout) if done.stdout else {"errors": []}
    return done.returncode, [(one["code"], one["seq"]) for one in shown.get("errors", [])]


def places(path: Path) -> list[tuple[int, int]]:
    """Offset and length of each frame of an undamaged segment; the first is its header."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = LENGTH.unpack_from(data, at)[0] + FRAME_OVERHEAD
        found.append((at, size))
        at += size
    return found


class Forger:
    """Takes a log of one segment apart and puts it together again, with right checksums."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        self.places = places(path)
        self.head = data[: self.places[0][1]]
        self.records = [list(parse(read_frame_at(data, at))) for at, _ in self.places[1:]]

    def offset(self, seq: int) -> int:
        """Where a record began before anything was changed."""
        return self.places[seq + 1][0]

    def edit(self, index: int, **fields: object) -> None:
        header = self.records[index][0]
        values = [fields.get(name, getattr(header, name)) for name in header.__struct_fields__]
        self.records[index][:2] = type(header)(*values), encode_header(values)

    def set_payload(self, index: int, payload: bytes, *, with_hash: bool) -> None:
        self.records[index][2] = salted = self.records[index][2][:SALT_BYTES] + payload
        if with_hash:
            self.edit(index, payload_hash=payload_hash(salted), payload_len=len(payload))

    def relink(self, start: int) -> None:
        """Number and link everything from one place on, as the writer would have."""
        for index in range(start, len(self.records)):
            before = record_hash(self.records[index - 1][1])
            self.edit(index, seq=index, prev_hash=before)

    def write(self) -> None:
        self.path.write_bytes(self.head + b"".join(encode_frame(RECORD, raw, rest) for _, raw, rest in self.records))

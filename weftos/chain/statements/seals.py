"""Forward-secure seals of the log: whoever steals the sealing key today cannot rewrite what was sealed yesterday.

Why it is as it is: a signing key that lies beside the log can sign another past. Here the key evolves through a one-way
function after every seal and the old one is destroyed; the first key goes to the operator when the state is made and is
never on this machine's disk, and with it all later ones can be computed. All of it rests on SHA-256 alone (HKDF, RFC
5869; HMAC, RFC 2104), so a weakness of BLAKE3, which the log's own hashes use, would leave the seals standing. The idea
is that of Bellare and Yee, "Forward Integrity for Secure Audit Logs" (1997), and of Schneier and Kelsey (1998).

Guaranteed: the evolved key is on the disk and the old one overwritten before a seal is handed out; the state keeps that
seal, so that after a crash it can be handed out again. Not guaranteed: anything against whoever has the first key;
anything about epochs after the theft; that seals at the end were not removed (only the operator knows how many there
were); that the medium forgets overwritten bytes, see ``secret_file``. Bytes: docs/formats/seals.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec

from weftos import limits
from weftos.chain.signing.statement import U64_MAX, statement
from weftos.chain.statements.versioned import fields_of
from weftos.disk.secret_file import SecretFiles, create_secret, finish_replacing, read_secret, replace_secret
from weftos.errors import ChainError, ConfigError, SealGap, SealInvalid, StorageFailed

__all__ = ["KEY_BYTES", "SEAL_KIND", "Seal", "SealState", "SealedRange", "newest_seal", "verify_seals"]

#: Kind of the record that carries a seal.
SEAL_KIND: Final = "log.seal"
KEY_BYTES: Final = 32
_VERSION: Final = 1
_TAG: Final = b"exo/seal/v1"
_EVOLVE: Final = b"exo/seal/evolve/v1"
_MAC: Final = b"exo/seal/mac/v1"
_NO_SEAL: Final = bytes(32)
_STATE_MAGIC: Final = b"exoseal1"
# magic, log id, next epoch, key; then first_seq, size, root, previous and mac of the last seal; then a checksum.
_STATE: Final = struct.Struct("<8s16sQ32sQQ32s32s32s")
_CHECK_BYTES: Final = 32
_STATE_BYTES: Final = _STATE.size + _CHECK_BYTES


class Seal(msgspec.Struct, frozen=True):
    """A statement about the log, authenticated by a key that exists no more.

    Attributes:
        log_id: names the log, 16 bytes.
        epoch: number of the seal, from 1, without gaps.
        first_seq: first record under the root.
        size: records under the root; the last has number ``first_seq + size - 1``.
        root: Merkle root over them, 32 bytes.
        previous: ``mac`` of the seal before, 32 bytes; zeros in epoch 1.
        mac: HMAC-SHA256 over all of the above, 32 bytes.
    """

    log_id: bytes
    epoch: int
    first_seq: int
    size: int
    root: bytes
    previous: bytes
    mac: bytes

    @property
    def end(self) -> int:
        """Number of the first record behind those sealed."""
        return self.first_seq + self.size

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of a ``log.seal`` record: plain integers and bytes."""
        return {"version": _VERSION, **msgspec.structs.asdict(self)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        """Read a seal from a record's payload. Only its form is checked here.

        Raises:
            SealInvalid: it has another form.
        """
        seal = cls(**fields_of(payload, cls, version=_VERSION, name="a seal", error=SealInvalid))
        _check_form(seal)
        return seal


class SealedRange(msgspec.Struct, frozen=True):
    """What a row of good seals says.

    Attributes:
        log_id: the log they are about, 16 bytes; empty without seals.
        seals: how many there are, repetitions not counted.
        next_epoch: of the seal that would follow.
        first_seq: first record that is sealed.
        end: number of the first record that is not sealed any more.
        last: ``mac`` of the last seal, 32 bytes; zeros without seals.
    """

    log_id: bytes
    seals: int
    next_epoch: int
    first_seq: int
    end: int
    last: bytes


class SealState:
    """The evolving key of one log. One owner at a time: who holds the log's writer lock.

    Made by ``create`` or ``open``.

    Attributes:
        log_id: names the log, 16 bytes.
        epoch: of the next seal.
        last: the newest seal, or ``None``. After a crash it may be in no record yet: compare it with the newest
            ``log.seal`` in the log when the log is opened, and append it if it is missing there.
    """

    def __init__(self, fs: SecretFiles, path: str, log_id: bytes, epoch: int, key: bytes, last: Seal | None) -> None:
        self._fs, self._path, self._key = fs, os.path.abspath(path), key
        self.log_id, self.epoch, self.last = log_id, epoch, last
        self._failed = ""

    @classmethod
    def create(cls, fs: SecretFiles, path: str, log_id: bytes) -> tuple[Self, bytes]:
        """Make a new key and its state file (mode 0600) in an existing folder.

        Args:
            fs: file calls.
            path: the state file; leftovers beside it have ``.tmp`` and ``.old`` behind the name.
            log_id: of the log to be sealed, 16 bytes.

        Returns:
            The state, and the verification key of 32 bytes. It is shown this once and is not in the state: hand it to
            the operator, away from this machine.

        Raises:
            ConfigError: there is a state already. If a crash kept its verification key from being shown and it has
                sealed nothing (epoch 1), remove it and begin again.
            SealInvalid: the log id has no 16 bytes.
            StorageFailed: a file call failed.
        """
        if type(log_id) is not bytes or len(log_id) != 16:
            raise SealInvalid("a log id has 16 bytes")
        first = os.urandom(KEY_BYTES)
        state = cls(fs, path, log_id, 1, _evolve(first), None)
        try:
            create_secret(fs, state._path, _encode(state.log_id, state.epoch, state._key, None))
        except FileExistsError as error:
            raise ConfigError(f"{path} exists; a seal state is never overwritten") from error
        except OSError as error:
            raise StorageFailed(f"the seal state {path} cannot be made: {error}") from error
        return state, first

    @classmethod
    def open(cls, fs: SecretFiles, path: str, log_id: bytes | None = None) -> Self:
        """Load the state and finish what a crash interrupted.

        Args:
            fs: file calls.
            path: the state file.
            log_id: the log that it must be for, 16 bytes; any if ``None``.

        Raises:
            ConfigError: there is no state, or others may read it.
            SealInvalid: the file is damaged, or for another log. Never put back an older copy: it would seal an epoch
                twice. Make a new state, whose verification key covers the log from then on.
            StorageFailed: a file call failed.
        """
        path = os.path.abspath(path)
        try:
            data = read_secret(path, _STATE_BYTES)
            state = _decode(data, path)
            finish_replacing(fs, path)
        except FileNotFoundError as error:
            raise ConfigError(f"there is no seal state {path}; make one first") from error
        except OSError as error:
            raise StorageFailed(f"the seal state {path} cannot be used: {error}") from error
        if log_id is not None and state[0] != log_id:
            raise SealInvalid(f"{path} seals the log {state[0].hex()}, not {log_id.hex()}")
        return cls(fs, path, *state)

    def seal(self, first_seq: int, size: int, root: bytes) -> Seal:
        """Seal a range of records that are on the disk already, and destroy the key that did it.

        Args:
            first_seq: first record under the root; not behind the end of the last seal, so that no record is left out.
            size: records under the root. The end may not go back.
            root: Merkle root over them, 32 bytes.

        Raises:
            SealInvalid: an argument has not its form, leaves records out or goes back; or somebody else has used the
                state file. Nothing was changed.
            StorageFailed: a file call failed. This object is of no use any more: open the state again, whose ``last``
                tells whether the seal came to be.
        """
        if self._failed:
            raise StorageFailed(f"the seal state stopped: {self._failed}")
        previous = self.last.mac if self.last else _NO_SEAL
        seal = Seal(self.log_id, self.epoch, first_seq, size, root, previous, _NO_SEAL)
        _check_form(seal)
        if self.last is not None and (fault := _misplaced(self.last, seal)):
            raise SealInvalid(f"the seal of epoch {self.epoch} is refused: {fault}", epoch=self.epoch)
        if self.epoch == U64_MAX:
            raise SealInvalid("the epochs of this state are used up")
        seal = msgspec.structs.replace(seal, mac=_authenticate(self._key, seal))
        key = _evolve(self._key)
        try:
            if read_secret(self._path, _STATE_BYTES) != _encode(self.log_id, self.epoch, self._key, self.last):
                raise SealInvalid(f"{self._path} was changed by somebody else; a seal state has one owner")
            replace_secret(self._fs, self._path, _encode(self.log_id, self.epoch + 1, key, seal))
        except OSError as error:
            self._failed, self._key = str(error), b""
            raise StorageFailed(f"the seal state {self._path} cannot be replaced: {error}") from error
        except ChainError as error:
            self._failed, self._key = str(error), b""
            raise
        self._key, self.epoch, self.last = key, self.epoch + 1, seal
        return seal


def newest_seal(path: str) -> Seal | None:
    """Return the newest seal that a state has made, from its file and without changing anything.

    Raises:
        ConfigError: there is no state, or others may read it.
        SealInvalid: it is damaged.
        StorageFailed: it cannot be read.
    """
    try:
        return _decode(read_secret(path, _STATE_BYTES), path)[3]
    except FileNotFoundError as error:
        raise ConfigError(f"there is no seal state {path}; make one first: weaver chain seal init") from error
    except OSError as error:
        raise StorageFailed(f"the seal state {path} cannot be read: {error}") from error


def verify_seals(
    key: bytes, seals: Iterable[Seal], *, log_id: bytes | None = None, headless: bool = False
) -> SealedRange:
    """Check a row of seals with the verification key.

    The same seal twice in a row is good: a crash can make its owner hand it out again.

    Args:
        key: what ``SealState.create`` returned, 32 bytes.
        seals: in the order of the log, from epoch 1 on.
        log_id: the log that they must be about; that of the first seal if ``None``.
        headless: seals at the beginning of the row may be missing.

    Returns:
        What the seals cover. That none is missing at the end can be told only by comparing with what is known from
        elsewhere; and that the roots are those of the log is for the caller to check.

    Raises:
        SealInvalid: one was not made by this key or changed since, is about another log, or stands in a place where it
            cannot be; with epoch and index of the first such one.
        SealGap: all of them are genuine, but epochs between them are missing.
    """
    if len(key) != KEY_BYTES:
        raise SealInvalid(f"a verification key has {KEY_BYTES} bytes, not {len(key)}")
    walk = _Walk(key, log_id, headless=headless)
    for index, seal in enumerate(seals):
        walk.take(index, seal)
    return walk.result()


class _Walk:
    """Steps through seals and keys side by side."""

    def __init__(self, key: bytes, log_id: bytes | None, *, headless: bool = False) -> None:
        self._headless = headless
        self._key, self._epoch, self._log_id = _evolve(key), 1, log_id
        self._first_seq = self._count = self._missing = 0
        self._last: Seal | None = None
        self._gap = (0, 0)

    def take(self, index: int, seal: Seal) -> None:
        if self._last is not None and seal == self._last:
            return
        try:
            _check_form(seal)
        except SealInvalid as error:
            raise SealInvalid(f"seal {index}: {error}", index=index) from error
        if fault := self._fault(seal):
            raise SealInvalid(
                f"the seal of epoch {seal.epoch} (number {index}) is bad: {fault}", epoch=seal.epoch, index=index
            )
        if self._last is None:
            self._log_id, self._first_seq = seal.log_id, seal.first_seq
        self._last, self._count = seal, self._count + 1
        self._step()

    def _fault(self, seal: Seal) -> str:
        if self._log_id is not None and seal.log_id != self._log_id:
            return f"it is about the log {seal.log_id.hex()}, not {self._log_id.hex()}"
        if seal.epoch < self._epoch:
            return f"epoch {self._epoch} was expected"
        ahead = seal.epoch - self._epoch
        if self._missing + ahead > limits.CHAIN_SEAL_GAP_EPOCHS:
            return f"epoch {self._epoch} was expected, and {ahead} are more than a gap can be"
        key = self._key
        for _ in range(ahead):
            key = _evolve(key)
        if not hmac.compare_digest(_authenticate(key, seal), seal.mac):
            return "its key did not make it, or it was changed"
        if ahead and self._headless and self._last is None:
            self._key, self._epoch = key, seal.epoch
            return ""
        if ahead:
            # What is missing between may have reached anywhere, so neither link nor range can be compared.
            if not self._missing:
                self._gap = (self._epoch, seal.epoch)
            self._missing += ahead
            self._key, self._epoch = key, seal.epoch
            return ""
        if seal.previous != (self._last.mac if self._last else _NO_SEAL):
            return "it does not follow the seal before"
        return _misplaced(self._last, seal) if self._last else ""

    def _step(self) -> None:
        self._key, self._epoch = _evolve(self._key), self._epoch + 1

    def result(self) -> SealedRange:
        if self._missing:
            first, found = self._gap
            raise SealGap(
                f"{self._missing} seals are missing, the first of epoch {first} (the next there is has {found}); "
                "those that are there are genuine",
                epoch=first,
                missing=self._missing,
            )
        last = self._last
        if last is None:
            return SealedRange(self._log_id or b"", 0, 1, 0, 0, _NO_SEAL)
        return SealedRange(last.log_id, self._count, self._epoch, self._first_seq, last.end, last.mac)


def _misplaced(last: Seal, seal: Seal) -> str:
    if seal.first_seq > last.end:
        return f"it begins at record {seal.first_seq} and leaves out those from {last.end} on"
    if seal.end < last.end:
        return f"it ends before record {seal.end}, the seal before reached to {last.end}"
    return ""


def _check_form(seal: Seal) -> None:
    for name, most in (("epoch", U64_MAX), ("first_seq", U64_MAX), ("size", U64_MAX)):
        value = getattr(seal, name)
        if type(value) is not int or not 0 <= value <= most:
            raise SealInvalid(f"{name} is an unsigned number of 64 bits, not {value!r:.40}")
    for name, length in (("log_id", 16), ("root", 32), ("previous", 32), ("mac", 32)):
        value = getattr(seal, name)
        if type(value) is not bytes or len(value) != length:
            raise SealInvalid(f"{name} is {length} bytes, not {value!r:.80}")
    if seal.epoch == 0:
        raise SealInvalid("epochs count from 1")
    if seal.end > U64_MAX:
        raise SealInvalid("the sealed range ends behind the last possible record")


def _authenticate(key: bytes, seal: Seal) -> bytes:
    message = statement(_TAG, seal.log_id, seal.epoch, seal.first_seq, seal.size, seal.root, seal.previous)
    return hmac.digest(_hkdf(key, _MAC), message, "sha256")


def _evolve(key: bytes) -> bytes:
    return _hkdf(key, _EVOLVE)


def _hkdf(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 without salt, 32 bytes: RFC 5869 with one block of output. The library's takes 0.1 s to import."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _encode(log_id: bytes, epoch: int, key: bytes, last: Seal | None) -> bytes:
    shown = (last.first_seq, last.size, last.root, last.previous, last.mac) if last else (0, 0, *(_NO_SEAL,) * 3)
    body = _STATE.pack(_STATE_MAGIC, log_id, epoch, key, *shown)
    return body + hashlib.sha256(body).digest()


def _decode(data: bytes, path: str) -> tuple[bytes, int, bytes, Seal | None]:
    body = data[: _STATE.size]
    if len(data) != _STATE_BYTES or hashlib.sha256(body).digest() != data[_STATE.size :]:
        raise SealInvalid(f"{path} is no seal state, or damaged; do not put back a copy, make a new state")
    magic, log_id, epoch, key, *shown = _STATE.unpack(body)
    if magic != _STATE_MAGIC or epoch < 1:
        raise SealInvalid(f"{path} is a seal state of another version")
    return log_id, epoch, key, Seal(log_id, epoch - 1, *shown) if epoch > 1 else None

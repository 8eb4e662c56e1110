"""Cosignatures: a witness says when it has seen a checkpoint, below the checkpoint itself.

Why it is as it is: a log can show two people two histories, each with good signatures. A witness that signs only what
continues the checkpoint it signed before makes that visible, if both people ask for its signature. The form is that of
type 0x04 in C2SP (c2sp.org/tlog-cosignature): Ed25519 over a head line, the time and the text of the checkpoint.

Guaranteed: a time is given out only after its signature was verified. Only checkpoints are cosigned.
Not guaranteed: that the checkpoint continues an earlier one. Whoever calls ``cosign`` has checked that, against what it
signed before; the time is as right as the witness's clock. The signature does not cover the witness's name, so one key
must not serve under two names, and not be a log's own key either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.note import Note, check_signatures, format_note, parse_note
from weftos.chain.signing.note_keys import (
    COSIGNATURE,
    MAX_TIME,
    SEED_BYTES,
    TIME,
    NoteSignature,
    VerifierKey,
    cosignature_message,
)
from weftos.disk.clock import Clock, SystemClock
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid

__all__ = ["CosignatureSigner", "cosign", "cosignature_time", "cosignature_times"]

_NS_PER_S: Final = 1_000_000_000
_BLOB_BYTES: Final = TIME.size + 64


class CosignatureSigner:
    """Makes the cosignatures of one witness.

    Args:
        name: of the witness.
        seed: the 32 secret bytes of its Ed25519 key, which serves for nothing else.
        clock: tells the time.

    Raises:
        ConfigError: name or seed does not have its form.
    """

    def __init__(self, name: str, seed: bytes, *, clock: Clock | None = None) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != SEED_BYTES:
            raise ConfigError(f"a secret key has {SEED_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._clock: Clock = clock or SystemClock()
        self.verifier = VerifierKey(name, COSIGNATURE, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> NoteSignature:
        """Cosign the text of a checkpoint, with the time of now.

        Raises:
            ChainCorrupted: it is no checkpoint.
            ChainError: the clock shows no time after 1970 that could be written.
        """
        parse_text(text)
        time = self._clock.wall_ns() // _NS_PER_S
        if not 0 < time <= MAX_TIME:
            raise ChainError(f"the clock shows {time} seconds since 1970; set it, then cosign")
        blob = TIME.pack(time) + self._key.sign(cosignature_message(text, time))
        return NoteSignature(self.verifier.name, self.verifier.key_id, blob)


def cosign(data: bytes, signer: CosignatureSigner) -> bytes:
    """Return a signed checkpoint with one more signature line.

    The signatures that it has are kept and not verified: open the checkpoint first.

    Raises:
        ChainCorrupted: it is no signed checkpoint.
        ChainError: it has as many signatures as a note can have.
    """
    note = parse_note(data)
    return format_note(Note(note.text, (*note.signatures, signer.sign(note.text))))


def cosignature_time(line: NoteSignature, key: VerifierKey, text: str) -> int:
    """Verify one cosignature and return its time in seconds since 1970 UTC.

    Args:
        line: with the name and id of the key.
        key: of the witness, for cosignatures.
        text: of the checkpoint.

    Raises:
        ChainCorrupted: the line does not have the form of a cosignature.
        SignatureInvalid: it is not that key's, or wrong.
    """
    if len(line.signature) != _BLOB_BYTES:
        raise ChainCorrupted(f"a cosignature has {_BLOB_BYTES} bytes, not {len(line.signature)}")
    if key.algorithm != COSIGNATURE or (line.name, line.key_id) != (key.name, key.key_id):
        raise SignatureInvalid(f"{line.name} has not cosigned with the given key", algorithm=COSIGNATURE)
    if not key.is_genuine(text, line.signature):
        raise SignatureInvalid(f"the cosignature of {line.name} ({line.key_id.hex()}) is wrong", algorithm=COSIGNATURE)
    time: int = TIME.unpack_from(line.signature)[0]
    return time


def cosignature_times(data: bytes, keys: Iterable[VerifierKey], *, not_after: int = MAX_TIME) -> dict[VerifierKey, int]:
    """Verify the cosignatures of known witnesses on a checkpoint and return their times.

    Args:
        data: the signed checkpoint.
        keys: of witnesses; others are left out of the answer.
        not_after: seconds since 1970 UTC; a later time is refused. Give the time of now and some patience with clocks.

    Returns:
        The newest time of each witness that has cosigned, in seconds since 1970 UTC.

    Raises:
        ChainCorrupted: it is no signed checkpoint.
        SignatureInvalid: a cosignature of a known key is wrong, or from the future.
        ConfigError: two different known keys have the same name and id.
    """
    note = parse_note(data)
    parse_text(note.text)
    times: dict[VerifierKey, int] = {}
    for key in check_signatures(note, (key for key in keys if key.algorithm == COSIGNATURE)):
        mine = (line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id))
        times[key] = max(cosignature_time(line, key, note.text) for line in mine)
        if times[key] > not_after:
            raise SignatureInvalid(
                f"{key.name} cosigned at {times[key]} seconds since 1970, later than {not_after}: one clock is wrong",
                algorithm=COSIGNATURE,
            )
    return times

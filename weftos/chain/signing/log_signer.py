"""Who signs a log: the pair of keys in force, and what it is known to have signed.

Why it is as it is: a log that lies about its length must be caught although its files were put back to an older state.
So next to the keys, outside the log's folder, stands how far the log had come when it was last signed: the high-water
mark. It is written after the checkpoint, so it never says more than was promised.

Guaranteed: a log is never opened for writing below its high-water mark, nor in place of the log that the keys belong
to. Not guaranteed: anything against somebody who can put back both folders; that takes witnesses.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from weftos.chain.signing.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from weftos.chain.signing.keyring import KeyPair, KeyRing
from weftos.chain.signing.note import SignaturePolicy, parse_note, sign_note
from weftos.chain.signing.rotation import PublicKeys
from weftos.disk.files import Files, ReadFile, RealFiles, replace_file
from weftos.errors import ChainError, ConfigError

__all__ = ["HIGH_WATER_NAME", "HighWater", "Signer"]

HIGH_WATER_NAME: Final = "high-water.json"
_MARK_BYTES: Final = 4096


class HighWater(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a log had come when it was last signed.

    Attributes:
        origin: of the log.
        size: records.
        root: of the tree over them, 64 hex digits.
    """

    origin: str
    size: int
    root: str


class Signer:
    """The keys in one folder, as the writer of a log uses them.

    Args:
        folder: of the keys.
        pairs: by id; not empty.
        pair_id: the one in force.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: str, pairs: Mapping[str, KeyPair], pair_id: str) -> None:
        self.folder = folder
        self._pairs = dict(pairs)
        self._pair = self._pairs[pair_id]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Load the keys in a folder; make the first pair if there is none.

        Raises:
            ConfigError: a file is refused, because others may read it or it is not what its name says.
            ChainError: a file cannot be read or written.
        """
        ring = KeyRing(os.fspath(folder))
        ids = ring.ids()
        if not ids:
            pair = ring.create_genesis()
            return cls(ring.folder, {pair.pair_id: pair}, pair.pair_id)
        # Which one is in force is found when the log is opened; until then any of them.
        return cls(ring.folder, {pair_id: ring.load(pair_id) for pair_id in ids}, ids[0])

    @property
    def public(self) -> PublicKeys:
        """The public keys in force."""
        return self._pair.public

    def use(self, pair_id: str) -> None:
        """Put another pair in force.

        Raises:
            ConfigError: it is not in the folder.
        """
        if pair_id not in self._pairs:
            raise ConfigError(f"the log was handed over to the pair of keys {pair_id}, which is not in {self.folder}")
        self._pair = self._pairs[pair_id]

    def add(self, pair: KeyPair) -> None:
        """Take a pair that was made since."""
        self._pairs[pair.pair_id] = pair

    def drop(self, pair_id: str) -> None:
        """Forget a pair that was retired."""
        assert pair_id != self._pair.pair_id, "the pair in force stays"
        self._pairs.pop(pair_id, None)

    def sign(self, checkpoint: Checkpoint) -> bytes:
        """Return a checkpoint as a signed note."""
        return sign_checkpoint(checkpoint, self._pair.signers(checkpoint.origin))

    def sign_text(self, text: str, origin: str) -> bytes:
        """Return a text as a note signed by both keys; its first line must keep it apart from checkpoints.

        Args:
            text: of the note.
            origin: of the log, which the keys sign as.
        """
        assert not text.startswith(f"{origin}\n"), "checkpoints are signed by sign"
        return sign_note(text, self._pair.signers(origin))

    def sign_statement(self, message: bytes) -> bytes:
        """Return an Ed25519 signature by the pair in force."""
        return self._pair.sign_statement(message)

    def recognise(self, note: bytes, origin: str) -> Checkpoint:
        """Verify a checkpoint that one of these pairs signed, and put that pair in force.

        Raises:
            SignatureInvalid: a signature is wrong or missing.
            ChainCorrupted: the note is malformed.
            ChainError: none of these pairs has signed it.
        """
        on_note = {(line.name, line.key_id) for line in parse_note(note).signatures}
        for pair_id, pair in self._pairs.items():
            keys = pair.public.verifier_keys(origin)
            if any((key.name, key.key_id) in on_note for key in keys):
                checkpoint = open_checkpoint(note, keys, SignaturePolicy(), origin)
                self.use(pair_id)
                return checkpoint
        raise ChainError(
            f"the log {origin} is signed by other keys than those in {self.folder}: put the log's keys back from their "
            "copy"
        )

    def high_water(self) -> HighWater | None:
        """Return the mark, or ``None`` if nothing was signed yet.

        Raises:
            ChainError: it cannot be read or understood.
        """
        path = os.path.join(self.folder, HIGH_WATER_NAME)
        try:
            with ReadFile(path) as file:
                return msgspec.json.decode(file.read(0, _MARK_BYTES), type=HighWater)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:  # msgspec lets some errors of Python through
            raise ChainError(
                f"{path} cannot be understood: {error}; it says how long the log must be. Put it back from its copy, "
                "or verify the log against a witness and remove it"
            ) from error

    def raise_high_water(self, checkpoint: Checkpoint, fs: Files | None = None) -> None:
        """Note that a checkpoint was signed and is on the disk.

        Raises:
            OSError: the mark cannot be written.
        """
        mark = HighWater(checkpoint.origin, checkpoint.size, checkpoint.root.hex())
        path = os.path.join(self.folder, HIGH_WATER_NAME)
        replace_file(fs or RealFiles(), path, msgspec.json.encode(mark) + b"\n")

"""What a witness decides: which checkpoints it cosigns, and what it does with the others.

Why it is as it is: a log can show two people two histories, each well signed. A witness signs a checkpoint only if it
continues the one it signed before, and only once the new one is on its disk. So for each log its cosignatures speak of
one line of growing trees, whatever happens to its process, and whoever asks for them sees the same line as all others.

Guaranteed: no two roots of one size, and no smaller size after a larger one, are ever cosigned for one log, over any
number of restarts, as long as the folder is this witness's own. A log that shows another root for the newest size is
refused, and both its notes are kept.
Not guaranteed: that the keys were the right ones when they were pinned, and that somebody asks. A folder that was put
back to an older state makes this witness sign again what it has signed before; others have to notice.

Keys are pinned by whoever set the witness up or, if that is allowed, by the first who brings them; afterwards they
change only along changes of keys that hold. Not pure in one way: it writes through ``WitnessFolder``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from weftos import limits
from weftos.chain.signing.checkpoint import Checkpoint, log_id_of, open_checkpoint, parse_text
from weftos.chain.signing.cosignature import CosignatureSigner, cosignature_time
from weftos.chain.signing.note import Note, NoteSignature, SignaturePolicy, format_note, parse_note
from weftos.chain.signing.rotation import PublicKeys, Rotation, follow_rotations
from weftos.errors import ChainCorrupted, ChainError, ProofInvalid, SignatureInvalid
from weftos.merkle.frontier import EMPTY_ROOT
from weftos.merkle.proofs import verify_consistency
from weftos.witness.folder import StoredLog, WitnessFolder
from weftos.witness.outcomes import Conflict, Cosigned, Evidence, Head, Key, Pinned, Refused, SplitView

__all__ = ["WitnessState"]

log = logging.getLogger(__name__)

_POLICY: Final = SignaturePolicy()


class _Log(msgspec.Struct, frozen=True):
    """One log as it is on the disk; ``size`` and ``root`` are those of the checkpoint in ``stored.head``."""

    stored: StoredLog
    keys: PublicKeys
    size: int = 0
    root: bytes = EMPTY_ROOT


class WitnessState:
    """One witness.

    Args:
        folder: its memory.
        signer: its key; also tells the time.
        logs: public keys by origin, for logs of which the folder has none yet.
        trust_on_first_use: whether a log without pinned keys may bring them itself.

    Raises:
        ChainCorrupted: the folder is damaged, or not that of this key.
        ChainError: it cannot be read or written.
    """

    def __init__(
        self,
        folder: WitnessFolder,
        signer: CosignatureSigner,
        *,
        logs: Mapping[str, PublicKeys] | None = None,
        trust_on_first_use: bool = True,
    ) -> None:
        self._folder = folder
        self._signer = signer
        self._trusting = trust_on_first_use
        self._logs = {one.origin: self._restored(one) for one in folder.load()}
        for origin, keys in (logs or {}).items():
            if origin not in self._logs:
                try:
                    self._pin(origin, keys)
                except OSError as error:
                    raise ChainError(f"the keys of {origin} cannot be pinned: {error}") from error

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Cosigned | Conflict | Refused:
        """Cosign a checkpoint if it continues the newest one.

        Args:
            old_size: of the checkpoint from which the proof leads; 0 if none was cosigned yet.
            proof: hashes of the consistency proof, 32 bytes each; none from size 0 and for the same size.
            note: the checkpoint with the log's signatures; others are ignored.
        """
        try:
            if len(note) > limits.WITNESS_NOTE_BYTES or len(proof) > limits.WITNESS_PROOF_HASHES:
                return Refused("malformed", "the checkpoint or the proof is too long")
            parsed = parse_note(note)
            checkpoint = parse_text(parsed.text)
        except ChainCorrupted as error:
            return Refused("malformed", str(error))
        known = self._logs.get(checkpoint.origin)
        if known is None:
            return Refused("unknown_log", f"no keys of the log {checkpoint.origin!r} are pinned here")
        try:
            open_checkpoint(note, known.keys.verifier_keys(checkpoint.origin), _POLICY, checkpoint.origin)
        except SignatureInvalid as error:
            return Refused("signature", str(error))
        own = _only_of_log(parsed, known.keys, checkpoint.origin)
        return self._contradiction(known, checkpoint, own, old_size, proof) or self._cosign(known, checkpoint, own)

    def pin(self, origin: str, keys: PublicKeys, rotations: Sequence[Rotation] = ()) -> Pinned | Refused:
        """Learn the keys of a log: its first ones, or those that the known ones have handed over to.

        Args:
            origin: of the log.
            keys: that the log has now, both of them.
            rotations: the changes of keys that lead to them, oldest first.
        """
        try:
            log_id_of(origin)
        except ChainError as error:
            return Refused("malformed", str(error))
        if not keys.is_complete:
            return Refused("malformed", "a witness needs both public keys of a log")
        known = self._logs.get(origin)
        try:
            if known is None:
                if not self._trusting or len(self._logs) >= limits.WITNESS_LOGS:
                    return Refused("unknown_log", f"the log {origin!r} is not one of those this witness was set up for")
                self._pin(origin, keys)
            elif known.keys != keys:
                if follow_rotations(origin, known.keys, rotations) != keys:
                    return Refused("keys", f"other keys of {origin} are pinned, and no change of keys leads from them")
                stored = msgspec.structs.replace(known.stored, ed25519=keys.ed25519, ml_dsa_65=keys.ml_dsa_65)
                self._folder.store(stored)
                self._logs[origin] = msgspec.structs.replace(known, stored=stored, keys=keys)
        except (SignatureInvalid, ChainCorrupted) as error:
            return Refused("keys", str(error))
        except OSError as error:
            return _cannot_write(error)
        return Pinned(keys.pair_id)

    def head(self, origin: str) -> Head | Refused:
        """Return the newest cosigned checkpoint of a log."""
        known = self._logs.get(origin)
        if known is None or not known.stored.head:
            return Refused("unknown_log", f"nothing of the log {origin!r} was cosigned here")
        return Head(known.stored.head)

    def evidence(self, origin: str) -> Evidence | Refused:
        """Return what is held against a log."""
        if origin not in self._logs:
            return Refused("unknown_log", f"no keys of the log {origin!r} are pinned here")
        try:
            splits = self._folder.evidence(origin)
        except ChainError as error:
            log.error("evidence cannot be shown: %s", error)
            return Refused("storage", str(error))
        return Evidence(splits[0] if splits else None, len(splits))

    def key(self) -> Key:
        """Return the public key of this witness."""
        return Key(self._signer.verifier.format())

    def _contradiction(
        self, known: _Log, checkpoint: Checkpoint, note: bytes, old_size: int, proof: Sequence[bytes]
    ) -> Conflict | Refused | None:
        """Say what speaks against a signed checkpoint. Evidence comes first: a liar does not ask politely."""
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            return Refused("malformed", "a log without records has another root than the one that is given")
        if checkpoint.size == known.size and checkpoint.root != known.root:
            return self._keep_evidence(known, checkpoint, note)
        if old_size != known.size:
            return Conflict(known.size)
        if checkpoint.size < known.size:
            return Refused("regress", f"size {known.size} was cosigned; {checkpoint.size} would go back")
        try:
            verify_consistency(known.size, known.root, checkpoint.size, checkpoint.root, proof)
        except ProofInvalid as error:
            return Refused("proof", str(error))
        return None

    def _cosign(self, known: _Log, checkpoint: Checkpoint, note: bytes) -> Cosigned | Refused:
        parsed = parse_note(note)
        try:
            signature = self._signer.sign(parsed.text)
            head = format_note(Note(parsed.text, (*parsed.signatures, signature)))
        except ChainError as error:
            return Refused("storage", str(error))
        # Nothing leaves before this is on the disk; and unless it is, the next request is judged by the older state.
        stored = msgspec.structs.replace(known.stored, head=head)
        if not (known.stored.head and parse_note(known.stored.head).text == parsed.text):
            try:
                self._folder.store(stored)
            except OSError as error:
                return _cannot_write(error)
        self._logs[checkpoint.origin] = _Log(stored, known.keys, checkpoint.size, checkpoint.root)
        return Cosigned((signature,))

    def _keep_evidence(self, known: _Log, checkpoint: Checkpoint, note: bytes) -> Refused:
        log.error("%s shows two roots for the size %d", checkpoint.origin, checkpoint.size)
        text = parse_note(note).text
        kept = "both notes are kept"
        try:
            split = SplitView(known.stored.head, note)
            self._folder.keep(checkpoint.origin, hashlib.sha256(text.encode()).digest()[:8], split)
        except OSError as error:
            log.error("the evidence against %s cannot be written: %s", checkpoint.origin, error)
            kept = f"the evidence could not be written: {error}"
        return Refused("split_view", f"another root was cosigned for the size {checkpoint.size}; {kept}")

    def _pin(self, origin: str, keys: PublicKeys) -> None:
        log_id_of(origin)
        stored = StoredLog(origin, keys.ed25519, keys.ml_dsa_65)
        self._folder.store(stored)
        self._logs[origin] = _Log(stored, keys)

    def _restored(self, stored: StoredLog) -> _Log:
        keys = PublicKeys(stored.ed25519, stored.ml_dsa_65)
        if not stored.head:
            return _Log(stored, keys)
        note = parse_note(stored.head)
        own = self._signer.verifier
        try:
            # The log's own signatures may be of keys that were changed since.
            cosignature_time(_line_of(note, own.name, own.key_id), own, note.text)
        except SignatureInvalid as error:
            raise ChainCorrupted(
                f"the folder {self._folder.path} is not that of the witness's key, or damaged: {error}",
                path=self._folder.path,
            ) from error
        checkpoint = parse_text(note.text)
        return _Log(stored, keys, checkpoint.size, checkpoint.root)


def _line_of(note: Note, name: str, key_id: bytes) -> NoteSignature:
    for line in note.signatures:
        if (line.name, line.key_id) == (name, key_id):
            return line
    raise SignatureInvalid(f"the newest checkpoint has no cosignature of {name}")


def _only_of_log(note: Note, keys: PublicKeys, origin: str) -> bytes:
    """Return the note with one line of each of the log's keys; what strangers add, and repetitions, are not kept."""
    first = {(line.name, line.key_id): line for line in reversed(note.signatures)}
    known = [(key.name, key.key_id) for key in keys.verifier_keys(origin)]
    return format_note(Note(note.text, tuple(first[key] for key in known)))


def _cannot_write(error: OSError) -> Refused:
    log.error("the witness cannot write: %s", error)
    return Refused("storage", f"the witness cannot write: {error}")

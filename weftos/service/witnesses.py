"""What the service asks of the witnesses: their memory when the log is opened, their signature on each checkpoint.

Why it is as it is: a witness may be slow, dead or wrong, and the log must go on all the same; what it did not sign it
can sign later, because each request says from where to where. So nothing here stops the log but one thing: a witness
that remembers more of it, or something else, than is there.

Guaranteed: a log that a reachable witness has seen longer, or different, is not opened. Not guaranteed: anything while
no witness answers; the state says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from weftos import limits
from weftos.chain.signing.checkpoint import Checkpoint, parse_text
from weftos.chain.signing.note import parse_note
from weftos.chain.signing.note_keys import VerifierKey
from weftos.chain.signing.rotation import PublicKeys, Rotation
from weftos.chain.tiles.tile_tree import TileTree, root_at
from weftos.errors import ChainCorrupted, ChainError, ProtocolError, WeftError
from weftos.merkle.proofs import consistency_proof
from weftos.service.pinning import rotations_of
from weftos.witness.client import WitnessClient
from weftos.witness.known import meet_witness
from weftos.witness.outcomes import Conflict, Cosigned, Head, Key, Refused

__all__ = ["WitnessState", "Witnesses"]

log = logging.getLogger(__name__)

_TRIES = 4


class WitnessState(msgspec.Struct):
    """What is known of a witness.

    Attributes:
        path: of its socket.
        size: records that it has cosigned; -1 before it was asked.
        key: public key, once it was met.
        problem: why it did not sign last; ``""`` if it did.
    """

    path: str
    size: int = -1
    key: VerifierKey | None = None
    problem: str = ""


class Witnesses:
    """The witnesses of one log.

    Args:
        sockets: where they listen.
        known: path of the file with their keys.
        directory: of the log.
        keys: of the log.
    """

    def __init__(self, sockets: Sequence[str], known: str, directory: str, keys: PublicKeys) -> None:
        self._known = known
        self._directory = directory
        self.keys = keys
        self._rotations: list[Rotation] | None = None
        self.states = [WitnessState(path) for path in sockets]

    def handed_over(self, keys: PublicKeys) -> None:
        """The log has other keys from now on."""
        self.keys, self._rotations = keys, None

    @property
    def needed(self) -> int:
        """How many must have signed: more than half."""
        return len(self.states) // 2 + 1

    def check(self, origin: str, newest: Checkpoint | None) -> None:
        """Compare the log with what the witnesses remember of it.

        Args:
            origin: of the log.
            newest: its checkpoint, or ``None``.

        Raises:
            ChainCorrupted: a witness remembers a longer or another log.
        """
        size = newest.size if newest is not None else 0
        for state in self.states:
            try:
                self._meet(state)
                head = WitnessClient(state.path).head(origin, timeout_s=limits.WITNESS_START_S)
            except WeftError as error:
                state.problem = str(error)
                log.warning("witness %s was not asked: %s", state.path, error)
                continue
            if not isinstance(head, Head):
                continue  # it does not know this log yet
            seen = parse_text(parse_note(head.note).text)
            state.size = seen.size
            if seen.size > size:
                raise ChainCorrupted(
                    f"rolled back: the log in {self._directory} says {size} records, and the witness at {state.path} "
                    f"has cosigned {seen.size}",
                    path=self._directory,
                )
            self._check_root(state, seen, newest)

    def _check_root(self, state: WitnessState, seen: Checkpoint, newest: Checkpoint | None) -> None:
        if newest is None or not seen.size:
            return
        if root_at(self._directory, seen.size, newest.size) != seen.root:
            raise ChainCorrupted(
                f"split view: the first {seen.size} records of the log in {self._directory} are not those that the "
                f"witness at {state.path} has cosigned",
                path=self._directory,
            )

    def cosign(self, checkpoint: Checkpoint, note: bytes) -> tuple[bytes, int]:
        """Collect cosignatures on a checkpoint. May run in another thread.

        Args:
            checkpoint: what it says; its tiles are published.
            note: the log's signed note.

        Returns:
            The note with all signatures that could be had, and how many witnesses signed.
        """
        signed = 0
        for state in self.states:
            try:
                cosigned = self._ask(state, checkpoint, note)
                assert state.key is not None, "it was met"
                note = cosigned.added_to(note, state.key)
                signed += 1
                state.size, state.problem = checkpoint.size, ""
            except WeftError as error:
                if state.problem != str(error):
                    log.warning("witness %s did not sign: %s", state.path, error)
                state.problem = str(error)
        return note, signed

    def _meet(self, state: WitnessState) -> None:
        if state.key is None:
            answer = WitnessClient(state.path).key(timeout_s=limits.WITNESS_START_S)
            if not isinstance(answer, Key):
                raise ProtocolError(f"the witness at {state.path} does not say its key: {answer}")
            key = VerifierKey.parse(answer.text)
            meet_witness(self._known, key)
            state.key = key

    def _ask(self, state: WitnessState, checkpoint: Checkpoint, note: bytes) -> Cosigned:
        self._meet(state)
        client = WitnessClient(state.path, timeout_s=limits.WITNESS_SIGN_S)
        old = max(state.size, 0)
        answer: Cosigned | Conflict | Refused | None = None
        for _ in range(_TRIES):
            proof = consistency_proof(old, checkpoint.size, TileTree(self._directory, checkpoint.size).node)
            answer = client.add_checkpoint(old, proof, note)
            if isinstance(answer, Cosigned):
                return answer
            if isinstance(answer, Conflict):
                if answer.size > checkpoint.size:
                    raise ChainError(f"it has cosigned {answer.size} records, and the log has {checkpoint.size}")
                old = answer.size
            elif answer.code == "unknown_log":
                # Whoever knows no keys of the log needs no changes of them, which all of the log is read for.
                client.tell_keys(checkpoint.origin, self.keys)
            elif answer.code in ("keys", "signature"):
                if self._rotations is None:
                    self._rotations = rotations_of(self._directory)
                client.tell_keys(checkpoint.origin, self.keys, self._rotations[-limits.WITNESS_ROTATIONS :])
            else:
                break
        raise ChainError(f"it refuses: {answer}")

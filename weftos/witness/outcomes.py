"""What a witness can answer, as values: they cross the socket, and a refusal is an answer like any other.

Why it is as it is: whoever asks a witness must tell three things apart. A conflict is harmless and says how to go on; a
refusal says what is wrong with the log or the request; an error of the connection says nothing about either. The first
two are here, the third is ``WitnessUnavailable``.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from weftos.chain.signing.cosignature import cosignature_time
from weftos.chain.signing.note import Note, NoteSignature, VerifierKey, format_note, parse_note
from weftos.errors import SignatureInvalid

__all__ = ["STATUS", "Answer", "Conflict", "Cosigned", "Evidence", "Head", "Key", "Pinned", "Refused", "SplitView"]

#: The number that stands for each reason to refuse in an answer, after those of C2SP's tlog-witness.
STATUS: Final = {
    "malformed": 400,
    "signature": 403,
    "keys": 403,
    "regress": 403,
    "split_view": 403,
    "unknown_log": 404,
    "proof": 422,
    "storage": 500,
}

Code: TypeAlias = Literal["malformed", "signature", "keys", "regress", "split_view", "unknown_log", "proof", "storage"]


class Cosigned(msgspec.Struct, frozen=True, tag=True):
    """The checkpoint continues the newest one that the witness cosigned, and is that newest one now.

    Attributes:
        signatures: the witness's; not verified by whoever parsed the answer.
    """

    signatures: tuple[NoteSignature, ...]

    def added_to(self, note: bytes, key: VerifierKey) -> bytes:
        """Return the checkpoint that was sent, with this witness's signature at its end.

        Whatever else the witness sent is left out: a line in the name of somebody else would spoil the note.

        Args:
            note: the checkpoint.
            key: of the witness.

        Raises:
            ChainCorrupted: ``note`` is no note.
            ChainError: it has as many signatures as a note can have.
            SignatureInvalid: there is no good cosignature of this witness.
        """
        parsed = parse_note(note)
        for line in self.signatures:
            if (line.name, line.key_id) == (key.name, key.key_id):
                cosignature_time(line, key, parsed.text)
                return format_note(Note(parsed.text, (*parsed.signatures, line)))
        raise SignatureInvalid(f"the witness {key.name} answered without its cosignature", algorithm=key.algorithm)


class Conflict(msgspec.Struct, frozen=True, tag=True):
    """The request was made for another size than that of the newest cosigned checkpoint.

    Attributes:
        size: that the witness has cosigned last; send a proof from there. 0 if it has cosigned nothing of this log.
    """

    size: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The witness does not do what was asked.

    Attributes:
        code: why. ``malformed``: not in the form of a request. ``signature``: the log has not signed it. ``keys``:
            other keys are pinned. ``regress``: smaller than what was cosigned. ``split_view``: another root for the
            same size, both notes are kept. ``unknown_log``: no keys are pinned. ``proof``: it is not shown to continue
            what was cosigned. ``storage``: the witness cannot write.
        reason: a sentence for a person.
    """

    code: Code
    reason: str


class Head(msgspec.Struct, frozen=True, tag=True):
    """The newest checkpoint that the witness cosigned.

    Attributes:
        note: with the signatures of the log and of the witness.
    """

    note: bytes


class Key(msgspec.Struct, frozen=True, tag=True):
    """The public key of the witness.

    Attributes:
        text: in the form of ``VerifierKey.parse``.
    """

    text: str


class Pinned(msgspec.Struct, frozen=True, tag=True):
    """The keys that were sent are the ones by which the witness knows the log.

    Attributes:
        pair_id: of them.
    """

    pair_id: str


class SplitView(msgspec.Struct, frozen=True, tag=True):
    """Two checkpoints of one log that cannot both be true, each signed by the log: proof that it lies.

    Attributes:
        first: the note that was seen first.
        second: another root for the same size.
    """

    first: bytes
    second: bytes


class Evidence(msgspec.Struct, frozen=True, tag=True):
    """What the witness holds against a log.

    Attributes:
        oldest: the first split view it saw, if it saw one.
        count: how many it keeps.
    """

    oldest: SplitView | None
    count: int


Answer: TypeAlias = Cosigned | Conflict | Refused | Head | Key | Pinned | Evidence

"""Signed notes: a few lines of text with signatures below, in the form that other transparency logs use too.

Why it is as it is: the head of a log is shown to strangers and signed by witnesses, so its form must be one that tools
of others can read. It is the signed note of C2SP (c2sp.org/signed-note). Two things are our own: an ML-DSA-65 signature
beside the Ed25519 one, under the type byte for types without a number, and a policy that says which of them must be
there. Without the policy, whoever breaks one algorithm could leave the other signature out.

Guaranteed: a note is taken only in its one canonical form, so what was parsed formats to the same bytes. A signature of
a known key that is wrong is an error, a required one that is missing too. Signatures of unknown keys are skipped.
Not guaranteed: that the text means anything; its form is the business of ``checkpoint``. The text of a note is not to
be believed before ``verify_note`` has returned.

Stricter than C2SP: the control characters U+007F to U+009F are refused too. The forms are in
docs/formats/checkpoint.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from weftos import limits
from weftos.chain.signing.note_keys import (
    CONTROL,
    COSIGNATURE,
    ED25519,
    ID_BYTES,
    ML_DSA_65,
    TYPES,
    Ed25519NoteSigner,
    MLDSA65NoteSigner,
    NoteSignature,
    NoteSigner,
    VerifierKey,
    check_text,
    decode_base64,
    is_name,
)
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "ML_DSA_65",
    "Ed25519NoteSigner",
    "MLDSA65NoteSigner",
    "Note",
    "NoteSignature",
    "NoteSigner",
    "SignaturePolicy",
    "VerifierKey",
    "check_signatures",
    "format_note",
    "parse_note",
    "sign_note",
    "verify_note",
]

_DASH: Final = "\u2014 "


class Note(msgspec.Struct, frozen=True):
    """A text and the signatures below it.

    Attributes:
        text: what is signed, with the line feed at its end.
        signatures: in the order of their lines; not verified.
    """

    text: str
    signatures: tuple[NoteSignature, ...]


class SignaturePolicy(msgspec.Struct, frozen=True):
    """Which algorithms must have signed.

    Attributes:
        required: names of algorithms; each needs at least one good signature.

    Raises:
        ConfigError: it is empty, or names an unknown algorithm.
    """

    required: frozenset[str] = frozenset((ED25519, ML_DSA_65))

    def __post_init__(self) -> None:
        if not self.required or not self.required <= TYPES.keys():
            raise ConfigError(f"a policy requires one or more of {', '.join(TYPES)}, not {sorted(self.required)}")
        if not isinstance(self.required, frozenset):
            msgspec.structs.force_setattr(self, "required", frozenset(self.required))

    def check(self, keys: Iterable[VerifierKey]) -> None:
        """Check that the keys whose signatures were good suffice.

        Raises:
            SignatureInvalid: a required algorithm has not signed; ``algorithm`` names it.
        """
        for algorithm in sorted(self.required - {key.algorithm for key in keys}):
            raise SignatureInvalid(
                f"the note has no {algorithm} signature of a trusted key, and the policy requires one",
                algorithm=algorithm,
            )


def parse_note(data: bytes) -> Note:
    """Read a note. Its signatures are not verified here.

    Raises:
        ChainCorrupted: it is too large, or not in the canonical form.
    """
    if len(data) > limits.NOTE_BYTES:
        raise ChainCorrupted(f"a note of {len(data)} bytes is refused; the limit is {limits.NOTE_BYTES}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ChainCorrupted(f"the note is not UTF-8: {error}", offset=error.start) from error
    if found := CONTROL.search(whole):
        raise ChainCorrupted(f"the note has the control character {found.group()!r} in it")
    end = whole.rfind("\n\n")
    if end < 0 or not whole.endswith("\n") or end + 2 == len(whole):
        raise ChainCorrupted("the note has no text, empty line and signatures, each line with a line feed at its end")
    lines = whole[end + 2 : -1].split("\n")
    if len(lines) > limits.NOTE_SIGNATURES:
        raise ChainCorrupted(f"the note has {len(lines)} signatures; the limit is {limits.NOTE_SIGNATURES}")
    return Note(whole[: end + 1], tuple(_parse_signature(line) for line in lines))


def format_note(note: Note) -> bytes:
    """Return the bytes of a note.

    Raises:
        ChainError: text or signatures do not have the form that ``parse_note`` accepts.
    """
    lines = [check_text(note.text), "\n"]
    for line in note.signatures:
        if not is_name(line.name) or len(line.key_id) != ID_BYTES or not line.signature:
            raise ChainError(
                f"the signature of {line.name!r} cannot be written: a name, a key id or content is missing"
            )
        lines.append(f"{_DASH}{line.name} {base64.b64encode(line.key_id + line.signature).decode()}\n")
    data = "".join(lines).encode()
    if not note.signatures or len(note.signatures) > limits.NOTE_SIGNATURES or len(data) > limits.NOTE_BYTES:
        raise ChainError(
            f"a note has 1 to {limits.NOTE_SIGNATURES} signatures and up to {limits.NOTE_BYTES} bytes, "
            f"not {len(note.signatures)} and {len(data)}"
        )
    return data


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return the note with this text and a signature of each signer, in their order.

    Raises:
        ChainError: the text is no text of a note, or there is no signer.
    """
    return format_note(Note(check_text(text), tuple(signer.sign(text) for signer in signers)))


def check_signatures(note: Note, keys: Iterable[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Verify every signature that is made by a known key.

    Args:
        note: as parsed.
        keys: the known ones.

    Returns:
        The keys that have signed, each once, in the order of their lines. It may be none: a policy has to judge.

    Raises:
        SignatureInvalid: a signature that claims to be a known key's is wrong.
        ConfigError: two different known keys have the same name and id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise ConfigError(f"two keys with the name {key.name!r} and the id {key.key_id.hex()}: keep the right one")
    good: dict[VerifierKey, None] = {}
    for line in note.signatures:
        signer = known.get((line.name, line.key_id))
        if signer is None:
            continue
        if not signer.is_genuine(note.text, line.signature):
            raise SignatureInvalid(
                f"the {signer.algorithm} signature of {line.name} ({line.key_id.hex()}) is wrong",
                algorithm=signer.algorithm,
            )
        good[signer] = None
    return tuple(good)


def verify_note(note: Note, keys: Iterable[VerifierKey], required: SignaturePolicy) -> tuple[VerifierKey, ...]:
    """Verify the signatures of known keys, and that all required algorithms are among them.

    Whose signatures these are is for the caller to say: pass only the keys of those who may satisfy the policy.

    Returns:
        The keys that have signed.

    Raises:
        SignatureInvalid: a signature of a known key is wrong, or a required algorithm is missing.
        ConfigError: two different known keys have the same name and id.
    """
    good = check_signatures(note, keys)
    required.check(good)
    return good


def _parse_signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    data = decode_base64(encoded)
    if not line.startswith(_DASH) or not space or not is_name(name) or data is None or len(data) <= ID_BYTES:
        raise ChainCorrupted(f"{line[:80]!r} is no signature line of a note")
    return NoteSignature(name, data[:ID_BYTES], data[ID_BYTES:])

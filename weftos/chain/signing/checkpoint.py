"""Checkpoints: the size of a log and the root of its tree, as a signed note that others can read and cosign.

Why it is as it is: the text is the one of C2SP (c2sp.org/tlog-checkpoint), so that witnesses and monitors written for
other logs understand it. The origin says of which log it speaks; without it a checkpoint of one log would pass for one
of another that is signed with the same keys.

Guaranteed: a checkpoint is taken only in its one canonical form, and only if the log's own keys have signed as the
policy asks for; the keys of witnesses never stand in for them.
Not guaranteed: that the log has such a root, nor that it has no other checkpoint with another root. The first is found
out by hashing the log, the second by witnesses.

The root is that of the Merkle tree over the log's records; how it is computed is not the business of this module. The
forms are in docs/formats/checkpoint.md.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from weftos.chain.signing.note import Note, SignaturePolicy, VerifierKey, check_signatures, parse_note, sign_note
from weftos.chain.signing.note_keys import COSIGNATURE, NoteSigner, check_text, decode_base64, is_name
from weftos.errors import ChainCorrupted, ChainError, SignatureInvalid

__all__ = ["Checkpoint", "format_text", "log_id_of", "log_origin", "open_checkpoint", "parse_text", "sign_checkpoint"]

ROOT_BYTES: Final = 32
LOG_ID_BYTES: Final = 16
#: So that a size fits into every language's integer.
MAX_SIZE: Final = 2**63 - 1
_ORIGIN_PREFIX: Final = "weftos/log/"
_ORIGIN: Final = re.compile(r"weftos/log/([0-9a-f]{32})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True):
    """What a log says about itself.

    Attributes:
        origin: names the log; see ``log_origin``.
        size: records in the log, less than 2^63.
        root: of the Merkle tree over them, 32 bytes.
        extensions: further lines, not empty. They are signed and mean nothing here; this package writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def log_origin(log_id: bytes) -> str:
    """Return the origin of a log.

    Args:
        log_id: 16 bytes.

    Raises:
        ChainError: it has another length.
    """
    if len(log_id) != LOG_ID_BYTES:
        raise ChainError(f"a log id has {LOG_ID_BYTES} bytes, not {len(log_id)}")
    return _ORIGIN_PREFIX + log_id.hex()


def log_id_of(origin: str) -> bytes:
    """Return the log id in an origin, 16 bytes.

    Raises:
        ChainError: it is no origin of a log of this kind.
    """
    if (found := _ORIGIN.fullmatch(origin)) is None:
        raise ChainError(f"{origin!r} is not the origin of a log, which is {_ORIGIN_PREFIX} and 32 hex digits")
    return bytes.fromhex(found.group(1))


def format_text(checkpoint: Checkpoint) -> str:
    """Return the text to sign: origin, size and root, a line each, and the extension lines.

    Raises:
        ChainError: the checkpoint cannot be written so that ``parse_text`` would accept it.
    """
    lines = (checkpoint.origin, *checkpoint.extensions)
    if any(not line or "\n" in line for line in lines):
        raise ChainError("the lines of a checkpoint are not empty and have no line feed in them")
    if not 0 <= checkpoint.size <= MAX_SIZE or len(checkpoint.root) != ROOT_BYTES:
        raise ChainError(
            f"a checkpoint has a size from 0 to 2^63 - 1 and a root of {ROOT_BYTES} bytes, "
            f"not {checkpoint.size} and {len(checkpoint.root)}"
        )
    root = base64.b64encode(checkpoint.root).decode()
    return check_text("\n".join((checkpoint.origin, str(checkpoint.size), root, *checkpoint.extensions, "")))


def parse_text(text: str) -> Checkpoint:
    """Read the text of a checkpoint.

    Raises:
        ChainCorrupted: it is not in the canonical form.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise ChainCorrupted(
            "a checkpoint has three lines or more, none of them empty, each with a line feed at its end"
        )
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise ChainCorrupted(
            f"{size[:40]!r} is not the size of a log: a decimal number below 2^63 without leading zeros"
        )
    digest = decode_base64(root)
    if digest is None or len(digest) != ROOT_BYTES:
        raise ChainCorrupted(f"{root[:80]!r} is not the root of a log: {ROOT_BYTES} bytes in base64")
    checkpoint = Checkpoint(origin, int(size), digest, tuple(extensions))
    try:
        check_text(text)
    except ChainError as error:
        raise ChainCorrupted(f"the text of the checkpoint is malformed: {error}") from error
    return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[NoteSigner]) -> bytes:
    """Return the signed note of a checkpoint.

    Args:
        checkpoint: of the log.
        signers: the log's own, each with the origin as its name.

    Raises:
        ChainError: the checkpoint is malformed, there is no signer, or one has another name.
    """
    if not is_name(checkpoint.origin):
        raise ChainError(f"the origin {checkpoint.origin!r} cannot name a key, so the log cannot sign under it")
    for signer in signers:
        if signer.verifier.name != checkpoint.origin:
            raise ChainError(f"the key of {signer.verifier.name!r} cannot sign for the log {checkpoint.origin!r}")
    return sign_note(format_text(checkpoint), signers)


def open_checkpoint(data: bytes, keys: Iterable[VerifierKey], policy: SignaturePolicy, origin: str) -> Checkpoint:
    """Verify a signed checkpoint and return what it says.

    Args:
        data: the note.
        keys: of the log (with its origin as their name) and of witnesses.
        policy: what must have signed. Only the log's keys count for it, and for ``cosignature`` only those of others.
        origin: of the log that is expected.

    Raises:
        SignatureInvalid: a signature of a known key is wrong, a required one is missing, or it is another log's.
        ChainCorrupted: note or text is malformed.
        ConfigError: two different known keys have the same name and id.
    """
    note: Note = parse_note(data)
    good = check_signatures(note, keys)
    policy.check(key for key in good if (key.name == origin) != (key.algorithm == COSIGNATURE))
    checkpoint = parse_text(note.text)
    if checkpoint.origin != origin:
        raise SignatureInvalid(f"the checkpoint is of the log {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint

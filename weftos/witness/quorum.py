"""What the word of several witnesses is worth: whether enough have cosigned, and whether a log agrees with them.

Why it is as it is: one witness can be down, put back or bought, so a number of them has to agree. Each is judged on its
own: what one of them says falsely never spoils what the others say, and is reported instead.

Guaranteed, with n witnesses of which k are needed and fewer than 2k - n lie: no two histories of a log both have enough
cosignatures. A log that was put back to an older state is found out as long as one honest witness answers.
Not guaranteed: anything when no witness answers; the result says how many did. A pure module: no files, no sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from weftos.chain.signing.checkpoint import Checkpoint, open_checkpoint
from weftos.chain.signing.cosignature import cosignature_times
from weftos.chain.signing.note import SignaturePolicy
from weftos.chain.signing.note_keys import COSIGNATURE, MAX_TIME, VerifierKey
from weftos.errors import ChainError, ConfigError
from weftos.witness.outcomes import SplitView

__all__ = ["Agrees", "Comparison", "Contradicted", "Quorum", "RolledBack", "Tally", "compare", "newest_of"]

_LOG_SIGNED: Final = SignaturePolicy()


class Tally(msgspec.Struct, frozen=True):
    """Who has cosigned a checkpoint.

    Attributes:
        times: of each witness that has, by name: seconds since 1970 UTC.
        wrong: why the cosignature of a witness does not count, by name.
        needed: how many are needed.
    """

    times: dict[str, int]
    wrong: dict[str, str]
    needed: int

    @property
    def is_cosigned(self) -> bool:
        """Whether enough have."""
        return len(self.times) >= self.needed


class Quorum(msgspec.Struct, frozen=True):
    """How many of which witnesses are needed.

    Attributes:
        witnesses: their keys, for cosignatures; no two with one name or one public key.
        needed: 1 to all of them. With no more than half, two histories can each find enough.

    Raises:
        ConfigError: it is not so.
    """

    witnesses: tuple[VerifierKey, ...]
    needed: int

    def __post_init__(self) -> None:
        if any(key.algorithm != COSIGNATURE for key in self.witnesses):
            raise ConfigError("the keys of witnesses are of the type for cosignatures")
        names, keys = {key.name for key in self.witnesses}, {key.public_key for key in self.witnesses}
        if len(names) != len(self.witnesses) or len(keys) != len(self.witnesses):
            raise ConfigError("no two witnesses have the same name or the same public key")
        if not 1 <= self.needed <= len(self.witnesses):
            raise ConfigError(f"1 to {len(self.witnesses)} of the witnesses can be needed, not {self.needed}")

    def tally(self, note: bytes, *, not_after: int = MAX_TIME) -> Tally:
        """Count the good cosignatures on a checkpoint. Its other signatures are not looked at: open it first.

        Args:
            note: the checkpoint.
            not_after: seconds since 1970 UTC; later cosignatures do not count. Give the time of now and some patience.

        Raises:
            ChainCorrupted: it is no signed checkpoint.
        """
        cosignature_times(note, ())  # whether it is one at all
        times: dict[str, int] = {}
        wrong: dict[str, str] = {}
        for key in self.witnesses:
            try:
                times.update(
                    (good.name, at) for good, at in cosignature_times(note, [key], not_after=not_after).items()
                )
            except ChainError as error:
                wrong[key.name] = str(error)
        return Tally(times, wrong, self.needed)


class Agrees(msgspec.Struct, frozen=True, tag=True):
    """No witness contradicts the checkpoint.

    Attributes:
        witnesses: names of those that were compared; with none of them, nothing was found out.
        wrong: why a witness's head does not count, by name.
    """

    witnesses: tuple[str, ...]
    wrong: dict[str, str]


class RolledBack(msgspec.Struct, frozen=True, tag=True):
    """The log was longer once than it is now.

    Attributes:
        size: the largest that a witness has cosigned.
        note: that checkpoint, with the signatures of the log and the witness.
        witness: name of it.
    """

    size: int
    note: bytes
    witness: str


class Contradicted(msgspec.Struct, frozen=True, tag=True):
    """The log has shown two histories.

    Attributes:
        evidence: two checkpoints that the log signed. With the same size they prove it alone; else together with the
            log, whose own root at the smaller size is another one.
        witness: name of one who has cosigned the first.
    """

    evidence: SplitView
    witness: str


Comparison: TypeAlias = Agrees | RolledBack | Contradicted


class _Seen(msgspec.Struct, frozen=True):
    witness: str
    checkpoint: Checkpoint
    note: bytes


def newest_of(heads: Mapping[VerifierKey, bytes], log_keys: Iterable[VerifierKey], origin: str) -> Checkpoint | None:
    """Return the largest checkpoint of a log among those that witnesses show.

    Args:
        heads: by the key of the witness, what it answered; what is not signed by it and by the log does not count.
        log_keys: all that the log has had, with its origin as their name.
        origin: of the log.
    """
    seen, _ = _verified(heads, log_keys, origin)
    return max((one.checkpoint for one in seen), key=lambda found: found.size, default=None)


def compare(
    note: bytes,
    heads: Mapping[VerifierKey, bytes],
    log_keys: Iterable[VerifierKey],
    origin: str,
    *,
    root_at: Callable[[int], bytes] | None = None,
) -> Comparison:
    """Compare the newest checkpoint of a log with what witnesses remember of it.

    Ask the witnesses first and read the log's checkpoint then, or a log that grows in between looks as if it was put
    back. A contradiction is reported before a log that is too short.

    Args:
        note: the checkpoint, signed by the log.
        heads: by the key of the witness, what it answered.
        log_keys: all that the log has had, with its origin as their name.
        origin: of the log.
        root_at: root of the log over its first so many records, computed from the records themselves. Without it only
            checkpoints of the same size can contradict each other.

    Raises:
        SignatureInvalid: the checkpoint is not signed by the log.
        ChainCorrupted: it is none.
    """
    keys = tuple(log_keys)
    own = open_checkpoint(note, keys, _LOG_SIGNED, origin)
    seen, wrong = _verified(heads, keys, origin)
    by_size = {own.size: _Seen("", own, note)}
    for one in seen:
        other = by_size.setdefault(one.checkpoint.size, one)
        if other.checkpoint.root != one.checkpoint.root:
            return Contradicted(SplitView(one.note, other.note), one.witness)
        if root_at and one.checkpoint.size < own.size and root_at(one.checkpoint.size) != one.checkpoint.root:
            return Contradicted(SplitView(one.note, note), one.witness)
    longest = max(seen, key=lambda one: one.checkpoint.size, default=None)
    if longest is not None and longest.checkpoint.size > own.size:
        return RolledBack(longest.checkpoint.size, longest.note, longest.witness)
    return Agrees(tuple(one.witness for one in seen), wrong)


def _verified(
    heads: Mapping[VerifierKey, bytes], log_keys: Iterable[VerifierKey], origin: str
) -> tuple[list[_Seen], dict[str, str]]:
    """Return the heads that count, and why the others do not."""
    keys = tuple(log_keys)
    seen: list[_Seen] = []
    wrong: dict[str, str] = {}
    for witness, note in heads.items():
        try:
            checkpoint = open_checkpoint(note, keys, _LOG_SIGNED, origin)
            if witness in cosignature_times(note, [witness]):
                seen.append(_Seen(witness.name, checkpoint, note))
            else:
                wrong[witness.name] = "its head has no cosignature of it"
        except ChainError as error:
            wrong[witness.name] = str(error)
    return seen, wrong

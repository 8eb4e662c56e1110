"""The records whose content a verification looks into: keys and their changes, redactions, audit windows, seals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from weftos import limits
from weftos.chain.folder.archive import Archived
from weftos.chain.records.canonical import decode_payload
from weftos.chain.signing.rotation import Genesis, PublicKeys, Rotation, follow_rotations
from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation, verify_lineage
from weftos.chain.statements.prune_statement import PruneStatement
from weftos.chain.statements.seals import Seal
from weftos.chain.verification.report import Problem, VerifyReport
from weftos.chain.verification.verify_segment import Special
from weftos.chain.verification.verify_streams import STREAM_KINDS, StreamRecords
from weftos.errors import ChainError, ConfigError

__all__ = ["PlacedSeal", "SpecialRecords"]


class PlacedSeal(NamedTuple):
    """A seal and where it stands: number of its record, file and offset."""

    seq: int
    seal: Seal
    file: str
    offset: int


class _Step(NamedTuple):
    """A derivation and where it stands."""

    seq: int
    file: str
    offset: int
    derivation: Derivation


#: What a malformed record of a kind is called.
_CODES: Final = {"log.seal": "seal_invalid", "chain.pruned": "pruned_invalid", "chain.archived": "archive_mismatch"}


class SpecialRecords:
    """Takes them in the order of the log.

    Args:
        report: where findings go.

    Attributes:
        first_keys: those that the log names first, or ``None``.
        seals: of the log, oldest first.
        prunings: what was pruned, by the number of the record that says so.
        archived: the newest record of each archived segment, by the segment's number.
    """

    def __init__(self, report: VerifyReport) -> None:
        self._report = report
        self._streams = StreamRecords(report)
        self._rotations: list[Rotation] = []
        self._withheld: dict[int, tuple[str, int, bytes]] = {}
        self.first_keys: PublicKeys | None = None
        self.seals: list[PlacedSeal] = []
        self.prunings: dict[int, PruneStatement] = {}
        self.archived: dict[int, Archived] = {}
        self._steps: list[_Step] = []
        self._is_cut = False

    @property
    def keys(self) -> PublicKeys | None:
        """The keys that the log names first, or ``None``."""
        return self.first_keys

    @property
    def rotations(self) -> list[Rotation]:
        """The changes of keys, oldest first."""
        return self._rotations

    def knows(self, keys: PublicKeys) -> bool:
        """Whether these are, or were, keys of the log."""
        return keys == self.first_keys or any(keys == one.new for one in self._rotations)

    def newest_keys(self, origin: str, trusted: PublicKeys) -> PublicKeys:
        """Follow the changes of keys on the log from a trusted pair.

        Raises:
            SignatureInvalid: a change does not hold.
        """
        return follow_rotations(origin, trusted, self._rotations)

    def withheld(self, seq: int, file: str, offset: int, payload_hash: bytes) -> None:
        """A record has no payload any more; a later record must say why."""
        self._report.checks.withheld += 1
        self._withheld[seq] = file, offset, payload_hash

    def take(self, one: Special, file: str) -> None:
        """Look into a record."""
        try:
            payload = decode_payload(one.payload)
        except msgspec.DecodeError as error:
            self._error(one, file, "payload_mismatch", f"the payload is no map: {error}")
            return
        if one.kind in STREAM_KINDS:
            for code, detail in self._streams.take(one, payload):
                self._error(one, file, code, detail)
        elif one.kind == "chain.redacted":
            self._redacted(one, payload)
        elif one.kind == LINEAGE_KIND:
            self._derived(one, payload, file)
        elif one.source == "chain":
            self._chain_record(one, payload, file)

    def _chain_record(self, one: Special, payload: dict[str, Any], file: str) -> None:
        try:
            if one.kind == "key.genesis":
                if self.first_keys is None:
                    self.first_keys = Genesis.read(payload)
            elif one.kind == "key.rotate":
                self._rotations.append(Rotation.from_payload(payload))
            elif one.kind == "log.seal":
                self.seals.append(PlacedSeal(one.seq, Seal.from_payload(payload), file, one.offset))
            elif one.kind == "chain.pruned":
                self.prunings[one.seq] = PruneStatement.from_payload(payload)
            elif one.kind == "chain.archived":
                archived = Archived.from_payload(payload)
                self.archived[archived.segment] = archived
        except (ChainError, ConfigError) as error:
            self._error(one, file, _CODES.get(one.kind, "keys_invalid"), str(error))

    def _redacted(self, one: Special, payload: Mapping[str, Any]) -> None:
        seq = payload.get("seq")
        found = self._withheld.get(seq) if isinstance(seq, int) else None
        if one.source in ("chain", "kernel") and found is not None and payload.get("payload_hash") == found[2]:
            assert isinstance(seq, int), "it was found"
            del self._withheld[seq]

    def _derived(self, one: Special, payload: dict[str, Any], file: str) -> None:
        try:
            step = Derivation.from_payload(payload)
        except ChainError as error:
            self._error(one, file, "lineage_invalid", str(error))
            return
        # One more than is checked, to know that there are too many.
        if len(self._steps) <= limits.CHAIN_VERIFY_LINEAGE:
            self._steps.append(_Step(one.seq, file, one.offset, step))

    def cut(self, boot_id: bytes) -> None:
        """Learn that the records before this were pruned, and that this boot may have begun among them."""
        self._streams.cut(boot_id)
        self._is_cut = True

    def check_lineage(self) -> None:
        """Say what is wrong with the derivations; all of the log was read that there is."""
        steps = self._steps
        if steps and self._is_cut:
            detail = "derivations before these may have been pruned; their story was not checked, --archive does"
            self._report.warnings.append(Problem(-1, "", 0, "lineage_unchecked", detail))
            return
        if len(steps) > limits.CHAIN_VERIFY_LINEAGE:
            detail = f"there are more than {limits.CHAIN_VERIFY_LINEAGE} derivations; their story was not checked"
            self._report.warnings.append(Problem(-1, "", 0, "lineage_unchecked", detail))
            return
        if steps and self._report.checks.lineage is None:
            self._report.checks.lineage = True
        for problem in verify_lineage(one.derivation for one in steps).problems:
            at = steps[problem.index]
            detail = f"{problem.code}: {problem.child!r}" + (f" from {problem.parent!r}" if problem.parent else "")
            self._report.error(Problem(at.seq, at.file, at.offset, "lineage_invalid", detail))

    def finish(self) -> None:
        """Say what is left over."""
        for seq, (file, offset, _) in self._withheld.items():
            detail = "the payload is gone, and no record says that it was redacted"
            self._report.error(Problem(seq, file, offset, "payload_withheld", detail))
        self._streams.finish(self._report)

    def _error(self, one: Special, file: str, code: str, detail: str) -> None:
        self._report.error(Problem(one.seq, file, one.offset, code, detail))

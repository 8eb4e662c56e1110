"""The records whose content a verification looks into: keys and their changes, redactions, audit windows, seals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from weftos.chain.archive import Archived
from weftos.chain.canonical import decode_payload
from weftos.chain.prune_statement import PruneStatement
from weftos.chain.report import Problem, VerifyReport
from weftos.chain.rotation import Genesis, PublicKeys, Rotation, follow_rotations
from weftos.chain.seals import Seal
from weftos.chain.verify_segment import Special
from weftos.chain.windows import WindowPairs
from weftos.errors import ChainError, ConfigError

__all__ = ["SpecialRecords"]

#: What a malformed record of a kind is called.
_CODES: Final = {"log.seal": "seal_invalid", "chain.pruned": "pruned_invalid", "chain.archived": "archive_mismatch"}


class SpecialRecords:
    """Takes them in the order of the log.

    Args:
        report: where findings go.

    Attributes:
        first_keys: those that the log names first, or ``None``.
        seals: of the log, oldest first, with the numbers of their records.
        prunings: what was pruned, by the number of the record that says so.
        archived: the newest record of each archived segment, by the segment's number.
    """

    def __init__(self, report: VerifyReport) -> None:
        self._report = report
        self._windows = WindowPairs()
        self._rotations: list[Rotation] = []
        self._withheld: dict[int, tuple[str, int, bytes]] = {}
        self.first_keys: PublicKeys | None = None
        self.seals: list[tuple[int, Seal]] = []
        self.prunings: dict[int, PruneStatement] = {}
        self.archived: dict[int, Archived] = {}

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
        if one.kind == "ipc.window":
            contradiction = self._windows.add(one.seq, one.boot_id, one.source, payload)
            if contradiction is not None:
                self._error(one, file, "window_mismatch", contradiction)
        elif one.kind == "ipc.grant":
            self._windows.grant(one.boot_id, one.source, payload)
        elif one.kind == "chain.redacted":
            self._redacted(one, payload)
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
                self.seals.append((one.seq, Seal.from_payload(payload)))
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

    def finish(self) -> None:
        """Say what is left over."""
        for seq, (file, offset, _) in self._withheld.items():
            detail = "the payload is gone, and no record says that it was redacted"
            self._report.error(Problem(seq, file, offset, "payload_withheld", detail))
        checks, windows = self._report.checks, self._windows
        checks.windows_total, checks.windows_paired = windows.windows, windows.paired
        checks.windows_unpaired = windows.unpaired

    def _error(self, one: Special, file: str, code: str, detail: str) -> None:
        self._report.error(Problem(one.seq, file, one.offset, code, detail))

"""Foreign heads in the service: checked against pins and the newest one on the log, and noted, or kept as evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from weftos.chain.index.log_index import LogIndex
from weftos.chain.records.record import Ack, NewEvent
from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.note import parse_note
from weftos.chain.signing.pins import Pins
from weftos.chain.statements.bridge import BRIDGE_KIND, SPLIT_VIEW_KIND, KnownHead, check_head, split_view_payload
from weftos.errors import ChainError, ConfigError, SplitView

__all__ = ["Bridges"]

#: Origins in one answer: with 120 bytes each it fits a frame of the control socket.
_LISTED: Final = 400


class Bridges:
    """The heads of foreign logs on this one.

    Args:
        known_logs: path of the file of pinned keys.
        origin: of this log.
        index: of this log.
        put: appends an event.
    """

    def __init__(self, known_logs: str, origin: str, index: LogIndex, put: Callable[[NewEvent], Ack]) -> None:
        self._pins = Pins(known_logs)
        self._origin = origin
        self._index = index
        self._put = put

    def add(self, note: bytes, proof: list[bytes] | None) -> dict[str, Any]:
        """Note a head.

        Args:
            note: signed checkpoint of another log.
            proof: that it continues the newest head of that log which is noted, or ``None``.

        Returns:
            Number of the record, origin, size, root, id of the keys, and whether it is shown to continue the head
            before.

        Raises:
            SplitView: it contradicts the head before; the evidence is on the log.
            SignatureInvalid, ChainCorrupted, ProofInvalid: it is not genuine, malformed, or its proof is wrong.
            ConfigError: no keys are pinned for that log.
            ChainError: it is of this very log.
            StorageFailed: log or index cannot be used.
        """
        head = parse_text(parse_note(note).text)
        if head.origin == self._origin:
            raise ChainError("this is a checkpoint of this very log; witnesses remember those")
        keys = self._pins.get(head.origin)
        if keys is None:
            raise ConfigError(
                f"no keys are pinned for {head.origin}: compare its keys (`weaver chain keys` there), and add their "
                f"lines to {self._pins.path}"
            )
        known = self._known(head.origin)
        try:
            bridge = check_head(note, head.origin, keys, known, proof)
        except SplitView as error:
            assert known is not None, "it contradicts something"
            name = f"{head.origin} {head.size} {head.root.hex()}"
            if self._index.newest(SPLIT_VIEW_KIND, name) is None:
                payload = split_view_payload(note, head, known, error.reason)
                self._put(NewEvent("chain", SPLIT_VIEW_KIND, payload, head.origin, known.record))
            raise
        if bridge is None:
            return self._newest(head.origin)
        ack = self._put(NewEvent("chain", BRIDGE_KIND, bridge.to_payload(), head.origin, bridge.previous))
        return {"record": ack.seq, "origin": head.origin, **bridge.summary()}

    def _newest(self, origin: str) -> dict[str, Any]:
        mark = self._index.newest(BRIDGE_KIND, origin)
        assert mark is not None, "it was noted"
        return {"record": mark.seq, "origin": origin, **mark.value}

    def _known(self, origin: str) -> KnownHead | None:
        mark = self._index.newest(BRIDGE_KIND, origin)
        return None if mark is None else KnownHead(mark.seq, mark.value["size"], mark.value["root"])

    def heads(self) -> list[dict[str, Any]]:
        """Return the newest head of each foreign log, in the order of their origins.

        Raises:
            StorageFailed: the index cannot be used.
        """
        return [self._newest(origin) for origin in self._index.names(BRIDGE_KIND, _LISTED)]

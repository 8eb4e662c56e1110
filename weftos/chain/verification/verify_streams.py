"""The records about streams, on their way from a verification to what judges them: pairs of ends, whole streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from weftos.chain.statements.streams import Finding, Streams
from weftos.chain.statements.windows import WindowPairs
from weftos.chain.verification.report import Problem, VerifyReport
from weftos.chain.verification.verify_segment import Special

__all__ = ["STREAM_KINDS", "StreamRecords"]

_Payload = Mapping[str, Any]


class StreamRecords:
    """Takes the records in the order of the log.

    Args:
        report: of the verification.
    """

    def __init__(self, report: VerifyReport) -> None:
        self._report = report
        self._pairs = WindowPairs()
        self._streams = Streams()
        self._cut_boot: bytes | None = None
        self._unchecked = 0

    def cut(self, boot_id: bytes) -> None:
        """Learn that the records before this were pruned, and that this boot may have begun among them."""
        self._cut_boot = boot_id

    def take(self, one: Special, payload: _Payload) -> list[Finding]:
        """Look into a record of ``STREAM_KINDS``; return what is wrong with it."""
        is_cut = one.boot_id == self._cut_boot
        self._streams.at(one.boot_id, one.t_ns)
        self._streams.since_beginning = self._report.since == 0 and not is_cut
        self._unchecked += is_cut and one.kind in _SAID
        sources, handler = _HANDLERS[one.kind]
        if sources and one.source not in sources:
            return []
        return handler(self, one, payload)

    def _window(self, one: Special, payload: _Payload) -> list[Finding]:
        contradiction = self._pairs.add(one.seq, one.boot_id, one.source, payload)
        found = self._streams.ring_window(one.source, payload, one.payload)
        return [("window_mismatch", contradiction), *found] if contradiction is not None else found

    def _topic_window(self, one: Special, payload: _Payload) -> list[Finding]:
        return self._streams.topic_window(one.seq, one.source, payload, one.payload)

    def _heartbeat(self, one: Special, payload: _Payload) -> list[Finding]:
        return self._streams.heartbeat(one.source, payload)

    def _grant(self, one: Special, payload: _Payload) -> list[Finding]:
        self._pairs.grant(one.boot_id, one.source, payload)
        self._streams.grant(payload)
        return []

    def _note(self, one: Special, payload: _Payload) -> list[Finding]:
        streams = self._streams
        notes: dict[str, Callable[[_Payload], None]] = {
            "ipc.revoke": streams.revoke,
            "ipc.dead_letter": streams.dead_letters,
            "agent.restart": streams.life,
            "agent.exit": streams.exit,
            "boot.config": streams.config,
            "shutdown": lambda _payload: streams.shutdown(),
        }
        notes[one.kind](payload)
        return []

    def finish(self, report: VerifyReport) -> None:
        """Say what it adds up to."""
        self._streams.finish()
        checks, pairs, streams = report.checks, self._pairs, self._streams
        counts = streams.counts
        checks.windows_total, checks.windows_paired = pairs.windows, pairs.paired
        checks.windows_unpaired = pairs.unpaired
        checks.topic_windows_paired = streams.topics.paired
        checks.streams_total, checks.streams_closed = counts.total, counts.closed
        checks.streams_cut, checks.streams_silent = counts.cut, counts.silent
        checks.streams_resumed, checks.windows_holes = counts.resumed, counts.holes
        checks.windows_foreign, checks.heartbeats = counts.foreign, counts.heartbeats
        checks.messages_lost, checks.messages_unexplained = counts.lost, counts.unexplained
        warnings = [("stream_silent", text) for text in streams.silent]
        if counts.foreign:
            text = f"{counts.foreign} windows or heartbeats by somebody who is not that end of the stream were ignored"
            warnings.append(("window_foreign", text))
        if counts.unexplained:
            text = f"{counts.unexplained} messages to topics were missed, and neither publisher nor kernel says why"
            warnings.append(("messages_unexplained", text))
        if self._unchecked:
            text = f"{self._unchecked} windows and heartbeats are of streams that may have begun in what was pruned;"
            warnings.append(
                ("windows_unchecked", f"{text} what is missing before them was not looked for, --archive does")
            )
        report.warnings += [Problem(-1, "", 0, code, text) for code, text in warnings]


_KERNEL: Final = ("kernel",)
_SAID: Final = ("ipc.window", "ipc.topic_window", "ipc.heartbeat")
_SUPERVISOR: Final = ("supervisor", "kernel")
#: By kind: whose word counts (nobody named: judged by the handler), and what takes it.
_HANDLERS: Final[dict[str, tuple[tuple[str, ...], Callable[[StreamRecords, Special, _Payload], list[Finding]]]]] = {
    "ipc.window": ((), StreamRecords._window),
    "ipc.topic_window": ((), StreamRecords._topic_window),
    "ipc.heartbeat": ((), StreamRecords._heartbeat),
    "ipc.grant": (_KERNEL, StreamRecords._grant),
    "ipc.revoke": (_KERNEL, StreamRecords._note),
    "ipc.dead_letter": (_KERNEL, StreamRecords._note),
    "agent.restart": (_SUPERVISOR, StreamRecords._note),
    "agent.exit": (_SUPERVISOR, StreamRecords._note),
    "boot.config": (_KERNEL, StreamRecords._note),
    "shutdown": (_KERNEL, StreamRecords._note),
}
STREAM_KINDS: Final = frozenset(_HANDLERS)

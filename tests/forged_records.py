"""Records as somebody makes them who can write the files of a log, but not sign."""

from __future__ import annotations

from pathlib import Path

from weftos import chain
from weftos.chain.records.frames import RECORD, encode_frame
from weftos.chain.records.record import encode_header, payload_hash


def append_forged(home: Path, kind: str, payload: bytes, source: str = "chain", *, text: bytes | None = None) -> None:
    """Put a record behind the newest one, with right numbers, links and checksum; no checkpoint covers it.

    Args:
        home: of the log.
        kind: of the record.
        payload: any bytes, without salt.
        source: of the record.
        text: what stands in place of the source, if it is to be no UTF-8; as long as ``source``.
    """
    last = list(chain.read(home))[-1]
    h, salted = last.header, b"f" * 16 + payload
    fields = (h.v, h.log_id, h.seq + 1, h.t_ns, h.t_mono_ns, h.boot_id, source, kind, None, None, None, None, None)
    raw = encode_header((*fields, payload_hash(salted), len(payload), last.hash))
    if text is not None:
        raw = raw.replace(source.encode(), text, 1)
    with open(max(home.glob("*.log")), "ab") as file:
        file.write(encode_frame(RECORD, raw, salted))

"""Write ring.json: run by hand when the format changes; the test checks file and code against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from weftos.shm import RingConsumer, RingProducer, create_mailbox, create_ring, layout

FILE = Path(__file__).with_name("ring.json")

CASES: list[dict[str, Any]] = [
    {"name": "empty ring", "steps": []},
    {"name": "one message", "steps": [["put", "68656c6c6f"]]},
    {"name": "empty message, then one of eight bytes", "steps": [["put", ""], ["put", "0001020304050607"]]},
    {"name": "uniform batch", "steps": [["put_many", ["6162", "6364", "6566"]]]},
    {"name": "batch with a table", "steps": [["put_many", ["61", "", "626364"]]]},
    {"name": "array with metadata", "steps": [["put_array", "<i4", [2, 1], "0100000002000000", "6d"]]},
    {"name": "records", "steps": [["put_records", [["a", "<u2"], ["b", "|S2"]], "0100616202006364"]]},
    {"name": "around the end of the ring", "start": 4080, "steps": [["put", "aa" * 20], ["put", "bb"]]},
    {"name": "partly committed batch", "steps": [["put_many", ["61", "62", "63"]]], "commit_to": 1},
    {
        "name": "partly committed batch further on",
        "start": 64,
        "steps": [["put_many", ["61", "62", "63"]]],
        "commit_to": 65,
    },
]


def perform(producer: RingProducer, step: list[Any]) -> None:
    """Carry out one step of a case."""
    name, *rest = step
    if name == "put":
        producer.put(bytes.fromhex(rest[0]))
    elif name == "put_many":
        producer.put_many([bytes.fromhex(m) for m in rest[0]])
    elif name == "put_array":
        code, shape, data, meta = rest
        producer.put_array(np.frombuffer(bytes.fromhex(data), code).reshape(shape), bytes.fromhex(meta))
    else:
        fields, data = rest
        producer.put_records(np.frombuffer(bytes.fromhex(data), np.dtype([tuple(field) for field in fields])))


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Return the case with what the code makes of it."""
    start = case.get("start", 0)
    with create_ring(4096, ring_id=0x0102, generation=3, start=start) as segment:
        producer = RingProducer(segment)
        for step in case["steps"]:
            perform(producer, step)
        head = producer.position
        at = 4096 + (start & 4095)
        data = segment.map[at : at + head - start]
        if head // 4096 != start // 4096:
            data = segment.map[at : 4096 + 4096 + 1024]
        reader = RingConsumer(segment)
        ids = [i for i, _ in reader.take(100)]
        if "commit_to" in case:
            reader.commit_to(case["commit_to"])
        first = segment.map[4096 : 4096 + 64] if head // 4096 != start // 4096 else b""
        return {
            **case,
            "static": segment.map[: layout.CRC_OFFSET + 4].hex(),
            "data": data.rstrip(b"\0").hex(),
            "data_after_wrap": first.rstrip(b"\0").hex(),
            "head": head,
            "commit": segment.words[layout.COMMIT],
            "sub": f"{segment.words[layout.SUB]:016x}",
            "ids": ids,
        }


def mailbox() -> dict[str, Any]:
    """Return the vector of a mailbox page."""
    with create_mailbox(owner_pid=0x0A0B, generation=2) as page:
        return {"owner_pid": 0x0A0B, "generation": 2, "static": page.map[:32].rstrip(b"\0").hex()}


def document() -> str:
    """Return the whole file."""
    return json.dumps({"format": 1, "rings": [run(case) for case in CASES], "mailbox": mailbox()}, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(document())

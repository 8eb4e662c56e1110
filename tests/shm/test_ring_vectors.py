"""The format document, the vectors and the code agree, in both directions."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weftos.shm import ArrayRecord, RingConsumer, create_mailbox, create_ring, layout

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "formats" / "ring.md"
spec = importlib.util.spec_from_file_location("weftos_ring_vectors", HERE / "vectors" / "make.py")
assert spec is not None
assert spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
STORED = json.loads((HERE / "vectors" / "ring.json").read_text())


def by_name(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", STORED["rings"], ids=by_name)
def test_what_the_code_writes_is_in_the_file(case: dict[str, Any]) -> None:
    steps = {key: case[key] for key in ("name", "start", "steps", "commit_to") if key in case}
    assert json.loads(json.dumps(make.run(steps))) == case


def expected(steps: list[list[Any]]) -> list[Any]:
    found: list[Any] = []
    for name, *rest in steps:
        if name == "put":
            found.append(bytes.fromhex(rest[0]))
        elif name == "put_many":
            found += [bytes.fromhex(m) for m in rest[0]]
        elif name == "put_array":
            found.append((rest[0], rest[1], rest[2], rest[3]))
        else:
            found.append(rest[1])
    return found


def seen(item: Any) -> Any:
    if isinstance(item, ArrayRecord):
        return (item.array.dtype.str, list(item.array.shape), item.array.tobytes().hex(), item.meta.hex())
    return item.tobytes().hex() if isinstance(item, np.ndarray) else item


@pytest.mark.parametrize("case", STORED["rings"], ids=by_name)
def test_what_is_in_the_file_the_code_reads(case: dict[str, Any]) -> None:
    start = case.get("start", 0)
    with create_ring(4096, start=start) as segment:
        static = bytes.fromhex(case["static"])
        segment.map[: len(static)] = static
        for at, text in ((4096 + (start & 4095), case["data"]), (4096, case["data_after_wrap"])):
            planted = bytes.fromhex(text)
            segment.map[at : at + len(planted)] = planted if text else b""
        segment.words[layout.HEAD] = case["head"]
        reader = RingConsumer(segment)
        assert (reader.geometry.ring_id, reader.geometry.generation, reader.geometry.max_record) == (0x102, 3, 1024)
        taken = reader.take(100)
        assert [i for i, _ in taken] == case["ids"]
        assert [seen(item) for _, item in taken] == expected(case["steps"])
        segment.words[layout.COMMIT] = case["commit"]
        segment.words[layout.SUB] = int(case["sub"], 16)
        done = 0 if "commit_to" not in case else case["ids"].index(case["commit_to"]) + 1
        assert [i for i, _ in RingConsumer(segment).take(100)] == case["ids"][done:]


def test_mailbox_page() -> None:
    stored = STORED["mailbox"]
    with create_mailbox(owner_pid=stored["owner_pid"], generation=stored["generation"]) as page:
        assert page.map[:28].hex() == stored["static"]


def test_the_document_names_the_offsets_that_the_code_uses() -> None:
    text = DOCUMENT.read_text()
    rows = dict(re.findall(r"^\| (\d+) \| `([A-Z_]+)`", text, re.MULTILINE))
    words = (
        "HEAD", "PUT_COUNT", "PUT_WAITS", "PUT_MARKS", "GET_MARKS", "TAIL", "COMMIT", "SUB", "CURRENT",
        "GET_COUNT", "DROP_COUNT", "SPACE_WANTED", "STATE",
        "PRODUCER_EPOCH", "CONSUMER_EPOCH", "EPOCH_COMMIT", "REDELIVERY_POSITION", "REDELIVERY_ATTEMPTS",
    )  # fmt: skip
    table = {str(getattr(layout, name) * 8): name for name in words}
    assert rows.items() >= table.items()
    for number, kind in re.findall(r"^\| (\d) \| ([A-Z]+(?:_[A-Z]+)?) \|", text, re.MULTILINE):
        assert getattr(layout, kind) == int(number)
    for example in re.findall(r"<!-- vector: (.+?) -->\n\n```\n(.+?)\n```", text, re.DOTALL):
        name, dump = example
        case = next(case for case in STORED["rings"] if case["name"] == name)
        digits = "".join(line.split("  ")[1].replace(" ", "") for line in dump.splitlines())
        assert digits.startswith(case["data"])
        assert set(digits[len(case["data"]) :]) <= {"0"}
    assert text.count("<!-- vector:") >= 4

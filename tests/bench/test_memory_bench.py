"""The benchmark of memory at tiny sizes: the set, the picture, and every measurement once. No test asserts speed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from weftos.bench import memory_graph
from weftos.bench.curves import Curve, svg_curves
from weftos.bench.memory_data import K, VectorSet, clustered, recall
from weftos.bench.memory_graph import measure_graph, random_edges
from weftos.bench.memory_large import measure_large
from weftos.bench.memory_peers import ask_all, peers
from weftos.bench.memory_served import ServedSet
from weftos.bench.model import Collector, Settings

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def small() -> VectorSet:
    return clustered(600, 8, 50, extra=20)


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short path, for sockets; the test sees what is left in it."""
    with tempfile.TemporaryDirectory(prefix="wm-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_the_right_answers_are_those_of_comparing_all_with_all(small: VectorSet) -> None:
    assert np.allclose(np.linalg.norm(small.vectors, axis=1), 1, atol=1e-5)
    by_hand = np.argsort(-(small.queries @ small.vectors.T), axis=1, kind="stable")[:, :K]
    assert recall(small.truth, by_hand) == 1
    again = clustered(600, 8, 50, extra=20)
    assert np.array_equal(small.vectors, again.vectors)
    assert not np.array_equal(small.vectors, clustered(600, 8, 50, extra=20, seed=1).vectors)


def test_recall_counts_only_what_was_asked() -> None:
    truth = np.arange(20).reshape(2, K)
    found = np.full((2, K), -1)
    assert recall(found, truth) == 0
    found[0] = truth[0][::-1]
    assert recall(found, truth) == 1
    found[1] = -2
    assert recall(found, truth) == 0.5
    found[1, 3:] = truth[1, :7]
    assert recall(found, truth) == pytest.approx(0.85)


def test_libraries_in_process_find_nearly_all(small: VectorSet) -> None:
    collector = Collector("memory")
    found = peers(collector, "building", small)
    assert "faiss" in {peer.name for peer in found}
    assert {peer.name for peer in found} | {entry.who for entry in collector.skipped()} == {"faiss", "hnswlib"}
    for peer in found:
        rate, rows = ask_all(peer, small, 200, 0.01)
        assert rate > 0
        assert recall(rows, small.truth) > 0.95


def test_the_picture_has_what_was_measured_on_a_logarithmic_axis() -> None:
    curves = [
        Curve("one <agent>", [(0.99, 100.0), (0.9, 10_000.0), (0.95, 1000.0), (0.5, 90_000.0)]),
        Curve("other", [(1.0, 150.0)], dashed=True),
        Curve("none", []),
    ]
    root = ET.fromstring(svg_curves("Title & more", "notes", curves))
    texts = {one.text for one in root.iter(f"{SVG}text")}
    assert {"Title & more", "notes", "one <agent>", "other", "recall@10", "0.80", "1.00", "100", "1 000"} <= texts
    lines = [one.attrib["points"].split() for one in root.iter(f"{SVG}polyline")]
    places = [tuple(map(float, point.split(","))) for point in lines[0]]
    assert len(places) == 3, "what is left of the axis is left out"
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    (_, first), (_, second), (_, third) = places
    assert second - first == pytest.approx(third - second, abs=0.2), "each tenth is as far down as the one before"
    for circle in root.iter(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < 880
        assert 0 < float(circle.attrib["cy"]) < 560


def test_a_picture_of_nothing_is_a_picture() -> None:
    assert ET.fromstring(svg_curves("t", "n", [Curve("a", [])])).tag == f"{SVG}svg"


def test_edges_have_no_loops_and_some_nodes_get_more() -> None:
    edges = random_edges(5000)
    assert edges.shape == (5000, 2)
    assert (edges[:, 0] != edges[:, 1]).all()
    counts = np.bincount(edges[:, 1], minlength=500)
    assert counts[:100].sum() > 2 * counts[400:].sum()


def test_the_graph_is_written_and_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_graph, "_QUICK_EDGES", 3000)
    collector = Collector("memory")
    measure_graph(collector, Settings(quick=True, rounds=1))
    assert {row.metric for row in collector.rows()} == {
        "nodes one by one",
        "edges in batches of 4096, synced",
        "opened from its journal",
        "p50",
        "p99",
        "nodes reached",
    }
    assert all(row.value > 0 for row in collector.rows())


def test_many_vectors_become_one_segment_of_the_library(short_tmp: Path) -> None:
    collector = Collector("memory")
    measure_large(collector, Settings(dimension=8), rows=9000)
    values = {row.metric: row.value for row in collector.rows()}
    assert set(values) == {
        "written", "from the first entry to one segment", "opened, first answer", "recall@10", "p50", "p99"
    }  # fmt: skip
    assert values["recall@10"] > 0.9
    assert list(short_tmp.iterdir()) == []


def test_agents_search_a_set_that_the_service_holds(short_tmp: Path, small: VectorSet) -> None:
    with ServedSet(small) as served:
        searched = served.search(2, 100, 0.2)
        assert searched.rate > 0
        assert recall(searched.found, small.truth) > 0.95
        beside, wrote = served.search_beside_writes(1, 100.0, 0.3)
        assert beside.longest >= beside.p99 >= beside.p50 > 0
        assert wrote["rate"] > 0
        assert (served.search(1, 0, 0.1).found != -1).any()
        assert served.gate_beside_searches(1, 0.1)["p50"] > 0
        assert served.link(random_edges(50)) > 0
        assert served.impulses(3) > 0
        assert served.restart(0.5) > 0
    assert list(short_tmp.iterdir()) == []


@pytest.mark.slow
def test_the_whole_benchmark(short_tmp: Path) -> None:
    picture = short_tmp / "curves.svg"
    command = [sys.executable, "-m", "weftos.bench", "memory", "--quick", "--json", "--vectors", "1000"]
    command += ["--dimension", "8", "--seconds", "0.05", "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    assert {row["bench"] for row in rows} == {"memory"}
    assert all(math.isfinite(row["value"]) for row in rows)
    found = {(row["case"], row["who"]) for row in rows}
    for who in ("faiss, batched", "weftos, 1 agent", "weftos, 4 agents", "weftos, 8 agents"):
        assert ("search, ef 64", who) in found
    assert ("restart, first answer after a kill", "weftos") in found
    assert ET.parse(picture).getroot().tag == f"{SVG}svg"
    picture.unlink()
    assert list(short_tmp.iterdir()) == []

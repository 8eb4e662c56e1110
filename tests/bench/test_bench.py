"""The benchmarks as programs: what they print, that they end, and that nothing stays behind. No test asserts speed."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weftos import chain
from weftos.bench.__main__ import main
from weftos.bench.crew import Crew
from weftos.bench.loops import BATCH, Load, burst_of, chunk_of, count_until
from weftos.bench.model import Collector
from weftos.bench.samples import percentiles, time_calls
from weftos.bench.tables import format_value
from weftos.errors import BenchFailed
from weftos.home import Home, InstanceLock
from weftos.ids import instance_tag
from weftos.kernel.leftovers import orphans

UNITS = {"1/s", "B/s", "s", "B"}


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a short path, for sockets; the test sees what is left in it."""
    with tempfile.TemporaryDirectory(prefix="wb-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def run(*args: str, timeout: float = 120.0) -> dict[str, Any]:
    command = [sys.executable, "-m", "weftos.bench", *args, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def check(report: dict[str, Any], bench: str, may_lack: frozenset[str] = frozenset()) -> set[tuple[str, str]]:
    assert set(report) == {"machine", "versions", "rows", "skipped"}
    assert {"cpu", "cores", "system"} <= set(report["machine"])
    assert {"python", "weftos"} <= set(report["versions"])
    for row in report["rows"]:
        assert set(row) == {"bench", "case", "who", "metric", "value", "unit"}
        assert row["bench"] == bench
        assert row["unit"] in UNITS
        assert math.isfinite(row["value"])
        assert row["value"] > 0 or row["unit"] == "s"
    assert {entry["who"] for entry in report["skipped"]} <= may_lack
    return {(row["case"], row["who"]) for row in report["rows"]}


def test_throughput_covers_every_case(short_tmp: Path) -> None:
    found = check(run("throughput", "--quick", "--rounds", "1", "--seconds", "0.02"), "throughput")
    for size in ("64B", "1KiB", "64KiB"):
        assert (f"message {size} 1→1 single", "weftos") in found
        assert (f"raw {size} 1→1 single", "weftos-ring") in found
    for case in ("64B 1→1 batch 256", "64B 4→1 single", "64B 1→4 single"):
        assert (f"message {case}", "weftos") in found
        assert (f"raw {case}", "weftos-ring") in found
    assert ("raw 64B 1→1 numpy batch 1024", "weftos-ring") in found
    assert {("array 1MiB 1→1", who) for who in ("weftos", "weftos-ring", "memcpy")} <= found
    assert {("array 1MiB 1→1 in place", who) for who in ("weftos-ring", "memcpy")} <= found
    assert list(short_tmp.iterdir()) == []


def test_chain_and_spawn(short_tmp: Path) -> None:
    found = check(run("chain", "--quick", "--seconds", "0.05"), "chain")
    assert ("durable appends, 16 appenders, window 64", "weftos") in found
    assert ("durable appends, 16 appenders, window 64", "sqlite3") in found
    assert ("durable appends, 16 appenders, batches of 64", "weftos") in found
    assert ("acknowledgement, 16 appenders at half of their rate", "weftos") in found
    assert ("acknowledgement, 16 appenders at half of their rate, looking every 4 ms", "weftos") in found
    assert ("verify", "weftos") in found
    report = run("spawn", "--quick")
    check(report, "spawn")
    assert {"rate", "pss", "p50", "p99"} == {row["metric"] for row in report["rows"]}
    assert list(short_tmp.iterdir()) == []


def test_latency_and_peers_of_the_standard_library_are_measured(short_tmp: Path) -> None:
    report = run("latency", "--quick", "--peers", "--seconds", "0.05")
    packages = frozenset({"faster-fifo", "pyzmq", "iceoryx2"})
    found = check(report, "latency", packages)
    assert {("round trip 64B blocking, one core", who) for who in ("weftos", "weftos-ring")} <= found
    who = {row["who"] for row in report["rows"]}
    assert {"multiprocessing.Queue", "multiprocessing.Pipe"} <= who
    for package in packages:
        assert package in who or package in {entry["who"] for entry in report["skipped"]}
    assert list(short_tmp.iterdir()) == []


@pytest.fixture
def under_way(short_tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """A run whose first measurement has begun."""
    command = [sys.executable, "-m", "weftos.bench", "throughput", "--seconds", "30"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        # The kernel's folder and the named pipe of the first measurement tell that it is under way.
        pipes: list[Path] = []
        handle = os.pidfd_open(process.pid)
        for _ in range(3000):
            pipes = list(short_tmp.glob("weftos-bench-*/answer-*"))
            if pipes or select.select([handle], [], [], 0.01)[0]:
                break
        os.close(handle)
        assert pipes, "the first measurement did not begin"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(
    short_tmp: Path, under_way: subprocess.Popen[str], number: signal.Signals
) -> None:
    under_way.send_signal(number)
    _, told = under_way.communicate(timeout=60)
    assert under_way.returncode == 130, told
    assert "interrupted" in told
    assert list(short_tmp.iterdir()) == []


def test_a_killed_run_takes_its_kernel_along(short_tmp: Path, under_way: subprocess.Popen[str]) -> None:
    (root,) = short_tmp.glob("weftos-bench-*/home")
    home = Home(root)
    pid = InstanceLock(home.lock).holder()
    assert pid
    handle = os.pidfd_open(pid)
    semaphores = f"sem.weftos-{instance_tag(str(home.root))}-*"
    assert list(Path("/dev/shm").glob(semaphores))
    try:
        under_way.kill()
        assert select.select([handle], [], [], 60)[0], home.log.read_text()
    finally:
        os.close(handle)
    assert "the program that it was started for has ended" in home.log.read_text()
    assert orphans(home) == [], "neither agents nor the service are left"
    assert list(Path("/dev/shm").glob(semaphores)) == []
    assert chain.verify(str(home.chain)).valid
    kinds = [record.kind for record in chain.tail(str(home.chain), 3)]
    assert kinds == ["shutdown", "tree.snapshot", "lineage.derivation"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["speed"], "is not one of"),
        (["latency", "--rounds", "0"], "not in the range"),
        (["latency", "--seconds", "-1"], "not in the range"),
        ([], "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_refused(args: list[str], text: str) -> None:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert text in result.output


def test_medians_and_reasons_of_a_collector() -> None:
    collector = Collector("latency")
    for value in (5.0, 1.0, 2.0):
        collector.add("b", "weftos", "p50", value, "s")
        collector.skip("pyzmq", "not installed")
    collector.add("a", "weftos", "p50", 7.0, "s")
    assert [(row.case, row.value) for row in collector.rows()] == [("b", 2.0), ("a", 7.0)]
    assert [(entry.who, entry.why) for entry in collector.skipped()] == [("pyzmq", "not installed")]


@pytest.mark.parametrize("kind", ["message", "raw"])
@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("takes_objects", [False, True])
def test_sender_and_receiver_loops_agree(kind: Any, batch: int, takes_objects: bool) -> None:
    load = Load(kind, 64, batch)
    sent: list[Any] = []
    burst_of(sent.append, load, takes_objects=takes_objects)()
    assert len(sent) == load.stride
    if not takes_objects:
        assert all(abs(len(wire) - 64 * batch) <= 8 * batch + 8 for wire in sent)
    assert chunk_of(iter(sent).__next__, load, gives_objects=takes_objects)() == load.stride * batch


def test_counting_and_percentiles() -> None:
    assert count_until(lambda: 10, 0.0, 0.01) > 0
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "p99.9": 3.0}
    assert time_calls(lambda _: None, None, 0.005)


def test_a_worker_that_fails_is_told_and_all_are_reaped(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    with Crew() as crew:
        idle = crew.start(signal.pause)
        crew.start(fail, answers=True)
        with pytest.raises(BenchFailed, match="without a result"):
            crew.results(20)
    assert "on purpose" in capfd.readouterr().err
    with pytest.raises(ChildProcessError):
        os.waitpid(idle, 0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.25e6, "1/s", "1.25 M/s"),
        (999, "1/s", "999 /s"),
        (5e9, "B/s", "5 GB/s"),
        (3.4e-5, "s", "34 µs"),
        (0.031, "s", "31 ms"),
        (6 * 2**20, "B", "6.00 MiB"),
    ],
)
def test_figures_for_a_person(value: float, unit: Any, text: str) -> None:
    assert format_value(value, unit) == text

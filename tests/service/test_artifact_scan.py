"""The log is read for what holds artifacts, here or by a process of its own: the same, and never half."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from weftos import chain
from weftos.artifacts.holding import Holdings
from weftos.errors import ChainCorrupted, ChainError, ServiceUnavailable
from weftos.service import artifact_scan
from weftos.service.artifact_scan import held_hashes, scan_holdings

HASHES = [digit * 64 for digit in "0123456789"]


@pytest.fixture
def log(tmp_path):
    """A log of 3000 records over several segments, and how many they are."""
    with chain.ChainWriter.open(tmp_path / "chain", boot_id=b"b" * 16, segment_bytes=200_000) as writer:
        for number in range(3000):
            digest = HASHES[number % 10]
            payload = {"artifact": {"hash": digest, "size": 1, "content_type": "a/b"}} if number % 100 < 9 else {}
            writer.append(chain.NewEvent("agent:1", "app.x", payload | {"n": number}))
        writer.append(
            chain.NewEvent(
                "artifacts", "artifact.gc", {"id": "0" * 32, "hashes": [HASHES[3]], "bytes": 1, "by": "operator"}
            )
        )
        size = writer.head.seq + 1
    return str(tmp_path / "chain"), size


@pytest.mark.parametrize("few", [-1, 1 << 40])
def test_what_is_held_is_the_same_wherever_the_log_is_read(log, monkeypatch, few):
    directory, size = log
    monkeypatch.setattr(artifact_scan, "_FEW", few)
    assert held_hashes(directory, size, lambda: False) == set(HASHES[:9]) - {HASHES[3]}
    assert held_hashes(directory, size - 1, lambda: False) == set(HASHES[:9]), "before the collection"
    assert held_hashes(directory, 0, lambda: False) == set()


@pytest.mark.parametrize("few", [-1, 1 << 40])
def test_a_log_that_cannot_be_read_as_a_whole_gives_nothing(log, monkeypatch, tmp_path, few):
    directory, size = log
    monkeypatch.setattr(artifact_scan, "_FEW", few)
    with pytest.raises(ChainError, match="no log"):
        held_hashes(str(tmp_path / "none"), size, lambda: False)
    with pytest.raises(ChainError, match="were written"):
        held_hashes(directory, size + 1, lambda: False)
    path = sorted(os.listdir(directory))[0]
    with open(os.path.join(directory, path), "r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ChainCorrupted):
        held_hashes(directory, size, lambda: False)


@pytest.mark.parametrize("few", [-1, 1 << 40])
def test_a_scan_can_be_given_up(log, monkeypatch, few):
    directory, size = log
    monkeypatch.setattr(artifact_scan, "_FEW", few)
    monkeypatch.setattr(artifact_scan, "_LOOK_S", 0.0)
    with pytest.raises(ServiceUnavailable):
        held_hashes(directory, size, lambda: True)


def test_a_segment_that_is_replaced_under_the_reader_is_read_again(log, monkeypatch):
    directory, size = log
    real, calls = artifact_scan._scan, []

    def sometimes(*args):
        calls.append(1)
        if len(calls) < 3:
            raise ChainCorrupted("a redaction was under way")
        return real(*args)

    monkeypatch.setattr(artifact_scan, "_scan", sometimes)
    assert isinstance(scan_holdings(directory, size), Holdings)
    assert len(calls) == 3


def test_an_answer_that_is_none_is_an_error(log, monkeypatch):
    directory, size = log
    monkeypatch.setattr(artifact_scan, "_FEW", -1)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(ChainError, match="status 0"):
        held_hashes(directory, size, lambda: False)
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    with pytest.raises(ChainError, match="no process"):
        held_hashes(directory, size, lambda: False)


def test_the_process_ends_without_a_word_when_nobody_waits_for_it(log):
    directory, size = log
    command = [sys.executable, "-P", "-m", "weftos.service.artifact_scan", directory, str(size), str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert msgspec.msgpack.decode(done.stdout)["hashes"] == sorted(set(HASHES[:9]) - {HASHES[3]})


def test_a_service_that_is_killed_during_a_scan_leaves_no_process(kernel, tmp_path):
    """The process notices that its parent is another, and ends."""
    from weftos.service import artifact_protocol as ap
    from weftos.service import protocol as p

    marker = tmp_path / "reader"

    def read_for_ever():
        artifact_scan._FEW = -1
        real = subprocess.Popen

        def start(command, **more):
            # What the reader does, without an end of its own.
            code = f"import os, select\nselect.select([os.pidfd_open({command[-1]})], [], [])"
            process = real([command[0], "-c", code], **more)
            marker.write_text(str(process.pid))
            return process

        artifact_scan.subprocess.Popen = start

    kernel.start(before=read_for_ever)
    kernel.post_artifact(ap.CollectArtifacts(0.0), by="operator")
    deadline = time.monotonic() + 20
    while not (marker.exists() and marker.read_text()):
        assert time.monotonic() < deadline
        kernel.head()
    os.kill(kernel.service.pid, signal.SIGKILL)
    assert kernel.service.wait() == -signal.SIGKILL
    reader = int(marker.read_text())
    try:
        ended = os.pidfd_open(reader)
    except ProcessLookupError:
        ended = -1
    if ended >= 0:
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)
    kernel.channel.close()
    kernel.start()
    assert isinstance(kernel.ask_artifact(ap.CollectArtifacts(0.0), by="operator"), p.Done)

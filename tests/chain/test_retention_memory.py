"""A log that is pruned grows without end, and neither its writer's memory nor its folder of segments does."""

from __future__ import annotations

import gc
import os

import psutil
import pytest
from logs_for_tests import open_log

from weftos import chain
from weftos.chain.retention.policy import RetentionPolicy, archive_segments, plan, prune_segments, to_archive

SEGMENT = 512 * 1024
ROUNDS = 60


def life(folder, report):
    """Append some 100 segments; report resident memory and size of the segments at a fifth and at the end."""
    signer = chain.Signer.open(folder / "keys")
    home, archive = folder / "chain", str(folder / "archive")
    seen = []
    with open_log(home, signer=signer, segment_bytes=SEGMENT, archive=archive) as writer:
        for turn in range(ROUNDS):
            for first in range(0, 2000, 100):
                writer.append_many(
                    [chain.NewEvent("agent:7", "app.n", {"n": n, "x": "x" * 90}) for n in range(first, first + 100)]
                )
            covered = writer.checkpoint().size
            archive_segments(writer, to_archive(str(home), archive, covered).segments)
            rules = RetentionPolicy(keep_segments=3)
            gone = plan(str(home), rules, archive, writer.checkpoint().size, 0).segments
            if gone:
                prune_segments(writer, gone, archived=True)
            if turn in (ROUNDS // 5, ROUNDS - 1):
                gc.collect()
                seen += [psutil.Process().memory_info().rss, writer.statistics().bytes, writer.head.seq]
    os.write(report, " ".join(map(str, seen)).encode())


@pytest.mark.slow
def test_memory_and_segments_stay_as_they_are(tmp_path):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            life(tmp_path, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        early_rss, early_bytes, early_seq, rss, size, seq = map(int, pipe.read().split())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seq > 4 * early_seq
    assert rss - early_rss < 8 * 2**20, "one tenth of what was appended since"
    assert max(size, early_bytes) < 6 * SEGMENT
    report = chain.verify(tmp_path / "chain", keys=chain.Signer.open(tmp_path / "keys").public)
    assert (report.valid, report.errors) == (True, [])

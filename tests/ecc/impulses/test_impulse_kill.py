"""A process that emits, takes and settles impulses, killed by SIGKILL in the middle of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from virtual_clock import VirtualClock

from weftos.disk.files import RealFiles
from weftos.ecc.hlc import HybridClock
from weftos.ecc.impulses.model import ImpulseSettings
from weftos.ecc.impulses.queue import ImpulseQueue

# Says after each sync how many were emitted and which are done; the queue is cut now and then.
WORKER = """
import sys
from weftos import limits
from weftos.disk.clock import SystemClock
from weftos.disk.files import RealFiles
from weftos.ecc.hlc import HybridClock
from weftos.ecc.impulses.model import ImpulseSettings, ImpulseType
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.universal import StructureTag

limits.ECC_JOURNAL_CUT_BYTES = 3000
clock = SystemClock()
settings = ImpulseSettings(half_life_ms=None, max_attempts=1_000_000)
queue = ImpulseQueue.open(RealFiles(), sys.argv[1], clock, HybridClock(clock), settings)
while True:
    for _ in range(3):
        last = queue.emit(
            ImpulseType.BELIEF_UPDATE,
            source_structure=StructureTag.EXO_CHAIN,
            source_node=bytes(32),
            target_structure=StructureTag.CAUSAL_GRAPH,
            payload={"text": "x" * 50},
        )
    done = [one.impulse.id for one in queue.lease(2)]
    queue.done(done)
    queue.sync()
    print(last, *done, flush=True)
"""


def test_what_was_synced_survives_a_kill(tmp_path: Path) -> None:
    emitted, done = 0, set()
    for rounds in (3, 12, 30):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout is not None
            for _ in range(rounds):
                last, *settled = map(int, worker.stdout.readline().split())
                emitted = last
                done.update(settled)
            worker.kill()
            # What it said between the last line that was read and its end was synced as well.
            for line in worker.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    last, *settled = map(int, line.split())
                    emitted = last
                    done.update(settled)
        clock = VirtualClock()
        settings = ImpulseSettings(half_life_ms=None, max_attempts=1_000_000)
        queue = ImpulseQueue.open(RealFiles(), str(tmp_path), clock, HybridClock(clock), settings)
        waiting = [one.impulse.id for one in queue.lease(1_000_000)]
        assert waiting == sorted(waiting)
        missing = set(range(1, emitted + 1)) - set(waiting) - done
        # One sync may have been finished that it did not live to tell.
        assert len(missing) <= 2
        assert not done & set(waiting)
        queue.release(waiting)
        queue.sync()
        done |= missing
        queue.close()

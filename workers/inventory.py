"""The coordinator of `weaver run inventory`: starts scanner, hashers, recorder, watches them, tells how far they are.

::

    scanner ◀──done/piece──▶ hasher x N ──entries──▶ recorder ──▶ chain
        └───────────── links, errors, total ───────────▶ │
                                                         └─progress, done─▶ coordinator ◀─status─ weaver

A hasher that dies is restarted and repeats its piece. If scanner or recorder die, what they knew is gone: the job fails
and says so, and no end event is written, so there is never a record that is complete and wrong.
"""

from __future__ import annotations

from typing import Final

import msgspec

from weftos import limits
from weftos.agent.context import Context

from .coordinating import Job, coordinate

__all__ = ["main"]

#: The recorder needs the job's memory; the others get by with what any agent has.
_SMALL: Final = {"memory_bytes": limits.MEMORY_BYTES}


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), name of the run, what to compare with or ``null`` (JSON), number of hashers,
    patterns (JSON).

    Answers ``status`` or ``{"cmd": "status"}``.
    """
    coordinate(ctx, _start(ctx))


def _start(ctx: Context) -> Job:
    """Start the agents of the job, the recorder first: the others need its pid."""
    root, run, against, hashers, exclude = ctx.args
    module = "weftos_workers.inventory_"
    job = Job("recorder")
    recorder = ctx.spawn(
        f"{module}recorder:main",
        [root, run, against, exclude],
        name="inventory-recorder",
        restart="never",
        limits={"memory_bytes": limits.INVENTORY_MEMORY_BYTES},
    )
    job.agents[recorder] = "recorder"
    # The recorder compares with what is on the log; the others need nothing but the folder.
    own = ctx.capabilities.now.sandbox
    folder_alone = msgspec.structs.replace(own, readable=own.readable[:1])
    scanner = ctx.spawn(
        f"{module}scanner:main",
        [root, str(recorder), exclude],
        name="inventory-scanner",
        restart="never",
        limits=_SMALL,
        sandbox=folder_alone,
    )
    job.agents[scanner] = "scanner"
    for number in range(int(hashers)):
        name = f"inventory-hasher-{number + 1}"
        words = [root, str(scanner), str(recorder)]
        pid = ctx.spawn(f"{module}hasher:main", words, name=name, limits=_SMALL, sandbox=folder_alone)
        job.agents[pid] = "hasher"
    return job

"""The coordinator of `weaver run memory`: starts keeper and readers, watches them, tells how far they are.

::

    keeper ◀──done/piece──▶ reader x N ──passages──▶ memory
      ├──────────── links, what is gone ───────────▶ memory
      └─progress, done─▶ coordinator ◀─status─ weaver

A reader that dies is restarted and does its piece again. If the keeper dies the job fails and says so; the next run
makes good what it left.
"""

from __future__ import annotations

from typing import Final

from weftos import limits
from weftos.agent.context import Context

from .coordinating import Job, coordinate

__all__ = ["main"]

_READER: Final = {"memory_bytes": limits.MEMORY_READER_BYTES}


def main(ctx: Context) -> None:
    """Arguments: root, space, name of the run, number of readers, patterns to leave out (JSON).

    Answers ``status`` or ``{"cmd": "status"}``.
    """
    root, space, run, readers, exclude = ctx.args
    job = Job("keeper")
    keeper = ctx.spawn(
        "weftos_workers.memory_keeper:main", [root, space, run, exclude], name="memory-keeper", restart="never"
    )
    job.agents[keeper] = "keeper"
    for number in range(int(readers)):
        words = [root, space, run, str(keeper)]
        name = f"memory-reader-{number + 1}"
        pid = ctx.spawn("weftos_workers.memory_reader:main", words, name=name, limits=_READER)
        job.agents[pid] = "reader"
    coordinate(ctx, job)

"""The coordinator of `weaver run inventory`: starts scanner, hashers, recorder, watches them, tells how far they are.

::

    scanner ◀──done/piece──▶ hasher x N ──entries──▶ recorder ──▶ chain
        └───────────── links, errors, total ───────────▶ │
                                                         └─progress, done─▶ coordinator ◀─status─ weaver

A hasher that dies is restarted and repeats its piece. If scanner or recorder die, what they knew is gone: the job fails
and says so, and no end event is written, so there is never a record that is complete and wrong.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from weftos import limits
from weftos.agent.context import Context
from weftos.errors import InvalidRequest
from weftos.ipc.payloads import KernelSignal, Signal

__all__ = ["main"]

#: The recorder needs the job's memory; the others get by with what any agent has.
_SMALL: Final = {"memory_bytes": limits.MEMORY_BYTES}


class _Job(msgspec.Struct):
    """What is known of the job."""

    state: str = "running"
    progress: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    error: str = ""
    agents: dict[int, str] = {}

    def answer(self) -> dict[str, Any]:
        """The answer to ``status``."""
        return {
            "state": self.state,
            "progress": self.progress,
            "summary": self.summary,
            "error": self.error,
            "agents": {str(pid): role for pid, role in self.agents.items()},
        }


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), name of the run, what to compare with or ``null`` (JSON), number of hashers,
    patterns (JSON).

    Answers ``status`` or ``{"cmd": "status"}``.
    """
    job = _start(ctx)
    for message in ctx:
        payload = message.payload
        if isinstance(payload, Signal):
            if payload.signal is KernelSignal.MONITOR_DOWN:
                _lost(job, payload.data)
        elif job.agents.get(message.sender) == "recorder" and isinstance(payload, dict):
            job.progress = payload.get("progress", job.progress)
            if "done" in payload:
                job.state, job.summary = "done", payload["done"]
        elif isinstance(payload, str | dict) and payload in ("status", {"cmd": "status"}):
            ctx.reply(message, job.answer())
        else:
            ctx.fail(message, InvalidRequest.code, 'an inventory answers `status` and {"cmd": "status"}, nothing else')


def _start(ctx: Context) -> _Job:
    """Start the agents of the job, the recorder first: the others need its pid."""
    root, run, against, hashers, exclude = ctx.args
    module = "weftos_workers.inventory_"
    job = _Job()
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
    for pid in job.agents:
        # One that has ended already is reported at once.
        ctx.monitor(pid)
    return job


def _lost(job: _Job, data: dict[str, Any]) -> None:
    """An agent of the job ended for good."""
    pid = data.get("pid")
    role = job.agents.get(pid, "agent") if isinstance(pid, int) else "agent"
    if job.state == "running" and not (role == "recorder" and data.get("class") == "normal"):
        job.state = "failed"
        job.error = f"the {role} (agent {pid}) ended: {data.get('reason')}"

"""The coordinator of `weaver run inventory`: starts scanner, hashers, recorder, watches them, tells how far they are.

::

    scanner ◀──want/work──▶ hasher x N ──entries──▶ recorder ──▶ chain
        └───────────── links, errors, total ──────────▶ │
                                                        └─progress, done─▶ coordinator ◀─status─ weaver

A hasher that dies is restarted and repeats its piece. If scanner or recorder die, what they knew is gone: the job fails
and says so, and no
end event is written, so there is never a record that is complete and wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from weftos.agent.context import Context
from weftos.ipc.payloads import KernelSignal, Signal

__all__ = ["main"]


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
    """Arguments: root (hex of its bytes), name of the run, ``record`` or ``check``, hashers, patterns (JSON)."""
    root, run, mode, hashers, exclude = ctx.args
    job = _Job()
    module = "weftos_workers.inventory_"
    recorder = ctx.spawn(f"{module}recorder:main", [root, run, mode], name="inventory-recorder", restart="never")
    scanner = ctx.spawn(
        f"{module}scanner:main", [root, str(recorder), exclude], name="inventory-scanner", restart="never"
    )
    job.agents = {recorder: "recorder", scanner: "scanner"}
    for number in range(int(hashers)):
        pid = ctx.spawn(
            f"{module}hasher:main", [root, str(scanner), str(recorder)], name=f"inventory-hasher-{number + 1}"
        )
        job.agents[pid] = "hasher"
    for pid in job.agents:
        ctx.monitor(pid)
    for message in ctx:
        payload = message.payload
        if isinstance(payload, Signal) and payload.signal is KernelSignal.MONITOR_DOWN:
            _lost(job, payload.data)
        elif message.sender == recorder and isinstance(payload, dict):
            job.progress = payload.get("progress", job.progress)
            if "done" in payload:
                job.state, job.summary = "done", payload["done"]
        elif payload == "status":
            ctx.reply(message, job.answer())


def _lost(job: _Job, data: dict[str, Any]) -> None:
    """An agent of the job ended for good."""
    pid = data.get("pid")
    role = job.agents.get(pid, "agent") if isinstance(pid, int) else "agent"
    if job.state == "running" and not (role == "recorder" and data.get("class") == "normal"):
        job.state = "failed"
        job.error = f"the {role} (agent {pid}) ended: {data.get('reason')}"

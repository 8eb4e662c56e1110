"""What the coordinator of every job does: it watches the job's agents, and tells whoever asks how far they are.

One of them, the reporter, says how far the job is and what came of it. If an agent ends for good before that, the job
has failed, and says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from weftos.agent.context import Context
from weftos.errors import InvalidRequest
from weftos.ipc.payloads import KernelSignal, Signal

__all__ = ["Job", "coordinate"]


class Job(msgspec.Struct):
    """What is known of a job.

    Attributes:
        reporter: role of the agent that sends ``{"progress": …}``, and at the end ``{"done": …}`` or ``{"failed": text,
            "code": …}``.
        state: ``running``, ``done`` or ``failed``.
        progress: as the reporter told it last.
        summary: what came of it.
        error: why it failed.
        code: of the error of WeftOS that made it fail, empty when an agent ended.
        agents: role by pid.
    """

    reporter: str
    state: str = "running"
    progress: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    error: str = ""
    code: str = ""
    agents: dict[int, str] = {}

    def answer(self) -> dict[str, Any]:
        """The answer to ``status``."""
        return {
            "state": self.state,
            "progress": self.progress,
            "summary": self.summary,
            "error": self.error,
            "code": self.code,
            "agents": {str(pid): role for pid, role in self.agents.items()},
        }

    def report(self, payload: dict[str, Any]) -> None:
        """Take what the reporter sent."""
        self.progress = payload.get("progress", self.progress)
        if "done" in payload:
            self.state, self.summary = "done", payload["done"]
        elif "failed" in payload:
            self.state, self.error, self.code = "failed", payload["failed"], payload.get("code", "")

    def lost(self, data: dict[str, Any]) -> None:
        """An agent of the job ended for good."""
        pid = data.get("pid")
        role = self.agents.get(pid, "agent") if isinstance(pid, int) else "agent"
        if self.state == "running" and not (role == self.reporter and data.get("class") == "normal"):
            self.state = "failed"
            self.error = f"the {role} (agent {pid}) ended: {data.get('reason')}"


def coordinate(ctx: Context, job: Job) -> None:
    """Watch the agents of a job, and answer ``status`` or ``{"cmd": "status"}`` until the agent is to stop."""
    for pid in job.agents:
        # One that has ended already is reported at once.
        ctx.monitor(pid)
    for message in ctx:
        payload = message.payload
        if isinstance(payload, Signal):
            if payload.signal is KernelSignal.MONITOR_DOWN:
                job.lost(payload.data)
        elif job.agents.get(message.sender) == job.reporter and isinstance(payload, dict):
            job.report(payload)
        elif isinstance(payload, str | dict) and payload in ("status", {"cmd": "status"}):
            ctx.reply(message, job.answer())
        else:
            ctx.fail(message, InvalidRequest.code, 'this job answers `status` and {"cmd": "status"}, nothing else')

"""The built-in agent loop: answers commands.

A command is a mapping with ``cmd``, or a text that is such a mapping in JSON; any other text is echoed. A message is
decoded once, and what was
decoded is what the gate is asked about, so no other wrapping of the same command slips past it. Commands:

    ping                  {status, pid, uptime_ms}
    echo {…}              {status, echo, pid}
    exec {tool, args}     asks the gate for `tool.exec` first; this version has no tools, so what follows is an error
    that says so
    status                {status, pid, incarnation, handled}
    stop                  ends the loop after the answer

ToolCall payloads are `exec` in another form and are answered with a ToolResult. Suspending and resuming are the
kernel's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from weftos.agent.context import Context
from weftos.governance.gate import Defer, Deny
from weftos.ipc.message import Message
from weftos.ipc.payloads import KernelSignal, Rvf, Signal, ToolCall, ToolResult

__all__ = ["main"]


class _Worker:
    """One loop."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.started = time.monotonic()
        self.handled = 0
        self.ended = False

    def answer(self, payload: Any) -> Any:
        """What to reply to a payload; ``None`` for nothing."""
        if isinstance(payload, Signal):
            return Signal(KernelSignal.PONG) if payload.signal is KernelSignal.PING else None
        if isinstance(payload, ToolCall):
            return ToolResult(payload.call_id, self._exec({"tool": payload.name, "args": payload.args}))
        if isinstance(payload, ToolResult):
            return None
        command = _decode(payload)
        handler = _COMMANDS.get(str(command.get("cmd")))
        if handler is None:
            return {"error": f"unknown command: {command.get('cmd')}", "pid": self.ctx.pid}
        return handler(self, command)

    def _ping(self, _command: dict[str, Any]) -> dict[str, Any]:
        uptime = int((time.monotonic() - self.started) * 1000)
        return {"status": "ok", "pid": self.ctx.pid, "uptime_ms": uptime}

    def _echo(self, command: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in command.items() if name != "cmd"}
        return {"status": "ok", "echo": rest.get("text", rest), "pid": self.ctx.pid}

    def _status(self, _command: dict[str, Any]) -> dict[str, Any]:
        return {"status": "ok", "pid": self.ctx.pid, "incarnation": self.ctx.incarnation, "handled": self.handled}

    def _stop(self, _command: dict[str, Any]) -> dict[str, Any]:
        self.ended = True
        return {"status": "stopping", "pid": self.ctx.pid}

    def _exec(self, command: dict[str, Any]) -> dict[str, Any]:
        tool = command.get("tool")
        if not isinstance(tool, str) or not tool:
            return {"error": "exec needs the name of a tool", "pid": self.ctx.pid}
        decision = self.ctx.service.gate("tool.exec", {"tool": tool})
        if isinstance(decision, Deny):
            return {"error": decision.reason, "denied": True, "pid": self.ctx.pid}
        if isinstance(decision, Defer):
            return {"deferred": True, "reason": decision.reason, "pid": self.ctx.pid}
        return {"error": f"no tool is named {tool!r}: this version has no tools", "tool": tool, "pid": self.ctx.pid}


_COMMANDS: Final[dict[str, Callable[[_Worker, dict[str, Any]], Any]]] = {
    "ping": _Worker._ping,
    "echo": _Worker._echo,
    "exec": _Worker._exec,
    "status": _Worker._status,
    "stop": _Worker._stop,
}


def _decode(payload: Any) -> dict[str, Any]:
    """Find the command in a payload, whatever it is wrapped in; anything that is no command is something to echo."""
    if isinstance(payload, Rvf):
        payload = payload.data
    if isinstance(payload, bytes | str):
        try:
            decoded = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if not isinstance(decoded, dict):
            text = payload if isinstance(payload, str) else payload.decode("utf-8", "backslashreplace")
            return {"cmd": "ping"} if text == "ping" else {"cmd": "echo", "text": text}
        payload = decoded
    return payload if isinstance(payload, dict) else {"cmd": "echo", "text": payload}


def main(ctx: Context) -> None:
    """Answer until asked to stop."""
    worker = _Worker(ctx)
    for message in ctx:
        _handle(worker, message)
        if worker.ended:
            return


def _handle(worker: _Worker, message: Message) -> None:
    reply = worker.answer(message.payload)
    worker.handled += 1
    if reply is not None:
        worker.ctx.reply(message, reply)

"""The life of an agent process from the end of the fork to its exit status."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import signal
import sys
import traceback
from typing import Any, Final

from weftos.agent import frames as f
from weftos.agent.aio import AsyncContext
from weftos.agent.boot import AgentBoot
from weftos.agent.context import Context
from weftos.agent.enclosure import enclose
from weftos.agent.loader import load, parse_program, preload
from weftos.agent.runtime import AgentRuntime
from weftos.errors import ChannelClosed, SandboxFailed, SpawnFailed, WeftError
from weftos.ipc.frames import frame_decoder

__all__ = ["CONFINE_EXIT", "LOAD_EXIT", "MEMORY_EXIT", "prepare_agents", "run_agent"]

#: Exit statuses that the runtime uses; programs are free to use others.
MEMORY_EXIT: Final = 86
LOAD_EXIT: Final = 87
CONFINE_EXIT: Final = 88

_TRACEBACK_MAX: Final = 8000


def prepare_agents() -> None:
    """Make in the kernel, once, what each agent would have to make after its fork: it inherits it."""
    frame_decoder(f.ToAgent)
    preload()


def run_agent(boot: AgentBoot) -> int:
    """Run one incarnation of an agent in this freshly forked process; returns its exit status."""
    os.environ.update(boot.spec.env)
    faulthandler.enable(file=sys.stderr, all_threads=True)
    runtime = AgentRuntime(boot)
    signal.signal(signal.SIGTERM, lambda _number, _frame: _ask_to_stop(runtime))
    isolation = ["session", "death-signal"]
    try:
        isolation.extend(enclose(boot, runtime.control))
    except SandboxFailed as error:
        _note(runtime, "SandboxFailed", str(error), "")
        return CONFINE_EXIT
    try:
        program = load(parse_program(boot.spec.program))
    except SpawnFailed as error:
        _note(runtime, "SpawnFailed", str(error), traceback.format_exc())
        return LOAD_EXIT
    except MemoryError:
        _note(runtime, "MemoryError", "out of memory while the program was loaded", "")
        return MEMORY_EXIT
    runtime.control.send_wait(f.Ready(boot.spec.program, isolation))
    return _run_program(runtime, program)


def _run_program(runtime: AgentRuntime, program: Any) -> int:
    try:
        if inspect.iscoroutinefunction(program):
            asyncio.run(AsyncContext.run(runtime, program))
        else:
            program(Context(runtime))
        runtime.finish_current()
        runtime.flush()
    except MemoryError as error:
        _note(runtime, "MemoryError", str(error) or "an allocation was refused", "")
        return MEMORY_EXIT
    except SystemExit as error:
        return _exit_status(error.code)
    except ChannelClosed as error:
        if runtime.stopping:
            return 0
        return _crashed(runtime, error)
    except BaseException as error:
        return _crashed(runtime, error)
    return 0


def _crashed(runtime: AgentRuntime, error: BaseException) -> int:
    text = traceback.format_exc()
    print(text, file=sys.stderr, end="")
    _note(runtime, type(error).__name__, str(error), text)
    return 1


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _note(runtime: AgentRuntime, kind: str, message: str, trace: str) -> None:
    try:
        runtime.control.send_wait(f.Note(kind, message[:2000], trace[-_TRACEBACK_MAX:]), timeout_s=1.0)
    except WeftError as error:
        # The kernel classifies by exit status alone then.
        print(f"the reason could not be reported: {error}", file=sys.stderr)


def _ask_to_stop(runtime: AgentRuntime) -> None:
    runtime.stopping = True
    runtime.bell.post()

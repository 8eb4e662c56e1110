"""Why a process ended: the exact record, from what the operating system said and what the kernel itself had done.

Exit codes are 0 to 255 and signals are signals: nothing is negative, nothing is guessed. What the agent said about
itself (a note with the exception) is kept as its claim, beside the facts.
"""

from __future__ import annotations

import enum
import os
import resource
import signal
from typing import Final

import msgspec

from weftos.agent.main import MEMORY_EXIT

__all__ = ["ExitReason", "ExitRecord", "classify"]


class ExitReason(enum.StrEnum):
    """Why an incarnation ended."""

    NORMAL = "normal"
    STOPPED = "stopped"
    CRASH = "crash"
    KILLED = "killed"
    TIMEOUT = "timeout"


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How one incarnation ended.

    Attributes:
        reason: the class of the end.
        code: exit status 0 to 255, or ``None`` when a signal ended it.
        signal: name of the signal, for example ``SIGKILL``, or ``None``.
        message: one sentence.
        core_dumped: whether the system wrote a core file.
        cpu_user_secs, cpu_system_secs: CPU time, seconds, from wait4.
        max_rss_bytes: peak resident memory, bytes, from wait4.
        started_at, ended_at: wall clock, seconds since 1970.
        incarnation: which life of the agent this was.
    """

    reason: ExitReason
    code: int | None
    signal: str | None
    message: str
    core_dumped: bool
    cpu_user_secs: float
    cpu_system_secs: float
    max_rss_bytes: int
    started_at: float
    ended_at: float
    incarnation: int

    @property
    def abnormal(self) -> bool:
        """Whether a supervisor should treat the end as a failure."""
        return self.reason not in (ExitReason.NORMAL, ExitReason.STOPPED)


_CRASH_SIGNALS: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _reason_for_signal(
    number: int, stop: str | None, kill: str | None, *, out_of_memory: bool
) -> tuple[ExitReason, str]:
    name = _signal_name(number)
    if kill is not None and number == signal.SIGKILL:
        reason = ExitReason.TIMEOUT if "deadline" in kill else ExitReason.KILLED
        return reason, f"killed by the kernel: {kill}"
    if out_of_memory and number == signal.SIGKILL:
        return ExitReason.KILLED, "killed by the system: out of memory, limit memory_bytes of its control group"
    if number == signal.SIGXCPU:
        return ExitReason.TIMEOUT, "CPU time limit reached (SIGXCPU)"
    if number in _CRASH_SIGNALS:
        return ExitReason.CRASH, f"crashed with {name}"
    if stop is not None and number in (signal.SIGTERM, signal.SIGINT):
        return ExitReason.STOPPED, f"ended by {name} after a request to stop: {stop}"
    origin = (
        "not sent by the kernel: another process, or out of memory"
        if number == signal.SIGKILL
        else "not sent by the kernel"
    )
    return ExitReason.KILLED, f"ended by {name}, {origin}"


def _reason_for_code(code: int, stop: str | None, note: tuple[str, str, str] | None) -> tuple[ExitReason, str]:
    if code == 0:
        return (ExitReason.STOPPED, f"stopped: {stop}") if stop is not None else (ExitReason.NORMAL, "main returned")
    if code == MEMORY_EXIT:
        return ExitReason.CRASH, "memory limit: MemoryError"
    if note is not None:
        return ExitReason.CRASH, f"{note[0]}: {note[1]}" if note[1] else note[0]
    return ExitReason.CRASH, f"exit status {code}"


def classify(
    status: int,
    usage: resource.struct_rusage,
    *,
    stop_requested: str | None,
    kill_reason: str | None,
    note: tuple[str, str, str] | None,
    started_at: float,
    ended_at: float,
    incarnation: int,
    out_of_memory: bool = False,
) -> ExitRecord:
    """Turn a wait status into a record.

    Args:
        status: as returned by ``os.wait4``.
        usage: resource usage as returned by ``os.wait4``.
        stop_requested: why the kernel had asked it to stop, if it had.
        kill_reason: why the kernel had sent SIGKILL, if it had; contains the word "deadline" when one passed.
        note: exception kind, text and traceback that the agent reported.
        started_at: when it was forked, seconds since 1970.
        ended_at: when it was reaped, seconds since 1970.
        incarnation: which life of the agent.
        out_of_memory: whether the system ended processes of it because its control group had no memory left.
    """
    code: int | None = None
    signal_name: str | None = None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal_name = _signal_name(number)
        reason, message = _reason_for_signal(number, stop_requested, kill_reason, out_of_memory=out_of_memory)
    else:
        code = os.WEXITSTATUS(status)
        reason, message = _reason_for_code(code, stop_requested, note)
    return ExitRecord(
        reason=reason,
        code=code,
        signal=signal_name,
        message=message,
        core_dumped=os.WCOREDUMP(status),
        cpu_user_secs=round(usage.ru_utime, 6),
        cpu_system_secs=round(usage.ru_stime, 6),
        max_rss_bytes=usage.ru_maxrss * 1024,
        started_at=started_at,
        ended_at=ended_at,
        incarnation=incarnation,
    )

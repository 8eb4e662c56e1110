"""Closing an agent in: its control group and its user, limits, then its sandbox, then a look at what is in force, told
to the kernel at once.

A strict agent that lacks something ends here; any other one goes on, and what it lacks is shown.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

from weftos.agent import confine
from weftos.agent import frames as f
from weftos.agent.boot import AgentBoot
from weftos.errors import SandboxFailed
from weftos.ipc.frames import FrameChannel
from weftos.sandbox import apply, identity, probe

__all__ = ["enclose"]

#: What the kernel reads to see how much memory is the agent's own, once nobody else may look into the process.
_ROLLUP: Final = "/proc/self/smaps_rollup"


def enclose(boot: AgentBoot, control: FrameChannel[f.ToAgent]) -> list[str]:
    """Confine this process as its plan says.

    Returns:
        The limits that were set; see ``confine.apply_limits``.

    Raises:
        SandboxFailed: it lacks what its profile demands, or a path that it was given cannot be opened.
    """
    plan = boot.plan
    _enter_group(boot.group_fd)
    try:
        apply.enter_scratch(plan, temporary="TMPDIR" not in boot.spec.env)
    except OSError as error:
        raise SandboxFailed(f"the scratch folder cannot be entered: {error}") from error
    rollup = _rollup() if plan.confined and plan.hand_over else -1
    try:
        _become(boot)
        in_force = confine.apply_limits(boot.spec.limits)
        failed = apply.confine(plan, hand_over=lambda listener: control.send_wait(f.Listening(), [listener]))
        unheard = failed.get("refused calls", "")
        measures = probe.probe(plan, failed, in_force)
        lacking = probe.lacking(plan, measures)
        found = f.Confined(measures, lacking, unheard, _coarse_time())
        control.send_wait(found, [rollup] if rollup >= 0 else [])
    finally:
        if rollup >= 0:
            os.close(rollup)
    if lacking:
        wanting = "; ".join(f"{one.name}: {one.detail}" for one in measures if one.name in lacking)
        raise SandboxFailed(
            f"the profile {plan.profile} demands what is not in force here: {wanting}; `weaver doctor` says what to do"
        )
    return in_force


def _enter_group(door: int) -> None:
    if door < 0:
        return
    try:
        os.write(door, b"0")
    except OSError as error:
        raise SandboxFailed(f"the control group cannot be entered: {error.strerror}") from error
    finally:
        os.close(door)


def _become(boot: AgentBoot) -> None:
    """Become the user of the plan. The death signal does not outlive a change of user, and is asked for again."""
    user = boot.plan.user
    if user is None:
        return
    try:
        identity.become(user)
    except OSError as error:
        raise SandboxFailed(f"the agent cannot become user {user.uid}: {error.strerror}") from error
    if not confine.die_with_parent(boot.kernel_os_pid, signal.SIGKILL):
        raise SandboxFailed(f"user {user.uid} would outlive the kernel: the system takes no death signal")


def _coarse_time() -> float:
    """By the clock with which the system's audit stamps what it tells."""
    return time.clock_gettime(time.CLOCK_REALTIME_COARSE) if hasattr(time, "CLOCK_REALTIME_COARSE") else time.time()


def _rollup() -> int:
    try:
        return os.open(_ROLLUP, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1  # not on this system; the kernel shows the fact as unknown

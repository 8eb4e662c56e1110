"""Putting a plan in force in a freshly forked process, before it has read a line of the agent's program.

The order follows from what each step takes away: the scratch folder is entered first; privileges go before Landlock,
which needs ``no_new_privs``; the filter comes last, because it refuses the calls of the steps before.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial

from weftos.errors import WeftError
from weftos.sandbox import landlock, privileges, seccomp
from weftos.sandbox.bpf import CallRule
from weftos.sandbox.calls import MISSING, rules_for
from weftos.sandbox.libc import syscall
from weftos.sandbox.paths import closed_to, common_rules, opened
from weftos.sandbox.paths import rules_for as path_rules
from weftos.sandbox.plan import Plan
from weftos.sandbox.syscalls import number_of

__all__ = ["confine", "enter_scratch", "prepare"]


def prepare(plan: Plan) -> None:
    """Compute, in the process that forks agents, what all of them have in common.

    Args:
        plan: of any agent.
    """
    if plan.confined and sys.platform == "linux":
        common_rules(closed_to(plan))
        if seccomp.offered():
            rules = rules_for(plan, os_pid=0, landlock_abi=landlock.abi())
            seccomp.prepare(rules, MISSING, notify=seccomp.notifies())


def enter_scratch(plan: Plan, *, temporary: bool = True) -> None:
    """Make the scratch folder the working directory, and the place for temporary files.

    Args:
        plan: says where it is.
        temporary: False leaves temporary files where the agent was told to have them.

    Raises:
        OSError: it is not there.
    """
    os.chdir(plan.places.scratch)
    if temporary:
        os.environ["TMPDIR"] = plan.places.scratch
    # Where the kernel's own temporary files go was found out before the fork.
    tempfile.tempdir = None


def confine(plan: Plan, *, abi: int | None = None, hand_over: Callable[[int], None] | None = None) -> dict[str, str]:
    """Confine this process, as far as the system can.

    Args:
        plan: what is to be in force.
        abi: of Landlock, to use less than the system has; for tests.
        hand_over: gives the filter's listener to who answers for refused calls; they are answered by the filter itself
            without it, and where there is no listener or it cannot be given. It may raise a ``WeftError``.

    Returns:
        What was not put in force, and why, by the names of ``probe``; under ``refused calls`` why nobody is shown them.

    Raises:
        SandboxFailed: a path that was named cannot be opened.
    """
    failed: dict[str, str] = {}
    try:
        privileges.no_new_privileges()
    except OSError as error:
        failed["privileges"] = f"no_new_privs is refused: {error.strerror}"
    if not plan.confined:
        return failed
    version = landlock.abi() if abi is None else abi
    if plan.name:
        privileges.rename(plan.name)
    drop = partial(privileges.drop_capabilities, bounding=plan.user is None)
    for name, step in (("privileges", drop), ("closed memory", privileges.close_memory)):
        try:
            step()
        except OSError as error:
            failed[name] = f"refused: {error.strerror}"
    if version:
        try:
            _restrict(plan, version)
        except OSError as error:
            failed["files"] = f"Landlock refuses: {error.strerror}"
            version = 0
    else:
        failed["files"] = "no Landlock"
    if not seccomp.offered():
        failed["calls"] = "no filter for this machine"
        return failed
    rules = rules_for(plan, os_pid=os.getpid(), landlock_abi=version)
    alone = "nobody takes them" if hand_over is None else _install_shown(rules, hand_over)
    if alone:
        failed["refused calls"] = alone
        try:
            seccomp.install(rules, MISSING)
        except OSError as error:
            failed["calls"] = f"the filter is refused: {error.strerror}"
    return failed


def _install_shown(rules: Iterable[CallRule], hand_over: Callable[[int], None]) -> str:
    """Put the filter in force with a listener, and give that away; returns why that did not come about.

    A filter whose listener is closed still refuses, with another error. One without a listener goes on top of it then,
    whose answer comes first.
    """
    if not seccomp.notifies():
        return "this system has no notices of refused calls (Linux 5.0)"
    try:
        listener = seccomp.install_with_listener(rules, MISSING)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return "the processes of this container have a listener already, and there can be one"
        return f"the system refuses a listener: {error.strerror}"
    try:
        hand_over(listener)
    except WeftError as error:
        return f"the listener could not be given to the kernel: {error}"
    finally:
        # Whoever has it can let calls pass: nothing of the agent may find it.
        os.close(listener)
    try:
        # Refused, so it waits for the kernel; with ENOSYS, once the kernel has let the listener go.
        syscall(number_of("keyctl"), 0, 0, 0)
    except OSError as error:
        return "" if error.errno == errno.EPERM else f"the kernel does not take them: {error.strerror}"
    return "the filter lets calls pass"


def _restrict(plan: Plan, version: int) -> None:
    with landlock.Ruleset(version, tcp=plan.network) as ruleset:
        for rule in path_rules(plan):
            fd = opened(rule)
            if fd is not None:
                try:
                    ruleset.allow(fd, rule.rights)
                finally:
                    os.close(fd)
        ruleset.restrict(log_programs=plan.audited)

"""What this machine offers for confining agents, and what follows where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from weftos import config
from weftos.config import SandboxSection
from weftos.doctor.findings import Finding
from weftos.errors import WeftError
from weftos.home import Home
from weftos.ids import instance_tag
from weftos.kernel.own_users import machine_obstacle
from weftos.sandbox import landlock
from weftos.sandbox.group_choice import look
from weftos.sandbox.groups import WANTED, ControlGroup
from weftos.sandbox.offers import offers

__all__ = ["confinement"]

_found = partial(Finding, area="sandbox")


def confinement(home: Home) -> Sequence[Finding]:
    """Landlock, the filter of system calls, users, control groups, and what strict agents come to here."""
    settings = _settings(home)
    offered = offers()
    findings = [_files(offered.landlock)]
    if offered.seccomp:
        findings.append(_found(name="system calls", state="ok", detail=f"seccomp, {offered.machine}"))
    else:
        detail = f"no filter for {offered.system} on {offered.machine}"
        means = "network, signals and other processes stay open to agents"
        findings.append(_found(name="system calls", state="limited", detail=detail, means=means))
    findings += [_calls_recorded(shown=offered.notices), _paths_recorded(offered.unread)]
    findings += [_users(settings, instance_tag(str(home.root))), _groups(settings)]
    if offered.landlock and offered.seccomp:
        findings.append(_found(name="strict agents", state="ok", detail="can be started"))
    else:
        step = "use a Linux from 5.13 on with Landlock enabled (lsm=…,landlock), on x86-64 or aarch64"
        means = "an agent with the profile strict is not started; standard ones run with less"
        findings.append(
            _found(name="strict agents", state="limited", detail="cannot be started", means=means, next_step=step)
        )
    return findings


def _settings(home: Home) -> SandboxSection:
    try:
        return config.load(home.config).sandbox
    except WeftError:
        return SandboxSection()  # the area of the instance says what is wrong with the file


def _users(settings: SandboxSection, tag: str) -> Finding:
    why = machine_obstacle(settings, tag)
    if not why:
        return _found(name="users", state="ok", detail="each confined agent can be a user of its own")
    means = "agents are the kernel's user, without capabilities: Landlock and seccomp alone are between them"
    if settings.require_own_user:
        means = "no confined agent is started: `[sandbox] require_own_user` is set"
    return _found(name="users", state="absent", detail=f"the kernel's: {why}", means=means)


def _groups(settings: SandboxSection) -> Finding:
    choice = look(settings.cgroup)
    means = "memory is limited for each process and by sampling, not for an agent as a whole"
    if choice.base is None:
        return _found(name="control groups", state="absent", detail=choice.why, means=means)
    base = ControlGroup(choice.base)
    usable = {*base.offered(), *base.handed()}
    missing = [name for name in WANTED if name not in usable]
    detail = f"cgroup v2, {choice.base}"
    if missing:
        detail += f" without {' '.join(missing)}"
        means = means if "memory" in missing else "some limits hold for each process, not for an agent as a whole"
        return _found(name="control groups", state="limited", detail=detail, means=means)
    return _found(name="control groups", state="ok", detail=f"{detail} with {' '.join(WANTED)}")


def _files(version: int) -> Finding:
    if not version:
        step = "enable Landlock in the system's kernel (Linux 5.13 or newer)"
        means = "files are not closed to agents"
        return _found(name="files", state="limited", detail="no Landlock", means=means, next_step=step)
    detail = f"Landlock ABI {version}"
    if version >= landlock.LATEST:
        return _found(name="files", state="ok", detail=detail)
    means = "some rights stay open or are refused as a whole; docs/sandbox.md says which"
    return _found(name="files", state="limited", detail=f"{detail} of {landlock.LATEST}", means=means)


def _calls_recorded(*, shown: bool) -> Finding:
    if shown:
        return _found(name="refused calls", state="ok", detail="recorded: seccomp shows them to the kernel")
    means = "that an agent tried a refused call is seen by the agent alone"
    step = "use a Linux from 5.0 on"
    detail = "not recorded: no notices of refused calls"
    return _found(name="refused calls", state="limited", detail=detail, means=means, next_step=step)


def _paths_recorded(unread: str) -> Finding:
    if not unread:
        return _found(name="refused paths", state="ok", detail="recorded: the kernel reads the system's audit")
    means = "paths, ports and signals are refused all the same, and seen to be by the agent alone"
    step = (
        "to have them on the log: Linux 6.15 or newer, its audit switched on (auditctl -e 1, or audit=1 at its boot), "
        "and the kernel started as root after that"
    )
    return _found(name="refused paths", state="absent", detail=f"not recorded: {unread}", means=means, next_step=step)

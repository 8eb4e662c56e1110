"""What this machine offers for confining agents, and what follows where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from weftos.doctor.findings import Finding
from weftos.home import Home
from weftos.sandbox import landlock
from weftos.sandbox.offers import offers

__all__ = ["confinement"]

_found = partial(Finding, area="sandbox")


def confinement(_home: Home) -> Sequence[Finding]:
    """Landlock, the filter of system calls, control groups, and what strict agents come to here."""
    offered = offers()
    findings = [_files(offered.landlock)]
    if offered.seccomp:
        findings.append(_found(name="system calls", state="ok", detail=f"seccomp, {offered.machine}"))
    else:
        detail = f"no filter for {offered.system} on {offered.machine}"
        means = "network, signals and other processes stay open to agents"
        findings.append(_found(name="system calls", state="limited", detail=detail, means=means))
    findings += [_calls_recorded(shown=offered.notices), _paths_recorded(offered.unread)]
    if offered.cgroup_controllers:
        detail = f"cgroup v2 with {' '.join(offered.cgroup_controllers)}; it is not used in this version"
        findings.append(_found(name="control groups", state="ok", detail=detail))
    else:
        means = "memory is limited for each process and by sampling, not for an agent as a whole"
        findings.append(_found(name="control groups", state="absent", detail="cgroup v2 absent", means=means))
    if offered.landlock and offered.seccomp:
        findings.append(_found(name="strict agents", state="ok", detail="can be started"))
    else:
        step = "use a Linux from 5.13 on with Landlock enabled (lsm=…,landlock), on x86-64 or aarch64"
        means = "an agent with the profile strict is not started; standard ones run with less"
        findings.append(
            _found(name="strict agents", state="limited", detail="cannot be started", means=means, next_step=step)
        )
    return findings


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

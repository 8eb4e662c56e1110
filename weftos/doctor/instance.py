"""What is there of the instance: its folders, its configuration, its keys, its log, and the kernel that runs on it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from weftos import chain, config
from weftos.doctor.findings import Finding
from weftos.errors import KernelNotRunning, WeftError
from weftos.home import Home, InstanceLock
from weftos.rpc.client import RpcClient

__all__ = ["configuration", "folder", "kernel", "keys", "log"]

_found = partial(Finding, area="instance")
_PATIENCE_S: Final = 5.0
#: So far may clocks of one machine disagree, in nanoseconds.
_CLOCK_NS: Final = 2_000_000_000


def folder(home: Home) -> Sequence[Finding]:
    """The instance's folder, and whether only its owner can enter what is private."""
    if not home.root.is_dir():
        if os.path.lexists(home.root):
            step = "remove it, or set WEFTOS_HOME to another place"
            return [_found(name="folder", state="failed", detail=f"{home.root} is not a folder", next_step=step)]
        step = "`weaver kernel start` makes it"
        return [_found(name="folder", state="absent", detail=f"{home.root} is not there yet", next_step=step)]
    status = home.root.stat()
    if status.st_uid != os.geteuid():
        detail = f"{home.root} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        step = "use the instance as its owner, or with a token: `weaver auth token --help`"
        return [_found(name="folder", state="failed", detail=detail, next_step=step)]
    open_to_others = [one for one in (home.run, home.keys) if one.exists() and _mode(one) & 0o077]
    if open_to_others:
        names = " ".join(str(one) for one in open_to_others)
        detail = f"other users may enter {names}"
        return [_found(name="folder", state="failed", detail=detail, next_step=f"chmod 700 {names}")]
    return [_found(name="folder", state="ok", detail=str(home.root))]


def configuration(home: Home) -> Sequence[Finding]:
    """The configuration file."""
    try:
        config.load(home.config)
    except WeftError as error:
        step = f"mend {home.config}; `weaver config list` names every setting"
        return [_found(name="configuration", state="failed", detail=str(error), next_step=step)]
    detail = str(home.config) if home.config.exists() else "the defaults; there is no weftos.toml"
    return [_found(name="configuration", state="ok", detail=detail)]


def keys(home: Home) -> Sequence[Finding]:
    """The keys that sign the log: there, private, and their public halves pinned."""
    try:
        secret = [one for one in home.keys.iterdir() if one.is_file()] if home.keys.is_dir() else []
        readable = [one.name for one in secret if not one.name.endswith(".pub") and _mode(one) & 0o077]
    except OSError as error:
        return [_found(name="keys", state="failed", detail=f"{home.keys} cannot be read: {error.strerror}")]
    if not secret:
        return [_found(name="keys", state="absent", detail="none yet", next_step="`weaver kernel start` makes them")]
    if readable:
        step = f"take {', '.join(readable)} as stolen: chmod 600, then `weaver chain rotate-key`"
        detail = f"other users may read {', '.join(readable)}"
        return [_found(name="keys", state="failed", detail=detail, next_step=step)]
    return [_found(name="keys", state="ok", detail=f"{len(secret)} files in {home.keys}, for their owner alone")]


def log(home: Home) -> Sequence[Finding]:
    """The beginning and the end of the log. All of it is read by `weaver chain verify` only."""
    if not home.chain.is_dir() or not any(home.chain.iterdir()):
        return [_found(name="log", state="absent", detail="none yet", next_step="`weaver kernel start` begins it")]
    try:
        newest = chain.tail(home.chain, 1)
    except WeftError as error:
        step = "`weaver chain verify` lists what is damaged; the files are left as they are"
        return [_found(name="log", state="failed", detail=str(error), next_step=step)]
    if not newest:
        return [_found(name="log", state="absent", detail="no record yet", next_step="`weaver kernel start` begins it")]
    age = max(time.time_ns() - newest[-1].header.t_ns, 0) / 1e9
    detail = f"{newest[-1].seq + 1} records, the newest {age:.0f} s old"
    if newest[-1].header.t_ns > time.time_ns() + _CLOCK_NS:
        means = "the clock was set back since: times on the log will stand still until it has caught up"
        detail = "the newest record is from the future"
        return [_found(name="log", state="limited", detail=detail, means=means, next_step="set the clock")]
    return [_found(name="log", state="ok", detail=detail)]


def kernel(home: Home) -> Sequence[Finding]:
    """The kernel that runs on the instance, and what it says about its health."""
    from weftos.rpc.kernel_types import HealthReport

    if not home.lock.exists() or InstanceLock(home.lock).holder() is None:
        return [_found(name="kernel", state="absent", detail="none is running", next_step="`weaver kernel start`")]
    try:
        with RpcClient(home.socket, timeout=_PATIENCE_S) as client:
            report = client.call("kernel.health")
    except KernelNotRunning as error:
        return [_found(name="kernel", state="failed", detail=str(error), next_step=f"its log is {home.log}")]
    except WeftError as error:
        detail = f"it runs, and does not answer: {error}"
        return [_found(name="kernel", state="failed", detail=detail, next_step=f"its log is {home.log}")]
    assert isinstance(report, HealthReport), "the client decodes what the table of methods says"
    ill = [f"{row.name} is {row.health}: {row.detail}" for row in report.services if row.health != "healthy"]
    if report.overall == "unhealthy":
        detail = "; ".join(ill) or "it says so itself"
        return [_found(name="kernel", state="failed", detail=detail, next_step="`weaver health` tells more")]
    if ill:
        return [_found(name="kernel", state="limited", detail="; ".join(ill), next_step="`weaver health` tells more")]
    return [_found(name="kernel", state="ok", detail=f"running, {len(report.services)} services")]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)

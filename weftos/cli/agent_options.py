"""The options of ``agent spawn``: limits with units, rights, pairs, and where a program file is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click

from weftos.governance.capability import AgentCapabilities, ResourceLimits, ScopeAll, ToolPermissions, parse_scope
from weftos.governance.permissions import PROFILES, Profile, SandboxPolicy

__all__ = [
    "absolute_program",
    "build_capabilities",
    "build_sandbox",
    "capability_options",
    "parse_limits",
    "parse_pairs",
    "sandbox_options",
]

F = TypeVar("F", bound=Callable[..., Any])

#: Short names that people type, beside the full ones.
_ALIASES: Final = {
    "memory": "memory_bytes",
    "cpu": "cpu_seconds",
    "file": "file_bytes",
    "fds": "descriptors",
    "artifacts": "artifact_bytes",
    "scratch": "scratch_bytes",
}
_SIZES: Final = frozenset({"memory_bytes", "file_bytes", "artifact_bytes", "scratch_bytes"})


def capability_options(command: F) -> F:
    """Add the options from which ``build_capabilities`` builds."""
    options = (
        click.option(
            "--scope",
            metavar="SCOPE",
            help="Whom it may message: all, parent-only, none, restricted:PID,… or topic:NAME,…",
        ),
        click.option("--no-spawn", is_flag=True, help="It may not start agents."),
        click.option("--no-ipc", is_flag=True, help="It may send no messages but to the kernel."),
        click.option("--no-tools", is_flag=True, help="It may not run tools."),
        click.option("--no-store", is_flag=True, help="It may not put or read artifacts."),
        click.option("--allow-tool", "allow_tools", multiple=True, metavar="TOOL", help="A tool it may run, or fs.*."),
        click.option("--deny-tool", "deny_tools", multiple=True, metavar="TOOL", help="A tool it may not run."),
        click.option("--network", is_flag=True, help="It may use the network."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def sandbox_options(command: F) -> F:
    """Add the options from which ``build_sandbox`` builds."""
    options = (
        click.option(
            "--sandbox",
            "profile",
            type=click.Choice(PROFILES),
            help="How its process is confined: not at all (trusted), as far as this machine can (standard, the "
            "default), or not started otherwise (strict, without programs of the system).",
        ),
        click.option(
            "--readable", multiple=True, metavar="PATH", help="A file or folder that it may read; repeatable."
        ),
        click.option("--writable", multiple=True, metavar="PATH", help="One that it may read and write; repeatable."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def build_capabilities(
    scope: str | None,
    no_spawn: bool,
    no_ipc: bool,
    no_tools: bool,
    no_store: bool,
    network: bool,
    allow_tools: tuple[str, ...] = (),
    deny_tools: tuple[str, ...] = (),
) -> AgentCapabilities | None:
    """Build capabilities from the options; ``None`` when none was given, which leaves the choice to the kernel.

    Raises:
        click.BadParameter: the scope is none of those there are, or a tool's name is none.
    """
    if scope is None and not (no_spawn or no_ipc or no_tools or no_store or network or allow_tools or deny_tools):
        return None
    from weftos.errors import CapabilityDenied

    try:
        parsed = ScopeAll() if scope is None else parse_scope(scope)
    except CapabilityDenied as error:
        raise click.BadParameter(str(error), param_hint="--scope") from error
    try:
        tools = ToolPermissions(allow=allow_tools, deny=deny_tools)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--allow-tool") from error
    return AgentCapabilities(
        can_spawn=not no_spawn,
        can_ipc=not no_ipc,
        can_exec_tools=not no_tools,
        can_network=network,
        can_store=not no_store,
        ipc_scope=parsed,
        tools=tools,
    )


def build_sandbox(
    profile: Profile | None, readable: tuple[str, ...], writable: tuple[str, ...], *, network: bool
) -> SandboxPolicy | None:
    """Build what an agent is confined by; ``None`` when nothing was said, which leaves the choice to the kernel.

    Raises:
        click.BadParameter: a path does not exist.
    """
    if profile is None and not (readable or writable or network):
        return None
    for option, paths in (("--readable", readable), ("--writable", writable)):
        for path in paths:
            if not os.path.exists(path):
                raise click.BadParameter(f"there is no {path}", param_hint=option)
    return SandboxPolicy(
        profile=profile or "standard",
        readable=tuple(map(os.path.realpath, readable)),
        writable=tuple(map(os.path.realpath, writable)),
        network=network,
    )


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Parse ``NAME=VALUE`` texts; the last of a name wins.

    Raises:
        click.BadParameter: a text has no ``=`` or no name.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint=option)
        pairs[name] = value
    return pairs


def parse_limits(texts: Iterable[str]) -> dict[str, int]:
    """Parse ``KEY=VALUE`` limits: sizes with units, everything else whole numbers; ``unlimited`` is 0.

    Returns:
        Limits by the field names of ``ResourceLimits``.

    Raises:
        click.BadParameter: an unknown key, or a value that is no amount.
    """
    return dict(_limit(key, value) for key, value in parse_pairs(texts, "--limit").items())


def _limit(key: str, value: str) -> tuple[str, int]:
    name = _ALIASES.get(key, key)
    if name not in ResourceLimits.__struct_fields__:
        import difflib

        known = [*ResourceLimits.__struct_fields__, *_ALIASES]
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(ResourceLimits.__struct_fields__)}"
        raise click.BadParameter(f"there is no limit {key!r}{hint}", param_hint="--limit")
    if value == "unlimited":
        return name, 0
    if name in _SIZES:
        from weftos.config import parse_size
        from weftos.errors import ConfigError

        try:
            return name, parse_size(value)
        except ConfigError as error:
            raise click.BadParameter(f"{key}: {error}", param_hint="--limit") from error
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise click.BadParameter(f"{key}: {value!r} is no whole number from 0 up", param_hint="--limit")
    return name, int(value)


def absolute_program(program: str) -> str:
    """Make the path of a program file absolute, because the kernel runs in another directory; names stay as they are.

    Raises:
        click.BadParameter: the file does not exist.
    """
    if not (program.endswith(".py") or os.sep in program):
        return program
    path = os.path.abspath(os.path.expanduser(program))
    if not os.path.isfile(path):
        raise click.BadParameter(f"there is no file {path}", param_hint="PROGRAM")
    return path

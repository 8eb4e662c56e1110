"""The configuration file ``weftos.toml``: sections, keys, defaults, and errors that name what is wrong.

Every key has a default, so an absent file is a valid configuration. An unknown key is an error, because a misspelt
limit that is silently
ignored is no limit.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from weftos import limits
from weftos.errors import ConfigError

__all__ = [
    "ChainSection",
    "Config",
    "KernelSection",
    "LimitsSection",
    "LogSection",
    "SupervisorSection",
    "load",
    "parse_size",
]

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class KernelSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[kernel]``. ``max_processes`` counts living agents; 0 is unlimited."""

    max_processes: Natural = limits.MAX_PROCESSES
    health_check_interval_secs: Seconds = 30.0
    shutdown_timeout_secs: Seconds = limits.SHUTDOWN_TIMEOUT_S


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[limits]``: defaults of every agent. Sizes are bytes or strings such as ``"256MiB"``; 0 is unlimited."""

    memory_bytes: Natural = limits.MEMORY_BYTES
    cpu_seconds: Natural = limits.CPU_SECONDS
    descriptors: Natural = limits.DESCRIPTORS
    processes: Natural = limits.PROCESSES
    messages: Natural = limits.MESSAGES
    file_bytes: Natural = limits.FILE_BYTES


class SupervisorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[supervisor]``: how often an agent is restarted before it is quarantined, and how long between two tries."""

    max_restarts: Natural = limits.RESTART_MAX
    within_secs: Seconds = limits.RESTART_WINDOW_S
    backoff_secs: Seconds = limits.RESTART_BACKOFF_S
    backoff_max_secs: Seconds = limits.RESTART_BACKOFF_MAX_S


class ChainSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[chain]``: size at which a new segment file is begun."""

    segment_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024)] = 64 * 1024 * 1024


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[log]``: levels by module, as ``WEFTOS_LOG`` (which wins)."""

    level: str = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    kernel: KernelSection = KernelSection()
    limits: LimitsSection = LimitsSection()
    supervisor: SupervisorSection = SupervisorSection()
    chain: ChainSection = ChainSection()
    log: LogSection = LogSection()


_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "kib": 1024,
    "m": 1000**2,
    "mb": 1000**2,
    "mib": 1024**2,
    "g": 1000**3,
    "gb": 1000**3,
    "gib": 1024**3,
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str | int) -> int:
    """Read a size: ``4096``, ``"64MiB"`` (1024²), ``"64MB"`` (1000²).

    Returns:
        Bytes.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise ConfigError(f"{text!r} is no size: write bytes, or a number with KiB, MiB, GiB, kB, MB or GB")
    return int(float(match.group(1)) * unit)


def load(path: Path) -> Config:
    """Read a configuration file; a missing one gives the defaults.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key or value that is not accepted; the message names it.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    _check_keys(path, values, Config, "")
    sizes = values.get("limits", {})
    for name in ("memory_bytes", "file_bytes"):
        if isinstance(sizes.get(name), str):
            sizes[name] = parse_size(sizes[name])
    segment = values.get("chain", {})
    if isinstance(segment.get("segment_bytes"), str):
        segment["segment_bytes"] = parse_size(segment["segment_bytes"])
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}".replace("$.", "").replace("`", "'")) from error


def _check_keys(path: Path, values: dict[str, Any], section: type[msgspec.Struct], prefix: str) -> None:
    known = section.__struct_fields__
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else f"; there are: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {prefix}{key}{hint}")
        if section is Config:
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {key} is a table: write [{key}]")
            _check_keys(path, value, type(getattr(Config(), key)), f"{key}.")

"""The configuration file ``weftos.toml``: sections, keys, defaults, and errors that name what is wrong.

Every key has a default, so an absent file is a valid configuration. An unknown key is an error, because a misspelt
limit that is silently ignored is no limit. For the same reason a size is read exactly and a file is refused as a
whole: half a configuration is never in force.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from weftos import limits
from weftos.errors import ConfigError
from weftos.logs import parse_spec

__all__ = [
    "AccessSection",
    "ArtifactsSection",
    "ChainSection",
    "Config",
    "IpcSection",
    "KernelSection",
    "LimitsSection",
    "LogSection",
    "MemorySection",
    "SandboxSection",
    "SupervisorSection",
    "explicit",
    "load",
    "parse",
    "parse_size",
    "read",
]

Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=limits.CONFIG_MAX)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
#: A user of the system; the last number stands for nobody.
Uid: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 2)]


class KernelSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[kernel]``. ``max_processes`` counts living agents; 0 is unlimited."""

    max_processes: Natural = limits.MAX_PROCESSES
    health_check_interval_secs: Seconds = limits.HEALTH_INTERVAL_S
    shutdown_timeout_secs: Seconds = limits.SHUTDOWN_TIMEOUT_S


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[limits]``: defaults of every agent. Sizes are bytes or strings such as ``"256MiB"``; 0 is unlimited."""

    memory_bytes: Natural = limits.MEMORY_BYTES
    cpu_seconds: Natural = limits.CPU_SECONDS
    descriptors: Natural = limits.DESCRIPTORS
    processes: Natural = limits.PROCESSES
    messages: Natural = limits.MESSAGES
    file_bytes: Natural = limits.FILE_BYTES
    artifact_bytes: Natural = limits.ARTIFACT_AGENT_BYTES


class SupervisorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[supervisor]``: how often an agent is restarted before it is quarantined, and how long between two tries.

    An agent that fails more than ``max_restarts`` times ``within_secs`` is quarantined. The pause before a restart
    begins at ``backoff_secs`` and doubles up to ``backoff_max_secs``.
    """

    max_restarts: Natural = limits.RESTART_MAX
    within_secs: Seconds = limits.RESTART_WINDOW_S
    backoff_secs: Seconds = limits.RESTART_BACKOFF_S
    backoff_max_secs: Seconds = limits.RESTART_BACKOFF_MAX_S


class ChainSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[chain]``: size at which a new segment file is begun, and when appends of agents are answered.

    ``durability`` is for appends that do not say it themselves: ``durable`` ones are answered when they are on disk,
    ``queued`` ones when the operating system has them; those reach the disk within ``limits.SERVICE_SYNC_S`` seconds,
    and a failure of the machine before that loses them. It holds for agents that start after it was changed.

    ``keep_segments``, ``keep_days`` and ``keep_bytes`` say how much of the log stays in its folder: a closed segment is
    pruned when none of those that are set keeps it; 0 is off. ``archive = true`` copies each closed segment to
    ``archive_dir`` first (by default ``archive`` in the instance's folder); ``false`` prunes without that;
    ``"by-hand"``, the default, prunes only what `weaver chain archive` has copied. See docs/chain.md.

    ``witnesses`` processes cosign the checkpoints of the log; 0 is none. Each remembers in a folder of its own below
    ``witness_dir`` (by default ``witnesses`` in the instance's folder). A kernel that runs as root can give each a user
    of its own by ``witness_uids``; these must be able to reach ``witness_dir``. It holds from the next boot on.

    ``seal_secs`` and ``seal_records``: a log that has a sealing key (``weaver chain seal init``) gets a seal after so
    many seconds, or after so many new records, whichever comes first. It holds from the next boot on.
    """

    segment_bytes: Annotated[int, msgspec.Meta(ge=limits.CHAIN_SEGMENT_MIN_BYTES, le=limits.CONFIG_MAX)] = (
        limits.CHAIN_SEGMENT_BYTES
    )
    durability: Literal["durable", "queued"] = "durable"
    keep_segments: Natural = 0
    keep_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] = 0
    keep_bytes: Natural = 0
    archive: bool | Literal["by-hand"] = "by-hand"
    archive_dir: str = ""
    witnesses: Annotated[int, msgspec.Meta(ge=0, le=8)] = 2
    witness_dir: str = ""
    witness_uids: list[Annotated[int, msgspec.Meta(ge=1, le=2**31)]] = []
    seal_secs: Seconds = limits.SEAL_INTERVAL_S
    seal_records: Annotated[int, msgspec.Meta(ge=1, le=limits.CONFIG_MAX)] = limits.SEAL_RECORDS


class ArtifactsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[artifacts]``: size of the artifact store (0 is unlimited), and the age from which a collection takes what
    nothing refers to. It holds from the next boot on.
    """

    store_bytes: Natural = limits.ARTIFACT_STORE_BYTES
    grace_secs: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] = limits.ARTIFACT_GRACE_S


class IpcSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[ipc]``: what agents say on the log about the streams between them.

    Every ``window_secs`` an agent commits to what passed on its open streams since the last time, and lists those on
    which nothing did. With ``windows = "messages"`` the windows of rings carry a Merkle root over their messages, so
    that single messages can be proved; it costs each message a hash at both ends. The windows of topics in
    ``proof_topics`` carry one as well. It holds for agents that start after it was changed.
    """

    windows: Literal["bytes", "messages"] = "bytes"
    window_secs: Seconds = limits.WINDOW_SECS
    proof_topics: list[Annotated[str, msgspec.Meta(min_length=1, max_length=255)]] = []


class AccessSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[access]``: who besides the kernel's own user and root may use the control socket, and for what.

    ``read_uids``, ``operate_uids`` and ``admin_uids`` get that class of methods; ``token_uids`` may connect, and get
    what a token gives. They connect to ``socket``, a further socket in a folder that the operator made for it: that
    folder's mode says who comes near. Where the key of the credentials is kept says ``vault_key``. ``socket`` and
    ``vault_key`` hold from the next boot on. See docs/access.md.
    """

    socket: str = ""
    read_uids: list[Uid] = []
    operate_uids: list[Uid] = []
    admin_uids: list[Uid] = []
    token_uids: list[Uid] = []
    vault_key: Literal["file", "keyring"] = "file"


class SandboxSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[sandbox]``: users and control groups of agents, where the kernel may give them. See docs/sandbox.md.

    ``uids``: the first and the last user that agents of a kernel that runs as root may be; an empty list leaves them
    the kernel's. ``require_own_user`` refuses confined agents that cannot have one. ``scratch_dir`` holds the scratch
    folders: by default the instance's folder, or ``/var/lib/weftos`` where agents are users of their own.

    ``cgroup``: below which control group (version 2) each agent gets one: a path, or ``own`` for the kernel's; without
    it the kernel's, if it can be used as it is. ``cpu_weight``, ``cpu_percent`` (of one processor): of each such group.
    """

    uids: list[Uid] = msgspec.field(default_factory=lambda: [limits.AGENT_UID_FIRST, limits.AGENT_UID_LAST])
    require_own_user: bool = False
    scratch_dir: str = ""
    cgroup: str = ""
    cpu_weight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = limits.CPU_WEIGHT
    cpu_percent: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class MemorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[memory]``: what makes vectors of texts, in the agents and in `weaver recall`.

    ``provider`` is ``hashing`` (no model), ``http`` (a server with OpenAI's interface, at ``base_url``, with ``model``
    and the key in ``key_file``) or ``local`` (a model of the kind BERT in ``folder``; without it the one in a package,
    see the extra ``embed-local``). ``dimension`` counts for ``hashing`` and ``http``. A space keeps the provider that
    it was begun with; another one is refused there. An agent needs the network for ``http``, and leave to read the key.
    It holds for agents that start after it was changed.

    ``agent_bytes`` is what the spaces of one agent, with those of the agents that it started, may take, ``store_bytes``
    what all of memory may (0 is unlimited); the service holds about as much in its own memory. Both hold from the next
    boot on.
    """

    agent_bytes: Natural = limits.ECC_AGENT_BYTES
    store_bytes: Natural = limits.ECC_STORE_BYTES
    provider: Literal["hashing", "http", "local"] = "hashing"
    dimension: Annotated[int, msgspec.Meta(ge=limits.EMBED_DIMENSION_MIN, le=limits.EMBED_DIMENSION_MAX)] = (
        limits.EMBED_DIMENSION
    )
    base_url: str = ""
    model: str = ""
    key_file: str = ""
    folder: str = ""


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[log]``: levels by module, as ``WEFTOS_LOG`` (which wins)."""

    level: str = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    kernel: KernelSection = KernelSection()
    limits: LimitsSection = LimitsSection()
    supervisor: SupervisorSection = SupervisorSection()
    chain: ChainSection = ChainSection()
    artifacts: ArtifactsSection = ArtifactsSection()
    ipc: IpcSection = IpcSection()
    access: AccessSection = AccessSection()
    sandbox: SandboxSection = SandboxSection()
    memory: MemorySection = MemorySection()
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
_SIZE: Final = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-zA-Z]*)\s*")
#: Keys whose value may be a size in words.
_SIZES: Final = {
    ("limits", "memory_bytes"),
    ("limits", "file_bytes"),
    ("limits", "artifact_bytes"),
    ("chain", "segment_bytes"),
    ("chain", "keep_bytes"),
    ("artifacts", "store_bytes"),
    ("memory", "agent_bytes"),
    ("memory", "store_bytes"),
}
#: Keys whose value is one of a few words.
_WORDS: Final = {
    ("chain", "durability"): ("durable", "queued"),
    ("ipc", "windows"): ("bytes", "messages"),
    ("access", "vault_key"): ("file", "keyring"),
}


def parse_size(text: str | int) -> int:
    """Read a size: ``4096``, ``"64MiB"`` (1024²), ``"64MB"`` (1000²), ``"1.5GiB"``.

    Returns:
        Bytes.

    Raises:
        ConfigError: it is none of these, no whole number of bytes, negative, or beyond 2⁶³.
    """
    if isinstance(text, int):
        size = Decimal(text)
    else:
        match = _SIZE.fullmatch(text)
        unit = _UNITS.get(match.group(2).lower()) if match else None
        if match is None or unit is None:
            raise ConfigError(f"{text!r} is no size: write bytes, or a number with KiB, MiB, GiB, kB, MB or GB")
        # Decimal, not float: 0.1 GB is a whole number of bytes, and 2**53 + 1 is one of its own.
        size = Decimal(match.group(1)) * unit
        if size != size.to_integral_value():
            raise ConfigError(f"{text!r} is no whole number of bytes")
    if not 0 <= size <= limits.CONFIG_MAX:
        raise ConfigError(f"{text!r} is out of range: a size is from 0 to {limits.CONFIG_MAX} bytes")
    return int(size)


def load(path: Path) -> Config:
    """Read a configuration file; a missing one gives the defaults.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key or value that is not accepted; the message names the
            file, the key, its line where that is clear, and what is accepted.
    """
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """Return the text of a configuration file; a missing one has none.

    Raises:
        ConfigError: it cannot be read, is too large, or is no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_FILE_BYTES + 1)
        if len(data) > limits.CONFIG_FILE_BYTES:
            raise ConfigError(f"{path} has more than {limits.CONFIG_FILE_BYTES} bytes; that is no configuration file")
        return data.decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start} is not") from error


def parse(text: str, origin: str) -> Config:
    """Check the text of a configuration file as a whole.

    Args:
        text: TOML.
        origin: where it comes from, for the message.

    Raises:
        ConfigError: as for ``load``.
    """
    values = _values(text, origin)
    try:
        return _checked(values)
    except _MisfitError as misfit:
        raise ConfigError(f"{origin}{_line_of(text, misfit.key)}: {misfit}") from misfit


def explicit(text: str, origin: str) -> dict[str, Any]:
    """Return what a file that ``parse`` accepts sets itself, by ``section.key``; sizes in words as numbers.

    Raises:
        ConfigError: it is not valid TOML.
    """
    found: dict[str, Any] = {}
    for name, section in _values(text, origin).items():
        for key, value in section.items() if isinstance(section, dict) else ():
            sized = (name, key) in _SIZES and isinstance(value, str)
            found[f"{name}.{key}"] = parse_size(value) if sized else value
    return found


def _values(text: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from error


class _MisfitError(Exception):
    """A key or value that is not accepted; never leaves this module.

    Attributes:
        key: section and key, as far as they are known.
    """

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key


def _checked(values: dict[str, Any]) -> Config:
    sections = {name: type(getattr(Config(), name)) for name in Config.__struct_fields__}
    for name, section in values.items():
        _check_known((name,), Config)
        if not isinstance(section, dict):
            raise _MisfitError((name,), f"{name} is a section: write [{name}]")
        for key, value in section.items():
            _check_known((name, key), sections[name])
            if (name, key) in _SIZES and isinstance(value, str):
                try:
                    section[key] = parse_size(value)
                except ConfigError as error:
                    raise _MisfitError((name, key), f"{name}.{key}: {error}") from error
            accepted = _WORDS.get((name, key))
            if accepted and value not in accepted:
                raise _MisfitError((name, key), f"{name}.{key}: {value!r} is none of: {', '.join(accepted)}")
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        place = tuple(key.partition("[")[0].split("."))
        raise _MisfitError(place, f"{key}: {what}".replace("`", "'")) from error
    try:
        parse_spec(config.log.level, origin="log.level")
    except ConfigError as error:
        raise _MisfitError(("log", "level"), str(error)) from error
    pauses = config.supervisor
    if pauses.backoff_secs > pauses.backoff_max_secs:
        raise _MisfitError(
            ("supervisor", "backoff_secs"),
            f"supervisor.backoff_secs is {pauses.backoff_secs:g}, which is more than its cap, "
            f"supervisor.backoff_max_secs, with {pauses.backoff_max_secs:g}",
        )
    _check_sandbox(config.sandbox)
    return config


def _check_sandbox(sandbox: SandboxSection) -> None:
    uids = sandbox.uids
    if uids and (len(uids) != 2 or uids[0] >= uids[1]):
        said = "is the first and the last user for agents, [first, last], or [] for none"
        raise _MisfitError(("sandbox", "uids"), f"sandbox.uids {said}; it is {uids}")
    for key in ("scratch_dir", "cgroup"):
        path = getattr(sandbox, key)
        absolute = path.startswith("/") and ".." not in path.split("/") and "\0" not in path
        if path and not absolute and (key, path) != ("cgroup", "own"):
            also = ' or "own"' if key == "cgroup" else ""
            raise _MisfitError(("sandbox", key), f"sandbox.{key}: {path!r} is no absolute path{also}")


def _check_known(key: tuple[str, ...], struct: type[msgspec.Struct]) -> None:
    known = struct.__struct_fields__
    if key[-1] not in known:
        close = difflib.get_close_matches(key[-1], known, 1)
        hint = f"did you mean {'.'.join((*key[:-1], close[0]))}?" if close else f"there are: {', '.join(known)}"
        raise _MisfitError(key, f"unknown {'key' if len(key) > 1 else 'section'} {'.'.join(key)}; {hint}")


def _line_of(text: str, key: tuple[str, ...]) -> str:
    """The line of a key that is written plainly below the header of its section; nothing for any other spelling."""
    header, section = re.compile(r"\s*\[\s*([\w-]+)\s*\]"), None
    for number, line in enumerate(text.splitlines(), 1):
        if match := header.match(line):
            section = match.group(1)
            if key == (section,):
                return f", line {number}"
        elif len(key) > 1 and section == key[0] and re.match(rf"\s*{re.escape(key[1])}\s*=", line):
            return f", line {number}"
    return ""

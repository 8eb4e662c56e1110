"""The configuration file: defaults, sizes, and errors that say where, what and what instead."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.config import Config, load, parse_size
from weftos.errors import ConfigError

UNITS = {
    "": 1,
    "B": 1,
    "k": 1000,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weftos.toml"


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    return str(caught.value).removeprefix(str(file))


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("0", 0),
        ("1", 1),
        ("64MiB", 64 * 1024**2),
        (" 64 mib ", 64 * 1024**2),
        ("64MB", 64_000_000),
        ("64M", 64_000_000),
        ("1.5KiB", 1536),
        ("0.1GB", 100_000_000),
        ("9007199254740993", 2**53 + 1),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "MiB", "-1", "+1", "1e3", "0x10", "1,5MiB", "1 2", "1MiBs", "1TiB", "1_000", "٣", "0.5", "0.0001KiB",
     "inf", "nan", "9" * 30, "9" * 400, str(2**63), "9223372036GiB", -1, 2**63],
)  # fmt: skip
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 2**32), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "\t"]))
def test_a_number_with_a_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except ConfigError:
        return
    assert 0 <= size <= limits.CONFIG_MAX


# --- files ------------------------------------------------------------------------------------------------------------


def test_no_file_and_an_empty_one_are_the_defaults(file: Path) -> None:
    assert load(file) == Config()
    file.write_text("# nothing\n[kernel]\n")
    assert load(file) == Config()


def test_rules_of_retention(file: Path) -> None:
    file.write_text(
        '[chain]\nkeep_segments = 4\nkeep_days = 0.5\nkeep_bytes = "2GiB"\narchive = false\narchive_dir = "/a"\n'
    )
    found = load(file).chain
    assert (found.keep_segments, found.keep_days, found.keep_bytes) == (4, 0.5, 2 * 1024**3)
    assert (found.archive, found.archive_dir) == (False, "/a")
    off = Config().chain
    assert (off.keep_segments, off.keep_days, off.keep_bytes, off.archive) == (0, 0, 0, "by-hand")


def test_every_default_is_accepted_when_written_out(file: Path) -> None:
    lines = []
    for name, section in msgspec.to_builtins(Config()).items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in section.items()]
    file.write_text("\n".join(lines))
    assert load(file) == Config()


def test_values_are_taken(file: Path) -> None:
    file.write_text(
        "[kernel]\nmax_processes = 3\nhealth_check_interval_secs = 5\n"
        '[limits]\nmemory_bytes = "64MiB"\nfile_bytes = 0\n'
        '[chain]\nsegment_bytes = "1MiB"\ndurability = "queued"\n'
        "[supervisor]\nwithin_secs = 0.5\n"
        '[log]\nlevel = "weftos.ipc=trace,warn"\n'
    )
    config = load(file)
    assert (config.kernel.max_processes, config.kernel.health_check_interval_secs) == (3, 5.0)
    assert (config.limits.memory_bytes, config.limits.file_bytes) == (64 * 1024**2, 0)
    assert (config.chain.segment_bytes, config.chain.durability) == (1024**2, "queued")
    assert config.supervisor.within_secs == 0.5
    assert config.limits.descriptors == limits.DESCRIPTORS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[kernel]\nmax_proceses = 1\n",
            ", line 2: unknown key kernel.max_proceses; did you mean kernel.max_processes?",
        ),
        ("\n[kernle]\n", ", line 2: unknown section kernle; did you mean kernel?"),
        ("kernel = 3\n", ": kernel is a section: write [kernel]"),
        ("[[kernel]]\nmax_processes = 1\n", ": kernel is a section: write [kernel]"),
        ("[log]\nlevl = 'x'\n[kernel]\nlevl = 1\n", ", line 2: unknown key log.levl; did you mean log.level?"),
        ("[chain]\nzzz = 1\n", ", line 2: unknown key chain.zzz; there are: segment_bytes"),
        ("kernel.max_processes = -1\n", ": kernel.max_processes: Expected 'int' >= 0"),
        ("[kernel]\n\nmax_processes = -1\n", ", line 3: kernel.max_processes: Expected 'int' >= 0"),
        ("[kernel]\nmax_processes = true\n", ", line 2: kernel.max_processes: Expected 'int', got 'bool'"),
        ("[kernel]\nmax_processes = 1.5\n", ", line 2: kernel.max_processes: Expected 'int', got 'float'"),
        ("[kernel]\nmax_processes = '5'\n", ", line 2: kernel.max_processes: Expected 'int', got 'str'"),
        ("[kernel]\nshutdown_timeout_secs = 0\n", ", line 2: kernel.shutdown_timeout_secs: Expected 'float' > 0"),
        ("[limits]\nmemory_bytes = '5 bytes'\n", ", line 2: limits.memory_bytes: '5 bytes' is no size"),
        ("[limits]\nmemory_bytes = -5\n", ", line 2: limits.memory_bytes: Expected 'int' >= 0"),
        ("[limits]\ncpu_seconds = 99999999999999999999\n", ", line 2: limits.cpu_seconds: "),
        ("[chain]\nkeep_days = -1\n", ", line 2: chain.keep_days: Expected 'float' >= 0"),
        ("[chain]\nkeep_bytes = 'much'\n", ", line 2: chain.keep_bytes: 'much' is no size"),
        ("[chain]\narchive = 'sometimes'\n", ", line 2: chain.archive: Invalid enum value 'sometimes'"),
        ("[chain]\nsegment_bytes = 1\n", ", line 2: chain.segment_bytes: Expected 'int' >= 4096"),
        (
            "[chain]\nsegment_bytes = 4096\ndurability = 'quick'\n",
            ", line 3: chain.durability: 'quick' is none of: durable, queued",
        ),
        ("[chain]\ndurability = 1\n", ", line 2: chain.durability: 1 is none of: durable, queued"),
        ("[ipc]\nwindows = 'all'\n", ", line 2: ipc.windows: 'all' is none of: bytes, messages"),
        ("[ipc]\nproof_topics = ['']\n", ", line 2: ipc.proof_topics[0]: Expected 'str' of length >= 1"),
        ("[ipc]\nwindow_secs = 0\n", ", line 2: ipc.window_secs: Expected 'float' > 0.0"),
        ("[log]\nlevel = 'inof'\n", ", line 2: log.level: 'inof' in 'inof' is no log level; did you mean info?"),
        ("[log]\nlevel = 5\n", ", line 2: log.level: Expected 'str', got 'int'"),
        ("[supervisor]\nbackoff_secs = 60\n", ", line 2: supervisor.backoff_secs is 60, which is more than its cap"),
        ("[kernel\n", " is not valid TOML: "),
        ("[kernel]\n[kernel]\n", " is not valid TOML: "),
        ("x = " + "[" * 5000, " is not valid TOML: "),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, said: str) -> None:
    assert refusal(file, text).startswith(said)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "-1"])
def test_times_are_finite_and_bounded(file: Path, value: str) -> None:
    assert "supervisor.within_secs" in refusal(file, f"[supervisor]\nwithin_secs = {value}\n")


def test_what_cannot_be_read_is_named(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"[kernel]\n# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8: byte 11"):
        load(file)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    loop = tmp_path / "loop"
    os.symlink(loop, loop)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(loop)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_refused(data: bytes) -> None:
    # Written anew each time: hypothesis runs many examples in one call, so a fixture would be shared.
    import tempfile

    with tempfile.NamedTemporaryFile() as place:
        place.write(data)
        place.flush()
        try:
            config = load(Path(place.name))
        except ConfigError as error:
            assert str(error).startswith(place.name)  # noqa: PT017 - either outcome is right
        else:
            assert isinstance(config, Config)

"""The build script's promises that can be kept without building: its commands, its usage, what a dry run prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ["run", "test", "native", "native-debug", "check", "clippy", "lint", "gate", "bench", "clean"]
SCRIPTS = [
    "tools/build.sh",
    "tools/gate.sh",
    "tools/e2e_lib.sh",
    "tools/e2e_daemon.sh",
    "tools/e2e_chain.sh",
    ".ci/run",
]


def build(*arguments: str, root: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(root / "tools/build.sh"), *arguments],
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout in which nothing has been set up, under a path with a space."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse_and_can_be_run(script: str) -> None:
    assert subprocess.run(["bash", "-n", ROOT / script], capture_output=True).returncode == 0
    assert script.endswith("_lib.sh") or os.access(ROOT / script, os.X_OK)


def test_help_names_every_command() -> None:
    done = build("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert command in done.stdout
    assert build("test", "--help").stdout == done.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("frobnicate",), ("--frobnicate",), ("check", "extra"), ("clean", "extra")], ids=" ".join
)
def test_misuse_is_told_on_stderr_with_status_2(arguments: tuple[str, ...], fresh: Path) -> None:
    done = build(*arguments, root=fresh)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage:" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("build.sh: ")
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_dry_run_prints_and_changes_nothing(command: str, place: str, fresh: Path) -> None:
    before = sorted(fresh.rglob("*"))
    arguments = ("--dry-run", command) if place == "before" else (command, "--dry-run")
    done = build(*arguments, root=fresh)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert sorted(fresh.rglob("*")) == before


def test_a_dry_run_of_the_gate_numbers_eleven_checks(fresh: Path) -> None:
    lines = build("gate", "--dry-run", root=fresh).stdout.splitlines()
    assert [line.split("]")[0] for line in lines if line.startswith("[")] == [f"[{n}/11" for n in range(1, 12)]


def test_arguments_reach_the_command_as_they_are(fresh: Path) -> None:
    last = build("--dry-run", "test", "-k", "one or two", root=fresh).stdout.splitlines()[-1]
    assert last.endswith(r"-k one\ or\ two")
    assert build("test", "--dry-run", "--", "--help", root=fresh).stdout.splitlines()[-1].endswith("--help")


def test_an_interpreter_that_is_too_old_is_refused_by_name(fresh: Path, tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = build("check", root=fresh, PYTHON=str(old))
    assert done.returncode == 1
    assert "python-old" in done.stderr
    assert not (fresh / ".venv").exists()


def test_an_interpreter_without_ensurepip_leaves_no_half_environment(fresh: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python-broken"
    broken.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -m ] && [ "$2" = venv ]; then mkdir -p "$4/bin"; echo no ensurepip >&2; exit 1; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    broken.chmod(0o755)
    done = build("check", root=fresh, PYTHON=str(broken))
    assert done.returncode == 1
    assert "ensurepip" in done.stderr
    assert "python3-venv" in done.stderr
    assert not (fresh / ".venv").exists()


def test_no_registry_is_named() -> None:
    for script in SCRIPTS:
        text = (ROOT / script).read_text()
        assert "http://" not in text
        assert "https://" not in text
        assert "index-url" not in text


def test_a_wheel_that_lacks_or_adds_a_file_is_found_out(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for name in ("weftos/__init__.py", "weftos/new/room.py", "weftos/py.typed", "workers/echo.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    def check(*names: str) -> subprocess.CompletedProcess[str]:
        wheel = tmp_path / "weftos-0.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in (*names, "weftos-0.dist-info/METADATA"):
                archive.writestr(name, "")
        return subprocess.run(
            [sys.executable, str(ROOT / "tools/check_wheel.py"), str(wheel), str(root)],
            capture_output=True,
            text=True,
        )

    whole = ("weftos/__init__.py", "weftos/new/room.py", "weftos/py.typed", "weftos_workers/echo.py")
    assert check(*whole).returncode == 0
    lacking = check(whole[0], *whole[2:])
    assert (lacking.returncode, lacking.stderr) == (1, "weftos-0.whl lacks weftos/new/room.py\n")
    more = check(*whole, "weftos/old.py")
    assert more.returncode == 1
    assert "holds weftos/old.py" in more.stderr


@pytest.mark.parametrize(
    ("known", "unknown", "vulnerable", "status"),
    [(20, 0, 0, 0), (20, 0, 1, 1), (0, 20, 0, 77), (0, 0, 0, 77), (5, 15, 0, 77), (5, 15, 1, 1), (19, 1, 0, 0)],
)
def test_an_audit_that_could_ask_nothing_is_not_passed(known: int, unknown: int, vulnerable: int, status: int) -> None:
    found = {"id": "PYSEC-1", "fix_versions": ["2"]}
    answer = [{"name": f"k{n}", "version": "1", "vulns": [found] if n < vulnerable else []} for n in range(known)]
    answer += [{"name": f"u{n}", "skip_reason": "not found"} for n in range(unknown)]
    done = subprocess.run(
        [sys.executable, "-c", "import audit, json, sys; print(audit.judge(json.load(sys.stdin))[0])"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tools")},
        input=json.dumps(answer),
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{status}\n", done.stderr

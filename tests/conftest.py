"""Fixtures of all rooms, and the check that fails a run which leaves anything behind (``tests/leakcheck.py``)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["leakcheck"]

# Machines are shared and slow at times: a property is wrong or right, not late.
settings.register_profile("weftos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("weftos")


@pytest.fixture
def any_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers of this process take events of the kernel's kinds whatever their payload, so that a test needs only the
    fields that it is about, and can write what a forger would.
    """
    monkeypatch.setattr("weftos.chain.writing.writer.SCHEMAS", {})


@contextmanager
def instance_folder() -> Iterator[Path]:
    """Make a new instance folder, and remove it at the end.

    Not below ``tmp_path``: the path of a socket has 107 bytes at most, and pytest's own folders use up most of them.
    """
    from leakcheck import own_home  # not above: pytest wants to load a plugin first

    from weftos.ids import instance_tag

    folder = Path(tempfile.mkdtemp(prefix="wh-"))
    own_home(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        # Where agents are users of their own, a kernel that was killed leaves their folders here.
        shutil.rmtree(Path("/var/lib/weftos") / instance_tag(str(folder)), ignore_errors=True)


@pytest.fixture
def weftos_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new instance folder, named by WEFTOS_HOME."""
    with instance_folder() as folder:
        monkeypatch.setenv("WEFTOS_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    """A new instance folder for the tests of a module; WEFTOS_HOME is theirs to set."""
    with instance_folder() as folder:
        yield folder

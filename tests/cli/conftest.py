"""A way to run ``weaver`` in this process, on an instance of its own, with or without a fake kernel."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "rpc"))

from fake_kernel import FakeKernel

from weftos.cli.main import root


@dataclass
class Outcome:
    """What a run left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value it must be."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error object of a ``--json`` run."""
        assert self.out == ""
        return json.loads(self.err)["error"]


class Weaver:
    """Runs ``weaver`` with a clean environment."""

    def __init__(self, home: Path):
        self.home = home
        self.socket = home / "run" / "kernel.sock"

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Outcome:
        result = CliRunner(env={"WEFTOS_HOME": str(self.home), "COLUMNS": "80"}).invoke(root, list(args), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def kernel(self, **answers: Any) -> FakeKernel:
        """A fake kernel of this instance; ``agent_list=…`` answers ``agent.list``, ``_`` for ``-`` as well."""
        named = {}
        for name, value in answers.items():
            room, _, rest = name.partition("_")
            named[f"{room}.{rest.replace('_', '-')}" if rest else room] = value
        return FakeKernel(self.socket, named)


@pytest.fixture
def weaver(tmp_path):
    return Weaver(tmp_path / "home")

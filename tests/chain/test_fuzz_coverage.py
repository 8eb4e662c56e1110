"""Every parser of the log under a fuzzer that follows its branches; part of the gate, where atheris is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

SECONDS = int(os.environ.get("WEFTOS_FUZZ_SECONDS", "10"))
FUZZER = Path(__file__).with_name("coverage_fuzzer.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; pip install -e '.[fuzz]'"),
]


def fuzz(name, seconds, folder, fuzzer=FUZZER):
    return subprocess.run(
        [sys.executable, str(fuzzer), name, str(seconds), str(folder / "corpus")],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_finds_nothing(name, tmp_path):
    done = fuzz(name, SECONDS, tmp_path)
    found = [(path.name, path.read_bytes()) for path in tmp_path.iterdir() if path.is_file()]
    assert done.returncode == 0, f"{found}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert any((tmp_path / "corpus").iterdir())


CHOKE = """
@atheris.instrument_func
def choke(data):
    if len(data) > 3 and data[0] == 70:
        if data[1] == 85:
            if data[2] == 90:
                if data[3] == 90:
                    raise ZeroDivisionError
"""


def test_the_fuzzer_finds_what_is_there(tmp_path):
    """Four bytes in the right place: one input in four thousand million, found by following branches."""
    broken = tmp_path / "broken_fuzzer.py"
    text = FUZZER.read_text().replace(
        "    target = TARGETS[name]\n", "    target = TARGETS[name]._replace(read=choke)\n"
    )
    broken.write_text(text.replace("\ndef main(", CHOKE + "\n\ndef main("))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FUZZER.parent), os.environ.get("PYTHONPATH", "")]))
        done = fuzz("note", 60, tmp_path, broken)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout + done.stderr

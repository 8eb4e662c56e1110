"""On a real terminal (a pty): frames and colours, no colours with NO_COLOR, and never a broken line in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from samples import DETAIL, ROWS, STATUS

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")


def on_terminal(weaver, *args, **variables):
    """Run weaver with a pty of 120 columns as its standard output; return what it wrote."""
    ours, theirs = os.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env |= {"WEFTOS_HOME": str(weaver.home), "TERM": "xterm-256color", "COLUMNS": "120"} | variables
    process = subprocess.Popen([sys.executable, "-m", "weftos.cli.main", *args], stdout=theirs, stdin=theirs, env=env)
    os.close(theirs)
    written = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO is how Linux reports that the last writer has closed the terminal
            break
        if not data:
            break
        written += data
    os.close(ours)
    return process.wait(), written.decode()


@pytest.fixture
def kernel(weaver):
    with weaver.kernel(agent_inspect=DETAIL, agent_list=ROWS, kernel_status=STATUS, kernel_logs=[]) as kernel:
        yield kernel


def test_inspect_has_panels_and_bars(weaver, kernel):
    status, text = on_terminal(weaver, "agent", "inspect", "1")
    assert status == 0
    assert COLOUR.search(text)
    for part in ("Agent 1", "Resources", "Limits", "Rings", "Rights", "Last exit", "█", "╭"):
        assert part in text


@pytest.mark.parametrize("args", [["agent", "inspect", "1"], ["agent", "list"], ["kernel", "status"]])
def test_no_color_is_respected(weaver, kernel, args):
    status, text = on_terminal(weaver, *args, NO_COLOR="1")
    assert status == 0
    assert not COLOUR.search(text)


def test_a_dumb_terminal_gets_no_escapes(weaver, kernel):
    _, text = on_terminal(weaver, "agent", "list", TERM="dumb")
    assert "\x1b" not in text


def test_agents_cannot_drive_the_terminal(weaver, kernel):
    import msgspec

    kernel.answers["agent.list"] = [msgspec.structs.replace(ROWS[0], name="a\x1b]0;title\x07[bold]b")]
    _, text = on_terminal(weaver, "agent", "list")
    assert "\x1b]0;" not in text
    assert "\x07" not in text
    assert "[bold]" in text, "markup of others is text"


def test_json_is_the_same_on_a_terminal(weaver, kernel):
    _, text = on_terminal(weaver, "agent", "list", "--json")
    assert "\x1b" not in text
    assert text.strip() == weaver("agent", "list", "--json").out.strip()

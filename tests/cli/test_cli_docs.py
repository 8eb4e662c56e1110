"""The reference pages are what the code says, and say all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weftos.cli import docs
from weftos.cli.main import EXIT_CODES, root
from weftos.rpc import agent_types, chain_types, kernel_types
from weftos.rpc.methods import METHODS

PAGES = Path(__file__).parents[2] / "docs"


def test_the_pages_are_current():
    assert docs.write_pages(PAGES, check=True) == [], "run `python -m weftos.cli.docs`"


def test_every_method_and_every_result_is_described():
    page = docs.rpc_page()
    for name, method in METHODS.items():
        assert f"\n## {name}\n\n{method.about}\n" in page
        for key in method.params.__struct_fields__:
            assert f"| `{key}` |" in page
    results = {"KernelStatus", "ProcessInfo", "ServiceInfo", "LogEntry", "HealthReport", "ServiceHealth", "SpawnResult"}
    results |= {
        "StopResult",
        "ExitRecord",
        "AgentDetail",
        "RingInfo",
        "SendResult",
        "AgentLog",
        "ChainStatus",
        "ChainRow",
    }
    for name in results:
        struct = next(getattr(one, name) for one in (kernel_types, chain_types, agent_types) if hasattr(one, name))
        section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
        assert all(f"| `{key}` |" in section for key in struct.__struct_fields__)


def test_links_within_the_page_lead_somewhere():
    page = docs.rpc_page()
    anchors = {docs._anchor(line.lstrip("# ")) for line in page.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_every_command_and_exit_status_is_described():
    page = docs.cli_page()
    for context in docs._contexts(root, None, "weaver"):
        assert f"Usage: {context.command_path} " in page
    for code, meaning in EXIT_CODES:
        assert f"| {code} | {meaning} |" in page


def test_stale_pages_are_found_and_written(tmp_path, capsys):
    assert [path.name for path in docs.write_pages(tmp_path, check=True)] == ["cli.md", "rpc.md", "events.md"]
    assert list(tmp_path.iterdir()) == []
    docs.write_pages(tmp_path)
    assert docs.write_pages(tmp_path, check=True) == []
    (tmp_path / "rpc.md").write_text("old")
    with pytest.raises(SystemExit, match="1"):
        docs.main(["--check", str(tmp_path)], standalone_mode=False)
    assert capsys.readouterr().out == f"{tmp_path / 'rpc.md'} is out of date\n"

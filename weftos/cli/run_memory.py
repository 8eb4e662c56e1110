"""``weaver run memory``: a folder of texts and code becomes what can be recalled, and stays in step with it.

All the work is done by agents, see ``workers/memory.py``; the way to them is in ``memory_job.py``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from weftos.cli import formats as f
from weftos.cli.ecc_commands import space_option
from weftos.cli.job_view import exclude_option, no_progress_option, sandbox_option, show_agents
from weftos.cli.session import json_option

if TYPE_CHECKING:
    from weftos.cli.output import Cell

__all__ = ["memory"]

#: Problems that are shown; ``--json`` has a thousand.
_SHOWN: Final = 20


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@space_option
@click.option("--readers", type=click.IntRange(1, 64), default=None, help="Reading agents. Default: one for each CPU.")
@exclude_option
@sandbox_option
@no_progress_option
@json_option
def memory(
    path: Path,
    space: str,
    readers: int | None,
    exclude: tuple[str, ...],
    profile: str,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Read a folder of texts and code into memory, and keep it in step.

    Texts, Markdown, reStructuredText and source code below PATH are cut into passages, embedded and written into a
    memory space by several agents; documents, sections and passages become nodes of its causal graph, links and
    imports between them its edges. Run again, it reads what changed and forgets what is gone, or is left out now.
    Links, pipes, binary and very large files are left out.

    \b
    weaver kernel start
    weaver run memory docs
    weaver recall "what happens when the service process dies"
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.cli.agent_job import readable_folder
    from weftos.cli.memory_job import MemoryJob

    root = readable_folder(path)
    count = readers or os.cpu_count() or 1
    job = MemoryJob(root, space=space, readers=count, exclude=list(exclude), profile=profile)
    summary = job.run(show_progress=not no_progress and not as_json)
    if as_json:
        from weftos.cli.output import emit_json

        emit_json(summary)
    else:
        _show(summary)


def _show(summary: dict[str, Any]) -> None:
    from weftos.cli.output import Table, show, write_line

    left_out = summary["left_out"]
    why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
    holds = summary["holds"]
    rows: list[Sequence[Cell]] = [
        ["Files read", f"{summary['read']:,} ({f.size(summary['bytes'])})"],
        ["Unchanged", f"{summary['unchanged']:,}"],
        ["Empty", f"{summary['empty']:,}"],
        ["Removed", f"{summary['removed_files']:,}"],
        ["Left out", f"{sum(left_out.values()):,}" + (f" ({why})" if why else "")],
        ["Failed", (f"{summary['failed']:,}", "bad" if summary["failed"] else "")],
        ["Passages", f"{summary['passages']:,} written, {summary['passages_removed']:,} removed"],
        ["Graph", _graph(summary)],
        ["Time", f.seconds(summary["elapsed_secs"])],
        ["Rate", f"{summary['passages_per_sec']:,.0f} passages/s"],
        ["Content", summary["content"]],
        ["Records", f"{summary['first_seq']} to {summary['last_seq']}"],
    ]
    write_line(f"{summary['root']} in the memory space {summary['space']}:")
    show(Table(["", ""], rows))
    show_agents(summary["agents"])
    for file, reason in summary["problems"][:_SHOWN]:
        write_line(f"  {file}: {reason}")
    if len(summary["problems"]) > _SHOWN:
        write_line(f"  … and {len(summary['problems']) - _SHOWN:,} more")
    write_line(
        f"The space holds {f.count(holds['entries'], 'passage')}, {f.count(holds['nodes'], 'node')} and "
        f"{f.count(holds['edges'], 'edge')}."
    )
    option = "" if summary["space"] == "docs" else f" --space {summary['space']}"
    write_line(f'Ask it, while a kernel runs (weaver kernel start): weaver recall "..."{option}')


def _graph(summary: dict[str, Any]) -> str:
    if "nodes" not in summary:
        return "unchanged"
    return (
        f"{summary['nodes']:,} nodes, {summary['edges']:,} edges; {summary['edges_added']:,} edges added, "
        f"{summary['nodes_removed']:,} nodes and {summary['edges_removed']:,} edges removed"
    )

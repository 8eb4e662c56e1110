"""Causal graphs in text: the question to the kernel, and the table of what came back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weftos.cli.output import Cell, Table, write_file, write_line
from weftos.cli.session import call
from weftos.rpc import ecc_types as e

__all__ = ["ask_graph", "graph_table", "write_text"]


def ask_graph(node: str | None, find: str | None, goal: str | None, options: dict[str, Any]) -> e.CausalView:
    """Ask about a node, a path or labels; errors as for ``session.call``."""
    question = "find" if find is not None else "path" if goal is not None else "walk"
    params = e.EccCausalParams(
        space=options["space"],
        question=question,  # type: ignore[arg-type]
        node=node or "",
        goal=goal or "",
        text=find or "",
        direction=options["direction"],
        types=list(options["types"]),
        depth=options["depth"],
        limit=options["limit"],
        strongest=bool(options.get("strongest")),
    )
    found: e.CausalView = call("ecc.causal", params)
    return found


def graph_table(found: e.CausalView) -> Table:
    """Each edge a row, those nearest to the node first."""
    labels = {one.id: one for one in found.nodes}
    rows: list[Sequence[Cell]] = []
    for edge in sorted(found.edges, key=lambda edge: _distance(labels, edge)):
        record = str(edge.chain_seq or "-")
        rows.append((labels[edge.source].label, edge.type, labels[edge.target].label, f"{edge.weight:.2f}", record))
    empty = "nothing leads to it, and it leads nowhere"
    return Table(("FROM", "HOW", "TO", "WEIGHT", "RECORD"), rows, right=("WEIGHT", "RECORD"), empty=empty)


def _distance(labels: dict[int, e.CausalNode], edge: e.CausalLink) -> tuple[int, str, str]:
    ends = labels[edge.source], labels[edge.target]
    return max(abs(one.depth) for one in ends), ends[0].label, ends[1].label


def write_text(path: Path, text: str) -> None:
    """Write a text into a file, or to the output if it is ``-``."""
    if str(path) == "-":
        write_line(text)
        return
    write_file(path, text)

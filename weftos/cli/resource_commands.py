"""``weaver resource``: the tree of everything that the kernel knows, as the log adds it up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from weftos.cli import formats as f
from weftos.cli.access_commands import acl, delegate
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, write_line
from weftos.cli.session import call, json_option
from weftos.rpc import tree_types as r
from weftos.rpc import types as t

__all__ = ["resource"]

_DIMENSIONS = ("trust", "performance", "difficulty", "reward", "reliability", "velocity")


@click.group()
def resource() -> None:
    """The resource tree, and who may do what there.

    It holds agents, services and namespaces, and what is known of each. Every change of it is a record on the log;
    `weaver chain local` shows them as tree.create and so on.
    """


@resource.command()
@click.argument("path", default="/")
@click.option("-n", "--limit", type=click.IntRange(1, 2000), default=1000, show_default=True, help="Nodes at most.")
@json_option
def tree(path: str, limit: int, as_json: bool) -> None:
    """Draw PATH and everything below it."""
    found: r.ResourceTree = call("resource.tree", r.ResourcePathParams(path=path, limit=limit))
    if as_json:
        emit_json(found)
        return
    base = 0 if path == "/" else path.count("/")
    for node in found.nodes:
        depth = (0 if node.path == "/" else node.path.count("/")) - base
        name = node.path if depth == 0 else node.path.rpartition("/")[2]
        state = node.metadata.get("state")
        about = f"  {state}" if isinstance(state, str) else ""
        write_line(f"{'  ' * depth}{name}  ({node.kind}){about}")
    write_line(f"root hash {found.root_hash}")
    if not found.complete:
        note("there are more; --limit shows more of them")


@resource.command()
@click.argument("path")
@json_option
def inspect(path: str, as_json: bool) -> None:
    """Show everything about one resource."""
    found: r.ResourceDetail = call("resource.inspect", r.ResourcePathParams(path=path))
    if as_json:
        emit_json(found)
        return
    pairs: list[tuple[str, Cell]] = [
        ("Kind", found.kind),
        ("Changed by", f"record {found.chain_seq}, {f.stamp(found.updated_ns / 1e9)}"),
        ("Hash", found.hash),
        *((name, _plain(value)) for name, value in found.metadata.items()),
        *((name, f"{getattr(found.scoring, name):.3f}") for name in _DIMENSIONS),
        ("Children", ", ".join(child.rpartition("/")[2] for child in found.children) or "-"),
        ("Rules", ", ".join(found.policies) or "-"),
    ]
    show(Panel(found.path, pairs))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@resource.command()
@json_option
def stats(as_json: bool) -> None:
    """Count over the whole tree."""
    found: r.ResourceStats = call("resource.stats", t.NoParams())
    if as_json:
        emit_json(found)
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.by_kind.items()))
    pairs: list[tuple[str, Cell]] = [
        ("Nodes", f"{f.number(found.nodes)} ({kinds})"),
        ("Depth", str(found.depth)),
        ("Widest", f.count(found.widest, "child", "children")),
        ("Rules", f.number(found.policies)),
        ("Metadata", f.size(found.metadata_bytes)),
        ("Changed by", f"record {found.last_seq}"),
        ("Root hash", found.root_hash),
    ]
    show(Panel("Resource tree", pairs))


@resource.command()
@click.argument("path")
@click.option("-n", "--limit", type=click.IntRange(1, 2000), default=5, show_default=True, help="Similar ones at most.")
@json_option
def score(path: str, limit: int, as_json: bool) -> None:
    """Show the figures of a resource, those from everything below it, and resources with similar ones."""
    found: r.ResourceScore = call("resource.score", r.ResourcePathParams(path=path, limit=limit))
    if as_json:
        emit_json(found)
        return
    rows: list[Sequence[Cell]] = [
        [name, f"{getattr(found.scoring, name):.3f}", f"{getattr(found.below, name):.3f}"] for name in _DIMENSIONS
    ]
    show(Table(("FIGURE", "OWN", "FROM BELOW"), rows, right=("OWN", "FROM BELOW"), title=found.path))
    for other, value in found.similar:
        write_line(f"  {value:.3f}  {other}")


@resource.command()
@click.option(
    "-w",
    "--weight",
    "weights",
    type=(click.Choice(_DIMENSIONS), float),
    multiple=True,
    metavar="FIGURE NUMBER",
    help="Weight of a figure; those not given weigh nothing. Without any, all weigh alike.",
)
@click.option("-n", "--limit", type=click.IntRange(1, 2000), default=10, show_default=True, help="Resources at most.")
@json_option
def rank(weights: tuple[tuple[str, float], ...], limit: int, as_json: bool) -> None:
    """List the resources with the best figures."""
    given = dict(weights)
    chosen = [given.get(name, 0.0) for name in _DIMENSIONS] if given else []
    found: r.ResourceRank = call("resource.rank", r.ResourceRankParams(weights=chosen, limit=limit))
    if as_json:
        emit_json(found)
        return
    rows: list[Sequence[Cell]] = [[f"{value:.3f}", path] for path, value in found.ranked]
    show(Table(("SUM", "PATH"), rows, right=("SUM",), empty="there are no resources"))


resource.add_command(acl)
resource.add_command(delegate)

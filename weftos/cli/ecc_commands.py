"""``weaver ecc``: memory as the operator sees it: spaces, searches, causes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weftos import limits
from weftos.cli import formats as f
from weftos.cli.output import Cell, Panel, Table, emit_json, note, show, write_line
from weftos.cli.session import call, connect, json_option

if TYPE_CHECKING:
    from weftos.rpc import ecc_types as e

__all__ = ["ecc"]

#: ``docs`` is where `weaver run memory` puts what it reads.
space_option = click.option(
    "--space", default="docs", show_default=True, metavar="NAME", help="The memory space; `ecc collections` lists them."
)

_direction = click.option(
    "--direction",
    type=click.Choice(("causes", "effects", "both")),
    default="both",
    show_default=True,
    help="What leads to the node, what it leads to, or both.",
)


@click.group()
def ecc() -> None:
    """Memory: what agents remember, and what follows from what.

    A memory space has a collection of vectors and a causal graph. Agents write into spaces that their
    capabilities name, or into the one of their own (agent/NAME), which no other agent may use.
    """


@ecc.command()
@json_option
def status(as_json: bool) -> None:
    """Show the state of the cognitive layer."""
    found: e.EccStatus = call("ecc.status")
    if as_json:
        emit_json(found)
        return
    pairs: list[tuple[str, Cell]] = [
        ("State", (found.state, {"open": "good", "failed": "bad"}.get(found.state, ""))),
        ("Vectors", f"{f.count(found.entries, 'entry', 'entries')} in {f.count(found.collections, 'collection')}"),
        ("Segments", f"{f.number(found.segments)}, {f.number(found.built)} built since the start"),
        ("Causes", f"{f.count(found.nodes, 'node')}, {f.count(found.edges, 'edge')}"),
        ("Searches", f.number(found.searches)),
        ("Cross-references", f.number(found.crossrefs)),
        ("Impulses", f"{f.number(found.impulses)} wait; a tick each {found.tick_interval_ms:g} ms while any do"),
        ("On the log", f"{f.count(found.commits, 'record')}; {f.count(found.waiting, 'change')} not yet"),
    ]
    if found.building:
        pairs.append(("Building", "a segment, in a process of its own"))
    if found.build_failures:
        pairs.append(("Failed builds", (f.number(found.build_failures), "bad")))
    if found.reason:
        pairs.append(("Reason", (found.reason, "bad")))
    show(Panel("Cognitive layer", pairs))


@ecc.command()
@json_option
def collections(as_json: bool) -> None:
    """List the memory spaces.

    RECALL is the share of the ten nearest entries that the graph of the worst segment found when it was built.
    """
    rows: list[e.SpaceView] = call("ecc.collections")
    if as_json:
        emit_json(rows)
        return
    table = Table(
        ("SPACE", "ENTRIES", "DIM", "METRIC", "MODEL", "SEGMENTS", "RECALL", "SIZE", "NODES", "EDGES", "CONTENT"),
        right=("ENTRIES", "DIM", "SEGMENTS", "RECALL", "SIZE", "NODES", "EDGES"),
        empty="nothing is remembered; `weaver run memory PATH` reads a folder",
    )
    for row in rows:
        one = row.collection
        cells: list[Cell] = [row.space]
        if one is None:
            cells += ["-"] * 7
        else:
            model = one.identity.name if one.identity is not None else "-"
            cells += [f.number(one.live), str(one.dimension), one.metric, model, str(one.segments)]
            found = f"{one.recall:.2f}" if one.segments else "-"
            cells += [(found, "bad") if one.recall < limits.VECTOR_RECALL else found, f.size(one.bytes)]
        cells += [f.number(row.nodes), f.number(row.edges), one.content_root[:12] if one is not None else "-"]
        table.rows.append(cells)
    show(table)


@ecc.command()
@click.argument("question")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, limits.ECC_SEARCH_K), help="How many.")
@click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Only entries with this field. May be repeated.")
@space_option
@json_option
def search(question: str, k: int, where: tuple[str, ...], space: str, as_json: bool) -> None:
    """Search a space for what is nearest to QUESTION, with all fields. `weaver recall` shows passages."""
    from weftos.cli.recalling import recall_from

    found = recall_from(space, question, k, where)
    if as_json:
        emit_json(found)
        return
    table = Table(("SCORE", "RECORD", "ID", "FIELDS"), right=("SCORE", "RECORD"), empty="nothing was found")
    for one in found.matches:
        fields = " ".join(f"{name}={value}" for name, value in one.metadata.items())
        table.rows.append((f"{one.score:.3f}", str(one.chain_seq or "-"), one.id[:16], fields))
    show(table)


@ecc.command()
@click.argument("node", required=False)
@click.option("--find", metavar="TEXT", help="List the nodes whose label holds TEXT.")
@click.option("--to", "goal", metavar="NODE", help="Show a path to this node.")
@click.option("--strongest", is_flag=True, help="With --to: the path whose weights have the largest product.")
@_direction
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only along edges of this type. May be repeated.")
@click.option("--depth", default=2, show_default=True, type=click.IntRange(1, 64), help="How many edges away at most.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, limits.ECC_WALK_NODES), help="How many at most."
)
@space_option
@json_option
def causal(node: str | None, find: str | None, goal: str | None, as_json: bool, **options: Any) -> None:
    """Show what leads to NODE and what it leads to. A node is named by its whole label.

    \b
    weaver ecc causal --find chain
    weaver ecc causal docs/chain.md --depth 1
    weaver ecc causal docs/chain.md --to docs/witness.md
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.cli.graph_view import ask_graph, graph_table

    if (node is None) == (find is None):
        raise click.UsageError("name a node, or look for one with --find TEXT")
    found = ask_graph(node, find, goal, options)
    if as_json:
        emit_json(found)
    elif find is not None:
        show(Table(("LABEL", "RECORD"), [(one.label, str(one.chain_seq or "-")) for one in found.nodes], empty="none"))
        if found.total > len(found.nodes):
            note(f"{found.total - len(found.nodes)} more; --limit shows them")
    elif goal is not None and not found.found:
        write_line(f"no path leads from {node} to {goal}")
        sys.exit(1)
    else:
        show(graph_table(found))


@ecc.command()
@click.argument("node")
@click.option("--dot", type=click.Path(path_type=Path, dir_okay=False), help="Write it for Graphviz; - is the output.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a picture; - is the output.")
@_direction
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only along edges of this type. May be repeated.")
@click.option("--depth", default=1, show_default=True, type=click.IntRange(1, 64), help="How many edges away at most.")
@click.option(
    "--limit", default=40, show_default=True, type=click.IntRange(1, limits.ECC_WALK_NODES), help="How many at most."
)
@space_option
def graph(node: str, dot: Path | None, svg: Path | None, **options: Any) -> None:
    """Draw the neighbourhood of NODE in the causal graph.

    \b
    weaver ecc graph docs/chain.md --svg chain.svg
    weaver ecc graph docs/chain.md --dot - | dot -Tpng > chain.png
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.cli.graph_picture import dot_text, svg_text
    from weftos.cli.graph_view import ask_graph, write_text

    if (dot is None) == (svg is None):
        raise click.UsageError("say where to: --svg FILE or --dot FILE")
    found = ask_graph(node, None, None, options)
    if dot is not None:
        write_text(dot, dot_text(found))
    elif svg is not None:
        write_text(svg, svg_text(found, node))


@ecc.command()
@click.argument("node", required=False, default="")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, limits.ECC_WALK_NODES), help="How many at most."
)
@space_option
@json_option
def crossrefs(node: str, limit: int, space: str, as_json: bool) -> None:
    """Show the cross-references from and to NODE, a universal id; without it how many there are of each type."""
    from weftos.rpc import ecc_types as e

    found: e.CrossRefsView = call("ecc.crossrefs", e.EccCrossRefsParams(space=space, node=node, limit=limit))
    if as_json:
        emit_json(found)
    elif not node:
        rows: list[Sequence[Cell]] = [(name, f.number(count)) for name, count in found.types.items()]
        show(Table(("TYPE", "COUNT"), rows, right=("COUNT",), empty="there are no cross-references"))
    else:
        refs: list[Sequence[Cell]] = [
            (one.source[:16], one.source_structure, one.type, one.target[:16], one.target_structure, str(one.chain_seq))
            for one in found.refs
        ]
        show(Table(("FROM", "IN", "HOW", "TO", "IN", "RECORD"), refs, right=("RECORD",), empty="none"))


@ecc.command()
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it holds for the newest change.")
@space_option
@json_option
def coherence(wait: bool, space: str, as_json: bool) -> None:
    """Show how the causal graph of a space hangs together: components, communities, algebraic connectivity (λ₂).

    It is computed by a process of its own when the graph has changed; nobody waits for it but this command.
    """
    from weftos.rpc import ecc_types as e

    with connect() as client:
        found: e.CoherenceView = client.call("ecc.coherence", e.EccSpaceParams(space=space))
        while wait and found.computing:
            time.sleep(limits.POLL_LONGEST_S)
            found = client.call("ecc.coherence", e.EccSpaceParams(space=space))
    if as_json:
        emit_json(found)
        return
    if found.problem:
        note(f"the last computation failed: {found.problem}")
    if not found.known:
        write_line("nothing is known yet" if found.computing else "nothing is known")
        return
    behind = found.last_change - found.of_change
    pairs: list[tuple[str, Cell]] = [
        (
            "Components",
            f"{f.number(found.component_count)}, the largest of {f.count(found.components[0], 'node')}"
            if found.components
            else "none",
        ),
        (
            "Communities",
            f"{f.number(found.community_count)}, the largest of {f.count(found.communities[0], 'node')}"
            if found.communities
            else "none",
        ),
        ("λ₂", f"{found.lambda_2:.6g} (largest component: {found.largest_lambda_2:.6g})"),
        ("λ₃", f"{found.lambda_3:.6g}"),
        ("Holds for", "the newest change" if not behind else f"a graph {f.count(behind, 'change')} ago"),
    ]
    show(Panel(f"Coherence of {space}", pairs))


@ecc.command()
@click.option("--show", "only_show", is_flag=True, help="Measure nothing, show the last calibration.")
@json_option
def calibrate(only_show: bool, as_json: bool) -> None:
    """Measure what this machine can do for memory, and set the interval of cognitive ticks by it.

    It is measured by a process of its own, on copies: the index at real sizes, the disk, hashes and signatures.
    """
    from weftos.rpc import ecc_types as e

    with connect() as client:
        found: e.CalibrationView = client.call("ecc.calibrate", e.EccCalibrateParams(begin=not only_show))
        while found.computing and not only_show:
            time.sleep(limits.POLL_LONGEST_S)
            found = client.call("ecc.calibrate", e.EccCalibrateParams(begin=False))
    if found.problem:
        note(f"the last calibration failed: {found.problem}")
    if as_json:
        emit_json(found)
    elif found.calibration is None:
        write_line("this machine was not calibrated; `weaver ecc calibrate` does it")
    else:
        one = found.calibration
        show(
            Panel(
                "Calibration",
                [
                    (
                        "Work of one impulse",
                        f"{one['compute_p50_us']:.0f} µs, 95 % within {one['compute_p95_us']:.0f} µs",
                    ),
                    ("At", f.count(one["hnsw_vector_count"], "vector")),
                    ("Tick", f"each {one['tick_interval_ms']:g} ms while impulses wait"),
                    ("Append and sync", f"{one['append']['p50_us']:.0f} µs"),
                    ("BLAKE3", f"{one['blake3_mb_s']:.0f} MB/s"),
                    ("Ed25519", f"{one['ed25519_signs_s']:.0f} signatures/s"),
                    ("Spectrum", f"{one['spectrum_us'] / 1e3:.1f} ms for {f.count(one['spectral_nodes'], 'node')}"),
                ],
            )
        )
    if found.problem:
        sys.exit(1)


@ecc.command()
@json_option
def tick(as_json: bool) -> None:
    """Take up the impulses that wait, and put on the log what changed in memory, now rather than in a moment."""
    found: e.EccTickResult = call("ecc.tick")
    if as_json:
        emit_json(found)
        return
    for one in found.ticks:
        write_line(
            f"{one['space']}: {f.count(one['impulses_done'], 'impulse')} became {f.count(one['nodes_added'], 'node')} "
            f"and {f.count(one['edges_added'], 'edge')} in {one['duration_us'] / 1e3:.1f} ms"
        )
        if one["failure"]:
            write_line(f"{one['space']}: failed: {one['failure']}", "bad")
    if found.record is None:
        write_line("nothing had changed" if not found.ticks else "all changes are on the log")
    else:
        write_line(f"record {found.record} vouches for all changes; `weaver chain local` shows it")


@ecc.command()
@click.argument("space", required=False, default="")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@json_option
def compact(space: str, wait: bool, as_json: bool) -> None:
    """Bring SPACE, or all, into one segment each, without what was replaced or deleted.

    It is done by a process of its own; searches go on meanwhile.
    """
    from weftos.rpc import ecc_types as e

    with connect() as client:
        found: e.EccCompactResult = client.call("ecc.compact", e.EccCompactParams(space=space))
        while wait and _under_way(client.call("ecc.collections"), client.call("ecc.status"), found.spaces):
            time.sleep(limits.POLL_LONGEST_S)
    if as_json:
        emit_json(found)
    else:
        done = "compacted" if wait else "to be compacted"
        write_line(f"{', '.join(found.spaces) or 'nothing'}: {done}")


def _under_way(rows: list[e.SpaceView], now: e.EccStatus, spaces: list[str]) -> bool:
    held = [row.collection for row in rows if row.space in spaces and row.collection is not None]
    return now.building or any(one.segments > 1 or (one.live and (one.delta_rows or one.tombstones)) for one in held)


@ecc.command()
@click.argument("space")
@click.confirmation_option(prompt="All entries of the space are removed. Go on?")
@json_option
def drop(space: str, as_json: bool) -> None:
    """Remove the collection of SPACE with all its entries."""
    from weftos.rpc import ecc_types as e

    found: e.EccPutResult = call("ecc.drop", e.EccSpaceParams(space=space))
    if as_json:
        emit_json(found)
    else:
        write_line(f"{f.count(found.count, 'entry', 'entries')} removed")


@ecc.command("export")
@click.argument("space")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def export_space(space: str, file: Path, no_progress: bool) -> None:
    """Write the entries of SPACE into FILE, one JSON value a line, the collection first; - is the output.

    `weaver ecc import` reads it, here or elsewhere.
    """
    from weftos.cli.ecc_files import export_entries

    count = export_entries(space, file, show_progress=not no_progress)
    note(f"{f.count(count, 'entry', 'entries')} of {space} written to {file}")


@ecc.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@click.option("--space", metavar="NAME", help="Into this space; by default into that of the file.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@json_option
def import_space(file: Path, space: str | None, no_progress: bool, as_json: bool) -> None:
    """Write the entries of FILE, which `weaver ecc export` made, into a space. The collection is made if it is not
    there; one with another dimension, metric or model refuses them. - is the input.
    """
    from weftos.cli.ecc_files import import_entries

    count, target = import_entries(file, space, show_progress=not no_progress and not as_json)
    if as_json:
        emit_json({"space": target, "entries": count})
    else:
        write_line(f"{f.count(count, 'entry', 'entries')} written into {target}")

"""``weaver chain lineage``: from what something on the log was made, over all steps; and whether the stories hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from weftos.cli import formats as f
from weftos.cli.chain_options import directory_option
from weftos.cli.output import Panel, Table, emit_json, show, write_line
from weftos.cli.session import instance, json_option
from weftos.errors import AppendRefused, ChainCorrupted, InvalidRequest

if TYPE_CHECKING:
    from weftos.chain.statements.lineage import Derivation

__all__ = ["lineage"]

#: Names listed when one fits several.
_LISTED = 10


class Step(NamedTuple):
    """A derivation and its record."""

    seq: int
    source: str
    derivation: Derivation


@click.command()
@click.argument("name", required=False)
@click.option("--children", is_flag=True, help="Show what was made from NAME, not what it was made from.")
@click.option("--check", is_flag=True, help="Check all derivations on the log against each other.")
@directory_option
@json_option
@click.pass_context
def lineage(
    ctx: click.Context, name: str | None, children: bool, check: bool, directory: Path | None, as_json: bool
) -> None:
    """Show from what NAME was made, over all steps; works without a kernel.

    A name on the log is the scope of the agent that made the thing, ``#``, and its own name; the latter is enough if
    nothing else has it. Example: `weaver chain lineage trainer#model-3`. With --check the exit status is 5 if a story
    does not hold. What a hash stands for is not looked at.
    """
    if check == (name is not None):
        raise InvalidRequest("say either NAME or --check: weaver chain lineage trainer#model-3")
    steps = list(_steps(directory or instance().chain))
    if check:
        ctx.exit(_check(steps, as_json=as_json))
    assert name is not None, "one of both was given"
    below = _edges(steps, upward=not children)
    root = _named(steps, name)
    if as_json:
        emit_json(_nested(root, steps, below))
        return
    for line in _lines(root, _facts(steps), below):
        write_line(line)


def _steps(directory: Path) -> Iterator[Step]:
    from weftos.chain.folder.reader import read_whole
    from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation

    for record in read_whole(directory):
        if record.kind == LINEAGE_KIND:
            try:
                yield Step(record.seq, record.source, Derivation.from_payload(record.payload))
            except AppendRefused:
                continue  # `weaver chain verify` reports it


def _check(steps: list[Step], *, as_json: bool) -> int:
    from weftos.chain.statements.lineage import verify_lineage

    report = verify_lineage(step.derivation for step in steps)
    problems = [(steps[one.index].seq, one) for one in report.problems]
    if as_json:
        rows = [{"seq": s, "code": one.code, "child": one.child, "parent": one.parent} for s, one in problems]
        emit_json({"valid": report.valid, "things": report.things, "origins": report.origins, "problems": rows})
    else:
        result = ("VALID", "good") if report.valid else ("INVALID", "bad")
        counts = f"{f.count(report.things, 'thing')}, {f.count(report.origins, 'origin')}"
        parts: list[Any] = [Panel("Lineage", [("Result", result), ("Recorded", counts)])]
        if problems:
            table = Table(("SEQ", "CODE", "CHILD", "PARENT"), right=("SEQ",), title="Errors")
            table.rows += [(str(seq), one.code, one.child, one.parent or "-") for seq, one in problems]
            parts.append(table)
        show(*parts)
    return 0 if report.valid else ChainCorrupted.exit_code


def _named(steps: list[Step], name: str) -> str:
    """Return the full name of a thing.

    Raises:
        InvalidRequest: nothing on the log has it, or several things have.
    """
    names = dict.fromkeys(step.derivation.child for step in steps)
    if name in names:
        return name
    fitting = [one for one in names if one.rpartition("#")[2] == name]
    if not fitting:
        raise InvalidRequest(
            f"no lineage of {name!r} is on the log; `weaver chain lineage --check` counts what there is"
        )
    if len(fitting) > 1:
        listed = ", ".join(fitting[:_LISTED]) + (", …" if len(fitting) > _LISTED else "")
        raise InvalidRequest(f"{name!r} is the name of several things, say which: {listed}")
    return fitting[0]


def _edges(steps: list[Step], *, upward: bool) -> dict[str, list[str]]:
    """Return for each name its parents, or what was made from it."""
    found: dict[str, list[str]] = {}
    for _, _, one in steps:
        if one.parent is not None:
            begin, end = (one.child, one.parent) if upward else (one.parent, one.child)
            ends = found.setdefault(begin, [])
            if end not in ends:
                ends.append(end)
    return found


def _facts(steps: list[Step]) -> dict[str, str]:
    first: dict[str, str] = {}
    for seq, source, one in steps:
        text = f"{one.type}, record {seq} by {source}, hash {one.child_hash.hex()[:16]}"
        if one.mutations:
            text += f", {f.count(one.mutations, 'change')}"
        first.setdefault(one.child, text + (f": {one.description}" if one.description else ""))
    return first


def _lines(root: str, facts: dict[str, str], below: dict[str, list[str]]) -> Iterator[str]:
    """Draw the tree. A thing that is reached twice is opened once."""
    seen: set[str] = set()
    todo = [(root, "", "")]
    while todo:
        name, lead, indent = todo.pop()
        again = name in seen
        seen.add(name)
        yield f"{lead}{name}  ({facts.get(name, 'not recorded')})" + (
            "  … as above" if again and below.get(name) else ""
        )
        if again:
            continue
        ends = below.get(name, [])
        for place, end in enumerate(reversed(ends)):
            last = place == 0
            todo.append((end, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))


def _nested(root: str, steps: list[Step], below: dict[str, list[str]]) -> dict[str, Any]:
    """Return everything that is reached from a name, flat, so that no depth is too deep."""
    reached: dict[str, None] = {root: None}
    for name in (todo := [root]):
        for end in below.get(name, ()):
            if end not in reached:
                reached[end] = None
                todo.append(end)
    return {
        "name": root,
        "things": {name: below.get(name, []) for name in reached},
        "records": [
            {
                "seq": seq,
                "source": source,
                "child": one.child,
                "child_hash": one.child_hash.hex(),
                "parent": one.parent,
                "parent_hash": one.parent_hash.hex() if one.parent_hash is not None else None,
                "type": one.type,
                "mutations": one.mutations,
                "description": one.description,
            }
            for seq, source, one in steps
            if one.child in reached
        ],
    }

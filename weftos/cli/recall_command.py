"""``weaver recall``: a question, and the passages that answer it."""

from __future__ import annotations

import click

from weftos import limits
from weftos.cli.ecc_commands import space_option
from weftos.cli.formats import control_free
from weftos.cli.output import emit_json, write_line
from weftos.cli.session import json_option

__all__ = ["recall"]

#: Lines of a passage that are shown.
_LINES = 6


@click.command()
@click.argument("question")
@click.option(
    "-k", default=5, show_default=True, type=click.IntRange(1, limits.ECC_SEARCH_K), help="How many passages."
)
@click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Only passages with this field. May be repeated.")
@click.option("--full", is_flag=True, help="Show passages whole.")
@space_option
@json_option
def recall(question: str, k: int, where: tuple[str, ...], full: bool, space: str, as_json: bool) -> None:
    """Answer a question with passages from what was read.

    Each with its file and lines, its score, and the record of the log that proves when it was learned.

    \b
    weaver kernel start
    weaver run memory docs
    weaver recall "what happens when the service process dies"
    weaver recall "who may approve" --where file=docs/governance.md
    """  # noqa: D301 -- click's mark is the backspace itself
    from weftos.cli.recalling import recall_from

    found = recall_from(space, question, k, where)
    if as_json:
        emit_json(found)
        return
    if not found.matches:
        write_line("nothing was found")
    for number, one in enumerate(found.matches, 1):
        fields = one.metadata
        place = str(fields.get("file", one.id))
        if "first" in fields:
            place += f":{fields['first']}-{fields['last']}"
        heading = f"  {fields['heading']}" if fields.get("heading") else ""
        record = f"record {one.chain_seq}" if one.chain_seq else "not on the log yet"
        write_line(f"{number}. {place}{heading}", "key")
        write_line(f"   score {one.score:.3f}, {record}", "dim")
        lines = one.text.splitlines()
        for line in lines if full else lines[:_LINES]:
            write_line(f"   {control_free(line)}")
        if not full and len(lines) > _LINES:
            write_line(f"   … {len(lines) - _LINES} more lines", "dim")

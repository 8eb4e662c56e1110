"""Where results become text: JSON for machines, plain columns for pipes, rich tables and panels for a terminal.

A command builds a ``Table`` or ``Panel`` and does not know where it goes. A pipe gets every cell in full, columns
aligned, no colour and no frames, so that it can be cut and compared; and rich is not even imported. ``NO_COLOR`` and
``TERM=dumb`` are honoured by rich. Text that comes from agents or files is stripped of control characters on the way:
it cannot drive the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click
import msgspec

from weftos.cli.formats import control_free

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "Cell",
    "Panel",
    "Part",
    "Table",
    "console",
    "emit_json",
    "note",
    "redrawn",
    "show",
    "tone",
    "write_file",
    "write_line",
]

#: A cell is text, or text with the name of a style.
Cell: TypeAlias = str | tuple[str, str]

_TONES: Final = {
    "good": {"running", "healthy", "open", "permit", "valid", "normal", "ready", "info"},
    "warn": {
        "starting",
        "stopping",
        "suspended",
        "degraded",
        "booting",
        "shutting_down",
        "warn",
        "offline",
        "stopped",
        "timeout",
    },
    "bad": {"failed", "unhealthy", "halted", "crash", "killed", "error", "invalid", "deny", "quarantined"},
}
_STYLES: Final = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "key": "cyan", "": ""}


def tone(word: str) -> Cell:
    """A word of state with the style that such a word has everywhere."""
    for style, words in _TONES.items():
        if word.lower() in words:
            return word, style
    return word


@dataclass(slots=True)
class Table:
    """Rows under headings.

    ``right`` names the columns with numbers; ``empty`` is said instead of a table without rows.
    """

    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    right: Sequence[str] = ()
    empty: str = "nothing to show"
    title: str = ""


@dataclass(slots=True)
class Panel:
    """Names with values under a title."""

    title: str
    pairs: list[tuple[str, Cell]] = field(default_factory=list)


Part: TypeAlias = Table | Panel | str


def emit_json(value: Any) -> None:
    """Write one JSON value and a newline. Structs become objects with their field names, bytes base64."""
    data = msgspec.json.encode(value)
    click.echo(data.decode("utf-8"))


def note(text: str) -> None:
    """Say something beside the result: on standard error, so that it never mixes with data."""
    click.echo(control_free(text), err=True)


def write_line(text: str, cell: Cell = "") -> None:
    """Write one line of a log, in the colour of a cell such as ``tone`` gives.

    Never wrapped, no colour but on a terminal.
    """
    style = cell[1] if isinstance(cell, tuple) else ""
    colour = {"warn": "yellow", "bad": "red"}.get(style)
    if colour is None or "NO_COLOR" in os.environ or not sys.stdout.isatty():
        click.echo(control_free(text))
    else:
        click.echo(click.style(control_free(text), fg=colour))


def show(*parts: Part) -> None:
    """Write the parts to standard output, in the manner that fits where it goes."""
    if sys.stdout.isatty():
        output = console()
        for part in parts:
            output.print(_rich(part))
        return
    for index, part in enumerate(parts):
        if index and not (isinstance(part, str) or isinstance(parts[index - 1], str)):
            click.echo()
        for line in plain(part):
            click.echo(line)


def console(*, stderr: bool = False) -> Console:
    """A rich console for a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False, emoji=False, markup=False)


# --- plain ---------------------------------------------------------------------------------------


def _text(cell: Cell) -> str:
    return control_free(cell if isinstance(cell, str) else cell[0])


def _one_line(cell: Cell) -> str:
    return _text(cell).replace("\n", "\\n").replace("\t", "\\t")


def plain(part: Part) -> Iterator[str]:
    """The lines of a part for a pipe."""
    match part:
        case str():
            yield from control_free(part).split("\n")
        case Panel(title, pairs):
            yield f"{title}:"
            width = max((len(name) for name, _ in pairs), default=0)
            for name, cell in pairs:
                yield f"  {name:<{width}}  {_one_line(cell)}".rstrip()
        case Table():
            yield from _plain_table(part)


def _plain_table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"{table.title}:"
    if not table.rows:
        yield table.empty
        return
    grid = [list(table.columns)] + [[_one_line(cell) for cell in row] for row in table.rows]
    widths = [max(len(row[index]) for row in grid) for index in range(len(table.columns))]
    right = {index for index, name in enumerate(table.columns) if name in table.right}
    for row in grid:
        cells = [
            text.rjust(width) if index in right else text.ljust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


# --- rich ----------------------------------------------------------------------------------------


def _styled(cell: Cell) -> Any:
    from rich.text import Text

    return Text(_text(cell), style=_STYLES[cell[1]] if isinstance(cell, tuple) else "")


def _rich(part: Part) -> RenderableType:
    match part:
        case str():
            return control_free(part)
        case Panel():
            return _rich_panel(part)
        case Table():
            return _rich_table(part)


def _rich_panel(panel: Panel) -> RenderableType:
    from rich.panel import Panel as RichPanel
    from rich.table import Table as RichTable

    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style=_STYLES["key"], no_wrap=True)
    grid.add_column(overflow="fold")
    for name, cell in panel.pairs:
        grid.add_row(name, _styled(cell))
    return RichPanel(grid, title=panel.title, title_align="left", border_style="dim")


def _rich_table(table: Table) -> RenderableType:
    from rich import box
    from rich.table import Table as RichTable

    if not table.rows:
        return f"{table.title}: {table.empty}" if table.title else table.empty
    grid = RichTable(box=box.SIMPLE_HEAD, header_style="bold", title=table.title or None, title_justify="left")
    for name in table.columns:
        number = name in table.right
        grid.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in table.rows:
        grid.add_row(*[_styled(cell) for cell in row])
    return grid


@contextmanager
def redrawn() -> Iterator[Any]:
    """Something to call with parts, again and again.

    A terminal shows them in place, a pipe gets them one below another.
    """
    if not sys.stdout.isatty():
        yield show
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=False, vertical_overflow="ellipsis") as live:
        yield lambda *parts: live.update(Group(*[_rich(part) for part in parts]), refresh=True)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file that the user asked for, text as UTF-8.

    Raises:
        StorageFailed: it cannot be written.
    """
    from weftos.errors import StorageFailed

    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error

"""The report for a person: one table per benchmark, grouped by case, with what each competitor reaches against us."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from rich.console import Console
from rich.table import Table

from weftos.bench.model import Report, Row, Unit

__all__ = ["format_value", "print_report"]

_STEPS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
#: Columns of a table that does not go to a terminal.
_FILE_WIDTH: Final = 120
#: Which of our rows the ratios of a case refer to: the first of these that is there.
_OURS: Final = ("weftos", "weftos-ring")


def format_value(value: float, unit: Unit) -> str:
    """Write a figure for a person: ``1.25 M/s``, ``34.0 µs``, ``5.1 MiB``."""
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms")):
            if value * factor >= 1:
                return f"{value * factor:.3g} {name}"
        return f"{value * 1e6:.3g} µs"
    if unit == "B":
        return f"{value / 2**20:.2f} MiB"
    if not unit:
        return f"{value:.3f}"
    suffix = "B/s" if unit == "B/s" else "/s"
    for size, letter in _STEPS:
        if value >= size:
            return f"{value / size:.3g} {letter}{suffix}"
    return f"{value:.3g} {suffix}"


def _ratio(row: Row, ours: Row | None) -> str:
    """How many times better we are: more per second, or fewer seconds or bytes."""
    if ours is None or ours is row or not row.value or not ours.value or ours.unit != row.unit:
        return ""
    ratio = ours.value / row.value if row.unit in {"1/s", "B/s", ""} else row.value / ours.value
    return f"{ratio:.2f} times"


def print_report(report: Report) -> None:
    """Print tables, and below them what was not measured and why."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    facts = report.machine
    load = facts["load"][0]
    console.print(f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}, load {load}", highlight=False)
    console.print(", ".join(f"{name} {version}" for name, version in report.versions.items()), highlight=False)
    for bench, rows in groupby(report.rows, lambda row: row.bench):
        table = Table(title=bench, title_justify="left")
        for heading in ("case", "who", "metric"):
            table.add_column(heading)
        table.add_column("value", justify="right")
        table.add_column("we are better by", justify="right")
        for case, group in groupby(rows, lambda row: row.case):
            of_case = list(group)
            shown = case
            for row in of_case:
                same = {other.who: other for other in of_case if other.metric == row.metric}
                ours = next((same[who] for who in _OURS if who in same), None)
                table.add_row(shown, row.who, row.metric, format_value(row.value, row.unit), _ratio(row, ours))
                shown = ""
            table.add_section()
        console.print(table)
    for entry in report.skipped:
        console.print(f"not measured: {entry.who}: {entry.why}", highlight=False, soft_wrap=True)

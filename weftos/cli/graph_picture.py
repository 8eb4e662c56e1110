"""Causal graphs as pictures: text for Graphviz, and SVG drawn here.

Nodes stand in columns by their distance from the node that was asked about: causes to its left, effects to its right.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from weftos.cli.formats import control_free
from weftos.rpc import ecc_types as e

__all__ = ["dot_text", "svg_text"]

_COLOURS: Final = {
    "Causes": "#c0392b",
    "Enables": "#27774a",
    "Follows": "#7f8c8d",
    "Correlates": "#16a085",
    "Inhibits": "#8e44ad",
    "Contradicts": "#d35400",
    "TriggeredBy": "#b7950b",
    "EvidenceFor": "#117a8b",
    "Contains": "#b3bcc5",
    "Imports": "#6c3fa8",
    "References": "#2a6fb0",
}
_WIDTH: Final = 250
_HEIGHT: Final = 30
_GAP_X: Final = 130
_GAP_Y: Final = 14
_MARGIN: Final = 24
_LEGEND: Final = 30
#: Characters of a label that fit a box.
_CHARS: Final = 36


def dot_text(found: e.CausalView) -> str:
    """Return a graph in the language of Graphviz."""
    lines = ["digraph causes {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for node in found.nodes:
        mark = ", penwidth=2" if node.id == found.start else ""
        lines.append(f"  n{node.id} [label={_quoted(node.label)}{mark}];")
    for edge in found.edges:
        colour = _COLOURS.get(edge.type, "#000000")
        lines.append(
            f"  n{edge.source} -> n{edge.target} [label={_quoted(edge.type)}, color={_quoted(colour)}, "
            f"penwidth={0.5 + 2 * edge.weight:.2f}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    clean = control_free(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{clean}"'


def svg_text(found: e.CausalView, title: str) -> str:
    """Return a graph as a picture that stands alone.

    Args:
        found: the graph.
        title: what it is about.
    """
    places = _places(found)
    columns = 1 + max((column for column, _ in places.values()), default=0)
    rows = 1 + max((row for _, row in places.values()), default=0.0)
    # Edges within the last column bulge out to its right.
    width = 2 * _MARGIN + columns * (_WIDTH + _GAP_X) - _GAP_X // 2
    height = int(2 * _MARGIN + _LEGEND + rows * (_HEIGHT + _GAP_Y))
    kinds = sorted({edge.type for edge in found.edges})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(control_free(title))}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_markers(kinds),
        *(_edge(edge, places) for edge in found.edges),
        *(_box(node, places[node.id], centre=node.id == found.start) for node in found.nodes),
        *_legend(kinds, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _places(found: e.CausalView) -> dict[int, tuple[int, float]]:
    """Column and row of each node; shorter columns stand in the middle."""
    columns: dict[int, list[e.CausalNode]] = defaultdict(list)
    for node in found.nodes:
        columns[node.depth].append(node)
    tallest = max((len(column) for column in columns.values()), default=0)
    places: dict[int, tuple[int, float]] = {}
    for place, depth in enumerate(sorted(columns)):
        column = sorted(columns[depth], key=lambda node: node.label)
        above = (tallest - len(column)) / 2
        places |= {node.id: (place, above + row) for row, node in enumerate(column)}
    return places


def _corner(place: tuple[int, float]) -> tuple[float, float]:
    return _MARGIN + place[0] * (_WIDTH + _GAP_X), _MARGIN + place[1] * (_HEIGHT + _GAP_Y)


def _box(node: e.CausalNode, place: tuple[int, float], *, centre: bool) -> str:
    x, y = _corner(place)
    label = control_free(node.label)
    shown = label if len(label) <= _CHARS else "…" + label[1 - _CHARS :]
    fill, line = ("#fff3d6", 2) if centre else ("#f4f6f8", 1)
    return (
        f"<g><title>{escape(label)}</title>"
        f'<rect x="{x:.0f}" y="{y:.1f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{fill}" stroke="#34495e" '
        f'stroke-width="{line}"/>'
        f'<text x="{x + _WIDTH / 2:.0f}" y="{y + _HEIGHT / 2 + 4:.1f}" text-anchor="middle">{escape(shown)}</text></g>'
    )


def _edge(edge: e.CausalLink, places: dict[int, tuple[int, float]]) -> str:
    source, target = places[edge.source], places[edge.target]
    (x1, y1), (x2, y2) = _corner(source), _corner(target)
    y1, y2 = y1 + _HEIGHT / 2, y2 + _HEIGHT / 2
    if source[0] < target[0]:
        x1, out, into = x1 + _WIDTH, 1, -1
    elif source[0] > target[0]:
        x2, out, into = x2 + _WIDTH, -1, 1
    else:  # in one column: around its right side
        x1, x2, out, into = x1 + _WIDTH, x2 + _WIDTH, 1, 1
    bend = _GAP_X * 0.45
    colour = _COLOURS.get(edge.type, "#000000")
    path = f"M{x1:.0f} {y1:.1f} C{x1 + out * bend:.0f} {y1:.1f} {x2 + into * bend:.0f} {y2:.1f} {x2:.0f} {y2:.1f}"
    said = f"{edge.type}, weight {edge.weight:.2f}" + (f", record {edge.chain_seq}" if edge.chain_seq else "")
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{0.75 + 1.5 * edge.weight:.2f}" '
        f"marker-end={quoteattr(f'url(#{edge.type})')}><title>{escape(said)}</title></path>"
    )


def _markers(kinds: list[str]) -> list[str]:
    return [
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="{_COLOURS.get(kind, "#000000")}"/></marker>'
        for kind in kinds
    ]


def _legend(kinds: list[str], height: int) -> list[str]:
    parts, x = [], _MARGIN
    for kind in kinds:
        y = height - _MARGIN / 2
        parts.append(f'<path d="M{x} {y - 4} h18" stroke="{_COLOURS.get(kind, "#000000")}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 23}" y="{y}">{escape(kind)}</text>')
        x += 40 + 8 * len(kind)
    return parts

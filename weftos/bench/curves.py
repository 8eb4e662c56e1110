"""Curves of speed over quality as a picture in SVG that stands alone.

Why it is as it is: recall against questions per second is how indexes are compared (Aumüller, Bernhardsson, Faithfull,
ANN-Benchmarks, 2020), with a logarithmic axis for the speed. A package that draws would be a dependency for one
picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

__all__ = ["Curve", "svg_curves"]

_WIDTH: Final = 880
_HEIGHT: Final = 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 220, 74, 60
#: Leftmost recall.
_LEAST: Final = 0.8
_COLOURS: Final = ("#c0392b", "#2a6fb0", "#27774a", "#8e44ad", "#d35400", "#117a8b", "#7f8c8d")


class Curve(NamedTuple):
    """One line.

    Attributes:
        name: for the legend.
        points: recall and questions per second.
        dashed: whether the line is broken.
    """

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def svg_curves(title: str, notes: str, curves: Sequence[Curve]) -> str:
    """Return the picture; points left of a recall of 0.8 are left out.

    Args:
        title: above it.
        notes: below the title, smaller: what was measured, where and when.
        curves: at most seven.
    """
    shown = [
        curve._replace(points=sorted((x, y) for x, y in curve.points if x >= _LEAST and y > 0)) for curve in curves
    ]
    speeds = [y for curve in shown for _, y in curve.points] or [1.0, 10.0]
    ticks = _ticks(min(speeds), max(speeds))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])

    def across(recall: float) -> float:
        return _LEFT + (recall - _LEAST) / (1 - _LEAST) * (_WIDTH - _LEFT - _RIGHT)

    def down(speed: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(speed) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 28, title, 'font-size="17" font-weight="bold"'),
        _text(_LEFT, 50, notes, 'font-size="12" fill="#555555"'),
    ]
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for step in range(5):
        recall = _LEAST + step * 0.05
        parts.append(_line(across(recall), _TOP, across(recall), floor))
        parts.append(_text(across(recall), floor + 20, f"{recall:.2f}", 'text-anchor="middle"'))
    for tick in ticks:
        parts.append(_line(_LEFT, down(tick), right, down(tick)))
        parts.append(_text(_LEFT - 8, down(tick) + 4, f"{tick:,}".replace(",", " "), 'text-anchor="end"'))
    middle = (_TOP + floor) / 2
    parts.append(_text((_LEFT + right) / 2, floor + 44, "recall@10", 'text-anchor="middle"'))
    parts.append(
        _text(20, middle, "questions per second (log)", f'text-anchor="middle" transform="rotate(-90 20 {middle:.1f})"')
    )
    for number, curve in enumerate(shown):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across(x), down(y)) for x, y in curve.points]
        parts += _drawn(places, colour, dashed=curve.dashed)
        height = _TOP + 12 + 24 * number
        parts += _drawn([(right + 18, height), (right + 46, height)], colour, dashed=curve.dashed)
        parts.append(_text(right + 54, height + 4, curve.name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(least: float, most: float) -> list[int]:
    """Return 1, 2 and 5 times the powers of ten around these values, at least two."""
    powers = range(max(math.floor(math.log10(least)), 0), math.ceil(math.log10(most)) + 1)
    steps = [mantissa * 10**power for power in powers for mantissa in (1, 2, 5)]
    first = max((n for n, tick in enumerate(steps) if tick <= least), default=0)
    last = next((n for n, tick in enumerate(steps) if tick >= most), len(steps) - 1)
    return steps[first : max(last, first + 1) + 1]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="#dddddd"/>'


def _drawn(places: Sequence[tuple[float, float]], colour: str, *, dashed: bool) -> list[str]:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    broken = ' stroke-dasharray="6 4"' if dashed else ""
    found = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{broken}/>'] if places else []
    return found + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]

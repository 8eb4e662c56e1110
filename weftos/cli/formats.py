"""Numbers as people read them. Machines get the numbers themselves, with ``--json``."""

from __future__ import annotations

import time

__all__ = ["age", "bar", "clock", "control_free", "count", "number", "rate", "seconds", "share", "size", "stamp", "yes"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: float) -> str:
    """Bytes with a binary unit: ``512 B``, ``1.5 MiB``."""
    amount, unit = float(value), 0
    # 1023.95 would be shown as 1024.0 of the smaller unit.
    while amount >= 1023.95 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    return f"{value:.0f} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def age(value: float) -> str:
    """A span: ``0.4 s``, ``3m 12s``, ``2h 5m``, ``4d 3h``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, secs = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {secs}s"


def seconds(value: float) -> str:
    """A short time: ``430 µs``, ``12.1 ms``, ``3.21 s``."""
    if value < 0.000_999_5:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.1f} ms" if value < 0.999_95 else f"{value:.2f} s"


def number(value: float) -> str:
    """A number with thousands apart: ``12 345`` in the English manner, ``12,345``."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def count(amount: int, one: str, many: str | None = None) -> str:
    """An amount with its noun: ``1 record``, ``3 records``."""
    return f"{number(amount)} {one if amount == 1 else many or one + 's'}"


def rate(value: float, *, data: bool = False) -> str:
    """Something per second; ``-`` when nothing moves."""
    if value <= 0:
        return "-"
    return f"{size(value)}/s" if data else f"{number(round(value, 1))}/s"


def clock(timestamp: float) -> str:
    """Local time of day with milliseconds."""
    return time.strftime("%H:%M:%S", time.localtime(timestamp)) + f".{int(timestamp * 1000) % 1000:03d}"


def stamp(timestamp: float) -> str:
    """Local date and time; ``-`` for 0, which stands for never."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp)) if timestamp else "-"


def share(used: float, limit: float) -> float:
    """Use as a fraction of a limit, at least 0; 0 when the limit is 0, which means unlimited."""
    return max(0.0, used / limit) if limit > 0 else 0.0


def bar(fraction: float, width: int = 20) -> str:
    """A bar of ``width`` characters, full at 1 and above; a use above 0 shows at least one mark."""
    filled = min(width, max(1 if fraction > 0 else 0, round(fraction * width)))
    return "█" * filled + "░" * (width - filled)


def yes(value: bool) -> str:
    """``yes`` or ``no``."""
    return "yes" if value else "no"


def control_free(text: str) -> str:
    """Text from elsewhere with control characters made visible, so that no agent drives the operator's terminal.

    Tabs and newlines stay.
    """
    return "".join(char if char in "\t\n" or char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

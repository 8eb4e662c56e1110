"""Hashes files. Any number run side by side; one that is killed is restarted and gets the piece it was working on
again.
"""

from __future__ import annotations

from weftos.agent.context import Context

from .inventory_files import entry_row, hash_file, row_entry

__all__ = ["main"]


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the scanner, pid of the recorder."""
    root, scanner, recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1]), int(ctx.args[2])
    # Two pieces at once, so that the next one is there when one is done.
    for _ in range(2):
        ctx.send(scanner, "want", timeout=60.0)
    for message in ctx:
        work = message.payload.get("work") if isinstance(message.payload, dict) else None
        if not work:
            continue
        done = [[index, entry_row(hash_file(root, row_entry(row)))] for index, row in work]
        ctx.send(recorder, {"entries": done}, timeout=60.0)
        ctx.send(scanner, "want", timeout=60.0)

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
    finished: set[int] = set()
    ctx.send(scanner, {"hello": ctx.incarnation}, timeout=60.0)
    for message in ctx:
        if not isinstance(message.payload, dict) or "piece" not in message.payload:
            continue
        number, work = message.payload["piece"], message.payload["work"]
        # After a restart a piece comes from the kernel, which delivers it again, and from the scanner.
        if number not in finished:
            done = [[index, entry_row(hash_file(root, row_entry(row)))] for index, row in work]
            ctx.send(recorder, {"entries": done}, timeout=60.0)
            finished.add(number)
        ctx.send(scanner, {"done": number}, timeout=60.0)

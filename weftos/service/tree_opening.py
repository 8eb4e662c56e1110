"""The resource tree when the service starts: rebuilt from the log, and made complete."""

from __future__ import annotations

from typing import Final

from weftos import chain
from weftos.service.tree_keeper import TREE_SOURCE, TreeKeeper

__all__ = ["open_tree"]

#: Records before the end of the log among which the kernel's newest is looked for.
_RECENT: Final = 100


def open_tree(writer: chain.ChainWriter, tree_dir: str, directory: str, boot_id: bytes) -> TreeKeeper:
    """Rebuild the tree from the log, and add to both what every tree has.

    Args:
        writer: of the log.
        tree_dir: folder of the snapshot.
        directory: of the log.
        boot_id: of the kernel, 16 bytes.

    Raises:
        ChainError: the log cannot be read or written.
    """
    covered = writer.checkpoints.size if writer.checkpoints is not None else 0
    keeper = TreeKeeper(tree_dir, directory, writer.log_id, writer.head.seq + 1, covered)
    # This process may be new in a boot that goes on.
    last = [one for one in chain.tail(directory, _RECENT) if one.source in ("kernel", "supervisor")][-1:]
    for delta in keeper.missing(new_boot=not last or last[0].header.boot_id != boot_id):
        keeper.apply(delta, writer.append(chain.NewEvent(TREE_SOURCE, delta.log_kind, delta.to_payload())))
    writer.commit()
    return keeper

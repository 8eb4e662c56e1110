"""The folders in which agents may write: one for each, new at its start, gone after its end.

Why it is as it is: what a hostile agent leaves may be a million files or a tree without end, and the kernel must not
wait for its removal. So a folder is renamed out of the way at once, and a process of the system takes it apart.

Guaranteed: an agent never finds what an earlier one left. Not guaranteed: when the room on the disk is free again.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

__all__ = ["ScratchFolders"]

log = logging.getLogger(__name__)

_RM: Final = shutil.which("rm", path="/bin:/usr/bin:/usr/local/bin")


class ScratchFolders:
    """Makes and removes them.

    Args:
        root: folder that holds them all; this kernel's alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._leaving = root.with_name(f"{root.name}.leaving")

    def path(self, pid: int) -> str:
        """Where the folder of an agent is."""
        return str(self._root / str(pid))

    def begin(self) -> int:
        """Remove what an earlier boot left; returns how many folders there were.

        Raises:
            OSError: it cannot be moved away, or the folder for the new ones not be made.
        """
        left = len(os.listdir(self._root)) if self._root.is_dir() else 0
        if left:
            self._move_away(self._root)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._leaving.is_dir():
            self._take_apart(self._leaving)
        return left

    def make(self, pid: int) -> str:
        """Make the folder of an agent, unless an earlier incarnation has it already; returns its path.

        Raises:
            OSError: it cannot be made.
        """
        path = self.path(pid)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def remove(self, pid: int) -> None:
        """Remove the folder of an agent that has ended for good."""
        folder = Path(self.path(pid))
        if not folder.is_dir():
            return
        try:
            if not os.listdir(folder):
                folder.rmdir()
                return
            self._take_apart(self._move_away(folder))
        except OSError as error:
            log.warning("the scratch folder %s is left for the next boot: %s", folder, error)

    def _move_away(self, folder: Path) -> Path:
        self._leaving.mkdir(mode=0o700, exist_ok=True)
        target = self._leaving / secrets.token_hex(8)
        folder.rename(target)
        return target

    def _take_apart(self, folder: Path) -> None:
        """Have the system remove a tree. Its process is reaped by the kernel, which reaps all its children."""
        if _RM is None:
            log.warning("there is no program rm: %s is left for the next boot", folder)
            return
        os.posix_spawn(_RM, ["rm", "-rf", "--", str(folder)], {}, setsid=True)

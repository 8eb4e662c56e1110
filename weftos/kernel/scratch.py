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
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from weftos.sandbox.users import OwnUser

__all__ = ["ScratchFolders"]

log = logging.getLogger(__name__)

_RM: Final = shutil.which("rm", path="/bin:/usr/bin:/usr/local/bin")


class ScratchFolders:
    """Makes and removes them.

    Args:
        root: folder that holds them all; this kernel's alone.
        apart: whether it is not in the instance's folder but in one that other users may pass through, so that agents
            with users of their own reach theirs. The folder above it is the instance's then, too.
    """

    def __init__(self, root: Path, *, apart: bool = False) -> None:
        self._root = root
        self._apart = apart
        self._leaving = root.with_name(f"{root.name}.leaving")

    def path(self, pid: int) -> str:
        """Where the folder of an agent is."""
        return str(self._root / str(pid))

    def begin(self) -> int:
        """Remove what an earlier boot left; returns how many folders there were.

        Raises:
            OSError: it cannot be moved away, or the folder for the new ones not be made, or is another user's.
        """
        if self._apart:
            self._keep_apart()
        left = len(os.listdir(self._root)) if self._root.is_dir() else 0
        if left:
            self._move_away(self._root)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._apart:
            self._root.chmod(0o711)
        if self._leaving.is_dir():
            self._take_apart(self._leaving)
        return left

    def _keep_apart(self) -> None:
        """Make the instance's folder where others may pass, or see that it is ours.

        Raises:
            OSError: it is not, or cannot be made.
        """
        folder = self._root.parent
        if not folder.parent.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.parent.chmod(0o711)  # whatever mode new folders have otherwise
        with suppress(FileExistsError):
            folder.mkdir(mode=0o711)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(f"{folder} is not this user's alone to write to")
        folder.chmod(0o711)

    def end(self) -> None:
        """Remove what is left of a place apart, if it is empty; the next boot takes the rest."""
        if self._apart:
            for folder in (self._root, self._leaving, self._root.parent):
                with suppress(OSError):
                    folder.rmdir()

    def make(self, pid: int, user: OwnUser | None = None) -> str:
        """Make the folder of an agent, unless an earlier incarnation has it already; returns its path.

        Args:
            pid: of the agent.
            user: whose it is to be, if not the kernel's.

        Raises:
            OSError: it cannot be made, or not given away.
        """
        path = self.path(pid)
        os.makedirs(path, mode=0o700, exist_ok=True)
        if user is not None and os.stat(path).st_uid != user.uid:
            os.chown(path, user.uid, user.gid)
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

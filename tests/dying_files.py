"""Calls on files that fail from one of them on, as if the process were gone; and ones that are quick."""

from __future__ import annotations

import errno

from weftos.disk.files import RealFiles

CALLS = ("create", "open_append", "write", "sync_data", "sync_file", "sync_dir", "truncate", "rename", "unlink")


class DyingFiles(RealFiles):
    """Every call from the n-th on fails; closing does not."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __getattribute__(self, name: str) -> object:
        if name in CALLS:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, "gone")
        return object.__getattribute__(self, name)


class UnsyncedFiles(RealFiles):
    """Does not wait for the disk: for tests in which the process dies and the machine does not."""

    def sync_data(self, fd: int) -> None:
        pass

    def sync_file(self, fd: int) -> None:
        pass

    def sync_dir(self, path: str) -> None:
        pass

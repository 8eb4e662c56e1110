"""A kernel that kills itself in the middle of a change of a setting: ``python dying_kernel.py STEP``.

The steps are the calls that change a file or ask the service, before each and after the last.
"""

import sys

from fuse import Fuse

from weftos.disk.files import RealFiles
from weftos.home import find_home
from weftos.kernel import settings_keeper
from weftos.kernel.daemon import run_foreground
from weftos.kernel.settings_keeper import SettingsKeeper

fuse = Fuse(int(sys.argv[1]))
step = fuse.burn


class DyingFiles(RealFiles):
    def create(self, path):
        step()
        return super().create(path)

    def write(self, fd, data):
        step()
        return super().write(fd, data)

    def sync_file(self, fd):
        step()
        super().sync_file(fd)

    def rename(self, source, target):
        step()
        super().rename(source, target)

    def sync_dir(self, path):
        step()
        super().sync_dir(path)


note, change = SettingsKeeper._note, SettingsKeeper.set


async def dying_note(self, kind, payload, values):
    step()
    record = await note(self, kind, payload, values)
    step()
    return record


async def arming_set(self, key, value, by):
    fuse.lit = True
    done = await change(self, key, value, by)
    step()
    return done


settings_keeper.RealFiles = DyingFiles
SettingsKeeper._note = dying_note
SettingsKeeper.set = arming_set

if __name__ == "__main__":
    raise SystemExit(run_foreground(find_home()))

"""A kernel whose service process kills itself in the middle of a change of a credential: ``dying_service.py STEP``.

The steps are the calls that change a file of the vault, and the record on the log, before and after.
"""

import sys

from fuse import Fuse

from weftos.auth import vault
from weftos.disk.secret_file import RealSecretFiles
from weftos.home import find_home
from weftos.kernel.daemon import run_foreground
from weftos.service.credential_desk import CredentialDesk
from weftos.service.journal import Journal

fuse = Fuse(int(sys.argv[1]))


class DyingFiles(RealSecretFiles):
    pass


def before(name):
    real = getattr(RealSecretFiles, name)

    def call(self, *args):
        fuse.burn()
        return real(self, *args)

    setattr(DyingFiles, name, call)


for name in ("create", "write", "sync_file", "rename", "sync_dir", "unlink", "open_overwrite"):
    before(name)

change = Journal.change_tree


def dying_change(self, *args):
    fuse.burn()
    done = change(self, *args)
    fuse.burn()
    return done


rotate = CredentialDesk.rotate


def lit_rotate(self, *args):
    self.open()
    fuse.lit = True
    done = rotate(self, *args)
    fuse.burn()
    fuse.lit = False
    return done


vault.RealSecretFiles = DyingFiles
Journal.change_tree = dying_change
CredentialDesk.rotate = lit_rotate

if __name__ == "__main__":
    raise SystemExit(run_foreground(find_home()))

"""How the process of a witness is set apart: a user of its own, a socket that few may use, an end with its parent.

Why it is as it is: a witness guards against whoever runs the log, so it must not be that user where that can be helped.
The process starts as root, makes what only root can make, and then gives root up for good. A change of user makes the
system forget the parent's death signal, so that is asked for afterwards. And the user may not be able to read the
program's own modules, of which the cryptographic ones are loaded at first use; so everything is used once before.

Guaranteed: after ``become`` the process is that user in all three senses, has no further groups and no way back; others
of the same user cannot look into its memory (Linux). Not guaranteed: anything against root, or where root is not there
to begin with: then the witness runs as whoever started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
from contextlib import suppress
from typing import Final

from weftos.chain.signing.checkpoint import LOG_ID_BYTES, Checkpoint, log_origin, open_checkpoint, sign_checkpoint
from weftos.chain.signing.cosignature import CosignatureSigner, cosign, cosignature_times
from weftos.chain.signing.keyring import KeyPair
from weftos.chain.signing.note import SignaturePolicy
from weftos.chain.signing.note_keys import SEED_BYTES
from weftos.errors import ConfigError
from weftos.merkle.frontier import EMPTY_ROOT
from weftos.witness.folder import check_private_folder

__all__ = ["become", "bind_socket", "check_user", "give_folder", "rehearse", "watch_parent"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def check_user(uid: int | None, gid: int | None) -> bool:
    """Check the user that a witness is to run as, and tell whether this process has to change to it.

    Raises:
        ConfigError: one of the two is missing or root's, or this process cannot become that user.
    """
    if uid is None and gid is None:
        return False
    if uid is None or gid is None or uid <= 0 or gid <= 0:
        raise ConfigError(f"a witness's user and group are both given and both not root's; these are {uid} and {gid}")
    if os.geteuid() == 0:
        return True
    if (uid, gid) != (os.geteuid(), os.getegid()):
        raise ConfigError(f"only root can run a witness as user {uid}; leave it out to run as {os.geteuid()}")
    return False


def give_folder(path: str, uid: int, gid: int) -> None:
    """Make a folder for another user, or check that it is that user's and private.

    Raises:
        ConfigError: it exists and is not.
        OSError: it cannot be made.
    """
    if not os.path.lexists(path):
        os.mkdir(path, 0o700)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, uid, gid)
            os.fsync(fd)
        finally:
            os.close(fd)
    check_private_folder(path, uid)


def bind_socket(path: str, uid: int | None, group: int | None) -> socket.socket:
    """Bind the socket of a witness; it does not listen yet.

    Args:
        path: of the socket. One that was left behind by a witness that has ended is replaced.
        uid: owner of the socket; this process's user if ``None``.
        group: whose members may connect, besides the owner; nobody if ``None``.

    Raises:
        ConfigError: something else is there, or somebody listens on it.
        OSError: it cannot be made.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"{path} is no socket; the witness does not remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except BlockingIOError:
                raise ConfigError(f"another process listens on {path}") from None
            else:
                raise ConfigError(f"another process listens on {path}")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        before = os.umask(0o177)
        try:
            bound.bind(path)
        finally:
            os.umask(before)
        if uid is not None or group is not None:
            os.chown(path, -1 if uid is None else uid, -1 if group is None else group, follow_symlinks=False)
        if group is not None:
            os.chmod(path, 0o660)
    except BaseException:
        bound.close()
        raise
    return bound


def rehearse() -> None:
    """Sign and verify once with keys that are thrown away, so that no module is missing that cannot be read later.

    Raises:
        ConfigError: this build of ``cryptography`` cannot verify what a log signs.
    """
    pair = KeyPair(os.urandom(SEED_BYTES), os.urandom(SEED_BYTES))
    checkpoint = Checkpoint(log_origin(bytes(LOG_ID_BYTES)), 0, EMPTY_ROOT)
    note = sign_checkpoint(checkpoint, pair.signers(checkpoint.origin))
    witness = CosignatureSigner("x", os.urandom(SEED_BYTES))
    keys = pair.public.verifier_keys(checkpoint.origin)
    assert open_checkpoint(note, keys, SignaturePolicy(), checkpoint.origin) == checkpoint
    assert cosignature_times(cosign(note, witness), [witness.verifier])


def become(uid: int, gid: int) -> None:
    """Become a user and give up root for good.

    Raises:
        OSError: the system refuses.
    """
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    assert os.getresuid() == (uid, uid, uid), "the user was not changed"
    assert os.getresgid() == (gid, gid, gid), "the group was not changed"
    assert not os.getgroups(), "further groups are left"


def watch_parent(parent_os_pid: int) -> bool:
    """Ask for SIGTERM when the parent ends, and close the process's memory to others. Call it after ``become``.

    Returns:
        Whether the system tells of the parent's death; if not, look for it now and then.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    told: bool = libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) == 0
    if os.getppid() != parent_os_pid:
        # It has ended before the request; nothing will be told then.
        os.kill(os.getpid(), signal.SIGTERM)
    return told

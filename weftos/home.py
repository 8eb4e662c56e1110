"""Where an instance of WeftOS lives: which folder, which files in it, and the lock that lets one kernel use it.

``WEFTOS_HOME`` names the folder; without it the nearest ancestor of the working directory that has a ``.weftos/``, and
without that ``~/.weftos``. Everything of an instance lies below this one folder, except the control socket where its
path would be longer than the system allows.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from weftos.errors import ConfigError, KernelAlreadyRunning
from weftos.ids import instance_tag

__all__ = ["Home", "InstanceLock", "find_home"]

#: sockaddr_un.sun_path holds 108 bytes with its terminator (unix(7)); other systems have less.
_SOCKET_PATH_MAX: Final = 103


def find_home(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Home:
    """Find the instance that a command is about. Nothing is created.

    Args:
        environ: environment to look in; that of the process by default.
        cwd: working directory; that of the process by default.

    Raises:
        ConfigError: WEFTOS_HOME names the home of a user who does not exist, or the working directory was removed.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("WEFTOS_HOME")
    try:
        if named:
            return Home(Path(named).expanduser().absolute())
        return _default_home(environ, (cwd or Path.cwd()).absolute())
    except (RuntimeError, FileNotFoundError) as error:
        raise ConfigError(f"the instance's folder cannot be found: {error}; set WEFTOS_HOME to a folder") from error


def _default_home(environ: Mapping[str, str], start: Path) -> Home:
    for folder in (start, *start.parents):
        if (folder / ".weftos").is_dir():
            return Home(folder / ".weftos")
    return Home(Path(environ.get("HOME") or "~").expanduser() / ".weftos")


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one instance.

    Attributes:
        root: its folder, absolute.
    """

    root: Path

    @property
    def run(self) -> Path:
        """What belongs to the present boot; mode 0700."""
        return self.root / "run"

    @property
    def chain(self) -> Path:
        """The log's segments."""
        return self.root / "chain"

    def archive_of(self, configured: str) -> Path:
        """Archived segments of the log.

        Args:
            configured: ``[chain] archive_dir``; a relative path begins in the instance's folder.
        """
        return self.root / Path(configured or "archive").expanduser()

    @property
    def keys(self) -> Path:
        """Signing keys, read by the service process alone; mode 0700."""
        return self.root / "keys"

    @property
    def known_logs(self) -> Path:
        """Public keys of the logs that this instance has met; what its own log is verified with."""
        return self.root / "known_logs"

    @property
    def tree(self) -> Path:
        """The snapshot of the resource tree; the log can make it again."""
        return self.root / "tree"

    @property
    def index(self) -> Path:
        """The index of the log; the log can make it again."""
        return self.root / "index"

    @property
    def seal_state(self) -> Path:
        """The evolving key that seals the log; there only if the operator made it."""
        return self.keys / "seal.state"

    @property
    def cedar_policies(self) -> Path:
        """Policies in Cedar that the gate asks as well; there only if the operator put them there."""
        return self.root / "policies.cedar"

    @property
    def artifacts(self) -> Path:
        """The artifact store; made by the service process."""
        return self.root / "artifacts"

    @property
    def ecc(self) -> Path:
        """Memory: vectors and causal graphs; made by the service process when there is something to keep."""
        return self.root / "ecc"

    @property
    def vault(self) -> Path:
        """Encrypted credentials; made by the service process when the first one comes."""
        return self.root / "vault"

    @property
    def witnesses(self) -> Path:
        """What the witnesses remember, a folder for each."""
        return self.root / "witnesses"

    @property
    def known_witnesses(self) -> Path:
        """Public keys of the witnesses."""
        return self.root / "known_witnesses"

    @property
    def config(self) -> Path:
        """The configuration file; it need not exist."""
        return self.root / "weftos.toml"

    @property
    def lock(self) -> Path:
        """Locked by the kernel that uses the instance; holds its OS pid."""
        return self.run / "kernel.lock"

    @property
    def log(self) -> Path:
        """What the kernel logs when it runs in the background."""
        return self.run / "kernel.log"

    @property
    def socket(self) -> Path:
        """The control socket."""
        path = self.run / "kernel.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
            return path
        base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        return Path(base) / f"weftos-{instance_tag(str(self.root))}" / "kernel.sock"

    @property
    def scratch(self) -> Path:
        """Folders in which agents may write, one for each, by its pid."""
        return self.run / "scratch"

    @property
    def next_user(self) -> Path:
        """Remembers which users agents have not had yet."""
        return self.root / "next_user"

    def agent_log(self, pid: int) -> Path:
        """Where the output of an agent goes."""
        return self.run / "agents" / f"{pid}.log"

    def ensure(self) -> Self:
        """Create the folders that are missing, and close those with secrets or sockets in them to other users.

        Raises:
            ConfigError: the place cannot be used; the message says which and why.
        """
        private = (self.run, self.keys, self.socket.parent)
        for folder in (self.root, self.run, self.run / "agents", self.chain, self.keys, self.socket.parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder in private:
                    _keep_private(folder)
            except FileExistsError as error:
                raise ConfigError(
                    f"{folder} is not a folder; remove it, or set WEFTOS_HOME to another place"
                ) from error
            except OSError as error:
                raise ConfigError(
                    f"{folder} cannot be used: {error.strerror}; set WEFTOS_HOME to a folder you may write to"
                ) from error
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"{folder} is not writable; set WEFTOS_HOME to a folder you may write to")
        return self


def _keep_private(folder: Path) -> None:
    """Nobody else may look into it, or have made it: the place of the socket can lie in a folder that all may write."""
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode) and folder.parent == Path(tempfile.gettempdir()):
        raise ConfigError(f"{folder} is a symbolic link; the control socket cannot be there")
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{folder} belongs to user {status.st_uid}, not to you")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


class InstanceLock:
    """Held by the one kernel of an instance, and given back by the system when that process ends, however it ends.

    A POSIX record lock (fcntl(2)), not flock(2): it belongs to the process, so agents forked later do not inherit it
    and cannot keep it after the kernel is gone; and the system itself tells who holds it, without taking it. Its known
    trap, that closing *any* descriptor of the file releases it, is avoided by opening the file nowhere else in the
    process that holds it.

    Args:
        path: the lock file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock and write this process's pid into the file.

        Raises:
            KernelAlreadyRunning: another process holds it.
            ConfigError: the file cannot be opened.
        """
        assert self._fd is None, "taken once"
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise _taken(self._path, holder) from None
            raise ConfigError(f"{self._path} cannot be locked: {error.strerror}") from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give it back. Idempotent."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def holder(self) -> int | None:
        """Ask who holds the lock, without taking it: that could make a kernel fail which starts just now.

        Not to be called by the holder itself.

        Returns:
            OS pid of the holder; 0 if it is in another pid namespace; ``None`` if nobody holds it.

        Raises:
            ConfigError: the file cannot be opened.
        """
        assert self._fd is None, "the holder knows"
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be opened: {error.strerror}") from error
        try:
            return _record_holder(fd)
        finally:
            os.close(fd)

    def check_free(self) -> None:
        """Raise as ``acquire`` would, without taking it."""
        pid = self.holder()
        if pid is not None:
            raise _taken(self._path, str(pid or ""))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _taken(path: Path, holder: str) -> KernelAlreadyRunning:
    return KernelAlreadyRunning(
        f"a kernel (OS pid {holder or 'unknown'}) already runs on {path.parent.parent}; "
        "`weaver kernel stop` ends it, WEFTOS_HOME names another instance"
    )


def _record_holder(fd: int) -> int | None:
    """F_GETLK of fcntl(2): whose lock would be in the way of ours. ``struct flock`` differs between systems."""
    if sys.platform == "darwin":
        layout, order = "qqihh", (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    else:
        layout, order = "hhlli0l", (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(layout, *order)))
    kind, pid = (answer[3], answer[2]) if sys.platform == "darwin" else (answer[0], answer[4])
    return None if kind == fcntl.F_UNLCK else max(0, pid)

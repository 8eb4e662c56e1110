"""An agent that tries to get out: it makes the attempt it is told to, and says what came of it."""

import ctypes
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    """Make a system call by its number (x86_64)."""
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)


def connect(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        one.connect(address)


def send_from_a_pair(path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"x", path)


def execute(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def as_a_program(*words):
    """Let a program of the system make the attempt."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(errno.EACCES, done.stderr.strip()[-200:])
    return done.stdout


def read_memory(pid):
    with open(f"/proc/{pid}/mem", "rb") as file:
        return len(file.read(1))


def truncate_semaphores():
    return [os.truncate(f"/dev/shm/{name}", 0) for name in os.listdir("/dev/shm")]


def fork_many(count):
    """Fork without end; the children stay until somebody ends them."""
    for _ in range(count):
        if os.fork() == 0:
            signal.pause()
            os._exit(0)
    return count


def open_many(count):
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    return len(kept)


def fill(count):
    """Write files of a mebibyte into the working directory, until it is stopped."""
    for number in range(count):
        with open(f"part-{number}", "wb") as file:
            file.write(bytes(2**20))
    return count


ATTEMPTS = {
    "read": lambda path: len(open(path, "rb").read()),  # noqa: SIM115
    "list": lambda path: len(os.listdir(path)),
    "write": write,
    "make folder": os.mkdir,
    "rename": os.rename,
    "link": os.link,
    "unlink": os.unlink,
    "truncate": lambda path: os.truncate(path, 0),
    "chmod": lambda path: os.chmod(path, 0o777),
    "fchmod": lambda path: os.fchmod(os.open(path, os.O_RDONLY), 0o777),
    "utime": lambda path: os.utime(path, (0, 0)),
    "chown": lambda path: os.chown(path, 65534, 65534),
    "symlink": os.symlink,
    "connect to a port": lambda port: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
    "send a datagram": lambda port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
    "connect to a file": lambda path: connect(socket.AF_UNIX, socket.SOCK_STREAM, path),
    "send from a pair": send_from_a_pair,
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "signal": lambda pid: os.kill(pid, 0),
    "signal by descriptor": lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGCONT),
    "trace": lambda pid: call(101, 16, pid, 0, 0),
    "read memory": read_memory,
    "copy memory": lambda pid: call(310, pid, 0, 0, 0, 0, 0),
    "environment": lambda pid: len(open(f"/proc/{pid}/environ", "rb").read()),  # noqa: SIM115
    "steal a descriptor": lambda pid: call(438, os.pidfd_open(pid), 0, 0),
    "limits of another": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (16, 16)),
    "priority of another": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "cores of another": lambda pid: os.sched_setaffinity(pid, {0}),
    "be looked into": lambda: call(157, 4, 1),
    "outlive the kernel": lambda: call(157, 1, 0),
    "another name": lambda: write("/proc/self/comm", "bash"),
    "mount": lambda: call(165, 0, 0, 0, 0, 0),
    "namespace": lambda: call(272, 0x10000000),
    "change root": lambda: os.chroot("."),
    "ring of requests": lambda: call(425, 1, 0),
    "bpf": lambda: call(321, 0, 0, 0),
    "keys": lambda: call(250, 0, 0, 0),
    "clock": lambda: call(227, 0, 0),
    "shared memory by key": lambda: call(29, 1234, 4096, 0o1600),
    "become another": lambda uid: os.setuid(uid),
    "list semaphores": lambda: len(os.listdir("/dev/shm")),
    "truncate semaphores": truncate_semaphores,
    "make a semaphore": lambda: write("/dev/shm/escapist"),
    "execute": execute,
    "as a program": as_a_program,
    "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0)[1],
    "fork many": fork_many,
    "open many": open_many,
    "fill": fill,
    "thread": lambda: __import__("threading").Thread(target=int).start(),
    "where": os.getcwd,
    "temporary file": lambda: tempfile.NamedTemporaryFile().name,  # noqa: SIM115
    "python": lambda: execute(sys.executable, "-c", "import json, numpy; print('imported')"),
}


def main(ctx):
    for message in ctx:
        if not isinstance(message.payload, list):
            continue  # a warning that it comes near a limit
        name, *arguments = message.payload
        try:
            answer = {"done": ATTEMPTS[name](*arguments)}
        except (OSError, MemoryError, subprocess.SubprocessError) as error:
            answer = {"refused": errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)}
        ctx.reply(message, answer)

"""Which system calls a confined agent is refused, as one table, and why. Pure.

Landlock decides about files by their path; here is what it does not decide about: the modes, owners and times of files
that may be read (those of keys among them, where the agent runs as the kernel's user), sockets, other processes, and
the calls in which holes of the system itself were found again and again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from weftos.sandbox.bpf import CallRule, Test
from weftos.sandbox.plan import Plan

__all__ = ["MISSING", "rules_for"]

_AF_UNIX: Final = 1
_AF_INET: Final = 2
_AF_INET6: Final = 10
_SOCK_DGRAM: Final = 2
_SOCK_RAW: Final = 3
#: SOCK_NONBLOCK and SOCK_CLOEXEC, which stand in the same argument as the type, in all combinations.
_TYPE_FLAGS: Final = (0, 0o4000, 0o2000000, 0o2004000)
_CLONE_THREAD: Final = 0x00010000
_CLONE_NEW: Final = 0x7E020080  # all CLONE_NEW… flags of clone(2)
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
#: F_SETOWN, F_SETSIG, F_SETOWN_EX: have the system send signals to others.
_OWNER_COMMANDS: Final = (8, 10, 15)
#: PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_MM, PR_SET_PTRACER: what the kernel set, and how it is found.
_OWN_SETTINGS: Final = (1, 4, 15, 35, 0x59616D61)

#: Always refused, by what they are for.
_REFUSED: Final = {
    "other processes": "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd "
    "migrate_pages move_pages",
    "the system": "kexec_load kexec_file_load init_module finit_module delete_module create_module bpf perf_event_open "
    "userfaultfd syslog lookup_dcookie nfsservctl acct swapon swapoff reboot sethostname setdomainname quotactl "
    "quotactl_fd vhangup _sysctl sysfs ustat uselib iopl ioperm modify_ldt settimeofday clock_settime clock_adjtime "
    "adjtimex personality lsm_set_self_attr",
    "mounts and namespaces": "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree "
    "open_tree_attr mount_setattr statmount listmount unshare setns",
    "keys": "keyctl add_key request_key",
    "ways around paths": "open_by_handle_at name_to_handle_at fanotify_init fanotify_mark",
    "ways around this filter": "io_uring_setup io_uring_enter io_uring_register",
    "memory and queues with names": "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv "
    "msgctl mq_open mq_unlink",
    "modes, owners and times of files": "chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat setxattr "
    "lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr utime utimes "
    "futimesat utimensat",
}

#: Answered as if the system did not have it: the C library then uses ``clone``, whose flags can be looked at.
MISSING: Final = frozenset({"clone3"})

#: Refused, if what they are about is not the process itself (0).
_ABOUT_OTHERS: Final = (
    ("prlimit64", 0),
    ("setpriority", 1),
    ("ioprio_set", 1),
    ("sched_setscheduler", 0),
    ("sched_setparam", 0),
    ("sched_setattr", 0),
    ("sched_setaffinity", 0),
)
_ABI_TRUNCATION: Final = 3
_ABI_SIGNALS: Final = 6
_SIGNALS: Final = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")


def rules_for(plan: Plan, *, os_pid: int, landlock_abi: int) -> tuple[CallRule, ...]:
    """Return what is refused.

    Args:
        plan: of the agent.
        os_pid: of the process.
        landlock_abi: what Landlock refuses of itself. Before 6 it does not know signals, and the agent may signal
            itself alone; before 3 it does not know truncation by path, and there is none.
    """
    pid = os_pid if landlock_abi < _ABI_SIGNALS else 0
    return _rules(pid, landlock_abi, fork=plan.fork, execute=plan.execute, network=plan.network)


@lru_cache(maxsize=32)
def _rules(os_pid: int, landlock_abi: int, *, fork: bool, execute: bool, network: bool) -> tuple[CallRule, ...]:
    """As ``rules_for``. Kept: the kernel asks before it forks, and the agents inherit the answer."""
    rules: list[CallRule] = [(name, ()) for names in _REFUSED.values() for name in names.split()]
    rules += [(name, (Test(argument, "is-not", 0),)) for name, argument in _ABOUT_OTHERS]
    rules += [("fcntl", (Test(1, "is", command),)) for command in _OWNER_COMMANDS]
    rules += [("prctl", (Test(0, "is", option),)) for option in _OWN_SETTINGS]
    rules += [("ioctl", (Test(1, "is", command),)) for command in (_TIOCSTI, _TIOCLINUX)]
    rules.append(("clone", (Test(0, "has", _CLONE_NEW),)))
    if not fork:
        rules += [("fork", ()), ("vfork", ()), ("clone", (Test(0, "lacks", _CLONE_THREAD),))]
    if not execute:
        rules += [("execve", ()), ("execveat", ())]
    rules += _network(open_to_it=network)
    if landlock_abi < _ABI_TRUNCATION:
        rules.append(("truncate", ()))
    if landlock_abi < _ABI_SIGNALS:
        rules += [(name, (Test(0, "is-not", os_pid),)) for name in _SIGNALS]
        rules.append(("pidfd_send_signal", ()))
    return tuple(rules)


def _network(*, open_to_it: bool) -> list[CallRule]:
    """Sockets: those of the network if it is open; pairs of connected ones always; by name of a file never.

    A datagram socket can be sent to any name of a file, past the rules about paths; so pairs are streams or sequences.
    """
    rules: list[CallRule] = [
        ("socketpair", (Test(0, "is-not", _AF_UNIX),)),
        *(("socketpair", (Test(1, "is", _SOCK_DGRAM | flags),)) for flags in _TYPE_FLAGS),
        *(("socketpair", (Test(1, "is", _SOCK_RAW | flags),)) for flags in _TYPE_FLAGS),
    ]
    if not open_to_it:
        return [*rules, *((name, ()) for name in ("socket", "bind", "listen", "accept", "accept4", "connect"))]
    other = (Test(0, "is-not", _AF_INET), Test(0, "is-not", _AF_INET6))
    raw = (("socket", (Test(1, "is", _SOCK_RAW | flags),)) for flags in _TYPE_FLAGS)
    return [*rules, ("socket", other), *raw]

"""Confines itself as an agent's process does, with a listener that meets one of several fates; prints what came of it.

python confined_program.py FATE HOME SCRATCH [SOCKET]
"""

import errno
import json
import os
import signal
import socket
import sys

from weftos.errors import ChannelClosed
from weftos.governance.capability import AgentCapabilities, ResourceLimits
from weftos.sandbox import apply, privileges, seccomp
from weftos.sandbox.libc import syscall
from weftos.sandbox.plan import Places, plan_for
from weftos.sandbox.syscalls import number_of


def attempt(name):
    try:
        syscall(number_of(name), 0, 1, 0)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "passed"


def unreachable(_listener):
    raise ChannelClosed("nobody is there")


def main(fate, home, scratch, *rest):
    plan = plan_for(AgentCapabilities(), ResourceLimits(), Places(home=home, scratch=scratch))
    link = socket.socket(fileno=int(rest[0])) if rest else None
    if fate == "another has one":
        privileges.no_new_privileges()
        seccomp.install_with_listener([("acct", ())], frozenset())
    give = {
        "nobody asks": None,
        "cannot be given": unreachable,
        "let go": lambda _listener: None,
        "another has one": lambda _listener: None,
        "given": lambda listener: socket.send_fds(link, [b"x"], [listener]),
    }[fate]
    before = os.listdir("/proc/self/fd")
    failed = apply.confine(plan, hand_over=give)
    if fate != "given":
        found = {name: attempt(name) for name in ("mount", "keyctl", "clone3", "fcntl")}
        print(
            json.dumps(
                {"failed": failed, "found": found, "kept": sorted(set(os.listdir("/proc/self/fd")) - set(before))}
            )
        )
        return
    heard = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: heard.append(1))
    signal.siginterrupt(signal.SIGUSR1, False)
    link.send(json.dumps(failed).encode())
    while (order := link.recv(100).decode()) != "end":
        link.send(json.dumps([attempt(order), len(heard)]).encode())


main(*sys.argv[1:])

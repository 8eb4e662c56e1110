"""An agent that makes refused calls: many, in threads, in children, under signals."""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import threading

from weftos.agent import frames as f
from weftos.sandbox.syscalls import number_of

libc = ctypes.CDLL(None, use_errno=True)


def refused(name, *arguments):
    """Make a call, by its name or number, that must be refused; returns how."""
    number = number_of(name) if isinstance(name, str) else name
    assert libc.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments)) < 0, "it was not refused"
    return errno.errorcode[ctypes.get_errno()]


def many(name, times):
    """Count the answers to one call that is made again and again."""
    answers = {}
    for _ in range(times):
        how = refused(name, 0, 0, 0)
        answers[how] = answers.get(how, 0) + 1
    return answers


def in_threads(name, times, threads):
    """Make them from several threads at once."""
    running = [threading.Thread(target=many, args=(name, times)) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return times * threads


def under_signals(name, times):
    """Make them while a timer fires that interrupts what waits, and has it made again."""
    fired = []
    signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        return [many(name, times), len(fired)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def in_a_child(name):
    """Make one in a child that nobody knows; returns its OS pid."""
    child = os.fork()
    if child == 0:
        os._exit(0 if refused(name, 0, 0, 0) == "EPERM" else 1)
    assert os.waitpid(child, 0)[1] == 0
    return child


def another_program(code):
    """Run a program of Python's own, and return what it says."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout


def unknown(first, count):
    """Make calls that no system has."""
    return sorted({refused(number) for number in range(first, first + count)})


def honest(_):
    """Do what libraries do as a matter of course."""
    threading.Thread(target=int).start()
    another_program("import json")
    os.path.expanduser("~")
    with open("file", "w") as file:
        file.write("x")
    return os.listdir(".")


def give_a_listener(runtime):
    """Send the kernel what it would wait at for ever, if it took it for a listener."""
    ours, theirs = socket.socketpair()
    runtime.control.send_wait(f.Listening(), [theirs.fileno()])
    ours.close()
    theirs.close()
    return True


DEEDS = {
    "refused": refused,
    "many": many,
    "in threads": in_threads,
    "under signals": under_signals,
    "in a child": in_a_child,
    "another program": another_program,
    "unknown": unknown,
    "honest": honest,
}


def main(ctx):
    for message in ctx:
        name, *arguments = message.payload
        if name == "give a listener":
            ctx.reply(message, give_a_listener(ctx._runtime))
        else:
            ctx.reply(message, DEEDS[name](*arguments))

"""The filter of system calls, against a plain reading of its rules."""

import errno

import pytest
from bpf_machine import run
from hypothesis import given
from hypothesis import strategies as st

from weftos.governance.capability import AgentCapabilities, ResourceLimits, SandboxPolicy
from weftos.sandbox.bpf import ALLOW, KILL, NOTIFY, Test, assemble, encode, refusal
from weftos.sandbox.calls import MISSING, rules_for
from weftos.sandbox.plan import Places, plan_for
from weftos.sandbox.syscalls import ARCHITECTURES, HIGHEST, NUMBERS, numbers_of

HERE = 0xC000003E
NAMES = {f"call{n}": n for n in range(0, 60, 3)}

words = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from([2**31, 2**32 - 1, 0x7E020080]))
tests = st.builds(Test, st.integers(0, 5), st.sampled_from(["is", "is-not", "has", "lacks"]), words)
rules = st.lists(st.tuples(st.sampled_from([*NAMES, "unknown"]), st.lists(tests, max_size=3)), max_size=25)


def holds(test, arguments):
    low = arguments[test.argument] % 2**32
    return {
        "is": low == test.value,
        "is-not": low != test.value,
        "has": low & test.value != 0,
        "lacks": low & test.value == 0,
    }[test.relation]


@given(rules, st.integers(0, 80), st.lists(st.integers(0, 2**64 - 1) | words, min_size=6, max_size=6))
def test_a_filter_refuses_what_its_rules_say_and_nothing_else(wanted, number, arguments):
    code = encode(assemble(wanted, NAMES, HERE, 70, frozenset({"call3"})))
    refused = any(
        NAMES.get(name) == number and all(holds(test, arguments) for test in conditions) for name, conditions in wanted
    )
    expected = ALLOW
    if number == 3 or number > 70:
        expected = refusal(errno.ENOSYS)
    elif refused:
        expected = refusal(errno.EPERM)
    assert run(code, number, HERE, arguments) == expected
    assert run(code, number, HERE ^ 1, arguments) == KILL
    # With a listener it is asked about all of that, but for what libraries try as a matter of course.
    shown = encode(assemble(wanted, NAMES, HERE, 70, frozenset({"call3"}), notify=True))
    assert run(shown, number, HERE, arguments) == (NOTIFY if expected != ALLOW and number != 3 else expected)
    assert run(shown, number, HERE ^ 1, arguments) == KILL


def plan(profile="standard", *, network=False, tools=True, processes=0):
    capabilities = AgentCapabilities(
        can_network=network, can_exec_tools=tools, sandbox=SandboxPolicy(profile=profile, network=network)
    )
    return plan_for(capabilities, ResourceLimits(processes=processes), Places(home="/h", scratch="/h/s"))


@pytest.fixture(params=ARCHITECTURES)
def machine(request):
    return request.param


def answer(machine, plan, name, *arguments, abi=6):
    place, architecture = ARCHITECTURES[machine]
    numbers = numbers_of(machine)
    rules = rules_for(plan, os_pid=77, landlock_abi=abi)
    code = encode(assemble(rules, numbers, architecture, HIGHEST, MISSING))
    number = NUMBERS[name][place] if isinstance(name, str) else name
    return run(code, number, architecture, (*arguments, 0, 0, 0, 0, 0, 0)[:6])


REFUSED, ABSENT = refusal(errno.EPERM), refusal(errno.ENOSYS)


@pytest.mark.parametrize(
    "name", ["ptrace", "process_vm_readv", "bpf", "mount", "unshare", "setns", "keyctl", "io_uring_setup", "fchmodat",
             "utimensat", "open_by_handle_at", "pidfd_getfd", "userfaultfd", "reboot", "clock_settime", "personality"]
)  # fmt: skip
def test_what_no_confined_agent_may(machine, name):
    assert answer(machine, plan(), name) == REFUSED
    assert answer(machine, plan("strict"), name) == REFUSED


def test_sockets_and_the_network(machine):
    closed, opened = plan(), plan(network=True)
    for family in (1, 2, 10, 16, 17):
        assert answer(machine, closed, "socket", family, 1) == REFUSED
    assert answer(machine, opened, "socket", 2, 1) == ALLOW
    assert answer(machine, opened, "socket", 10, 2 | 0o2000000) == ALLOW
    assert answer(machine, opened, "socket", 2, 3 | 0o2000000) == REFUSED  # raw
    assert answer(machine, opened, "socket", 1, 1) == REFUSED  # the kernel's socket among others
    assert answer(machine, opened, "socket", 16, 2) == REFUSED
    for each in (closed, opened):
        assert answer(machine, each, "socketpair", 1, 1 | 0o2000000) == ALLOW
        assert answer(machine, each, "socketpair", 1, 5) == ALLOW
        # A datagram socket could be sent to any name.
        assert answer(machine, each, "socketpair", 1, 2 | 0o2004000) == REFUSED
        assert answer(machine, each, "socketpair", 1, 3) == REFUSED
    assert answer(machine, closed, "connect") == REFUSED
    assert answer(machine, opened, "connect") == ALLOW


def test_processes_programs_and_signals(machine):
    threads, new_user = 0x00010000 | 0x100, 0x10000000
    assert answer(machine, plan(), "clone", threads) == ALLOW
    assert answer(machine, plan(), "clone", 17) == ALLOW
    assert answer(machine, plan(), "clone", new_user) == REFUSED
    assert answer(machine, plan(), "clone3") == ABSENT
    assert answer(machine, plan(processes=1), "clone", 17) == REFUSED
    assert answer(machine, plan(processes=1), "clone", threads) == ALLOW
    assert answer(machine, plan(), "execve") == ALLOW
    assert answer(machine, plan(tools=False), "execve") == REFUSED
    assert answer(machine, plan("strict"), "execveat") == REFUSED
    assert answer(machine, plan(), "kill", 5, 9) == ALLOW  # Landlock decides
    assert answer(machine, plan(), "kill", 5, 9, abi=5) == REFUSED
    assert answer(machine, plan(), "kill", 77, 9, abi=5) == ALLOW
    assert answer(machine, plan(), "pidfd_send_signal", abi=5) == REFUSED


def test_what_is_decided_by_an_argument(machine):
    assert answer(machine, plan(), "prlimit64", 0, 7) == ALLOW
    assert answer(machine, plan(), "prlimit64", 12, 7) == REFUSED
    assert answer(machine, plan(), "fcntl", 3, 8) == REFUSED
    assert answer(machine, plan(), "fcntl", 3, 1030) == ALLOW
    assert answer(machine, plan(), "prctl", 4, 1) == REFUSED
    assert answer(machine, plan(), "prctl", 15) == REFUSED
    assert answer(machine, plan(), "prctl", 3) == ALLOW
    assert answer(machine, plan(), "ioctl", 0, 0x5412) == REFUSED
    assert answer(machine, plan(), "ioctl", 0, 0x5401) == ALLOW
    assert answer(machine, plan(), "truncate") == ALLOW  # Landlock decides
    assert answer(machine, plan(), "truncate", abi=2) == REFUSED
    # Only the low half of a word counts, as for the system itself.
    assert answer(machine, plan(), "prctl", 2**32 + 4) == REFUSED


def test_what_is_newer_than_the_list_or_of_another_machine(machine):
    assert answer(machine, plan(), HIGHEST + 1) == ABSENT
    assert answer(machine, plan(), 0x40000000 + 1) == ABSENT  # x32
    code = encode(assemble([], {}, ARCHITECTURES[machine][1], HIGHEST))
    assert run(code, 1, 0x40000003) == KILL  # 32-bit calls


def test_every_rule_names_a_call_that_is_known():
    for kind in (plan(), plan("strict"), plan(network=True, processes=1)):
        for name, _ in rules_for(kind, os_pid=1, landlock_abi=0):
            assert name in NUMBERS
